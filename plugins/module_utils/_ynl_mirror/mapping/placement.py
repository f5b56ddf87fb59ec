# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each VRF of the DPU does with an announced prefix: offload it, keep it on the slow path, or nothing. Pure.

The promise: a packet that enters the DPU in VRF T has the fate that it has without the mirror. For T and prefix P:

1. R is the longest match of P among T's own routes. If R does not lead to the host, T's packets for P never come to
   the host: **nothing** is placed in T.
2. Otherwise the host decides. It sends the packet back, and the DPU forwards it from there by an egress (see
   inference.py), or it does something else with it: delivers it, discards it, sends it elsewhere.
3. With an egress, which is not T's own, **offload**: P by that egress in T.
4. Without one P has to stay on the slow path, and does so by R. Only where a shorter prefix is offloaded, whose
   mirrored route would win over R, **a trap route** is needed: P by R's own next hop. Who installs routes knows
   which of them are there, so an outcome has the way of each VRF to the host, and the installer places it if needed.
   It gives way to any route of another owner to P, which may come at any time.
5. Own routes inside P, of the source VRF or of T, are places where the decision changes: they are placed as prefixes of
   their own, by the decision that the host made for P. Too many of them, and P is handed to the table of the source VRF
   (its device as egress), or stays on the slow path.
6. Where R has the very prefix P, the mirrored route must be the one that the kernel prefers.

A million announced routes share a few paths, and own routes cut the addresses into a few regions: decisions are cached
by path and region. A cache belongs to a :class:`Mapper`, and that to one view of the DPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..model.links import Vrf
from ..model.path_cache import ByPath
from ..model.routes import (
    AF_INET,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_UNICAST,
    WIDTH,
    NextHop,
    Path,
    Prefix,
)
from ..replica.nexthops import in_a_byte
from .host import HostFacts, Uplinks
from .inference import Egress, Inference, Note, Slow
from .policy import Policy
from .regions import Regions
from .view import View

#: Outcomes that are cached at most, for all paths.
_MAX_OUTCOMES = 1 << 19
_RESERVED_TABLES = frozenset((0, 253, 254, 255))
#: The metric of trap routes: any other route to the very prefix is preferred. A link that comes into a VRF brings its
#: addresses along at once, and the kernel refuses the link's connected route where a trap route hides the address.
TRAP_METRIC = 4_000_000_000
#: Own routes inside an announced prefix that are placed as prefixes of their own, at most.
MOST_PARTS = 4096
#: Tables that a packet crosses by VRF devices, at most.
_MOST_TABLES = 8


class Way(NamedTuple):
    """How a VRF sends packets to the host: as a trap route, and the length of its own route that does so."""

    trap: Path
    length: int


class Outcome(NamedTuple):
    """What to do with a prefix: offloads by table; why there are none; and each table's way to the host.

    A table in *ways* that is not in *targets* keeps the prefix on the slow path. *parts* are the prefixes inside of it
    that are placed by the same decision of the host's, see rule 5.
    """

    targets: Mapping[int, Path]
    reason: str | None = None
    ways: Mapping[int, Way] = {}
    parts: tuple[int, ...] = ()


#: Of a prefix that concerns no VRF.
NO_OUTCOME = Outcome({})


class _Uplink(NamedTuple):
    """A way before it is placed: T's own route, its prefix key, and the links by which packets reach the host.

    Without links the packets for this prefix do not reach it, while those for a shorter one may.
    """

    key: int
    own: Path
    links: tuple[int, ...]


def _silent(_text: str) -> None:
    pass


class PathMapper:
    """Maps the announced routes that share one path. Prefixes of one region share the outcome."""

    def __init__(self, mapper: Mapper, path: Path) -> None:
        self._mapper = mapper
        self._path = path
        self._regions = mapper.regions(path.family)
        self._by_region: dict[int, Outcome] = {}
        self._others: dict[int, Outcome] = {}  # by prefix key

    def forget(self) -> None:
        """Drop the cache: something new is known of the host, or the cache is too large."""
        self._by_region.clear()
        self._others.clear()

    def outcome(self, key: int) -> Outcome:
        """For one prefix."""
        region = self._regions.of(key)
        if region is None:
            found = self._others.get(key)
            if found is None:
                found = self._mapper.trace(key, self._path)
                found = found._replace(parts=tuple(self._mapper.parts(self._path.family, key)))
                self._mapper.count_outcome()
                self._others[key] = found
            return found
        return self.in_region(region, key)

    def in_region(self, region: int, key: int) -> Outcome:
        """For every prefix of this region, of which KEY is one."""
        found = self._by_region.get(region)
        if found is None:
            found = self._mapper.trace(key, self._path)
            self._mapper.count_outcome()
            self._by_region[region] = found
        return found


