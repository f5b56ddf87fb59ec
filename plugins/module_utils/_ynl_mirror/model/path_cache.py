# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded cache by path: a peer with a valid certificate may still be hostile. Pure.

Routes usually share a few paths. A hostile peer may send a different path with each route, each with thousands of next
hops. The memory for paths is therefore bounded by their next hops, and not only by the number of routes.
"""

from __future__ import annotations

from typing import TypeVar

from .routes import Path

#: Limits of a cache: paths, and next hops of all paths together (some 0.3 KiB each).
_MOST_PATHS = 65536
_MOST_HOPS = 4 * _MOST_PATHS
_Value = TypeVar("_Value")


def weight(path: Path) -> int:
    """What a path costs in memory: one for itself, one for each next hop and for a reason."""
    return 1 + len(path.nexthops) + len(path.dead_links) + (path.reason is not None)


class ByPath(dict[Path, _Value]):
    """Derived values by path. When a limit is reached the whole cache is dropped: every value can be recomputed."""

    def __init__(self, most: int = _MOST_PATHS, most_hops: int = _MOST_HOPS) -> None:
        super().__init__()
        self._most = most
        self._most_hops = most_hops
        self._hops = 0

    def keep(self, path: Path, value: _Value) -> _Value:
        """Cache the value of a path that is not cached yet, and return it."""
        if len(self) >= self._most or self._hops >= self._most_hops:
            self.clear()
        self._hops += weight(path)
        self[path] = value
        return value

    def clear(self) -> None:
        """Drop everything."""
        super().clear()
        self._hops = 0
