# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packets leave the DPU that the host has sent back: (announced route, view of the DPU) -> egress. Pure.

An announced route says "packets for P go to gateway G by my link h". The link of the DPU at the other end of h is in
VRF S, and the route to P in S's table is the egress that the packet takes next. Inferences find it, in their order:

``static``
    The user's own rules.
``nexthop``
    As above: longest match in S's table among routes that the mirror did not install. This is what can be proven.
``prefix``
    A DPU route to exactly the same prefix gives egress and VRF, whatever the gateway. A guess, only when asked for.

An inference that does not know asks the next one. A veto is an answer, and ends the search: the gateway is not the
DPU's, the egress is down or leads back to the host, the table discards the packet. What has no egress stays on the slow
path over the host, which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..model.links import Vrf
from ..model.routes import (
    ROUTE_TYPE_NAMES,
    RTN_UNICAST,
    RTN_XRESOLVE,
    NextHop,
    Path,
    Prefix,
    protocol_name,
)
from .host import Uplinks
from .policy import Policy
from .view import View


class Egress(NamedTuple):
    """The next hops by which packets leave the DPU, the VRF whose table has them, and the smallest MTU on the way.

    *arrives* is the link by which the host sends the packets back, None for a static rule.
    """

    vrf: Vrf
    hops: tuple[NextHop, ...]
    mtu: int | None = None
    arrives: int | None = None


class Slow(Exception):
    """The route stays on the slow path; the text is the reason."""


class Unknown(Slow):
    """An inference does not know; the next one is asked."""


Note = Callable[[str], None]


