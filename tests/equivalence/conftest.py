# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One set of machines for all cases of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab


@pytest.fixture(scope="module")
def lab(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A DPU and its hosts, with all links that cases use."""
    from ansible_collections.ekho.ynl_mirror.tests.equivalence import lab as machines

    with machines.lab(tmp_path_factory.mktemp("equivalence")) as made:
        yield made
