# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping: (announced route, view of the DPU) -> the routes to install on the DPU, or why there are none. Pure.

An announced route says "packets for P go to gateway G". On the DPU, G is a local address; the link that owns it is in
VRF S, and the route to P in S's table is the egress that the packet takes after the host has sent it back. Therefore
every *other* VRF may send it there directly. Three inferences find egress and source VRF, in the configured order:

``nexthop``
    As above: longest match in S's table among routes the mirror did not install.
``prefix``
    The proof of concept's rule: a DPU route to exactly the same prefix gives egress and source VRF.
``static``
    The user's own rules.

There is no egress if the link leads back to the host (packets would loop), or if the announced route has no gateway.
An ambiguous result, an unknown gateway or a link that is down leave the route on the slow path over the host, which is
always right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..model.links import Vrf
from ..model.path_cache import ByPath
from ..model.routes import (
    AF_INET,
    AF_INET6,
    IPV6_DEFAULT_METRIC,
    PROTO_MIRROR,
    ROUTE_TYPE_NAMES,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_ANYCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    Address,
    NextHop,
    Path,
    Prefix,
    protocol_name,
)
from .lpm import Lpm
from .view import View

INFERENCES = ("nexthop", "prefix", "static")
#: Outcomes and gateways that are cached at most, for all paths: a host may send new ones all the time.
_MAX_OUTCOMES = 1 << 19
_MAX_GATEWAYS = 65536
_RESERVED_TABLES = frozenset((0, 253, 254, 255))
#: The largest weight of a next hop in the kernel (rtnh_hops is one byte: the weight minus one).
_MAX_WEIGHT = 256
#: The table of a VRF device has these for the addresses of its links; they lead nowhere else.
_OWN_ADDRESS_TYPES = frozenset((RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST))


class MappingRule(NamedTuple):
    """A static rule: routes within *prefix*, or through *gateway*, have the egress *dev* (*via*) in VRF *vrf*."""

    vrf: str
    dev: str
    prefix: Prefix | None = None
    gateway: Address | None = None
    via: Address | None = None


@dataclass(frozen=True)
class Policy:
    """What the user configures: order of inferences, static rules, imports, links to the host, protocol and metric.

    *imports* lists the source VRFs from which a VRF imports routes; a VRF without an entry imports from all others.
    """

    inference: tuple[str, ...] = INFERENCES
    static: tuple[MappingRule, ...] = ()
    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    host_links: tuple[str, ...] = ()
    protocol: int = PROTO_MIRROR
    metric: int | None = None

    def metric_for(self, family: int) -> int:
        """The metric of mirrored routes, as the kernel will report it."""
        if self.metric:
            return self.metric
        return IPV6_DEFAULT_METRIC if family == AF_INET6 else 0


class Egress(NamedTuple):
    """The next hops by which packets leave the DPU, and the VRF whose table has them."""

    vrf: Vrf
    hops: tuple[NextHop, ...]


class Outcome(NamedTuple):
    """The result of mapping an announced route: DPU paths by table, or none and the *reason*."""

    targets: Mapping[int, Path]
    reason: str | None = None


class _NoEgress(Exception):
    """An inference found no egress; the text is the reason."""


Note = Callable[[str], None]


def _silent(_text: str) -> None:
    pass


class PathMapper:
    """Maps the announced routes that share one path. Routes that also share their match share the outcome.

    The inferences other than ``nexthop`` depend on the prefix itself. Their outcomes, negative ones too, are shared
    only by prefixes to which the DPU has no route or rule of its own.
    """

    def __init__(self, mapper: Mapper, path: Path, lpm: Lpm | None) -> None:
        self._mapper = mapper
        self._path = path
        self._lpm = lpm  # the source VRF's routes, if `nexthop` is the first inference
        self._by_nexthop: dict[int, Outcome] = {}
        self._otherwise: dict[int, Outcome] = {}

    def forget(self) -> None:
        """Drop the cache: a link to the host was learnt, or the cache is too large."""
        self._by_nexthop.clear()
        self._otherwise.clear()

    def outcome(self, key: int) -> Outcome:
        """For one prefix."""
        match = None if self._lpm is None else self._lpm.plain_match(key)
        if match is None:
            return self._mapper.trace(key, self._path)
        outcome = self._by_nexthop.get(match)
        if outcome is not None:
            return outcome
        shared = not self._mapper.is_named(self._path.family, key)
        outcome = self._otherwise.get(match) if shared else None
        if outcome is None:
            outcome = self._mapper.trace(key, self._path)
            self._mapper.count_outcome()
            if outcome.targets and self._mapper.found_by_nexthop(key, self._path):
                self._by_nexthop[match] = outcome
            elif shared:
                self._otherwise[match] = outcome
        return outcome


