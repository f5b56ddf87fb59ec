# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered for a peer has bounds, for whoever is let in may still be in other hands. Pure.

Routes usually share a few paths. A peer may as well send a path of its own for each route, or ever-new ones, with
thousands of next hops each. So paths are counted by their next hops, beside the routes.
"""

from __future__ import annotations

from typing import TypeVar

from .routes import Path

#: Paths for which something is remembered, and next hops of them all (some 0.3 KiB each).
_MOST_PATHS = 65536
_MOST_HOPS = 4 * _MOST_PATHS
_Value = TypeVar("_Value")


def weight(path: Path) -> int:
    """How much of a path there is to remember: itself, and its next hops."""
    return 1 + len(path.nexthops) + len(path.dead_links)


class ByPath(dict[Path, _Value]):
    """Something that can be worked out anew, by path. Ever-new paths push all others out."""

    def __init__(self, most: int = _MOST_PATHS, most_hops: int = _MOST_HOPS) -> None:
        super().__init__()
        self._most = most
        self._most_hops = most_hops
        self._hops = 0

    def keep(self, path: Path, value: _Value) -> _Value:
        """Remember the value of a path that is not in here; the value."""
        if len(self) >= self._most or self._hops >= self._most_hops:
            self.clear()
        self._hops += weight(path)
        self[path] = value
        return value

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._hops = 0
