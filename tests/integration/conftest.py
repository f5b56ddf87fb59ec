# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ekho lab as a fixture, for the tests of the daemons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import MirrorLab


@pytest.fixture
def lab(_root: None, tmp_path: Path) -> Iterator[MirrorLab]:
    """A fresh lab, no daemon started; everything is gone after the test."""
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import mirror_lab

    with mirror_lab(tmp_path) as made:
        yield made
