# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bounded cache by path."""

from __future__ import annotations

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.path_cache import ByPath
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
)


def path(number: int, hops: int = 1) -> Path:
    """A different path for each number."""
    return Path(AF_INET, metric=number, nexthops=(NextHop(Address(AF_INET, number + 1), 2),) * hops)


def test_the_cache_is_dropped_when_it_has_too_many_paths_or_too_many_next_hops() -> None:
    values: ByPath[int] = ByPath(most=100, most_hops=1000)
    for number in range(1000):
        assert values.keep(path(number), number) == number
        assert values[path(number)] == number
        assert len(values) <= 100
    for number in range(1000, 1100):
        values.keep(path(number, 400), number)
        assert sum(len(kept.nexthops) for kept in values) < 1000 + 400
