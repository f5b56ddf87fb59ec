# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DPU of the mapping's tests: the lab's, as a value, and short words for routes and for what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper, Outcome
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import (
    View,
    address_owners,
    shared_subnets,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.wanted import Wanted
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    Address,
    NextHop,
    Path,
    Prefix,
)

A, B, C = 10, 20, 30  # the VRFs' tables
ETH = {f"eth{number}": number for number in range(1, 7)}
LINKS = {index: Link(index, name) for name, index in ETH.items()}
UPLINKS = ("eth1", "eth2", "eth5")
VRFS = (Vrf("a", A, frozenset((1, 3))), Vrf("b", B, frozenset((2, 4))))
THREE_VRFS = (*VRFS, Vrf("c", C, frozenset((5, 6))))
ADDRESSES = tuple(
    LinkAddress(ETH[link], Address.parse(address), length)
    for link, address, length in (
        ("eth1", "192.168.101.1", 24),
        ("eth2", "192.168.102.1", 24),
        ("eth3", "192.168.11.1", 24),
        ("eth4", "192.168.12.1", 24),
        ("eth1", "fd00:101::1", 64),
        ("eth2", "fd00:102::1", 64),
        ("eth3", "fd00:11::1", 64),
        ("eth4", "fd00:12::1", 64),
        ("eth1", "fe80::101", 64),
        ("eth1", "fe80::1", 64),
        ("eth3", "fe80::1", 64),
        ("eth5", "192.168.103.1", 24),
    )
)
#: (table, prefix, next hops): the lab's DPU, each VRF with a default route to the host.
LAB = (
    (A, "192.168.11.0/24", "@3"),
    (A, "192.168.101.0/24", "@1"),
    (A, "0.0.0.0/0", "192.168.101.2@1"),
    (B, "192.168.12.0/24", "@4"),
    (B, "192.168.102.0/24", "@2"),
    (B, "0.0.0.0/0", "192.168.102.2@2"),
    (A, "fd00:11::/64", "@3"),
    (A, "fd00:101::/64", "@1"),
    (A, "::/0", "fd00:101::2@1"),
    (B, "fd00:12::/64", "@4"),
    (B, "fd00:102::/64", "@2"),
    (B, "::/0", "fd00:102::2@2"),
)
#: The same with a third VRF, which leads to the host by eth5.
LAB_OF_THREE = (*LAB, (C, "0.0.0.0/0", "192.168.103.2@5"))
Own = tuple[int, str, str]


def hop(text: str) -> NextHop:
    """``192.0.2.2@3*5``: gateway, link and weight; each but the gateway or the link may be missing."""
    text, _star, weight = text.partition("*")
    gateway, _at, oif = text.partition("@")
    return NextHop(Address.parse(gateway) if gateway else None, int(oif) if oif else None, int(weight or 1))


def hops(text: str) -> tuple[NextHop, ...]:
    return tuple(map(hop, text.split()))


def own(table: int, prefix: str, way: str, **fields: Any) -> tuple[Prefix, Path]:
    """A route of the DPU's own; *way* is its next hops."""
    wanted = Prefix.parse(prefix)
    path = Path(wanted.family, table, protocol=4, nexthops=hops(way), **fields)
    return wanted, path


def view(
    *more: Own,
    routes: Iterable[Own] = LAB,
    others: Iterable[tuple[Prefix, Path]] = (),
    vrfs: tuple[Vrf, ...] = VRFS,
    links: dict[int, Link] = LINKS,
) -> View:
    made = View(vrfs, links, address_owners(ADDRESSES), subnets=shared_subnets(ADDRESSES))
    for prefix, path in (*(own(*route) for route in (*routes, *more)), *others):
        made.lpm(prefix.family, path.table).set(prefix.key, path)
    return made


def host(prefix: str, way: str, **fields: Any) -> tuple[int, Path]:
    """A route of the host: prefix key and path."""
    wanted = Prefix.parse(prefix)
    return wanted.key, Path(wanted.family, nexthops=hops(way), **{"protocol": 4, **fields})


def mapped(prefix: str, way: str, seen: View | None = None, policy: Policy | None = None, **fields: Any) -> Outcome:
    return lab_mapper(seen, policy).map(*host(prefix, way, **fields))


def lab_mapper(seen: View | None = None, policy: Policy | None = None) -> Mapper:
    """A mapper that knows the lab's uplinks, as it does once the host has announced its connected prefixes."""
    policy = policy or Policy()
    return Mapper(seen or view(), replace(policy, host_links=(*UPLINKS, *policy.host_links)))


def placed(
    *routes: tuple[int, Path], seen: View | None = None, policy: Policy | None = None, mapper: Mapper | None = None
) -> dict[int, dict[str, str]]:
    """All that the host's routes (of `host`) need: table -> prefix -> next hops. Empty tables are left out."""
    mapper = mapper or lab_mapper(seen, policy)
    announced = dict(routes)
    found: dict[int, dict[str, str]] = {}
    family = routes[0][1].family
    for key, paths in Wanted(mapper, lambda _family, key: announced.get(key)).everything(family, announced).items():
        for table, path in paths.items():
            found.setdefault(table, {})[str(Prefix.from_key(family, key))] = hops_of(path)
    return found


def hops_of(path: Path) -> str:
    """Next hops in the words of these tests, a ``!`` behind each that is onlink."""
    return " ".join(
        f"{one.gateway or ''}@{one.oif}" + (f"*{one.weight}" if one.weight > 1 else "") + "!" * one.onlink
        for one in path.nexthops
    )


def told(outcome: Outcome) -> dict[int, str]:
    """The offloads of an outcome in the words of these tests: table -> next hops."""
    return {table: hops_of(path) for table, path in outcome.targets.items()}


def reason(outcome: Outcome) -> str:
    assert not outcome.targets
    assert outcome.reason
    return outcome.reason
