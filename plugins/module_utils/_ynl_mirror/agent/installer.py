# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs announced routes: compares what is wanted in each VRF with what is installed, and writes the difference.

An announced route is in one of four states, each with a reason: pending (its batch is being written), offloaded, failed
(refused by the kernel, or by the host's policy, see admission) and slow path (see mapping/placement.py).

What a VRF needs for a prefix depends on shorter ones, see mapping/wanted.py: a prefix that changes takes along those
inside of it that depend on it. Nothing else is looked at again: a change costs what it touches.

A route that the kernel refuses leaves its packets to the next shorter prefix. Where that one is offloaded by another
egress they would go wrong; it is *blocked* then, and stays on the slow path until the refused one can be written.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat

from ..daemon.logs import about
from ..mapping.placement import Mapper, Outcome, PathMapper, Way
from ..mapping.wanted import Permits, Wanted
from ..model.refusal import Refusal
from ..model.routes import AF_INET, AF_INET6, RTN_XRESOLVE, WIDTH, Address, Path, Prefix, TableKey
from ..netlink import sockets
from ..replica.rib import Rib
from .adj_rib_in import AdjRibIn
from .admission import Admission, Denial
from .plan import Plan
from .writer import Item, Kernel, Refused, Writer

_LOG = logging.getLogger("ynl_mirror.agent.installer")
_FAMILIES = (AF_INET, AF_INET6)
_Restricted = tuple[Mapping[int, Path], "str | None", Callable[[str], Refusal]]
#: A prefix with its offloads and ways, and whether it is announced: what it needs depends on shorter ones.
_Dependent = tuple[int, Mapping[int, Path], Mapping[int, Way], bool]
_Restrict = Callable[[int, "Path | None", Outcome], _Restricted]
#: Prefixes inside of another one that are looked up one by one, rather than all announced ones be looked through.
_MOST_PROBES = 4096
_SHADOWED = "a more specific route was ignored: route limit reached; raise `routes` in `hosts`"
_WRITTEN = ("fronts", "adds", "replacements")


class Installer:
    """Keeps installed routes (by family and DPU table) in sync with announced ones (by family and host table)."""

    def __init__(self, requests: Kernel, mapper: Mapper, host_tables: tuple[int, ...], others: Rib) -> None:
        self.admission: Admission | None = None  # None admits every announced route
        self._others = others  # the DPU's routes that are not the mirror's
        self.adj = AdjRibIn(host_tables)
        self.announced = self.adj.routes
        self.installed: dict[TableKey, dict[int, Path]] = {}
        self.refused: dict[int, dict[int, Refusal]] = {AF_INET: {}, AF_INET6: {}}
        self.touched: set[int] | None = None  # during an audit: prefixes whose installed routes were written meanwhile
        # Called with the prefixes whose state changed, while somebody watches.
        self.watched: Callable[[], bool] = bool
        self.on_change: Callable[[int, list[int]], None] = lambda _family, _keys: None
        self.failures = 0
        self.writer = Writer(requests)
        self.restated: dict[int, set[int]] = {AF_INET: set(), AF_INET6: set()}  # got another state along with others
        self._kept: dict[int, set[int]] = {AF_INET: set(), AF_INET6: set()}  # removals that wait for that
        self.settled = True  # False: what is installed may be wanted though the host has not announced it yet
        self._host_tables = host_tables
        self._wanted = Wanted(mapper, self.path_of)
        self._pins: dict[int, dict[int, Path]] = {AF_INET: {}, AF_INET6: {}}

    @property
    def mapper(self) -> Mapper:
        """What decides about each prefix."""
        return self._wanted.mapper

    @mapper.setter
    def mapper(self, mapper: Mapper) -> None:
        self._wanted.mapper = mapper

    @property
    def in_doubt(self) -> bool:
        """Whether the kernel contradicted our record of what is installed."""
        return self.writer.in_doubt

    @in_doubt.setter
    def in_doubt(self, value: bool) -> None:
        self.writer.in_doubt = value

    # -- what the host announced

    def announced_path(self, family: int, key: int) -> Path | None:
        """The announced path of a prefix, from the first of the host's tables that has one."""
        return self.adj.path(family, key)

    def longest_match(self, family: int, key: int) -> tuple[int, Path] | None:
        """The announced prefix that decides about a prefix, with its path."""
        for candidate in (key, *self._wanted.shorter(family, key)):
            path = self.path_of(family, candidate)
            if path is not None:
                return candidate, path
        return None

    def follows(self, family: int, key: int, table: int) -> tuple[int, Path] | None:
        """The installed route that packets for a prefix follow in a table, unless an own route is longer."""
        installed = self.installed.get((family, table), {})
        own = self.mapper.view.lpm(family, table).covering(key)
        longest = -1 if own is None else own[0] >> WIDTH[family]
        for candidate in (key, *self._wanted.shorter(family, key)):
            if candidate in installed and candidate >> WIDTH[family] >= longest:
                return candidate, installed[candidate]
        return None

    def keys_around(self, family: int, keys: Iterable[int]) -> set[int]:
        """The prefixes that a change of own routes to these concerns: themselves, what is around them, and inside."""
        width = WIDTH[family]
        tables = [self.announced.get((family, table), {}) for table in self._host_tables]
        found: set[int] = set()
        for key in keys:
            length, network = key >> width, key & ((1 << width) - 1)
            found.add(key)
            found.update(one for one in self._wanted.shorter(family, key) if self.path_of(family, one) is not None)
            longer = [other for other in self._wanted.lengths(family) if other > length]
            if sum(1 << (other - length) for other in longer) <= _MOST_PROBES:
                for other in longer:
                    first = other << width | network << (other - length)
                    inside = range(first, first + (1 << (other - length)))
                    found.update(one for one in inside if any(one in table for table in tables))
            else:
                for table in tables:
                    found.update(
                        one
                        for one in table
                        if one >> width > length and (one & ((1 << width) - 1)) >> ((one >> width) - length) == network
                    )
        return found

    def announced_keys(self, family: int) -> list[int]:
        """Every announced prefix."""
        return self.adj.keys(family)

    def stale_keys(self, family: int) -> list[int]:
        """Prefixes that are installed, but neither announced nor a part of what is."""
        found: dict[int, None] = {}
        for (of, _table), installed in self.installed.items():
            if of == family:
                gone = (key for key in installed if self.announced_path(family, key) is None)
                found.update((key, None) for key in gone if not self._wanted.outcome(family, key).ways)
        return list(found)

    # -- what is wanted

    def pin(self, address: Address) -> dict[int, set[int]]:
        """Keep an address, and no other, on the slow path: the mirror's own connection uses it.

        Returns the prefixes to sync, by family.
        """
        family = address.family
        key = WIDTH[family] << WIDTH[family] | address.value
        before = {of: set(pins) for of, pins in self._pins.items()}
        for pins in self._pins.values():
            pins.clear()
        reason = "the connection between host and DPU uses this address"
        self._pins[family][key] = Path(family, type=RTN_XRESOLVE, reason=reason)
        self._wanted.inner[family].add(key)
        return {of: before[of] ^ set(pins) for of, pins in self._pins.items() if before[of] != set(pins)}

    def settle(self, family: int) -> set[int]:
        """The host has announced everything: the prefixes whose decisions may be other ones now."""
        self.settled = True
        kept, self._kept[family] = self._kept[family], set()
        return kept.union(self._wanted.inner[family])

    def _standing(self, family: int, table: int, key: int) -> Path | None:
        path = self.installed.get((family, table), {}).get(key)
        return None if path is None or path.oifs <= self.mapper.host_links else path

    def path_of(self, family: int, key: int) -> Path | None:
        """The path that decides about a prefix: its announced one."""
        pins = self._pins[family]
        return pins[key] if pins and key in pins else self.announced_path(family, key)

    # -- writing the difference

    def sync(self, family: int, keys: Iterable[int], remove: bool = True) -> list[int]:
        """Bring the DPU's tables up to date for these distinct prefixes, and for what depends on them.

        Without *remove* the removals are left for later: returns their prefixes.
        """
        shadowed = self.adj.take_shadowed(family)
        self.restated[family] |= shadowed
        keys = list(shadowed.union(keys)) if shadowed else list(keys)
        work = self._wanted.with_inner(family, keys)
        if not self.watched():
            return self._sync(family, work, remove)
        before = [self._shown(family, key) for key in work]
        left = self._sync(family, work, remove)
        self.on_change(family, [key for key, old in zip(work, before) if self._shown(family, key) != old])
        return left

    def _shown(self, family: int, key: int) -> tuple[Refusal | None, list[Path]]:
        """What a watcher sees of a prefix."""
        return self.refused[family].get(key), list(self.where(family, key))

    def _sync(self, family: int, keys: list[int], remove: bool) -> list[int]:
        for vrf in self.mapper.view.vrfs:
            self.installed.setdefault((family, vrf.table), {})
        plan = Plan(family, self.mapper, self._others, self.installed)
        self._plan(family, keys, plan)
        left = [] if remove else plan.take_removals()
        if not self.settled:
            # The decision may rest on what the host has not announced yet.
            self._kept[family].update(plan.take_removals(lambda key: self.announced_path(family, key) is not None))
        written, refused = self.writer.write(family, plan.changes)
        if self.touched is not None:
            self.touched.update(written)
        if refused:
            self._take_refusals(family, refused)
        self.mapper.look_at_host()
        return left

    def _plan(self, family: int, keys: list[int], plan: Plan) -> None:
        """Find what has to be written for these prefixes, and for the parts of announced ones."""
        restricted = self._restrictions(family)
        admission = self.admission
        self._wanted.standing = None if self.settled else self._standing
        permits = admission.permits if admission is not None and admission.needed else None
        self._wanted.permits = self._unshadowed(permits) if self.adj.shadowed.get(family) else permits
        dependent: list[_Dependent] = []
        paths = self._announced_paths(family, keys)
        self._look_at_host(family, keys, paths)
        pins = self._pins[family]
        if not pins.keys().isdisjoint(keys):
            paths = [path and pins.get(key, path) for key, path in zip(keys, paths)]
        if restricted is None:
            parts = self._plan_alike(family, keys, paths, plan, dependent)
        else:
            parts = self._plan_one_by_one(family, zip(keys, paths), restricted, plan, dependent)
        parts.difference_update(keys)
        if parts:
            self._plan_one_by_one(family, ((part, None) for part in parts), restricted or _free, plan, dependent)
        for key, targets, ways, announced in dependent:
            offloads = targets if announced else self._wanted.permitted(family, key, targets)
            plan.one(key, self._wanted.paths(family, key, offloads, ways, announced))

    def _plan_alike(
        self, family: int, keys: list[int], paths: list[Path | None], plan: Plan, dependent: list[_Dependent]
    ) -> set[int]:
        """Plan prefixes that nothing restricts, those of one path and region together; returns the parts."""
        regions = self.mapper.regions(family).of_many(keys)
        alike: dict[tuple[int, int], list[int]] = {}
        others: list[tuple[int, Path | None]] = []
        if len(set(regions)) == len(set(map(id, paths))) == 1:
            alike[id(paths[0]), regions[0]] = keys
        else:
            for key, path, region in zip(keys, paths, regions):
                alike.setdefault((id(path), region), []).append(key)
        by_id = {id(path): path for path in paths}
        for (number, region), members in alike.items():
            path = by_id[number]
            outcome = None if path is None or region < 0 else self.mapper.rule(path).in_region(region, members[0])
            if outcome is None or len(outcome.targets) < len(outcome.ways):
                others += zip(members, repeat(path))
                continue
            _States(self.refused[family]).set_many(members, outcome.reason)
            if outcome.targets:
                self._wanted.inner[family].discard_many(members)
            else:
                self._wanted.inner[family].add_many(members)
            plan.alike(members, outcome.targets)
        return self._plan_one_by_one(family, others, _free, plan, dependent) if others else set()

    def _plan_one_by_one(
        self,
        family: int,
        routes: Iterable[tuple[int, Path | None]],
        restricted: _Restrict,
        plan: Plan,
        dependent: list[_Dependent],
    ) -> set[int]:
        """Plan the prefixes that do not depend on shorter ones, and list the others; returns the parts of announced."""
        states = _States(self.refused[family])
        parts: set[int] = set()
        last: Path | None = None
        rule: PathMapper | None = None
        for key, path in routes:
            if path is None:
                outcome = self._wanted.outcome(family, key)
            else:
                if path is not last or rule is None:  # routes come in runs with one path
                    last, rule = path, self.mapper.rule(path)
                outcome = rule.outcome(key)
            targets, reason, make = restricted(key, path, outcome)
            if path is None:
                states.clear(key)
            else:
                states.set(key, reason, make)
                parts.update(outcome.parts)
            if self._wanted.depends(family, key, targets, outcome.ways, path is not None):
                dependent.append((key, targets, outcome.ways, path is not None))
            else:
                plan.one(key, targets)
        return parts

    def _announced_paths(self, family: int, keys: list[int]) -> list[Path | None]:
        if len(self._host_tables) == 1:
            return list(map(self.announced.get((family, self._host_tables[0]), {}).get, keys))
        return [self.announced_path(family, key) for key in keys]

    def _look_at_host(self, family: int, keys: list[int], paths: list[Path | None]) -> None:
        """Learn about the host from these routes, before any of them is placed."""
        facts = self.mapper.facts
        known = facts.told(family)
        distinct = {id(path): path for path in paths}
        for path in distinct.values():
            if path is not None:
                self.mapper.rule(path)  # learns its gateways
        telling = {number for number, path in distinct.items() if facts.may_tell(path)}
        if not telling and known.isdisjoint(keys):
            return
        for key, path in zip(keys, paths):
            if id(path) in telling or key in known:
                facts.note(family, key, path)
        self.mapper.look_at_host()

    def _restrictions(self, family: int) -> _Restrict | None:
        """What takes offloads away from a placement: the host's policy, limits, what is blocked; None if nothing."""
        admission = self.admission if self.admission is not None and self.admission.needed else None
        if admission is not None:
            admission.open(self.mapper.view.vrfs, self.installed)
        blocked = {scope[1]: keys for scope, keys in self._wanted.blocked.items() if scope[0] == family and keys}
        shadowed = self.adj.shadowed.get(family, set())
        if admission is None and not blocked and not shadowed:
            return None

        def restricted(key: int, path: Path | None, outcome: Outcome) -> _Restricted:
            if key in shadowed:
                return {}, _SHADOWED, _slow_path
            found = _free(key, path, outcome) if admission is None else _admit(admission, family, key, path, outcome)
            if blocked and found[0]:
                return (*self._without_blocked(blocked, key, found[0], found[1]), found[2])
            return found

        return restricted

    def _unshadowed(self, permits: Permits | None) -> Permits:
        """What PERMITS does, but nothing for shadowed prefixes and their parts."""

        def unshadowed(family: int, part: int, key: int, path: Path, targets: Mapping[int, Path]) -> Mapping[int, Path]:
            if key in self.adj.shadowed.get(family, ()):
                return {}
            return targets if permits is None else permits(family, part, key, path, targets)

        return unshadowed

    def _without_blocked(
        self, blocked: Mapping[int, Mapping[int, str]], key: int, targets: Mapping[int, Path], reason: str | None
    ) -> tuple[Mapping[int, Path], str | None]:
        for table in [table for table in targets if key in blocked.get(table, ())]:
            targets = {other: path for other, path in targets.items() if other != table}
            reason = blocked[table][key] if not targets else reason
        return targets, reason

    # -- what the kernel refuses

    def _take_refusals(self, family: int, refused: list[Refused]) -> None:
        left: list[Refused] = []
        repair: set[int] = set()
        for one in refused:
            self._refusal(family, one)
            if one.kind == "replacements":
                left.append(one)
            if one.kind in _WRITTEN:
                repair |= self._block_above(family, one)
        if left:
            self._withdraw(family, left)
        if repair:
            self.restated[family] |= repair
            self._sync(family, self._wanted.with_inner(family, list(repair)), remove=True)

    def _withdraw(self, family: int, left: list[Refused]) -> None:
        """Remove the routes whose replacement was refused: the host no longer announces their old paths."""
        old = [(one.item[0], one.change.replaced[one.item[0]]) for one in left]
        for index, failure in self.writer.remove(old).items():
            self._refusal(family, Refused(left[index].change, "removals", old[index], failure))

    def _block_above(self, family: int, one: Refused) -> set[int]:
        """Packets for a refused prefix follow the shorter one: block that if it sends them another way."""
        key, path = one.item
        outcome = self._wanted.outcome(family, key)
        way = outcome.ways.get(path.table)
        above = None if way is None else self._wanted.above(family, key, path.table, way)
        if above is None or above[1] == path:
            return set()
        reason = f"{Prefix.from_key(family, key)} inside of it cannot be installed in VRF {self.vrf_name(path.table)}"
        self._wanted.blocked.setdefault((family, path.table), {})[above[0]] = reason
        return {above[0]}

    def unblock(self, family: int) -> set[int]:
        """Forget which offloads are blocked; returns the prefixes to try again, with those that were refused."""
        found: set[int] = set()
        for scope, keys in self._wanted.blocked.items():
            if scope[0] == family:
                found.update(keys)
                keys.clear()
        return found

    def _refusal(self, family: int, one: Refused) -> None:
        (key, path), change, refusal = one.item, one.change, one.failure
        if one.kind == "removals":
            if refusal.errno not in (errno.ESRCH, errno.ENOENT, errno.ENODEV):
                change.installed[key] = path
                self.in_doubt = True
                prefix = Prefix.from_key(family, key)
                fields = about(prefix=prefix, reason=refusal.text)
                _LOG.warning("%s: cannot remove the route: %s", prefix, refusal.text, extra=fields)
            return
        change.installed.pop(key, None)
        self.failures += 1
        text = refusal.text or _error_text(refusal.errno)
        vrf = self.vrf_name(path.table)
        if refusal.errno == errno.EEXIST:
            text = "the table has a route with this prefix and metric that the mirror did not install"
        if refusal.errno in (errno.EEXIST, errno.ENOENT):
            self.in_doubt = True
        if self.announced_path(family, key) is not None:
            self.refused[family][key] = Refusal("failed", f"VRF {vrf}: {text}")
        if _LOG.isEnabledFor(logging.DEBUG):
            prefix = Prefix.from_key(family, key)
            _LOG.debug("%s: VRF %s: %s", prefix, vrf, text, extra=about(prefix=prefix, vrf=vrf, reason=text))

    # -- what the kernel has

    def found(self, family: int, table: int, routes: dict[int, Path]) -> set[int]:
        """Record what a dump of the mirror's routes showed; returns the prefixes whose record was wrong."""
        believed = self.installed.get((family, table), {})
        differing = {key for key in believed if key not in routes}
        for key, path in routes.items():
            if believed.get(key) != path:
                differing.add(key)
            else:
                routes[key] = believed[key]  # the shared object, so that ``is`` finds them equal
        self.installed[family, table] = routes
        return differing

    def remove_surplus(self, surplus: list[Item]) -> None:
        """Remove duplicate mirrored routes; the first one of each prefix stays and carries the traffic."""
        refusals = self.writer.remove(surplus)
        for index, (key, path) in enumerate(surplus):
            prefix = Prefix.from_key(path.family, key)
            if index in refusals:
                reason = refusals[index].text or _error_text(refusals[index].errno)
                _LOG.warning(
                    "%s table %d: cannot remove the duplicate mirrored route: %s",
                    *(prefix, path.table, reason),
                    extra=about(prefix=prefix, reason=reason),
                )
            else:
                fields = about(prefix=prefix)
                _LOG.info("%s table %d: removed a duplicate mirrored route", prefix, path.table, extra=fields)

    def lost(self, scope: TableKey, key: int, path: Path) -> None:
        """Somebody else removed a route of the mirror's protocol number."""
        self._touch(key)
        installed = self.installed.get(scope, {})
        if installed.get(key) == path:
            del installed[key]
        elif key in installed:
            self.in_doubt = True  # a duplicate of it, or part of it

    def appeared(self, scope: TableKey, key: int, path: Path) -> None:
        """Somebody else wrote a route under the mirror's protocol number."""
        self._touch(key)
        if self.installed.setdefault(scope, {}).setdefault(key, path) != path:
            self.in_doubt = True  # it replaced ours or was added to it: the message does not say

    def _touch(self, key: int) -> None:
        if self.touched is not None:
            self.touched.add(key)

    # -- names and states

    def vrf_name(self, table: int) -> str:
        """The name of the VRF that a table belongs to, otherwise the table's number."""
        return next((vrf.name for vrf in self.mapper.view.vrfs if vrf.table == table), str(table))

    def state(self, family: int, key: int) -> tuple[str, str | None]:
        """(state, reason) of an announced route."""
        refusal = self.refused[family].get(key)
        if refusal is not None:
            return refusal
        return ("offloaded", None) if any(self.where(family, key)) else ("pending", "not written yet")

    def where(self, family: int, key: int) -> Iterator[Path]:
        """The installed routes to a prefix, one per VRF."""
        for (of, _table), routes in self.installed.items():
            if of == family and key in routes:
                yield routes[key]


class _States:
    """Writes why routes are not offloaded, with one object for the same reason of a million routes."""

    def __init__(self, refused: dict[int, Refusal]) -> None:
        self._refused = refused
        self._last: Refusal | None = None

    def set(self, key: int, reason: str | None, make: Callable[[str], Refusal]) -> None:
        """The reason of a prefix; None: it is offloaded."""
        if reason is None:
            self.clear(key)
            return
        if self._last is None or reason is not self._last.reason:
            self._last = make(reason)
        self._refused[key] = self._last

    def set_many(self, keys: list[int], reason: str | None) -> None:
        """The reason of many prefixes that stay on the slow path; None: they are offloaded."""
        if reason is not None:
            self._refused.update(dict.fromkeys(keys, _slow_path(reason)))
        elif self._refused:
            for key in self._refused.keys() & set(keys):
                del self._refused[key]

    def clear(self, key: int) -> None:
        """Nothing to say of a prefix."""
        if self._refused:
            self._refused.pop(key, None)


def _admit(admission: Admission, family: int, key: int, path: Path | None, outcome: Outcome) -> _Restricted:
    """The part of an outcome that the host's policy admits, the reason if that is not all, and how to refuse it."""
    if path is not None and outcome.targets:
        return (*admission.admit(family, key, path, outcome.targets), _denied)
    admission.leave(family, key)
    return outcome.targets, outcome.reason, _slow_path


def _free(_key: int, _path: Path | None, outcome: Outcome) -> _Restricted:
    return outcome.targets, outcome.reason, _slow_path


def _slow_path(reason: str) -> Refusal:
    return Refusal("slow_path", reason)


def _denied(reason: str) -> Refusal:
    return Denial("failed", reason)


def _error_text(number: int) -> str:
    return sockets.KernelError(number).text