class Mapper:
    """Maps announced routes against one state of the view. Make a new one when the view changes.

    *facts* are what is known of the host; they outlive the mapper. :attr:`learnt` is set when something new about the
    host changes decisions: earlier results may be wrong then, and all routes have to be mapped again, by this mapper.
    """

    def __init__(self, view: View, policy: Policy, facts: HostFacts | None = None) -> None:
        self.view = view
        self.policy = policy
        self.facts = HostFacts() if facts is None else facts
        self.learnt = False
        self._version = self.facts.version
        self.uplinks = Uplinks(view, self.facts, policy.host_links)
        self._inference = Inference(view, policy, self.uplinks)
        self._regions: dict[int, Regions] = {}
        self._rules: ByPath[PathMapper] = ByPath()
        self._paths: ByPath[Path] = ByPath()
        self._outcomes = 0
        self._points = {family: {point.key for point in policy.points if point.family == family} for family in WIDTH}
        self._crowded: dict[tuple[int, int], bool] = {}
        self._reasons: dict[str, str] = {}  # one object for the same reason of a million routes

    @property
    def host_links(self) -> frozenset[int]:
        """The links that lead to the host."""
        return self.uplinks.links

    def map(self, key: int, path: Path) -> Outcome:
        """The outcome for the announced route with this prefix key and path. Equal paths are returned as one object."""
        return self.rule(path).outcome(key)

    def rule(self, path: Path) -> PathMapper:
        """The mapper of the announced routes with this path; valid as long as this mapper is."""
        rule = self._rules.get(path)
        if rule is None:
            self.facts.learn_gateways(path, self.view.owners)
            self.look_at_host()
            rule = self._rules.keep(path, PathMapper(self, path))
        return rule

    def look_at_host(self) -> None:
        """See whether what is known of the host has changed decisions."""
        if self.facts.version == self._version:
            return
        self._version = self.facts.version
        uplinks = Uplinks(self.view, self.facts, self.policy.host_links)
        if uplinks.identity != self.uplinks.identity:
            self.uplinks = uplinks
            self._inference = Inference(self.view, self.policy, uplinks)
            self._forget()
            self.learnt = True

    def count_outcome(self) -> None:
        """Count an outcome that is about to be cached; when there are too many, drop all others."""
        self._outcomes += 1
        if self._outcomes > _MAX_OUTCOMES:
            self._forget()
            self._rules.clear()

    def _forget(self) -> None:
        self._outcomes = 0
        for rule in self._rules.values():
            rule.forget()

    def regions(self, family: int) -> Regions:
        """Where decisions about addresses of a family may change."""
        found = self._regions.get(family)
        if found is None:
            keys = [key for vrf in self.view.vrfs for key in self.view.lpm(family, vrf.table).every()]
            keys += [rule.prefix.key for rule in self.policy.static if rule.prefix and rule.prefix.family == family]
            keys += [point.key for point in self.policy.points if point.family == family]
            found = self._regions[family] = Regions(family, keys)
        return found

    def parts(self, family: int, key: int) -> list[int]:
        """The prefixes inside of an announced one that are placed by its decision: own routes, points of the policy."""
        if self.regions(family).of(key) is not None or self.is_crowded(family, key):
            return []
        prefix = Prefix.from_key(family, key)
        found = {point.key: None for point in self.policy.points if point != prefix and prefix.covers(point)}
        for vrf in self.view.vrfs:
            found.update((inner, None) for inner, _path in self.view.lpm(family, vrf.table).inside(key))
        return list(found)

    def is_crowded(self, family: int, key: int) -> bool:
        """Whether there are too many own routes inside of a prefix to place them one by one."""
        found = self._crowded.get((family, key))
        if found is None:
            number = sum(self.view.lpm(family, vrf.table).number_inside(key) for vrf in self.view.vrfs)
            found = self._crowded[family, key] = number > MOST_PARTS
        return found

    def is_part(self, family: int, key: int) -> bool:
        """Whether the DPU has a route of its own to exactly this prefix, or the policy a point."""
        return key in self._points[family] or any(
            self.view.lpm(family, vrf.table).exact(key) is not None for vrf in self.view.vrfs
        )

    def trace(self, key: int, path: Path, note: Note = _silent) -> Outcome:
        """Like `map` without the cache; each step is passed to *note*."""
        self.facts.learn_gateways(path, self.view.owners)
        self.look_at_host()
        ways = self._ways(key, path, note)
        traps = {table: Way(self._trap(table, way), way.key >> WIDTH[path.family]) for table, way in ways.items()}
        try:
            hops = self._inference.host_hops(path)
            egresses = [self._inference.egress(key, path, hop, note) for hop in hops]
            if not any(way.links for way in ways.values()):
                raise Slow("no VRF sends packets for this prefix to the host")
            self._check_parts(key, path, egresses)
            targets = self._targets(key, path, egresses, ways, note)
        except Slow as reason:
            text = self._reasons.setdefault(str(reason), str(reason))
            note(f"slow path: {text}")
            return Outcome(_NOTHING, text, traps)
        return Outcome(targets, None, traps)

    def leads_to_host(self, key: int, own: Path) -> bool:
        """Whether an own route sends packets for this prefix to the host."""
        return bool(self._leads_to_host(key, own))

    # -- T's way to the host

    def _ways(self, key: int, path: Path, note: Note) -> dict[int, _Uplink]:
        """By table: how the VRF sends packets for this prefix to the host; not those that do not."""
        found = {}
        for vrf in self.view.vrfs:
            if vrf.table in _RESERVED_TABLES:
                continue
            own = self.view.lpm(path.family, vrf.table).covering(key)
            if own is None:
                note(f"VRF {vrf.name}: has no route to this prefix")
                continue
            links = self._leads_to_host(key, own[1])
            obstacle = self._obstacle(path.family, links)
            if note is not _silent:  # the words take longer than the decision
                words = self._inference.describe(Prefix.from_key(path.family, own[0]), own[1])
                note(f"VRF {vrf.name}: {obstacle or 'sends packets to the host'}: {words}")
            if obstacle is None:
                found[vrf.table] = _Uplink(own[0], own[1], links)
            elif self._entered(own[1]) is not None:
                # The other VRF may send a part of what this route covers to the host, and not this one.
                found[vrf.table] = _Uplink(own[0], own[1], ())
        return found

    def _obstacle(self, family: int, links: tuple[int, ...]) -> str | None:
        """Why packets do not come to the host by an own route with these uplinks; None if they do."""
        if not links:
            return "its own route does not lead to the host"
        for link in links:
            if not self.view.is_up(link):
                return "its way to the host is down"
            if not self.uplinks.forwards(family, link):
                return f"the host does not forward what comes by {self.view.link_name(link)}"
        return None

    def _entered(self, own: Path) -> int | None:
        """The table of the VRF whose device a route leads to."""
        if own.type != RTN_UNICAST or own.extras or len(own.nexthops) != 1:
            return None
        device = self.view.links.get(own.nexthops[0].oif or 0)
        return None if device is None else device.vrf_table

    def _leads_to_host(self, key: int, own: Path) -> tuple[int, ...]:
        """The uplinks that an own route leads to, through the tables of VRF devices if need be; none if elsewhere."""
        for _table in range(_MOST_TABLES):
            if own.type != RTN_UNICAST or own.extras or own.tos or not own.nexthops:
                return ()
            table = self._entered(own)
            if table is not None:
                match = self.view.lpm(own.family, table).covering(key)
                if match is None:
                    return ()
                own = match[1]
                continue
            links = tuple(hop.oif for hop in own.nexthops if hop.oif in self.uplinks.links and hop.oif is not None)
            gateways = [hop.gateway for hop in own.nexthops if hop.gateway and self.uplinks.is_host(hop.gateway)]
            return links if len(links) == len(gateways) == len(own.nexthops) else ()
        return ()

    def _trap(self, table: int, way: _Uplink) -> Path:
        """The route that keeps a prefix on the slow path: by the next hops of the VRF's own route."""
        hops = tuple(NextHop(hop.gateway, hop.oif, hop.weight, hop.gateway is not None) for hop in way.own.nexthops)
        return self._intern(self._mirrored(way.own.family, table, hops, TRAP_METRIC, way.own.mtu))

    # -- the offload

    def _check_parts(self, key: int, path: Path, egresses: list[Egress]) -> None:
        """Slow if there is too much inside of the prefix that the source VRF may decide another way."""
        if self.regions(path.family).of(key) is not None or not self.is_crowded(path.family, key):
            return
        for number, egress in enumerate(egresses):
            if egress.arrives is None:  # the user's own word
                continue
            device = next((i for i, link in self.view.links.items() if link.vrf_table == egress.vrf.table), None)
            if device is None or len(egresses) > 1:
                raise Slow(f"VRF {egress.vrf.name} has more than {MOST_PARTS} more specific routes, and no device")
            egresses[number] = Egress(egress.vrf, (NextHop(None, device),), None, egress.arrives)

    def _targets(
        self, key: int, path: Path, egresses: list[Egress], ways: Mapping[int, _Uplink], note: Note
    ) -> Mapping[int, Path]:
        sources = {egress.vrf.name for egress in egresses}
        hops = _shares(egresses, path.nexthops)
        # A VRF device as egress sends a packet to the table of that VRF: installed in that very table it would loop.
        entered = {self.view.links[hop.oif].vrf_table for hop in hops if hop.oif is not None}
        single = len(hops) == 1
        nexthops = tuple(NextHop(h.gateway, h.oif, 1 if single else w, h.onlink) for h, w in hops.items())
        crowded = self.regions(path.family).of(key) is None and self.is_crowded(path.family, key)
        targets: dict[int, Path] = {}
        for vrf in self.view.vrfs:
            way = ways.get(vrf.table)
            if way is None or not way.links or vrf.table in entered or not self._imports(vrf, sources):
                continue
            if crowded and self._entered(way.own) is not None:
                note(f"VRF {vrf.name}: hands these packets to another VRF, with more than {MOST_PARTS} routes inside")
                continue
            metric = self._metric(path.family, way.own if way.key == key else None)
            if metric is None:
                note(f"VRF {vrf.name}: no mirrored route can win over its own with metric {way.own.metric}")
                continue
            mtu = self._mtu(path, egresses, way, nexthops)
            targets[vrf.table] = self._intern(self._mirrored(path.family, vrf.table, nexthops, metric, mtu))
            note(f"VRF {vrf.name}: offload, {self._inference.show(nexthops)}")
        if not targets:
            known = ", ".join(sorted(sources))
            raise Slow(f"no VRF that sends these packets to the host imports from VRF {known}")
        return targets

    def _imports(self, vrf: Vrf, sources: set[str]) -> bool:
        if vrf.name in sources:
            return False
        return sources <= set(self.policy.imports.get(vrf.name, sources))

    def _metric(self, family: int, rival: Path | None) -> int | None:
        """The metric of a mirrored route; it has to win over an own route to the very prefix. None: it cannot."""
        metric = self.policy.metric_for(family)
        if rival is None or metric < rival.metric:
            return metric
        if family == AF_INET:
            return rival.metric  # written in front of it
        return rival.metric - 1 if rival.metric > 1 else None  # IPv6 would join them

    def _mtu(self, path: Path, egresses: list[Egress], way: _Uplink, hops: Iterable[NextHop]) -> int | None:
        """The smallest MTU on the way over the host, if the egress itself would let larger packets pass."""
        links = [*way.links, *(egress.arrives for egress in egresses if egress.arrives is not None)]
        known = [self.view.links[index].mtu for index in links if index in self.view.links]
        known += [mtu for mtu in (path.mtu, way.own.mtu, *(egress.mtu for egress in egresses)) if mtu]
        smallest = min((mtu for mtu in known if mtu), default=0)
        leaving = [self.view.links[hop.oif].mtu for hop in hops if hop.oif is not None]
        return smallest if smallest and any(mtu > smallest for mtu in leaving) else None

    def _mirrored(
        self, family: int, table: int, nexthops: tuple[NextHop, ...], metric: int | None, mtu: int | None
    ) -> Path:
        connected = family == AF_INET and all(hop.gateway is None for hop in nexthops)
        return Path(
            family=family,
            table=table,
            protocol=self.policy.protocol,
            scope=RT_SCOPE_LINK if connected else RT_SCOPE_UNIVERSE,
            metric=metric or 0,
            mtu=mtu,
            nexthops=nexthops,
        )

    def _intern(self, path: Path) -> Path:
        found = self._paths.get(path)
        return self._paths.keep(path, path) if found is None else found


_NOTHING: Mapping[int, Path] = {}


def _shares(egresses: list[Egress], host_hops: tuple[NextHop, ...]) -> dict[NextHop, int]:
    """Every next hop with its weight: the weight of an announced hop is divided among the hops of its egress."""
    totals = [sum(hop.weight for hop in egress.hops) for egress in egresses]
    common = math.lcm(*totals)
    shares: dict[NextHop, int] = {}
    for egress, host_hop, total in zip(egresses, host_hops, totals):
        for hop in egress.hops:
            # A gateway of another VRF is resolved by its link alone, which needs onlink (fib_check_nh_v4_gw).
            nexthop = NextHop(hop.gateway, hop.oif, 1, hop.gateway is not None)
            shares[nexthop] = shares.get(nexthop, 0) + host_hop.weight * hop.weight * common // total
    divisor = math.gcd(*shares.values())
    return dict(zip(shares, in_a_byte([share // divisor for share in shares.values()])))