class Mapper:
    """Maps announced routes against one state of the view. Make a new one when the view changes.

    *host_links* are the links that lead back to the host: those in the configuration, and those that own an address
    which the host uses as gateway. The latter are learnt from announced paths. :attr:`learnt` is set when one is new:
    earlier results may be wrong then, and all routes have to be mapped again, with the same mapper.
    """

    def __init__(self, view: View, policy: Policy, gateways: set[Address] | None = None) -> None:
        self.view = view
        self.policy = policy
        self.gateways: set[Address] = set() if gateways is None else gateways
        self.learnt = False
        self.host_links = {index for index, link in view.links.items() if link.name in policy.host_links}
        for gateway in self.gateways:
            self.host_links.update(view.owners.get(gateway, ()))
        self._prefix_rules = [rule.prefix for rule in policy.static if rule.prefix is not None]
        self._rules: ByPath[PathMapper] = ByPath()
        self._paths: ByPath[Path] = ByPath()
        self._outcomes = 0

    def map(self, key: int, path: Path) -> Outcome:
        """The outcome for the announced route with this prefix key and path. Equal paths are returned as one object."""
        return self.rule(path).outcome(key)

    def rule(self, path: Path) -> PathMapper:
        """The mapper of the announced routes with this path; valid as long as this mapper is."""
        rule = self._rules.get(path)
        if rule is None:
            rule = self._rules.keep(path, PathMapper(self, path, self._prepare(path)))
        return rule

    def count_outcome(self) -> None:
        """Count an outcome that is about to be cached; when there are too many, drop all others."""
        self._outcomes += 1
        if self._outcomes > _MAX_OUTCOMES:
            self._outcomes = 0
            for rule in self._rules.values():
                rule.forget()
            self._rules.clear()

    def trace(self, key: int, path: Path, note: Note = _silent) -> Outcome:
        """Like `map` without the cache; each step is passed to *note*."""
        self._learn(path)
        try:
            egresses = [self._egress(key, path, hop, note) for hop in self._host_hops(path)]
            return Outcome(self._targets(path.family, egresses, path.nexthops, note))
        except _NoEgress as reason:
            note(f"slow path: {reason}")
            return Outcome({}, str(reason))

    def found_by_nexthop(self, key: int, path: Path) -> bool:
        """Whether ``nexthop`` finds an egress for a route with one next hop."""
        try:
            self._check(self._by_nexthop(key, path, path.nexthops[0], _silent))
        except _NoEgress:
            return False
        return True

    def is_named(self, family: int, key: int) -> bool:
        """Whether the DPU has a route to exactly this prefix, or the user a static rule that covers it."""
        if any(self.view.lpm(family, vrf.table).exact(key) is not None for vrf in self.view.vrfs):
            return True
        if not self._prefix_rules:
            return False
        prefix = Prefix.from_key(family, key)
        return any(rule.covers(prefix) for rule in self._prefix_rules)

    # -- the announced path

    def _learn(self, path: Path) -> None:
        for hop in path.nexthops:
            if hop.gateway is not None and hop.gateway not in self.gateways:
                if len(self.gateways) >= max(_MAX_GATEWAYS, 2 * len(self.view.owners)):
                    # Gateways in use are learnt again when the DPU gets such an address.
                    self.gateways.intersection_update(self.view.owners)
                self.gateways.add(hop.gateway)
                new = set(self.view.owners.get(hop.gateway, ())) - self.host_links
                if new:
                    self.host_links |= new
                    for rule in self._rules.values():
                        rule.forget()
                    self.learnt = True

    def _prepare(self, path: Path) -> Lpm | None:
        """The source VRF's routes if ``nexthop`` is the first inference; None if nothing can be prepared."""
        self._learn(path)
        if self.policy.inference[:1] != ("nexthop",) or len(path.nexthops) != 1:
            return None
        try:
            vrf = self._source_vrf(next(iter(self._host_hops(path))), _silent)
        except _NoEgress:
            return _everything(path)  # the result does not depend on the prefix
        return self.view.lpm(path.family, vrf.table)

    def _host_hops(self, path: Path) -> tuple[NextHop, ...]:
        if path.type != RTN_UNICAST:
            raise _NoEgress(
                f"{ROUTE_TYPE_NAMES.get(path.type, path.type)} routes are not mirrored: they have no egress"
            )
        if path.extras:
            raise _NoEgress(f"route attributes that cannot be mirrored: {', '.join(path.extras)}")
        if path.tos:
            raise _NoEgress(f"routes with a tos ({path.tos:#x}) are not mirrored")
        if not path.nexthops:
            raise _NoEgress(f"next hops of nexthop object {path.nh_id} unknown" if path.nh_id else "no next hop")
        if any(hop.gateway is None for hop in path.nexthops):
            raise _NoEgress("connected route of the host: no gateway")
        return path.nexthops

    # -- the egress

    def _egress(self, key: int, path: Path, hop: NextHop, note: Note) -> Egress:
        reasons = []
        for name in self.policy.inference:
            try:
                egress = _INFER[name](self, key, path, hop, note)
                self._check(egress)
            except _NoEgress as reason:
                note(f"{name}: {reason}")
                reasons.append(f"{name}: {reason}")
                continue
            note(f"{name}: egress {self._show(egress.hops)} in VRF {egress.vrf.name}")
            return egress
        raise _NoEgress("; ".join(reasons))

    def _source_vrf(self, hop: NextHop, note: Note) -> Vrf:
        if hop.gateway is None:
            raise _NoEgress("the route has no gateway")
        owners = self.view.owners.get(hop.gateway, ())
        if not owners:
            raise _NoEgress(f"gateway {hop.gateway} is not an address of the DPU")
        if len(owners) > 1:
            names = ", ".join(self.view.link_name(index) for index in owners)
            raise _NoEgress(f"gateway {hop.gateway} is an address of several links: {names}")
        vrf = self.view.vrf_of_link(owners[0])
        name = self.view.link_name(owners[0])
        if vrf is None:
            raise _NoEgress(f"gateway {hop.gateway} is on {name}, which is in no VRF")
        note(f"nexthop: gateway {hop.gateway} is on {name} in VRF {vrf.name} (table {vrf.table})")
        return vrf

    def _by_nexthop(self, key: int, path: Path, hop: NextHop, note: Note) -> Egress:
        vrf = self._source_vrf(hop, note)
        lpm = self.view.lpm(path.family, vrf.table)
        match = lpm.covering(key)
        prefix = Prefix.from_key(path.family, key)
        if match is None:
            raise _NoEgress(f"VRF {vrf.name} has no route to {prefix}")
        found = Prefix.from_key(path.family, match[0])
        note(f"nexthop: longest match in VRF {vrf.name}: {self._describe(found, match[1])}")
        for other, inner in lpm.inside(key):
            if inner.type not in _OWN_ADDRESS_TYPES and _fate(inner) != _fate(match[1]):
                part = Prefix.from_key(path.family, other)
                raise _NoEgress(f"ambiguous: VRF {vrf.name} has a more specific route {part} with another next hop")
        return Egress(vrf, self._usable(found, match[1], vrf))

    def _by_prefix(self, key: int, path: Path, _hop: NextHop, note: Note) -> Egress:
        prefix = Prefix.from_key(path.family, key)
        found = []
        for vrf in self.view.vrfs:
            own = self.view.lpm(path.family, vrf.table).exact(key)
            if own is not None and own.type == RTN_UNICAST:
                note(f"prefix: VRF {vrf.name} has {self._describe(prefix, own)}")
                found.append((vrf, own))
        if not found:
            raise _NoEgress("no VRF has a route of its own to this prefix")
        if len(found) > 1:
            raise _NoEgress(f"ambiguous: several VRFs have {prefix}: {', '.join(vrf.name for vrf, _own in found)}")
        return Egress(found[0][0], self._usable(prefix, found[0][1], found[0][0]))

    def _by_static(self, key: int, path: Path, hop: NextHop, _note: Note) -> Egress:
        prefix = Prefix.from_key(path.family, key)
        for rule in self.policy.static:
            if (rule.prefix is not None and rule.prefix.covers(prefix)) or rule.gateway == hop.gateway:
                vrf = self.view.vrf_named(rule.vrf)
                if vrf is None:
                    raise _NoEgress(f"VRF {rule.vrf} of the matching static rule does not exist")
                index = next((i for i, link in self.view.links.items() if link.name == rule.dev), None)
                if index is None:
                    raise _NoEgress(f"link {rule.dev} of the matching static rule does not exist")
                return Egress(vrf, (NextHop(rule.via, index),))
        raise _NoEgress("no static rule matches")

    def _usable(self, prefix: Prefix, own: Path, vrf: Vrf) -> tuple[NextHop, ...]:
        if own.type != RTN_UNICAST:
            raise _NoEgress(f"VRF {vrf.name} has {ROUTE_TYPE_NAMES.get(own.type, own.type)} {prefix}")
        if own.extras or not own.nexthops:
            raise _NoEgress(f"the route {prefix} of VRF {vrf.name} has no plain next hop")
        return own.nexthops

    def _check(self, egress: Egress) -> None:
        for hop in egress.hops:
            link = self.view.links.get(hop.oif) if hop.oif is not None else None
            if link is None:
                raise _NoEgress("the egress link does not exist")
            if not link.up or not link.carrier:
                raise _NoEgress(f"egress link {link.name} is down")
            if link.index in self.host_links:
                raise _NoEgress(f"egress link {link.name} leads back to the host")

    # -- the DPU's side

    def _targets(
        self, family: int, egresses: list[Egress], host_hops: tuple[NextHop, ...], note: Note
    ) -> Mapping[int, Path]:
        sources = {egress.vrf.name for egress in egresses}
        hops = _shares(egresses, host_hops)
        # A VRF device as egress sends a packet to the table of that VRF: installed in that very table it would loop.
        entered = {self.view.links[hop.oif].vrf_table for hop in hops if hop.oif is not None}
        importers = [vrf for vrf in self.view.vrfs if self._imports(vrf, sources) and vrf.table not in entered]
        if not importers:
            known = ", ".join(sorted(sources))
            leads = f"egress {self._show(hops)} leads into a VRF, and " if entered != {None} else ""
            raise _NoEgress(f"{leads}no other VRF imports from VRF {known}")
        note(f"imported into VRF {', '.join(vrf.name for vrf in importers)}: every importing VRF except the source")
        single = len(hops) == 1
        nexthops = tuple(NextHop(h.gateway, h.oif, 1 if single else w, h.onlink) for h, w in hops.items())
        return {vrf.table: self._intern(self._dpu_path(family, vrf.table, nexthops)) for vrf in importers}

    def _imports(self, vrf: Vrf, sources: set[str]) -> bool:
        if vrf.name in sources or vrf.table in _RESERVED_TABLES:
            return False
        return sources <= set(self.policy.imports.get(vrf.name, sources))

    def _dpu_path(self, family: int, table: int, nexthops: tuple[NextHop, ...]) -> Path:
        connected = family == AF_INET and all(hop.gateway is None for hop in nexthops)
        return Path(
            family=family,
            table=table,
            protocol=self.policy.protocol,
            scope=RT_SCOPE_LINK if connected else RT_SCOPE_UNIVERSE,
            metric=self.policy.metric_for(family),
            nexthops=nexthops,
        )

    def _intern(self, path: Path) -> Path:
        found = self._paths.get(path)
        return self._paths.keep(path, path) if found is None else found

    # -- texts

    def _show(self, hops: Iterable[NextHop]) -> str:
        return ", ".join(
            (f"via {hop.gateway} " if hop.gateway else "") + f"dev {self.view.link_name(hop.oif)}" for hop in hops
        )

    def _describe(self, prefix: Prefix, path: Path) -> str:
        kind = "" if path.type == RTN_UNICAST else f"{ROUTE_TYPE_NAMES.get(path.type, path.type)} "
        return f"{kind}{prefix} {self._show(path.nexthops)} proto {protocol_name(path.protocol)}"


def _everything(path: Path) -> Lpm:
    """A table in which every prefix has the same match."""
    lpm = Lpm(path.family)
    lpm.set(Prefix(path.family, 0, 0).key, path)
    return lpm


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
    largest = max(shares.values()) // divisor
    if largest <= _MAX_WEIGHT:
        return {nexthop: share // divisor for nexthop, share in shares.items()}
    return {nexthop: max(1, round(share / divisor * _MAX_WEIGHT / largest)) for nexthop, share in shares.items()}


def _fate(path: Path) -> tuple[int, tuple[NextHop, ...]]:
    """What happens to a packet: forwarded by these next hops, or discarded."""
    return path.type, path.nexthops


_INFER: dict[str, Callable[[Mapper, int, Path, NextHop, Note], Egress]] = {
    "nexthop": Mapper._by_nexthop,
    "prefix": Mapper._by_prefix,
    "static": Mapper._by_static,
}
