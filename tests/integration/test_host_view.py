# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a listener announces, against what the host's kernel says about forwarded packets (`ip route get ... iif`)."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon, MirrorLab, batch
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

Network = ipaddress.ip_network
#: From whom a packet comes, by IP version, and the links of the lab that reach it.
SOURCES = {4: "192.168.101.1", 6: "fd00:101::1"}
#: What the host has in each of the situations below: a route through the DPU, in both families.
COVER = ("route add 10.0.0.0/8 via 192.168.101.1", "route add fd01::/16 via fd00:101::1")


def view(lab: MirrorLab, **config: Any) -> Daemon:
    """A listener without an agent, and without the audit that would find what it misses."""
    return lab.listener(**{"agents": [], "audit_interval": 0, **config}).ready()


def fate(lab: MirrorLab, address: Any) -> tuple[str, ...]:
    """What the host's kernel does with a forwarded packet."""
    source = SOURCES[address.version]
    line = ("ip", "-j", "route", "get", str(address), "from", source, "iif", "eth1")
    answer = lab.host.run(*line, check=False)
    if answer.returncode:
        return ("discard",)
    (found,) = json.loads(answer.stdout)
    if found.get("type", "unicast") in ("blackhole", "unreachable", "prohibit"):
        return ("discard",)
    if found.get("type", "unicast") != "unicast":
        return ("own",)
    return ("via", found["gateway"]) if "gateway" in found else ("link", found["dev"])


def announced(routes: dict[str, dict[str, Any]], address: Any) -> tuple[str, ...]:
    """The same by the longest match in the view; `slow` where it leaves the decision to the host."""
    matching = [net for net in map(Network, routes) if address in net]
    if not matching:
        return ("discard",)
    route = routes[str(max(matching, key=lambda net: net.prefixlen))]
    if route["reason"] is not None or route.get("type") == "throw":
        return ("slow",)
    if route.get("type") in ("blackhole", "unreachable", "prohibit"):
        return ("discard",)
    if "type" in route:
        return ("own",)
    hops = route["nexthops"]
    return ("via", hops[0]["gateway"]) if "gateway" in hops[0] else ("link", hops[0]["dev"])


def differences(lab: MirrorLab, listener: Daemon) -> dict[str, Any]:
    """The edges of all prefixes about which kernel and view are of different minds."""
    routes = listener.routes()
    edges = set()
    for net in map(Network, routes):
        edges |= {net[0], net[-1]} | ({net[0] - 1} if int(net[0]) else set())
        edges |= {net[-1] + 1} if int(net[-1]) < 2**net.max_prefixlen - 1 else set()
    found = {}
    for address in edges:
        # Packets to these never get as far as a look-up, or are not forwarded whatever it finds.
        if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
            continue
        if str(address) == "255.255.255.255":
            continue
        said = announced(routes, address)
        if said != ("slow",) and said != fate(lab, address):
            found[str(address)] = (said, fate(lab, address))
    return found