class Inference:
    """Finds the egress of announced routes, for one view of the DPU and one state of its uplinks."""

    def __init__(self, view: View, policy: Policy, uplinks: Uplinks) -> None:
        self._view = view
        self._policy = policy
        self._uplinks = uplinks

    def host_hops(self, path: Path) -> tuple[NextHop, ...]:
        """The gateways by which the host forwards, each with its link. Slow if it does not forward through gateways."""
        if path.type == RTN_XRESOLVE:
            raise Slow(path.reason or "the host does not say how it forwards these packets")
        if path.type != RTN_UNICAST:
            raise Slow(f"{ROUTE_TYPE_NAMES.get(path.type, path.type)} routes are not mirrored: they have no egress")
        if path.extras:
            raise Slow(f"route attributes that cannot be mirrored: {', '.join(path.extras)}")
        if path.tos:
            raise Slow(f"routes with a tos ({path.tos:#x}) are not mirrored")
        if not path.nexthops:
            raise Slow(f"next hops of nexthop object {path.nh_id} unknown" if path.nh_id else "no next hop")
        if any(hop.gateway is None for hop in path.nexthops):
            raise Slow("connected route of the host: no gateway")
        return path.nexthops

    def egress(self, key: int, path: Path, hop: NextHop, note: Note) -> Egress:
        """The egress of one of the host's next hops, or Slow."""
        reasons = []
        # Without static rules it says nothing that none matches.
        names = [name for name in self._policy.inference if name != "static" or self._policy.static]
        for name in names or self._policy.inference:
            try:
                egress = _INFER[name](self, key, path, hop, note)
                self._check(egress)
            except Unknown as reason:
                note(f"{name}: {reason}")
                reasons.append(f"{name}: {reason}")
            except Slow as veto:
                note(f"{name}: {veto}")
                raise Slow(f"{name}: {veto}") from None
            else:
                note(f"{name}: egress {self.show(egress.hops)} in VRF {egress.vrf.name}")
                return egress
        raise Slow("; ".join(reasons))

    def source(self, hop: NextHop) -> tuple[Vrf, int]:
        """The VRF and the link by which packets come back that the host sends to this next hop; Slow or Unknown."""
        link = self._comes_back_by(hop)
        if not self._view.is_up(link):
            raise Slow(f"link {self._view.link_name(link)}, by which the host sends, is down")
        vrf = self._view.vrf_of_link(link)
        if vrf is None:
            raise Unknown(f"gateway {hop.gateway} is on {self._view.link_name(link)}, which is in no VRF")
        return vrf, link

    def _comes_back_by(self, hop: NextHop) -> int:
        owners = () if hop.gateway is None else self._view.owners.get(hop.gateway, ())
        if not owners:
            raise Slow(f"gateway {hop.gateway} is not an address of the DPU")
        paired = None if hop.oif is None else self._uplinks.pairs.get(hop.oif)
        if paired:
            fitting = tuple(index for index in owners if index in paired) or self._by_vrf_device(owners, paired)
            if not fitting:
                ends, names = self._names(paired), self._names(owners)
                raise Slow(f"gateway {hop.gateway} is an address of {names}, but the host sends by the link to {ends}")
            owners = fitting
        elif hop.oif is not None:
            taken = frozenset(link for links in self._uplinks.pairs.values() for link in links)
            if taken.issuperset(owners):  # each is the other end of another link of the host's
                raise Slow(
                    f"gateway {hop.gateway} is an address of {self._names(owners)}, but the host sends elsewhere"
                )
        if len(owners) > 1:
            raise Unknown(f"gateway {hop.gateway} is an address of several links: {self._names(owners)}")
        return owners[0]

    def _by_vrf_device(self, owners: tuple[int, ...], paired: frozenset[int]) -> tuple[int, ...]:
        """The paired links of a VRF whose device owns the gateway: it answers for its address on all of them."""
        tables = {self._view.links[index].vrf_table for index in owners if index in self._view.links} - {None}
        return tuple(
            index for index in paired if (vrf := self._view.vrf_of_link(index)) is not None and vrf.table in tables
        )

    def _by_nexthop(self, key: int, path: Path, hop: NextHop, note: Note) -> Egress:
        vrf, link = self.source(hop)
        name = self._view.link_name(link)
        note(f"nexthop: gateway {hop.gateway} is on {name} in VRF {vrf.name} (table {vrf.table})")
        match = self._view.lpm(path.family, vrf.table).covering(key)
        if match is None:
            raise Slow(f"VRF {vrf.name} has no route to this prefix")
        found = Prefix.from_key(path.family, match[0])
        note(f"nexthop: longest match in VRF {vrf.name}: {self.describe(found, match[1])}")
        return Egress(vrf, self._usable(found, match[1], vrf), match[1].mtu, link)

    def _by_prefix(self, key: int, path: Path, _hop: NextHop, note: Note) -> Egress:
        prefix = Prefix.from_key(path.family, key)
        found = []
        for vrf in self._view.vrfs:
            own = self._view.lpm(path.family, vrf.table).exact(key)
            if own is not None and own.type == RTN_UNICAST:
                note(f"prefix: VRF {vrf.name} has {self.describe(prefix, own)}")
                found.append((vrf, own))
        if not found:
            raise Unknown("no VRF has a route of its own to this prefix")
        if len(found) > 1:
            raise Slow(f"ambiguous: several VRFs have {prefix}: {', '.join(vrf.name for vrf, _own in found)}")
        vrf, own = found[0]
        return Egress(vrf, self._usable(prefix, own, vrf), own.mtu)

    def _by_static(self, key: int, path: Path, hop: NextHop, _note: Note) -> Egress:
        prefix = Prefix.from_key(path.family, key)
        for rule in self._policy.static:
            if (rule.prefix is not None and rule.prefix.covers(prefix)) or rule.gateway == hop.gateway:
                vrf = self._view.vrf_named(rule.vrf)
                if vrf is None:
                    raise Slow(f"VRF {rule.vrf} of the matching static rule does not exist")
                index = next((i for i, link in self._view.links.items() if link.name == rule.dev), None)
                if index is None:
                    raise Slow(f"link {rule.dev} of the matching static rule does not exist")
                return Egress(vrf, (NextHop(rule.via, index),))
        raise Unknown("no static rule matches")

    def _usable(self, prefix: Prefix, own: Path, vrf: Vrf) -> tuple[NextHop, ...]:
        if own.type != RTN_UNICAST:
            raise Slow(f"VRF {vrf.name} has {ROUTE_TYPE_NAMES.get(own.type, own.type)} {prefix}")
        if own.extras or own.tos or not own.nexthops:
            raise Slow(f"the route {prefix} of VRF {vrf.name} has no plain next hop")
        return own.nexthops

    def _check(self, egress: Egress) -> None:
        for hop in egress.hops:
            link = self._view.links.get(hop.oif) if hop.oif is not None else None
            if link is None:
                raise Slow("the egress link does not exist")
            if not self._view.is_up(link.index):
                raise Slow(f"egress link {link.name} is down")
            if link.index in self._uplinks.links:
                raise Slow(f"egress link {link.name} leads back to the host")
            if link.name == "lo":
                raise Slow("egress link lo leads nowhere")

    # -- texts

    def _names(self, indexes: Iterable[int]) -> str:
        return ", ".join(sorted(self._view.link_name(index) for index in indexes))

    def show(self, hops: Iterable[NextHop]) -> str:
        """Next hops, as ip-route(8) writes them."""
        return ", ".join(
            (f"via {hop.gateway} " if hop.gateway else "") + f"dev {self._view.link_name(hop.oif)}" for hop in hops
        )

    def describe(self, prefix: Prefix, path: Path) -> str:
        """A route of the DPU's own."""
        kind = "" if path.type == RTN_UNICAST else f"{ROUTE_TYPE_NAMES.get(path.type, path.type)} "
        return f"{kind}{prefix} {self.show(path.nexthops)} proto {protocol_name(path.protocol)}"


_INFER: dict[str, Callable[[Inference, int, Path, NextHop, Note], Egress]] = {
    "static": Inference._by_static,
    "nexthop": Inference._by_nexthop,
    "prefix": Inference._by_prefix,
}
