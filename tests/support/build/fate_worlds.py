# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random DPUs and hosts for the model of fates.py, and the same as the mapping's values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.admission import Admission
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.installer import Installer
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.host_policy import HostPolicy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.host import HostFacts
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import (
    View,
    address_owners,
    shared_subnets,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    ROUTE_TYPE_NAMES,
    ROUTE_TYPES,
    RT_TABLE_MAIN,
    RTN_LOCAL,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import decode_route
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.fates import Hop, Network, Table, Way, World

A, B, C = TABLES = (10, 20, 30)
NAMES = {A: "a", B: "b", C: "c"}
#: Links of the DPU by table: the one to the host, an egress, and the VRF's device.
UPLINK, EGRESS, DEVICE = {A: 1, B: 2, C: 5}, {A: 3, B: 4, C: 6}, {A: 11, B: 12, C: 13}
#: The host's end of each uplink, and a link of the host's own.
FAR, ELSEWHERE = {A: 101, B: 102, C: 105}, 200
#: The subnet of each uplink: the DPU has its address 1, the host 2.
NET = {
    AF_INET: {A: "192.168.101.", B: "192.168.102.", C: "192.168.103."},
    AF_INET6: {A: "fd00:101::", B: "fd00:102::", C: "fd00:103::"},
}
SUBNET = {AF_INET: 24, AF_INET6: 64}
STRANGER = {AF_INET: "192.168.99.1", AF_INET6: "fd00:99::1"}
#: All prefixes but the default route lie in here: value and length.
BASE = {AF_INET: (10 << 24, 8), AF_INET6: (0xFD10 << 112, 16)}
#: Metrics of own routes.
METRICS = {AF_INET: (0, 0, 50), AF_INET6: (1024, 1024, 50, 1)}
_OWN = ("out", "out", "out", "host", "host", "mixed", "vrf", "stranger", "wire", "blackhole", "local")
_HOST = ("back", "back", "back", "back", "spread", "own", "slow", "blackhole", "unpaired", "unknown", "local")
_Choice = TypeVar("_Choice")


class Chance(Protocol):
    """What a world is made with: `random.Random`, or a strategy of hypothesis."""

    def choice(self, seq: Sequence[_Choice]) -> _Choice:
        """One of these."""


def network(family: int, depth: int, bits: int) -> Network:
    """A prefix of a small tree: depth 0 is the default route, 1 the base and so on, 6 an address."""
    value, length = BASE[family]
    width = WIDTH[family]
    kind = ipaddress.IPv4Network if family == AF_INET else ipaddress.IPv6Network
    if depth == 0:
        return kind((0, 0))
    depth -= 1
    value |= bits % (1 << min(depth, 4)) << (width - length - min(depth, 4))
    return kind((value, length + depth if depth < 5 else width))


def some_network(chance: Chance, family: int) -> Network:
    """Any prefix of the tree."""
    return network(family, chance.choice(range(7)), chance.choice(range(16)))


def some_own(chance: Chance, family: int, table: int) -> Way:
    """A route of a VRF's own: to the host, out, into another VRF, or nowhere."""
    net, other = NET[family], chance.choice(TABLES)
    metric, kind = chance.choice(METRICS[family]), chance.choice(_OWN)
    if kind in ("blackhole", "local"):
        return Way(kind, (), metric)
    host = Hop(net[table] + "2", UPLINK[table])
    if kind == "host":
        hops: tuple[Hop, ...] = (host,)
    elif kind == "out":
        hops = (Hop(chance.choice((None, net[other] + "77")), EGRESS[other]),)
    elif kind == "mixed":
        second = chance.choice((Hop(net[other] + "2", UPLINK[other]), Hop(net[other] + "77", EGRESS[other])))
        hops = (host,) if second == host else (host._replace(weight=chance.choice((1, 2, 3))), second)
    elif kind == "vrf":
        hops = (Hop(None, DEVICE[other]),)
    else:
        hops = (Hop(net[table] + "9" if kind == "stranger" else None, UPLINK[table]),)
    return Way("unicast", hops, metric)


def some_announced(chance: Chance, family: int) -> Way:
    """What the host does with a prefix."""
    net, table, other = NET[family], chance.choice(TABLES), chance.choice(TABLES)
    kind = chance.choice(_HOST)
    back = Hop(net[table] + "1", FAR[table])
    if kind == "slow":
        return Way("xresolve", words="a rule may send these elsewhere")
    if kind in ("blackhole", "local"):
        return Way(kind)
    hops = {
        "back": (back,),
        "spread": (back._replace(weight=chance.choice((1, 2, 3))), Hop(net[other] + "1", FAR[other])),
        "own": (Hop(None, ELSEWHERE),),
        "unpaired": (Hop(net[other] + "1", FAR[table]),),
        "unknown": (Hop(STRANGER[family], FAR[table]),),
    }[kind]
    return Way("unicast", hops if kind != "spread" or other != table else (back,))


def some_world(chance: Chance, family: int) -> World:
    """Two or three VRFs, most of which send to the host what they do not know, and what the host announces."""
    tables = chance.choice((TABLES, TABLES[:2]))
    own = {}
    for table in tables:
        to_host = Way("unicast", (Hop(NET[family][table] + "2", UPLINK[table]),), METRICS[family][0])
        depth = chance.choice((0, 0, 1, None))
        own[table] = {} if depth is None else {network(family, depth, 0): to_host}
        for _number in range(chance.choice(range(1, 6))):
            own[table][some_network(chance, family)] = some_own(chance, family, table)
    announced = {
        some_network(chance, family): some_announced(chance, family) for _count in range(chance.choice(range(2, 9)))
    }
    net = NET[family]
    return World(
        own,
        announced,
        {UPLINK[table]: (FAR[table], table) for table in tables},
        {net[table] + "1": UPLINK[table] for table in tables},
        frozenset(net[table] + "2" for table in tables),
        {DEVICE[table]: table for table in tables},
        frozenset(chance.choice(((), (), (), (), (FAR[A],))) if family == AF_INET else ()),
    )


def some_policy(chance: Chance) -> Policy:
    """Who imports from whom, and the metric."""
    imports: Mapping[str, tuple[str, ...]] = chance.choice(({}, {}, {}, {"a": ("b",)}, {"a": (), "c": ("b",)}))
    return Policy(imports=imports, metric=chance.choice((None, None, 7, 50)))


def some_admission(chance: Chance, family: int) -> Admission | None:
    """What the host may install: everything, or not."""
    net = str(some_network(chance, family))
    policy: Mapping[str, Any] | None = chance.choice(
        (
            None,
            None,
            {},
            {"exclude_prefixes": [net]},
            {"prefixes": [net]},
            {"vrfs": ["a", "c"]},
            {"routes": 2},
            {"nexthops": 1},
        )
    )
    limits = chance.choice(({}, {"a": 1}, {"a": 0, "b": 2}))
    return None if policy is None else Admission("host", HostPolicy.from_dict(policy), limits)


# -- as the mapping's values, and back


def as_path(family: int, way: Way, table: int = RT_TABLE_MAIN) -> Path:
    """A route's path."""
    hops = tuple(NextHop(Address.parse(h.gateway) if h.gateway else None, h.link, h.weight) for h in way.hops)
    return Path(family, table, ROUTE_TYPES[way.kind], protocol=4, metric=way.metric, nexthops=hops, reason=way.words)


def as_way(path: Path) -> Way:
    """The model's word for a path."""
    hops = tuple(Hop(str(hop.gateway) if hop.gateway else None, hop.oif, hop.weight) for hop in path.nexthops)
    return Way(ROUTE_TYPE_NAMES[path.type], hops, path.metric)


def key_of(net: Network) -> int:
    """A prefix's key."""
    return Prefix.parse(str(net)).key


def network_of(family: int, key: int) -> Network:
    """The prefix of a key."""
    return ipaddress.ip_network(str(Prefix.from_key(family, key)))


def view_of(family: int, world: World) -> View:
    """The DPU as the mapping sees it."""
    links = {}
    for table in TABLES:
        for index in (UPLINK[table], EGRESS[table]):
            links[index] = Link(index, f"eth{index}")
        if table in world.own:
            links[DEVICE[table]] = Link(DEVICE[table], NAMES[table], kind="vrf", vrf_table=table)
    vrfs = tuple(Vrf(NAMES[table], table, frozenset((UPLINK[table], EGRESS[table]))) for table in world.own)
    addresses = [LinkAddress(link, Address.parse(text), SUBNET[family]) for text, link in world.gateways.items()]
    view = View(vrfs, links, address_owners(addresses), subnets=shared_subnets(addresses))
    for table, routes in world.own.items():
        for net, way in routes.items():
            view.lpm(family, table).set(key_of(net), as_path(family, way, table))
    return view


def facts_of(family: int, world: World) -> HostFacts:
    """What the host has shown: the subnets of its links, its addresses, and whether it forwards."""
    facts = HostFacts()
    for link, table in world.uplinks.values():
        subnet = Prefix.parse(f"{NET[family][table].rstrip('.')}{'.0' if family == AF_INET else ''}/{SUBNET[family]}")
        facts.note(family, subnet.key, Path(family, nexthops=(NextHop(None, link),)))
    for text in world.host:
        facts.note(family, Prefix.parse(text).key, Path(family, type=RTN_LOCAL, nexthops=(NextHop(None, 1),)))
    facts.forwarding = {(family, link): False for link in world.deaf}
    return facts


class Kernel:
    """A kernel that takes everything, and remembers every state in between."""

    def __init__(self) -> None:
        self._routes: dict[tuple[int, Network], dict[int, Way]] = {}  # by metric
        #: The mirrored routes after each message.
        self.moments: list[dict[int, Table]] = []

    def write(self, messages: Sequence[bytes]) -> list[Any]:
        """No refusal."""
        for message in messages:
            prefix, path = decode_route(message, 0, len(message))
            routes = self._routes.setdefault((path.table, network_of(prefix.family, prefix.key)), {})
            if rtnetlink.NLMSGHDR.unpack_from(message)[1] == rtnetlink.RTM_NEWROUTE:
                assert path.metric not in routes or rtnetlink.NLMSGHDR.unpack_from(message)[2] & rtnetlink.NLM_F_REPLACE
                routes[path.metric] = as_way(path)
            else:
                del routes[path.metric]
            self.moments.append(self.mirrored())
        return []

    def mirrored(self) -> dict[int, Table]:
        """The mirrored routes; of several to a prefix the one that the kernel prefers."""
        found: dict[int, dict[Network, Way]] = {}
        for (table, net), routes in self._routes.items():
            if routes:
                found.setdefault(table, {})[net] = routes[min(routes)]
        return {table: dict(routes) for table, routes in found.items()}


def installer_of(family: int, world: World, policy: Policy, kernel: Kernel | None = None) -> Installer:
    """An installer for this DPU, to which the host has not announced anything yet."""
    mapper = Mapper(view_of(family, world), policy, facts_of(family, world))
    return Installer(kernel or Kernel(), mapper, (RT_TABLE_MAIN,), Rib(()))


def announce(installer: Installer, family: int, routes: Mapping[Network, Way | None]) -> None:
    """The host announces these prefixes; None withdraws one."""
    store = installer.announced.setdefault((family, RT_TABLE_MAIN), {})
    for net, way in routes.items():
        if way is None:
            store.pop(key_of(net), None)
        else:
            store[key_of(net)] = as_path(family, way)
    installer.sync(family, [key_of(net) for net in routes])


def installed(installer: Installer, family: int) -> dict[int, Table]:
    """The mirrored routes in the model's words."""
    return {
        table: {network_of(family, key): as_way(path) for key, path in routes.items()}
        for (of, table), routes in installer.installed.items()
        if of == family
    }
