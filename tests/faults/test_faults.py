# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After every fault the mirror is exact again, others' routes are untouched, and where it can be no packet was lost.

run.py does the same for longer, and measures it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.ekho.ynl_mirror.tests.faults.rows import ROWS
from ansible_collections.ekho.ynl_mirror.tests.faults.stage import Row, Size, Stage, stage


@pytest.fixture(scope="module")
def made(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One lab for all of them: each row starts both daemons afresh, and from an exact mirror."""
    with stage(tmp_path_factory.mktemp("faults"), Size()) as one:
        yield one


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_mirror_is_exact_again_after(made: Stage, row: Row) -> None:
    made.play(row)
