# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What documents say about tests is there: the folders, and the files that they share."""

from __future__ import annotations

import re

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files

TESTS = CHECKOUT / "tests"


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
