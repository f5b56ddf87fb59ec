# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a host's routes may be installed, by its policy and the limits of the VRFs. Pure.

Routes over a limit wait, first come first served. A prefix takes one place in the limit of its host, however many VRFs
it is installed in, from its admission until the host withdraws it or it is no longer mapped. Routes that an agent finds
installed when it starts have their places already: a restart withdraws none of them in favour of routes that arrive
first. In the limit of a VRF every route that is installed there takes a place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ..config.host_policy import EVERY_VRF, ROUTES, HostPolicy
from ..config.prefix_rules import PrefixRules
from ..model.links import Vrf
from ..model.path_cache import ByPath
from ..model.refusal import Refusal
from ..model.routes import AF_INET, AF_INET6, ROUTE_TYPE_NAMES, Path, TableKey

_FAMILIES = (AF_INET, AF_INET6)
#: Prefixes that are stored of a host beyond twice its limit: some wait, some are never mapped.
_SPARE = 16384
#: The key of routes waiting under the limit of the host; for VRFs it is the table's number, which is never 0.
_HOST = 0
Installed = Mapping[TableKey, Mapping[int, Path]]


class Denial(Refusal):
    """A route refused by policy or limit; the kernel was not asked."""

    __slots__ = ()


class Admission:
    """The decisions about one host's routes. Ask `open` before each batch, then `admit` or `leave` for each route."""

    def __init__(self, host: str, policy: HostPolicy, vrf_limits: Mapping[str, int]) -> None:
        self.host = host
        self.policy = policy
        self.vrf_limits = vrf_limits
        self._by_prefix = bool(policy.prefixes or policy.exclude_prefixes)
        self._prefixes = PrefixRules(policy.prefixes)
        self._excluded = PrefixRules(policy.exclude_prefixes)
        self._by_path: ByPath[str | None] = ByPath()
        self._last: tuple[Path | None, str | None] = (None, None)  # routes come in runs with one path
        self._places: dict[int, set[int]] = {family: set() for family in _FAMILIES}  # prefix keys, where limited
        self._waiting: dict[int, dict[int, dict[int, None]]] = {}  # limit -> family -> prefix keys, oldest first
        self._names: dict[int, str] = {}  # table -> VRF
        self._rooms: dict[int, int] = {}  # table with a limit -> free places
        self._installed: Installed = {}
        #: How many prefixes of the host are stored at most.
        self.memory = max(policy.routes, min(2 * policy.routes + _SPARE, ROUTES))
        #: Whether the stored prefixes may exceed the limit, so that places have to be counted.
        self.counts = policy.routes < self.memory
        self._reasons: dict[str, str] = {}  # one object for the same reason of a million routes
        self._full = f"over the limit of {policy.routes} routes from {host}"

    @property
    def needed(self) -> bool:
        """Whether any stored route may be refused; otherwise `admit` need not be called."""
        return self.counts or self.policy.restricts or bool(self.vrf_limits)

    def fits(self, host: str, policy: HostPolicy, vrf_limits: Mapping[str, int]) -> bool:
        """Whether it was made for these."""
        return (self.host, self.policy, self.vrf_limits) == (host, policy, vrf_limits)

    def reserve(self, family: int, keys: Iterable[int]) -> None:
        """Give places to installed routes, as long as there are any."""
        if self.counts:
            self._places[family].update(islice(keys, max(0, self.policy.routes - self._taken())))

    def open(self, vrfs: Iterable[Vrf], installed: Installed) -> None:
        """Before a batch: count what is installed."""
        self._installed = installed
        self._names = {vrf.table: vrf.name for vrf in vrfs}
        if self.vrf_limits:
            limits = {table: self.limit_of(name) for table, name in self._names.items()}
            self._rooms = {table: limit - self._used(table) for table, limit in limits.items() if limit is not None}

    def admit(
        self, family: int, key: int, path: Path, targets: Mapping[int, Path]
    ) -> tuple[Mapping[int, Path], str | None]:
        """Those TARGETS of a mapped route that may be installed, and the reason if it is not all of them."""
        if self._waiting:
            self._no_longer_waits(family, key)
        if path is not self._last[0]:
            self._last = (path, self._judge(path))
        reason = self._last[1]
        if reason is None and self._by_prefix:
            reason = self._prefix_reason(family, key)
        if reason is None and self.policy.vrfs:
            targets, reason = self._of_allowed_vrfs(targets)
        if reason is None and self.policy.nexthops is not None:
            reason = _too_many(max(len(target.nexthops) for target in targets.values()), self.policy.nexthops)
        if reason is None and self.counts and key not in self._places[family]:
            if self._taken() >= self.policy.routes:
                self._wait(_HOST, family, key)
                reason = self._full
            else:
                self._places[family].add(key)
        elif reason is not None:
            self._places[family].discard(key)
        if reason is not None:
            targets = {}
        elif self._rooms:
            targets, reason = self._with_room(family, key, targets)
            if not targets:
                self._places[family].discard(key)
        return targets, reason if reason is None else self._reasons.setdefault(reason, reason)

    def permits(self, family: int, part: int, key: int, path: Path, targets: Mapping[int, Path]) -> Mapping[int, Path]:
        """Those TARGETS of a PART that may be installed because of the announced route KEY, which may be the part.

        Nothing is counted: parts take no places. `admit` comes before, for the announced route.
        """
        if self._judge(path) is not None:
            return {}
        if self._by_prefix and any(self._prefix_reason(family, one) is not None for one in (key, part)):
            return {}
        if self.counts and key not in self._places[family]:
            return {}
        if self.policy.nexthops is not None:
            targets = {table: path for table, path in targets.items() if len(path.nexthops) <= self.policy.nexthops}
        return self._of_allowed_vrfs(targets)[0] if self.policy.vrfs else targets

    def leave(self, family: int, key: int) -> None:
        """The host has withdrawn a prefix, or it is no longer mapped."""
        self._places[family].discard(key)
        self._no_longer_waits(family, key)

    def with_room(self) -> dict[int, list[int]]:
        """Waiting prefixes (by family) that may be admitted now; call it after a batch."""
        found: dict[int, list[int]] = {}
        for cause, waiting in self._waiting.items():
            room = self._room(cause)
            for family, keys in waiting.items():
                taken = list(islice(keys, max(0, room)))
                room -= len(taken)
                if taken:
                    found.setdefault(family, []).extend(taken)
        return found

    def may_have_room(self) -> bool:
        """Whether one more prefix of the host may be admitted."""
        return self._taken() < self.policy.routes

    def notes(self) -> Iterator[str]:
        """What the policy restricts for every route, for `explain`."""
        if self.policy.vrfs:
            yield f"policy: {self.host} may install routes in VRF {', '.join(self.policy.vrfs)} only"

    def status(self) -> dict[str, Any]:
        """The limit of the host, and how many routes wait under this limit or that of a VRF."""
        waiting = sum(len(keys) for families in self._waiting.values() for keys in families.values())
        return {"routes_limit": self.policy.routes, "routes_waiting": waiting}

    def limit_of(self, vrf: str) -> int | None:
        """How many mirrored routes a VRF may have; None: any number."""
        return self.vrf_limits.get(vrf, self.vrf_limits.get(EVERY_VRF))

    # -- the host's policy

    def _judge(self, path: Path) -> str | None:
        """The reason that the path alone gives to refuse a route, once per path."""
        try:
            return self._by_path[path]
        except KeyError:
            pass
        reason = None
        if self.policy.types and path.type not in self.policy.types:
            kind = ROUTE_TYPE_NAMES.get(path.type, path.type)
            reason = f"policy: {self.host} may not install {kind} routes"
        elif self.policy.nexthops is not None:
            reason = _too_many(len(path.nexthops), self.policy.nexthops)
        return self._by_path.keep(path, reason)

    def _prefix_reason(self, family: int, key: int) -> str | None:
        if self._prefixes and self._prefixes.find(family, key) is None:
            return f"policy: {self.host} may not install this prefix: not covered by `prefixes`"
        rule = self._excluded.find(family, key)
        if rule is not None:
            return f"policy: {self.host} may not install this prefix: `exclude_prefixes` has {rule}"
        return None

    def _of_allowed_vrfs(self, targets: Mapping[int, Path]) -> tuple[Mapping[int, Path], str | None]:
        allowed = {table: path for table, path in targets.items() if self._names.get(table) in self.policy.vrfs}
        if allowed:
            return allowed, None
        names = ", ".join(self._name(table) for table in targets)
        return {}, f"policy: {self.host} may not install routes in VRF {names}"

    def _taken(self) -> int:
        return sum(map(len, self._places.values()))

    # -- the VRFs' limits

    def _with_room(self, family: int, key: int, targets: Mapping[int, Path]) -> tuple[Mapping[int, Path], str | None]:
        reason = None
        for table in targets:
            room = self._rooms.get(table)
            if room is None:
                continue
            installed = key in self._installed.get((family, table), ())
            if installed and room >= 0:
                continue
            if room > 0:
                self._rooms[table] = room - 1
                continue
            if installed:  # the limit has been lowered
                self._rooms[table] = room + 1
            name = self._name(table)
            reason = f"VRF {name}: over the limit of {self.limit_of(name)} routes"
            targets = {other: path for other, path in targets.items() if other != table}
            self._wait(table, family, key)
        return targets, reason

    def _used(self, table: int) -> int:
        return sum(len(self._installed.get((family, table), ())) for family in _FAMILIES)

    def _name(self, table: int) -> str:
        return self._names.get(table, str(table))

    # -- waiting

    def _wait(self, cause: int, family: int, key: int) -> None:
        self._waiting.setdefault(cause, {}).setdefault(family, {})[key] = None

    def _no_longer_waits(self, family: int, key: int) -> None:
        for waiting in self._waiting.values():
            keys = waiting.get(family)
            if keys:
                keys.pop(key, None)

    def _room(self, cause: int) -> int:
        if cause == _HOST:
            return self.policy.routes - self._taken()
        limit = self.limit_of(self._name(cause))
        return 0 if limit is None else limit - self._used(cause)


def _too_many(number: int, limit: int) -> str | None:
    return f"over the limit of {limit} next hops: the route has {number}" if number > limit else None
