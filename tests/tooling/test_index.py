# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/support/README.md is the index of what the tests share."""

from __future__ import annotations

import re

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files


def test_the_index_of_the_support_names_every_file_once() -> None:
    index = CHECKOUT / "tests" / "support" / "README.md"
    named = re.findall(r"^\| `([\w/]+\.py)` \| \S.* \|$", index.read_text(), re.MULTILINE)
    files = {CHECKOUT / path for path in checkout_files()}
    assert sorted(named) == sorted(
        path.relative_to(index.parent).as_posix() for path in files if index.parent in path.parents and path != index
    )
