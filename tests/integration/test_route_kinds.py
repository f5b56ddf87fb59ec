# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of route that the kernel has: a follower reads what `ip route` reads, from the event and from a dump."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    ROUTE_TYPE_NAMES,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import paths_of
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import joined
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import Followed, follow

V4, V6 = "10.1.0.0/16", "fd10::/32"
OBJECTS = (
    "nexthop add id 1 via 192.0.2.2 dev e1",
    "nexthop add id 2 via inet6 fe80::9 dev e2",
    "nexthop add id 3 group 1,3/2",
    "nexthop add id 4 group 1/2,7 type resilient buckets 8",
    "nexthop add id 5 blackhole",
    "nexthop add id 14 via fd00:1::2 dev e1",
    "nexthop add id 15 via fd00:2::2 dev e2 onlink",
    "nexthop add id 16 group 14,9/15",
    "nexthop add id 17 group 14/15 type resilient buckets 8",
)
#: The arguments of `route add`; a second command, if any, follows a semicolon.
KINDS = (
    *(f"{V4} via 192.0.2.2", f"{V6} via fd00:1::2", f"{V4} dev e1", f"{V6} dev e1"),
    *(f"{kind} {prefix}" for kind in ("blackhole", "unreachable", "prohibit", "throw") for prefix in (V4, V6)),
    f"{V4} nexthop via 192.0.2.2 weight 1 nexthop via 198.51.100.2 weight 256",
    f"{V6} nexthop via fd00:1::2 weight 7 nexthop via fd00:2::2 weight 1",
    f"{V4} nexthop via inet6 fe80::9 dev e1 weight 2 nexthop via 203.0.113.9 dev e2 onlink weight 3 nexthop dev e1",
    *(f"{V4} via inet6 fe80::9 dev e1", f"{V4} via 203.0.113.9 dev e1 onlink", f"{V6} via fd99::9 dev e2 onlink"),
    *(f"{V4} via 192.0.2.2 metric 4294967295", f"{V6} via fd00:1::2 metric 4294967295"),
    f"{V4} via 192.0.2.2 metric 5; route add {V4} via 198.51.100.2 metric 4",
    f"{V4} via 192.0.2.2; route append {V4} via 198.51.100.2",
    f"{V4} via 192.0.2.2; route prepend {V4} via 198.51.100.2",
    f"{V4} via 192.0.2.2; route replace {V4} via 198.51.100.2 mtu 1400",
    f"{V6} via fd00:1::2; route append {V6} via fd00:2::2",
    f"{V6} via fd00:1::2; route replace {V6} nexthop via fd00:2::2 nexthop via fd00:1::3",
    f"{V6} via fd00:1::2; route append {V6} dev e2 metric 1024",
    *(f"{V4} nhid {number}" for number in (1, 2, 3, 4, 5)),
    *(f"{V6} nhid {number}" for number in (14, 15, 16, 17)),
    *(f"{V4} encap ip id 5 dst 192.0.2.9 via 192.0.2.2", f"{V6} encap ip6 id 5 dst fd00:1::9 via fd00:1::2"),
    f"{V4} nexthop encap ip id 5 dst 192.0.2.9 via 192.0.2.2 nexthop via 198.51.100.2",
    f"{V6} nexthop encap ip6 id 5 dst fd00:1::9 via fd00:1::2 nexthop via fd00:2::2",
)


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    """e1 and e2 with an address of each family, and nexthop objects."""
    made = joined(namespaces("kinds"))
    for command in OBJECTS:
        made.ip(command)
    return made


def shown_by_ip(route: dict[str, Any]) -> tuple[object, ...]:
    """Type, metric, MTU, next hops, encapsulation: as `ip -d -j route` shows them."""
    kind = route["type"]
    hops = [] if kind in ("blackhole", "unreachable", "prohibit", "throw") else route.get("nexthops", [route])
    encap = any("encap" in hop for hop in [route, *hops])
    values = [
        (
            hop.get("gateway", hop.get("via", {}).get("host")),
            hop["dev"],
            hop.get("weight", 1),
            "onlink" in hop.get("flags", []),
        )
        for hop in hops
    ]
    mtu = next((metrics["mtu"] for metrics in route.get("metrics", []) if "mtu" in metrics), None)
    return kind, route.get("metric", 0), mtu, values, encap


def held_as_path(seen: Followed, path: Path) -> tuple[object, ...]:
    kind = ROUTE_TYPE_NAMES[path.type]
    hops = [
        (
            None if hop.gateway is None else str(hop.gateway),
            seen.replica.links[hop.oif or 0].name,
            hop.weight,
            hop.onlink,
        )
        for hop in path.nexthops
        if kind == "unicast"
    ]
    return kind, path.metric, path.mtu, hops, "encap" in path.extras


@pytest.mark.parametrize("compat", [1, 0], ids=["flattened by the kernel", "flattened here"])
def test_every_kind_of_route_is_read_as_ip_reads_it(machine: Namespace, compat: int) -> None:
    with follow(machine) as seen:
        for command in KINDS:
            machine.sysctl("net.ipv4.nexthop_compat_mode", compat)
            seen.after(*f"route add {command}".split("; "))
            prefix = V4 if V4 in command else V6
            heard = held(seen, prefix)
            seen.restart(1 << 20)
            seen.settle()
            assert heard == held(seen, prefix), command
            machine.sysctl("net.ipv4.nexthop_compat_mode", 1)
            family = "-4" if prefix == V4 else "-6"
            expected = [shown_by_ip(route) for route in machine.ip_json(f"{family} route show {prefix} table main")]
            assert expected, command
            assert [held_as_path(seen, path) for path in heard] == expected, command
            kinds = ("", "", "blackhole", "unreachable", "prohibit", "throw")
            seen.run([f"route del {kind} {prefix}" for kind in kinds])
            seen.settle()
            assert held(seen, prefix) == ()


def held(seen: Followed, prefix: str) -> tuple[Path, ...]:
    """What the replica has for a prefix."""
    of = Prefix.parse(prefix)
    return paths_of(seen.replica.rib.tables.get((of.family, 254), {}).get(of.key))
