# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is remembered of a host, for a host that is let in may still be in other hands. Pure.

Routes usually share a few paths. A host may as well send a path of its own for each route, with thousands of next hops
each. So paths are counted by their next hops, beside the routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..model.path_cache import weight
from ..model.routes import Path, TableKey

#: Next hops of different paths that are remembered of a host, beside one for four prefixes. A path has 8,190 at most.
_HOPS = 65536


#: Bytes of the shortest route message.
_SHORTEST = 28


#: Seconds between two counts of what is still in use, where counting would take longer than what came since.
_PAUSE = 10.0


class HostMemory:
    """How much is remembered of a host: *prefixes*, and next hops of different paths in proportion to them.

    *tables* are what is remembered, the host's routes by table; they may change behind this one's back.
    """

    def __init__(self, prefixes: int, tables: Mapping[TableKey, Mapping[int, Path]]) -> None:
        self.prefixes = prefixes
        self._paths = PathBudget(_HOPS + prefixes // 4, tables)
        self._tables = tables

    def room(self, size: int) -> int | None:
        """How many more prefixes fit; None: all that SIZE bytes of messages can name."""
        room = max(0, self.prefixes - self._named())
        return None if room > size // _SHORTEST else room

    def fits(self, path: Path, now: float) -> bool:
        """Whether routes with this path fit."""
        return self._paths.take(path, now)

    def may_have_room(self, now: float) -> bool:
        """Whether the host had better tell again what did not fit.

        The eighth keeps a host that comes and goes at the border from doing nothing but telling.
        """
        return self._named() <= self.prefixes * 7 // 8 and self._paths.may_have_room(now)

    def _named(self) -> int:
        return sum(map(len, self._tables.values()))

    def __str__(self) -> str:
        hops = f"{self._paths.most} next hops of different paths"
        return f"{self.prefixes} prefixes and {hops}; a higher limit (routes) makes it more"


class PathBudget:
    """How many next hops of different paths are remembered of a host, at most *most* in all.

    Paths that none of the *tables* use any more are found by counting, when there is no room otherwise. A path is known
    by its identity, as equal ones are not always one object.
    """

    def __init__(self, most: int, tables: Mapping[TableKey, Mapping[int, Path]]) -> None:
        self.most = most
        self.spent = 0
        self._tables = tables
        self._paths: dict[int, Path] = {}  # by id(), which stays with the path for as long as it is in here
        self._counted: float | None = None  # when it was counted last
        self._since = 0  # spent since
        self._count(None)

    def take(self, path: Path, now: float) -> bool:
        """Whether routes with this path may be remembered."""
        if id(path) in self._paths:
            return True
        size = weight(path)
        if self.spent + size > self.most:
            self._count(now)
            if self.spent + size > self.most:
                return False
        self._paths[id(path)] = path
        self.spent += size
        self._since += size
        return True

    def may_have_room(self, now: float) -> bool:
        """Whether a path that was refused may be taken by now; the largest is less than the eighth of any budget."""
        if self.spent > self.most * 7 // 8:
            self._count(now)
        return self.spent <= self.most * 7 // 8

    def _count(self, now: float | None) -> None:
        """Forget the paths that no route has. It takes its time, so not at each path that finds no room."""
        early = now is not None and self._counted is not None and now - self._counted < _PAUSE
        if early and self._since < sum(map(len, self._tables.values())):
            return
        self._paths = _by_identity(self._tables.values())
        self.spent = sum(map(weight, self._paths.values()))
        self._counted, self._since = now, 0


def _by_identity(tables: Iterable[Mapping[int, Path]]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for routes in tables:
        found.update({id(path): path for path in routes.values()})
    return found
