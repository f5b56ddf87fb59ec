# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages that cite a test for each of their claims: the tests exist."""

from __future__ import annotations

import re

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT

CITED = re.compile(r"`((?:[\w/]+/)?test_\w+\.py)`(?: in `[\w/]+`)?(?::\s((?:`[^`]+`(?:,\s)?)+))?")
PLAYED = re.compile(r"`([\w-]+)`")
ROWS = CHECKOUT / "tests" / "faults" / "rows.py"


@pytest.mark.parametrize("page", ["reliability.md", "security.md"])
def test_every_cited_test_exists(page: str) -> None:
    missing = []
    cited = list(CITED.finditer((CHECKOUT / "docs" / page).read_text()))
    assert len(cited) > 20
    for file, names in (match.groups() for match in cited):
        found = [path for path in (CHECKOUT / "tests").rglob(file.rpartition("/")[2]) if path.match(file)]
        if not found:
            missing.append(file)
        for name in re.findall(r"`([^`]+)`", names or ""):
            wanted = " ".join(name.split())  # it may be broken over two lines
            if not any(wanted in path.read_text() for path in found):
                missing.append(f"{file}: {wanted}")
    assert missing == []


def test_every_fault_of_the_table_is_played() -> None:
    table = (CHECKOUT / "docs" / "reliability.md").read_text().partition("| test |\n|---|---|---|\n")[2]
    last_cells = [row.split("|")[-2] for row in table.partition("\n\n")[0].splitlines()]
    names = {name for cell in last_cells for name in PLAYED.findall(re.sub(r"`test_\w+\.py`(: `\w+`)?", "", cell))}
    assert len(names) > 15
    rows = ROWS.read_text()
    assert [name for name in sorted(names) if f'"{name}"' not in rows] == []