#: Field reports, by what the host has besides: commands, the listener's options, and what the view says (state, reason)
#: of some addresses. No reason: it is the kernel's own route.
PENDING = ("pending", None)
ROWS: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    "discards": (
        ("route add blackhole 10.66.6.6", "route add unreachable 10.66.7.0/24", "route add prohibit 10.66.8.0/24"),
        {},
        {"10.66.6.6": "blackhole", "10.66.7.1": "unreachable", "10.66.8.1": "prohibit", "10.66.9.1": PENDING},
    ),
    "throw": (
        ("route add throw 10.9.0.0/16", "route add 10.9.1.0/24 via 192.168.102.1 table default"),
        {},
        {"10.9.1.1": "throw", "10.9.2.1": "throw"},
    ),
    "a link of its own": (
        ("link add docker0 type veth", "address add 10.1.0.1/16 dev docker0", "link set docker0 up"),
        {},
        {"10.1.0.1": "local", "10.1.255.255": "broadcast", "10.1.2.3": PENDING, "10.2.0.0": PENDING},
    ),
    "an address on lo": (("address add 10.20.0.5/32 dev lo",), {}, {"10.20.0.5": "local", "10.20.0.6": PENDING}),
    "an address of IPv6": (
        ("address add fd01:20::5/128 dev lo", "route add unreachable fd01:66::/32"),
        {},
        {"fd01:20::5": "local", "fd01:66::1": "unreachable", "fd01:20::6": PENDING},
    ),
    "an excluded prefix": (
        (),
        {"filters": {"exclude_prefixes": ["10.1.0.0/16"]}},
        {"10.1.2.3": "filtered: the prefix matches filters.exclude_prefixes (10.1.0.0/16)", "10.2.0.0": PENDING},
    ),
    "a table before main": (
        (
            *("link add br9 type veth", "link set br9 up", "rule add pref 220 lookup 220"),
            *("route add 10.5.0.0/16 dev br9 table 220", "route add 10.4.0.0/16 via 192.168.102.1 table 220"),
        ),
        {},
        {"10.5.1.1": PENDING, "10.4.1.1": "decided by table 220, which `tables` does not list", "10.6.0.0": PENDING},
    ),
    "a table before main that is listed": (
        ("rule add pref 220 lookup 220", "route add 10.4.0.0/16 via 192.168.102.1 table 220"),
        {"tables": [220, "main"]},
        {"10.4.1.1": PENDING, "10.6.0.0": PENDING},
    ),
    "a rule that discards": (
        ("rule add pref 300 to 10.6.0.0/16 unreachable", "route add 10.6.1.0/24 via 192.168.102.1"),
        {},
        {"10.6.1.1": "unreachable", "10.7.0.0": PENDING},
    ),
    "a rule by uplink": (
        ("rule add pref 301 iif eth2 to 10.7.0.0/16 lookup 77", "route add blackhole default table 77"),
        {},
        {"10.7.1.1": "rule 301: from all to 10.7.0.0/16 iif eth2 lookup 77 may apply", "10.8.0.0": PENDING},
    ),
    "the same rule, ignored": (
        ("rule add pref 301 iif eth2 to 10.7.0.0/16 lookup 77", "route add blackhole default table 77"),
        {"ignore_rules": [301]},
        {"10.7.1.1": PENDING},
    ),
    "rules for others": (
        (
            *("rule add pref 302 iif lo lookup 78", "rule add pref 303 oif eth2 lookup 78"),
            *("rule add pref 304 uidrange 1-5 lookup 78", "route add blackhole default table 78"),
        ),
        {},
        {"10.7.1.1": PENDING},
    ),
    "wg-quick": (
        (
            *("link add wg0 type veth", "link set wg0 up", "route add default dev wg0 table 51820"),
            *("route add default via 192.168.102.1", "rule add pref 32765 not fwmark 51820 lookup 51820"),
            "rule add pref 32764 lookup main suppress_prefixlength 0",
        ),
        {},
        {"10.1.1.1": PENDING, "9.9.9.9": "rule 32765: not from all fwmark 0xca6c lookup 51820 may apply"},
    ),
    "discards are not suppressed": (
        (
            *("rule add pref 310 lookup 79 suppress_prefixlength 16", "route add unreachable 10.8.0.0/14 table 79"),
            *("route add 10.9.0.0/16 via 192.168.102.1 table 79", "route add 10.8.8.0/24 dev eth2 table 79"),
        ),
        {},
        {"10.8.8.1": PENDING, "10.8.0.1": "rule 310: from all lookup 79 suppress_prefixlength 16 may pass over it"},
    ),
    "a jump": (
        (
            *("rule add pref 320 goto 330", "rule add pref 325 blackhole", "rule add pref 330 nop"),
            *("rule add pref 331 to 10.3.0.0/16 goto 340", "rule add pref 332 lookup 80", "rule add pref 340 nop"),
            "route add 10.3.3.0/24 dev eth2 table 80",
        ),
        {},
        {"10.3.3.3": "rule 331: from all to 10.3.0.0/16 goto 340 may pass over rule 332", "10.3.4.1": PENDING},
    ),
    "routes for a tos": (
        ("route add 10.1.0.0/16 via 192.168.102.1 tos 0x10", "route add 10.1.0.0/16 via 192.168.101.1"),
        {},
        {"10.1.1.1": "the prefix has routes for a tos: 0x10"},
    ),
    "a tunnel in a route": (
        ("route add 10.1.0.0/16 encap ip id 7 dst 192.168.102.1 via 192.168.102.1 dev eth2",),
        {},
        {"10.1.1.1": "the wire format cannot express encap"},
    ),
}


def says(listener: Daemon, expected: dict[str, Any]) -> dict[str, Any]:
    """What the view says of these addresses, in the form of ROWS."""
    found = {}
    for address, said in expected.items():
        routes = listener.client.get("/explain", prefix=address)["routes"]
        route = routes[0] if routes else {}
        found[address] = (
            (route.get("state"), route.get("reason"))
            if isinstance(said, tuple) and "type" not in route
            else route.get("reason") or route.get("type")
        )
    return found


def prefixes(listener: Daemon) -> dict[str, Any]:
    """All routes of the view but those of link-local prefixes, which come when the kernel thinks fit."""
    return {prefix: route for prefix, route in listener.routes().items() if not Network(prefix).is_link_local}


