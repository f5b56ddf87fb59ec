# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What documents say about tests is there: the folders, the shared files, and the tests that prove a statement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files

TESTS = CHECKOUT / "tests"
DOCUMENTS = sorted(path for path in checkout_files() if path.parts[0] == "docs" and path.suffix == ".md")
#: `test_guard.py`: `obeyed`, `without_a_gap`: a file of tests by its path or name, with parts of names or a parameter.
CITED = re.compile(r"`(?:tests/(?P<folder>[\w/]+)/)?(?P<file>test_\w+)(?:\.py)?`(?P<tests>(?:[:,] `[a-z_0-9]+`)*)")


#: In tests/, and no folder of tests.
FILES = {path.name for path in TESTS.iterdir() if path.is_file()} | {"sanity"}


def test_the_readme_names_every_folder() -> None:
    named = re.findall(r"^\| `(\w+)/` \|", (TESTS / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted({path.parts[1] for path in checkout_files() if path.parts[0] == "tests"} - FILES)


def test_the_index_of_the_support_names_every_file_once() -> None:
    index = TESTS / "support" / "README.md"
    named = re.findall(r"^\| `([\w/]+\.py)` \| \S.* \|$", index.read_text(), re.MULTILINE)
    files = {CHECKOUT / path for path in checkout_files()}
    assert sorted(named) == sorted(
        path.relative_to(index.parent).as_posix() for path in files if index.parent in path.parents and path != index
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_a_test_that_a_document_cites_exists(document: Path) -> None:
    missing = []
    for cited in CITED.finditer((CHECKOUT / document).read_text()):
        files = list((TESTS / (cited["folder"] or "")).rglob(f"{cited['file']}.py"))
        names = re.findall(r'def (test_\w+)|"(\w+)"', "".join(file.read_text() for file in files))
        missing += [] if files else [cited["file"]]
        for part in re.findall(r"`(\w+)`", cited["tests"]):
            known = any(part in test or part == parameter for test, parameter in names)
            missing += [] if known else [f"{cited['file']}: {part}"]
    assert missing == []
