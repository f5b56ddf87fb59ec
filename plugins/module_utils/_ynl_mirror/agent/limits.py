# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many announced routes are stored of a host: one that is admitted may still be compromised. Pure.

Routes usually share a few paths. But a host may send a different path with each route, with thousands of next hops
each. Therefore the next hops of the different paths are limited too, and likewise those of its nexthop objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..model.path_cache import weight
from ..model.routes import Path, TableKey

#: Next hops of different paths that are stored of a host, plus one per four prefixes. A path has 8,190 at most.
_HOPS = 65536
#: Bytes of the shortest route message.
_SHORTEST = 28
#: Seconds between two counts of the paths in use, unless counting them costs less than what is new.
_PAUSE = 10.0


class HostMemory:
    """The limit of what is stored of a host: *prefixes*, and next hops of different paths in proportion to them.

    Its nexthop objects may have as many next hops and members again, :attr:`object_hops`.

    *tables* are the announced routes by table; others change them.
    """

    def __init__(self, prefixes: int, tables: Mapping[TableKey, Mapping[int, Path]]) -> None:
        self.prefixes = prefixes
        self.object_hops = _HOPS + prefixes // 4
        self._paths = PathBudget(_HOPS + prefixes // 4, tables)
        self._tables = tables

    def room(self, size: int) -> int | None:
        """How many more prefixes fit; None: as many as SIZE bytes of messages can announce."""
        room = max(0, self.prefixes - self._stored())
        return None if room > size // _SHORTEST else room

    @property
    def full(self) -> bool:
        """Whether no further prefix fits."""
        return self._stored() >= self.prefixes

    def fits(self, path: Path, now: float) -> bool:
        """Whether routes with this path fit."""
        return self._paths.take(path, now)

    def fits_hops(self, size: int, now: float) -> bool:
        """Whether one more path fits that costs so much."""
        return self._paths.has_room(size, now)

    def may_have_room(self, now: float) -> bool:
        """Whether the host should replay the routes that did not fit.

        An eighth has to be free: a host whose routes come and go at the limit would do nothing but replay.
        """
        return self._stored() <= self.prefixes * 7 // 8 and self._paths.may_have_room(now)

    def _stored(self) -> int:
        return sum(map(len, self._tables.values()))

    def __str__(self) -> str:
        hops = f"{self._paths.most} next hops of different paths"
        return f"{self.prefixes} prefixes, {hops}"


class PathBudget:
    """How many next hops of different paths are stored of a host, at most *most* in all.

    When there is no room, paths that no route in *tables* uses any more are found by counting. Paths are told apart by
    identity, since equal ones are not always the same object.
    """

    def __init__(self, most: int, tables: Mapping[TableKey, Mapping[int, Path]]) -> None:
        self.most = most
        self.spent = 0
        self._tables = tables
        self._paths: dict[int, Path] = {}  # by id(), which is unique while the path is in here
        self._counted: float | None = None  # time of the last count
        self._since = 0  # spent since
        self._count(None)

    def take(self, path: Path, now: float) -> bool:
        """Whether routes with this path may be stored."""
        if id(path) in self._paths:
            return True
        size = weight(path)
        if not self.has_room(size, now):
            return False
        self._paths[id(path)] = path
        self.spent += size
        self._since += size
        return True

    def has_room(self, size: int, now: float) -> bool:
        """Whether a path that is not stored yet, and costs so much, may be stored."""
        if self.spent + size > self.most:
            self._count(now)
        return self.spent + size <= self.most

    def may_have_room(self, now: float) -> bool:
        """Whether a path that was refused may fit now; the largest is less than an eighth of any budget."""
        if self.spent > self.most * 7 // 8:
            self._count(now)
        return self.spent <= self.most * 7 // 8

    def _count(self, now: float | None) -> None:
        """Forget the paths that no route uses. This is slow: not for each path that does not fit."""
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