@pytest.mark.parametrize("name", ROWS)
def test_the_view_is_what_the_kernel_does(lab: MirrorLab, name: str) -> None:
    """What comes while the listener runs, what was before it, and what goes again."""
    commands, config, expected = ROWS[name]
    batch(lab.host, *COVER)
    listener = view(lab, **config)
    before = prefixes(listener)
    assert differences(lab, listener) == {}
    batch(lab.host, *commands)
    until(lambda: says(listener, expected), expected)
    assert differences(lab, listener) == {}
    later = view(lab, **config)
    until(lambda: prefixes(listener) == prefixes(later), True)
    for command in reversed(commands):
        words = command.split()
        if words[1] == "add":
            lab.host.ip(" ".join((words[0], "del", *(words[2:3] if words[0] == "link" else words[2:]))))
    until(lambda: prefixes(listener), before)
    assert differences(lab, listener) == {}


def test_explain_takes_an_address_and_names_rule_and_table(lab: MirrorLab) -> None:
    batch(lab.host, *COVER, "rule add pref 220 lookup 220", "route add 10.5.0.0/16 via 192.168.102.1 table 220")
    listener = view(lab)
    found = listener.client.get("/explain", prefix="10.5.6.7")
    assert (found["prefix"], found["state"]) == ("10.5.6.7/32", "slow_path")
    assert found["steps"] == [
        "table 220, 10.5.0.0/16, path 1: gateway 192.168.102.1 dev eth2 proto boot metric 0".replace("gateway", "via"),
        "longest match 10.5.0.0/16, by rule 220: from all lookup 220",
        "best path: via 192.168.102.1 dev eth2 proto boot metric 0",
        "slow path: decided by table 220, which `tables` does not list",
    ]
    found = listener.client.get("/explain", prefix="11.0.0.0/8")
    assert found["steps"] == ["no table that the rules look up has a route to 11.0.0.0/8"]


def test_ignored_rules_are_taken_from_a_reload(lab: MirrorLab) -> None:
    batch(lab.host, *COVER, "rule add pref 301 fwmark 1 lookup 77", "route add blackhole default table 77")
    listener = view(lab)
    assert listener.routes()["0.0.0.0/0"]["reason"] == "rule 301: from all fwmark 0x1 lookup 77 may apply"
    assert "10.0.0.0/8" not in listener.routes()
    listener.reload(ignore_rules=[301])
    until(lambda: set(listener.routes()) & {"10.0.0.0/8", "0.0.0.0/0"}, {"10.0.0.0/8"})
    assert differences(lab, listener) == {}
    listener.reload(ignore_rules=[])
    until(lambda: set(listener.routes()) & {"10.0.0.0/8", "0.0.0.0/0"}, {"0.0.0.0/0"})


def test_forwarding_that_is_off_is_reported(lab: MirrorLab) -> None:
    batch(lab.host, *COVER)
    listener = view(lab)
    assert listener.status()["forwarding_off"] == {"ipv4": [], "ipv6": []}
    lab.host.run("sysctl", "-q", "-w", "net.ipv4.conf.eth1.forwarding=0", "net.ipv4.conf.eth2.forwarding=0")
    until(lambda: listener.status()["forwarding_off"], {"ipv4": ["all"], "ipv6": []})
    listener.says("ipv4 forwarding is off on eth1.*, which routes with gateways leave by; nothing of it is offloaded")
    lab.host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    until(lambda: listener.status()["forwarding_off"], {"ipv4": ["all"], "ipv6": ["all"]})
    listener.says("ipv6 forwarding is off on eth1.*set net.ipv6.conf.all.forwarding=1")
    lab.host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    until(lambda: listener.status()["forwarding_off"], {"ipv4": [], "ipv6": []})


def test_routes_without_carrier_follow_the_sysctl(lab: MirrorLab) -> None:
    batch(lab.host, *COVER, "link add dead0 type veth peer name dead1", "link set dead0 up")
    batch(lab.host, "address add 192.0.2.1/24 dev dead0", "route add 10.1.0.0/16 via 192.0.2.2 dev dead0")
    listener = view(lab)
    assert {"10.0.0.0/8", "10.1.0.0/16"} <= set(listener.routes())
    for value, there in (("1", set()), ("0", {"10.1.0.0/16"})):
        for link in ("all", "dead0"):
            lab.host.run("sysctl", "-q", "-w", f"net.ipv4.conf.{link}.ignore_routes_with_linkdown={value}")
        until(lambda: set(listener.routes()) & {"10.1.0.0/16"}, there)
        assert differences(lab, listener) == {}


def test_discards_of_ipv6_go_with_lo_without_an_event(lab: MirrorLab) -> None:
    lab.host.run("sysctl", "-q", "-w", "net.ipv6.route.skip_notify_on_dev_down=1")
    batch(lab.host, *COVER, "-6 route add unreachable fd01:66::/32".removeprefix("-6 "))
    listener = view(lab)
    assert "fd01:66::/32" in listener.routes()
    lab.host.ip("link set lo down")
    lab.host.ip("link set lo up")
    until(lambda: "fd01:66::/32" in listener.routes(), bool(lab.host.ip("-6 route show fd01:66::/32")))
