# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on a DPU that has a life of its own: why routes are slow, other people's routes, restarts, sweeps."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import (
    MANUAL,
    NOTHING,
    OFFLOADED,
    MirrorLab,
    RouteMonitor,
    batch,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    OFFLOAD,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    TRAP,
    Message,
    Producer,
    frame,
    message,
    route,
)
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

#: The listener by the uplink of VRF b, so that a test may take eth1 away.
BY_B = {"agents": [{"address": "192.168.102.1"}]}
A_OFFLOADED = {"a": [], "b": ["192.168.11.0/24 dev eth3"]}


# -- mapping


def test_explain_names_the_reason_of_every_route_that_is_not_mapped(lab: MirrorLab) -> None:
    batch(
        lab.dpu,
        "route add unreachable 10.5.0.0/16 table 10",
        "route add 10.6.0.0/16 via 192.168.11.2 dev eth3 table 10",
        "route add 10.6.0.0/16 via 192.168.12.2 dev eth4 table 20",
        "address add 192.168.109.1/32 dev lo",
    )
    batch(
        lab.host,
        "route add 10.1.0.0/24 via 192.168.101.9",
        "route add 10.2.0.0/24 via 192.168.101.1",
        "route add blackhole 10.3.0.0/24",
        "route add 10.4.0.0/24 via 192.168.109.1 dev eth1 onlink",
        "route add 10.5.1.0/24 via 192.168.101.1",
        "route add 10.6.0.0/20 via 192.168.101.1",
        "route add 10.7.0.0/24 nexthop via 192.168.101.1 nexthop via 192.168.102.1",
    )
    reasons = {
        "10.1.0.0/24": "gateway 192.168.101.9 is not an address of the DPU",
        "10.2.0.0/24": "egress link eth1 leads back to the host",
        "10.3.0.0/24": "blackhole routes are not mirrored: they have no egress",
        "10.4.0.0/24": "gateway 192.168.109.1 is an address of lo, but the host sends by the link to eth1",
        "10.5.1.0/24": "VRF a has unreachable 10.5.0.0/16",
        "10.6.0.0/20": "no VRF sends packets for this prefix to the host",
        "10.7.0.0/24": "egress link eth1 leads back to the host",
        "192.168.101.0/24": "connected route of the host: no gateway",
    }
    mirror = lab.mirror()
    for prefix, reason in reasons.items():
        told = mirror.agent.explain(prefix)
        assert told["state"] == "slow_path"
        assert reason in told["reason"]
        assert any(reason in step for step in told["steps"]), told["steps"]
        # The listener has the very words.
        assert mirror.listener.state(prefix) == ("slow_path", told["reason"])
    assert lab.mirrored() == NOTHING
    assert mirror.agent.explain("10.99.0.0/16")["reason"] == "the host has announced no prefix that covers 10.99.0.0/16"


def test_explain_lists_each_step_of_a_mapped_route(lab: MirrorLab) -> None:
    lab.deploy()
    told = lab.mirror().agent.explain("192.168.11.0/24")
    assert (told["state"], told["reason"]) == ("offloaded", None)
    assert told["steps"] == [
        "the host announced 192.168.11.0/24 via 192.168.101.1 proto boot",
        "VRF a: its own route does not lead to the host: 192.168.11.0/24 dev eth3 proto kernel",
        "VRF b: sends packets to the host: 0.0.0.0/0 via 192.168.102.2 dev eth2 proto boot",
        "nexthop: gateway 192.168.101.1 is on eth1 in VRF a (table 10)",
        "nexthop: longest match in VRF a: 192.168.11.0/24 dev eth3 proto kernel",
        "nexthop: egress dev eth3 in VRF a",
        "VRF b: offload, dev eth3",
        "VRF a: no mirrored route; its own decides",
        "VRF b: mirrored route 192.168.11.0/24 dev eth3",
    ]


def test_prefix_static_rules_and_imports_decide_where_nexthop_would_not(lab: MirrorLab) -> None:
    static = [
        {"prefix": "10.8.0.0/16", "vrf": "b", "dev": "eth4", "via": "192.168.12.2"},
        {"gateway": "192.168.101.9", "vrf": "a", "dev": "eth3"},
    ]
    vrfs = {
        "a": {"table": 10, "links": ["eth1", "eth3"]},
        "b": {"table": 20, "links": ["eth2", "eth4"]},
        "c": {"table": 30},
    }
    batch(
        lab.host,
        "route add 192.168.11.0/24 via 192.168.101.8",  # by prefix: VRF a has this very one
        "route add 10.8.1.0/24 via 192.168.101.8",
        "route add 10.9.1.0/24 via 192.168.101.9",
    )
    agent = {"static": static, "vrfs": vrfs, "imports": {"c": ["b"]}, "inference": ["static", "prefix", "nexthop"]}
    lab.mirror(agent=agent)
    from_a = ["10.9.1.0/24 dev eth3", "192.168.11.0/24 dev eth3"]
    from_b = ["10.8.1.0/24 via 192.168.12.2 dev eth4"]
    assert lab.mirrored() == {"a": from_b, "b": from_a, "30": from_b}


def test_the_order_of_inferences_is_the_users(lab: MirrorLab) -> None:
    lab.host.ip("route add 192.168.11.0/24 via 192.168.101.1")
    static = [{"prefix": "192.168.11.0/24", "vrf": "a", "dev": "eth3", "via": "192.168.11.2"}]
    lab.mirror(agent={"static": static, "inference": ["static"]})
    assert lab.mirrored() == {"a": [], "b": ["192.168.11.0/24 via 192.168.11.2 dev eth3"]}


@pytest.mark.parametrize("agent", [{}, {"inference": ["nexthop", "prefix"]}], ids=["default", "prefix after it"])
def test_a_veto_of_nexthop_asks_no_guess(lab: MirrorLab, agent: dict[str, Any]) -> None:
    """VRF a has the very prefix, but the host sends its packets to somebody else."""
    lab.host.ip("route add 192.168.11.0/24 via 192.168.101.8")
    mirror = lab.mirror(agent=agent)
    reason = "nexthop: gateway 192.168.101.8 is not an address of the DPU"
    assert mirror.agent.state("192.168.11.0/24") == ("slow_path", reason)
    assert lab.mirrored() == NOTHING


# -- where packets go

#: The host sends all of it to VRF a, which has more specific routes inside of it.
AROUND = {"10.6.0.0/16": "192.168.101.1", "fd06::/16": "fd00:101::1"}


def _fates(lab: MirrorLab, *addresses: str) -> dict[str, str]:
    """The next hop of packets that come from VRF b, by address."""
    found = {}
    for address in addresses:
        source = "fd00:12::2" if ":" in address else "192.168.12.2"
        words = lab.dpu.ip(f"route get {address} from {source} iif eth4").split()
        found[address] = words[words.index("via") + 1]
    return found


def test_what_the_source_sends_another_way_has_a_route_of_its_own(lab: MirrorLab) -> None:
    batch(
        lab.dpu,
        "route add 10.6.0.0/16 via 192.168.11.2 dev eth3 table 10",
        "route add 10.6.1.0/24 via 192.168.11.3 dev eth3 table 10",
        "route add 10.6.2.0/24 via 192.168.101.2 dev eth1 table 10",  # back to the host
        "route add unreachable 10.6.3.0/24 table 10",
        "route add 10.6.4.0/24 via 192.168.11.2 dev eth3 table 10",  # no other way
        "route add fd06::/16 via fd00:11::2 dev eth3 table 10",
        "route add fd06:2::/32 via fd00:101::2 dev eth1 table 10",
    )
    batch(lab.host, *(f"route add {prefix} via {gateway}" for prefix, gateway in AROUND.items()))
    mirror = lab.mirror()
    placed = [
        "10.6.0.0/16 via 192.168.11.2 dev eth3",
        "10.6.1.0/24 via 192.168.11.3 dev eth3",
        "10.6.2.0/24 via 192.168.102.2 dev eth2",
        "10.6.3.0/24 via 192.168.102.2 dev eth2",
        "fd06:2::/32 via fd00:102::2 dev eth2",
        "fd06::/16 via fd00:11::2 dev eth3",
    ]
    assert lab.mirrored() == {"a": [], "b": placed}
    assert {prefix: mirror.agent.state(prefix) for prefix in AROUND} == dict.fromkeys(AROUND, ("offloaded", None))
    # They follow the source's routes, and go with the route of the host.
    lab.dpu.ip("route del 10.6.2.0/24 table 10")
    lab.dpu.ip("-6 route replace fd06:2::/32 via fd00:11::3 dev eth3 table 10")
    placed = [line for line in placed if not line.startswith(("10.6.2.0", "fd06:2::"))]
    until(lab.mirrored, {"a": [], "b": sorted([*placed, "fd06:2::/32 via fd00:11::3 dev eth3"])})
    batch(lab.host, *(f"route del {prefix}" for prefix in AROUND))
    until(lab.mirrored, NOTHING)


def test_what_stays_slow_inside_of_an_offload_is_trapped(lab: MirrorLab) -> None:
    batch(
        lab.dpu,
        "route add 10.6.0.0/16 via 192.168.11.2 dev eth3 table 10",
        "route add fd06::/16 via fd00:11::2 dev eth3 table 10",
    )
    slow = ("blackhole 10.6.1.0/24", "10.6.2.0/24 via 192.168.101.9", "unreachable fd06:1::/32")
    batch(lab.host, *(f"route add {route}" for route in slow))
    mirror = lab.mirror()
    assert lab.mirrored() == NOTHING  # nothing shorter is offloaded
    batch(lab.host, *(f"route add {prefix} via {gateway}" for prefix, gateway in AROUND.items()))
    traps = [
        "10.6.1.0/24 via 192.168.102.2 dev eth2",
        "10.6.2.0/24 via 192.168.102.2 dev eth2",
        "fd06:1::/32 via fd00:102::2 dev eth2",
    ]
    offloads = ["10.6.0.0/16 via 192.168.11.2 dev eth3", "fd06::/16 via fd00:11::2 dev eth3"]
    until(lab.mirrored, {"a": [], "b": sorted(traps + offloads)})
    assert _fates(lab, "10.6.1.1", "10.6.9.1", "fd06:1::1", "fd06:9::1") == {
        "10.6.1.1": "192.168.102.2",
        "10.6.9.1": "192.168.11.2",
        "fd06:1::1": "fd00:102::2",
        "fd06:9::1": "fd00:11::2",
    }
    # A trap route is no offload, whatever the kernel has of it.
    for prefix in ("10.6.1.0/24", "10.6.2.0/24", "fd06:1::/32"):
        assert mirror.agent.state(prefix)[0] == "slow_path"
        until(lambda p=prefix: mirror.listener.state(p)[0], "slow_path")
    # By another way to the host, the traps go that way too.
    lab.dpu.ip("route replace default via 192.168.101.2 dev eth1 table 20")
    moved = [trap.replace("192.168.102.2 dev eth2", "192.168.101.2 dev eth1") for trap in traps]
    until(lab.mirrored, {"a": [], "b": sorted(moved + offloads)})
    batch(lab.host, *(f"route del {prefix}" for prefix in AROUND))
    until(lab.mirrored, NOTHING)


def test_a_trap_stands_before_the_offload_that_goes_in_front_of_another_route(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.6.0.0/16 via 192.168.11.2 dev eth3 table 10")
    lab.dpu.ip("route add 10.6.0.0/16 via 192.168.102.2 dev eth2 table 20 proto static")
    lab.host.ip("route add blackhole 10.6.1.0/24")
    lab.host.ip("route add 10.6.0.0/16 via 192.168.101.1")
    monitor = RouteMonitor(lab.dpu, lab.folder)
    lab.mirror()
    offload, trap = "10.6.0.0/16 via 192.168.11.2 dev eth3", "10.6.1.0/24 via 192.168.102.2 dev eth2"
    assert lab.mirrored() == {"a": [], "b": [offload, trap]}
    assert [line.split()[0] for line in monitor.lines()] == ["10.6.1.0/24", "10.6.0.0/16"]


def test_what_the_kernel_refuses_says_so_and_leaves_its_packets_to_the_host(lab: MirrorLab) -> None:
    """Without its own route a prefix follows the shorter one, by another egress: that one has to wait."""
    around = {"prefix": "10.9.0.0/16", "vrf": "a", "dev": "eth3", "via": "192.168.11.2"}
    refused = {"prefix": "10.9.1.0/24", "vrf": "a", "dev": "eth3", "via": "192.168.11.1"}  # an address of the DPU's
    batch(lab.host, "route add 10.9.0.0/16 via 192.168.101.1", "route add 10.9.1.0/24 via 192.168.101.1")
    mirror = lab.mirror(agent={"static": [refused, around]})
    reason = "VRF b: Nexthop has invalid gateway"
    assert mirror.agent.state("10.9.1.0/24") == ("failed", reason)
    assert mirror.listener.state("10.9.1.0/24") == ("failed", reason)
    assert f"refused by the kernel: {reason}" in mirror.agent.explain("10.9.1.0/24")["steps"]
    blocked = ("slow_path", "10.9.1.0/24 inside of it cannot be installed in VRF b")
    assert mirror.agent.state("10.9.0.0/16") == blocked
    assert mirror.listener.state("10.9.0.0/16") == blocked
    assert lab.mirrored() == NOTHING
    lab.host.ip("route del 10.9.1.0/24")
    until(lab.mirrored, {"a": [], "b": ["10.9.0.0/16 via 192.168.11.2 dev eth3"]})
    until(lambda: mirror.listener.state("10.9.0.0/16"), ("offloaded", None))


# -- other people's routes

#: By prefix: a route of VRF b that does not lead to the host, and one that does.
ELSEWHERE = {"192.168.11.0/24": "dev eth4", "fd00:11::/64": "dev eth4"}
TO_HOST = {"192.168.11.0/24": "via 192.168.102.2 dev eth2", "fd00:11::/64": "via fd00:102::2 dev eth2"}
NO_VRF = ("slow_path", "no VRF sends packets for this prefix to the host")


@pytest.mark.parametrize("prefix", ["192.168.11.0/24", "fd00:11::/64"])
def test_a_foreign_route_with_the_same_key_is_left_alone(lab: MirrorLab, prefix: str) -> None:
    lab.dpu.ip(f"route add {prefix} dev eth4 table 20 proto static")
    lab.deploy()
    before = lab.others()
    mirror = lab.mirror()
    assert mirror.agent.state(prefix) == NO_VRF
    assert mirror.listener.state(prefix) == NO_VRF
    step = f"VRF b: its own route does not lead to the host: {prefix} dev eth4 proto static"
    assert step in mirror.agent.explain(prefix)["steps"]
    assert lab.mirrored() == {**OFFLOADED, "b": [r for r in OFFLOADED["b"] if not r.startswith(prefix)]}
    assert lab.others() == before

    lab.dpu.ip(f"route del {prefix} dev eth4 table 20 proto static")
    until(lab.mirrored, OFFLOADED)
    until(lambda: mirror.agent.state(prefix), ("offloaded", None))


@pytest.mark.parametrize("prefix", ["192.168.11.0/24", "fd00:11::/64"])
def test_a_foreign_route_to_the_host_with_the_same_key_gives_way_and_stays(lab: MirrorLab, prefix: str) -> None:
    lab.dpu.ip(f"route add {prefix} {TO_HOST[prefix]} table 20 proto static")
    lab.deploy()
    before = lab.others()
    mirror = lab.mirror()
    assert mirror.agent.state(prefix) == ("offloaded", None)
    in_front = [_in_front(route, prefix) for route in OFFLOADED["b"]]
    assert lab.mirrored() == {**OFFLOADED, "b": in_front}
    assert lab.others() == before
    _wins(lab, prefix)
    lab.host.ip(f"route del {prefix}")
    until(lambda: lab.mirrored()["b"], [route for route in OFFLOADED["b"] if not route.startswith(prefix)])
    assert lab.others() == before


def _in_front(route: str, prefix: str) -> str:
    """A mirrored route that has to win over an own one: in IPv6 by its metric, else they would share the packets."""
    return f"{route} metric 1023" if ":" in prefix and route.startswith(prefix) else route


def _wins(lab: MirrorLab, prefix: str) -> None:
    """Packets from VRF b take the mirrored route."""
    address, source = ("fd00:11::2", "fd00:12::2") if ":" in prefix else ("192.168.11.2", "192.168.12.2")
    until(lambda: "dev eth3" in lab.dpu.ip(f"route get {address} from {source} iif eth4"), True)


@pytest.mark.parametrize("prefix", ["192.168.11.0/24", "fd00:11::/64"])
def test_a_route_that_somebody_writes_over_ours_is_left_alone(lab: MirrorLab, prefix: str) -> None:
    """The kernel's REPLACE ignores the protocol: `ip route replace` takes the mirrored route away."""
    lab.deploy()
    mirror = lab.mirror()
    lab.dpu.ip(f"route replace {prefix} {ELSEWHERE[prefix]} table 20 proto static")
    until(lambda: mirror.agent.state(prefix), NO_VRF)
    theirs = lab.others()
    lab.host.ip(f"route del {prefix}")
    until(lambda: mirror.agent.state(prefix) != NO_VRF, True)
    assert lab.others() == theirs
    lab.host.ip(f"route add {prefix} via {'fd00:101::1' if ':' in prefix else '192.168.101.1'}")
    until(lambda: mirror.agent.state(prefix), NO_VRF)
    assert lab.others() == theirs
    lab.dpu.ip(f"route del {prefix} dev eth4 table 20 proto static")
    until(lab.mirrored, OFFLOADED)


@pytest.mark.parametrize("prefix", ["192.168.11.0/24", "fd00:11::/64"])
def test_ours_comes_back_in_front_of_a_route_to_the_host_that_somebody_writes_over_it(
    lab: MirrorLab, prefix: str
) -> None:
    lab.deploy()
    mirror = lab.mirror()
    lab.dpu.ip(f"route replace {prefix} {TO_HOST[prefix]} table 20 proto static")
    theirs = lab.others()
    until(lab.mirrored, {**OFFLOADED, "b": [_in_front(route, prefix) for route in OFFLOADED["b"]]})
    _wins(lab, prefix)
    until(lambda: mirror.agent.state(prefix), ("offloaded", None))
    assert lab.others() == theirs
    lab.host.ip(f"route del {prefix}")
    until(lambda: mirror.agent.state(prefix) != ("offloaded", None), True)
    assert lab.others() == theirs


def test_other_routes_are_never_changed_or_deleted(lab: MirrorLab) -> None:
    """Everything that others own - beside, around and under the mirrored routes - is the same after a full life."""
    for prefix, to_host in TO_HOST.items():
        batch(
            lab.dpu,
            f"route add {prefix} {to_host} table 20 proto static metric 50",
            f"route add {prefix} dev eth4 table 20 proto {MANUAL} metric 60",
            f"route add {prefix} dev eth4 table 30 proto bird",
            f"route add {prefix} dev eth4 proto static",
            f"route add unreachable {prefix} table 20 metric 4278198272",
        )
    before = lab.others()
    mirror = lab.mirror()
    for _round in range(2):
        lab.deploy()
        until(lab.mirrored, {**OFFLOADED, "b": ["192.168.11.0/24 dev eth3", "fd00:11::/64 dev eth3 metric 49"]})
        assert lab.others() == before
        batch(lab.host, "route replace 192.168.11.0/24 via 192.168.101.1 mtu 1400", "route del fd00:11::/64")
        until(lambda: lab.mirrored()["b"], ["192.168.11.0/24 dev eth3"])
        mirror.agent.end(signal.SIGKILL)
        lab.host.ip("route del 192.168.11.0/24")
        mirror.agent.start()
        until(lambda: lab.mirrored()["b"], [])
        batch(lab.host, "route del 192.168.12.0/24", "route del fd00:12::/64")
        until(lab.mirrored, NOTHING)
    assert mirror.agent.end() == 0
    assert lab.others() == before


@pytest.mark.parametrize("prefix", ["192.168.11.0/24", "fd00:11::/64"])
def test_a_mirrored_route_that_somebody_touches_is_repaired(lab: MirrorLab, prefix: str) -> None:
    lab.deploy()
    lab.mirror()
    monitor = RouteMonitor(lab.dpu, lab.folder)
    lab.dpu.ip(f"route del {prefix} table 20")
    until(lab.mirrored, OFFLOADED)
    assert [line.split()[0] for line in monitor.lines()] == ["Deleted", prefix]
    lab.dpu.ip(f"route replace {prefix} dev eth4 table 20 proto 121")
    until(lab.mirrored, OFFLOADED)
    # What appears under the mirror's own number is the mirror's, so it goes.
    lab.dpu.ip("route add 10.0.0.0/8 dev eth4 table 20 proto 121")
    until(lab.mirrored, OFFLOADED)


@pytest.mark.parametrize("prefix", ["192.168.11.0/24", "fd00:11::/64"])
def test_a_second_route_under_the_mirrors_number_is_removed_and_the_first_stays(lab: MirrorLab, prefix: str) -> None:
    lab.deploy()
    mirror = lab.mirror()
    own = 1024 if ":" in prefix else 0
    for metric in (own, 7, 4000000000):
        lab.dpu.ip(f"route append {prefix} dev eth4 table 20 proto 121 metric {metric}")
        until(lab.mirrored, OFFLOADED)
        until(lambda: mirror.agent.state(prefix), ("offloaded", None))
    # Nobody hears of this one.
    mirror.agent.end(signal.SIGKILL)
    lab.dpu.ip(f"route add {prefix} dev eth4 table 20 proto 121 metric 4000000000")
    mirror.agent.start()
    until(lab.mirrored, OFFLOADED)
    until(lambda: mirror.agent.state(prefix), ("offloaded", None))


# -- the DPU's own changes


def test_a_link_that_goes_down_takes_its_routes_off_and_brings_them_back(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    lab.host_a.ip("link set eth1 down")  # the DPU's eth3 loses its carrier
    until(lab.mirrored, {**OFFLOADED, "b": []})
    for prefix in ("192.168.11.0/24", "fd00:11::/64"):
        told = until(lambda p=prefix: mirror.agent.state(p), lambda told: told[0] == "slow_path")
        assert "egress link eth3 is down" in str(told[1])
    lab.host_a.ip("link set eth1 up")
    until(lab.mirrored, OFFLOADED)

    lab.dpu.ip("link set eth3 down")  # and now its IPv4 routes vanish silently, the connected one as well
    until(lab.mirrored, {**OFFLOADED, "b": []})
    batch(
        lab.dpu,
        "link set eth3 up",
        "route replace 192.168.11.0/24 dev eth3 proto kernel scope link src 192.168.11.1 table 10",
        "route replace fd00:11::/64 dev eth3 proto kernel metric 256 table 10",
    )
    until(lab.mirrored, OFFLOADED)


def test_the_listener_hears_of_later_changes_on_the_dpu(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    until(lambda: mirror.listener.state("192.168.11.0/24"), ("offloaded", None))
    lab.host_a.ip("link set eth1 down")  # the DPU's eth3 loses its carrier
    for prefix in ("192.168.11.0/24", "fd00:11::/64"):
        told = until(lambda p=prefix: mirror.listener.state(p), lambda told: told[0] == "slow_path")
        assert "egress link eth3 is down" in str(told[1])
    assert mirror.listener.state("192.168.12.0/24") == ("offloaded", None)
    lab.host_a.ip("link set eth1 up")
    for prefix in ("192.168.11.0/24", "fd00:11::/64"):
        until(lambda p=prefix: mirror.listener.state(p), ("offloaded", None))


def test_a_gateway_address_that_moves_moves_its_routes(lab: MirrorLab) -> None:
    lab.host.ip("route add 192.168.11.0/24 via 192.168.101.1")
    lab.dpu.ip("address add 192.168.109.1/24 dev eth1 noprefixroute")  # so that eth1 keeps its IPv4 routes
    mirror = lab.mirror(agent={"inference": ["nexthop"]}, listener=BY_B)
    assert lab.mirrored() == A_OFFLOADED
    lab.dpu.ip("address del 192.168.101.1/24 dev eth1")
    until(lab.mirrored, NOTHING)
    state, reason = until(lambda: mirror.agent.state("192.168.11.0/24"), lambda told: told[0] == "slow_path")
    assert (state, reason) == ("slow_path", "nexthop: gateway 192.168.101.1 is not an address of the DPU")
    lab.dpu.ip("address add 192.168.101.1/24 dev eth1 noprefixroute")
    until(lab.mirrored, A_OFFLOADED)


def test_a_change_of_the_dpus_own_routes_maps_again(lab: MirrorLab) -> None:
    lab.host.ip("route add 10.1.1.0/24 via 192.168.101.1")
    mirror = lab.mirror()
    assert mirror.agent.state("10.1.1.0/24")[0] == "slow_path"
    lab.dpu.ip("route add 10.1.0.0/16 via 192.168.11.2 dev eth3 table 10")
    until(lab.mirrored, {"a": [], "b": ["10.1.1.0/24 via 192.168.11.2 dev eth3"]})
    hops = "nexthop via 192.168.11.2 dev eth3 nexthop via 192.168.11.3 dev eth3"
    lab.dpu.ip(f"route replace 10.1.0.0/16 table 10 {hops}")
    both = "10.1.1.0/24 via 192.168.11.2 dev eth3 weight 1 + via 192.168.11.3 dev eth3 weight 1"
    until(lab.mirrored, {"a": [], "b": [both]})
    lab.dpu.ip("route del 10.1.0.0/16 table 10")
    until(lab.mirrored, NOTHING)


# -- restarts


def test_a_killed_agent_leaves_its_routes_and_its_successor_writes_only_what_changed(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    monitor = RouteMonitor(lab.dpu, lab.folder)
    mirror.agent.end(signal.SIGKILL)
    assert lab.mirrored() == OFFLOADED
    lab.host.ip("route del 192.168.11.0/24")
    assert monitor.lines() == []
    mirror.agent.start().ready()
    until(lab.mirrored, {**OFFLOADED, "b": ["fd00:11::/64 dev eth3"]})
    mirror.synced()
    until(lambda: mirror.agent.status()["offloaded"], 3)
    (line,) = monitor.lines()
    assert line.startswith("Deleted 192.168.11.0/24 dev eth3 table 20 proto 121")


def test_a_successor_keeps_trap_routes_below_what_the_host_has_not_announced_yet(lab: MirrorLab) -> None:
    """The longest prefixes come first, and nothing says yet that a shorter one is offloaded, or where the host is."""
    batch(
        lab.host,
        *("route add 10.0.0.0/8 via 192.168.101.1", "route add blackhole 10.6.6.6/32"),
        *("route add 192.168.12.0/24 via 192.168.102.1", "route add blackhole 192.168.12.77/32"),
    )
    lab.dpu.ip("route add 10.0.0.0/8 via 192.168.11.2 dev eth3 table 10")
    mirror = lab.mirror(agent={"host_links": []})
    before = lab.mirrored()
    assert [route.partition(" ")[0] for route in before["b"]] == ["10.0.0.0/8", "10.6.6.6/32"]
    assert [route.partition(" ")[0] for route in before["a"]] == ["192.168.12.0/24", "192.168.12.77/32"]
    monitor = RouteMonitor(lab.dpu, lab.folder)
    for _round in range(2):
        assert mirror.agent.end(signal.SIGTERM) == 0
        mirror.agent.start().ready()
        until(lambda: mirror.agent.status()["offloaded"], 2)
        mirror.synced()
    assert lab.mirrored() == before
    assert monitor.lines() == []
    lab.host.ip("route del 10.0.0.0/8 via 192.168.101.1")
    until(lambda: lab.mirrored()["b"], [])


def test_an_upgraded_agent_is_as_hitless(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    monitor = RouteMonitor(lab.dpu, lab.folder)
    for _round in range(3):
        assert mirror.agent.end(signal.SIGTERM) == 0
        assert lab.mirrored() == OFFLOADED
        mirror.agent.start().ready()
        until(lambda: mirror.agent.status()["offloaded"], 4)
    assert monitor.lines() == []


def test_a_restarted_listener_withdraws_only_what_went_meanwhile(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    monitor = RouteMonitor(lab.dpu, lab.folder)
    mirror.listener.end(signal.SIGKILL)
    until(lambda: mirror.agent.status()["hosts"], [])
    lab.host.ip("route del fd00:12::/64")
    assert monitor.lines() == []
    mirror.listener.start()
    until(lab.mirrored, {**OFFLOADED, "a": ["192.168.12.0/24 dev eth4"]})
    mirror.synced()
    (line,) = monitor.lines()
    assert line.startswith("Deleted fd00:12::/64 dev eth4 table 10 proto 121")
    # SIGHUP reconnects, with the same effect: none.
    mirror.listener.signal(signal.SIGHUP)
    until(lambda: mirror.listener.status()["agents"][0]["replays"], 2)
    mirror.synced()
    assert monitor.lines() == []


# -- producers of all kinds


def test_a_producer_without_nlmsg_done_gets_the_settle_time(lab: MirrorLab) -> None:
    agent = lab.agent(settle_time=1.0).ready()
    lab.dpu.ip("route add 10.66.0.0/16 dev eth3 table 20 proto 121")  # an earlier life's
    with Producer(lab.host) as producer:
        producer.send(route("192.168.11.0/24", "192.168.101.1"), route("192.168.12.0/24", "192.168.102.1"))
        assert producer.take(2) == [
            Message(RTM_NEWROUTE, "192.168.11.0/24", 254, OFFLOAD),
            Message(RTM_NEWROUTE, "192.168.12.0/24", 254, OFFLOAD),
        ]
        installed = {"a": ["192.168.12.0/24 dev eth4"], "b": ["192.168.11.0/24 dev eth3"]}
        until(lab.mirrored, installed)
        agent.says(r"replay complete \(no data for 1 s\): 2 routes .* 1 stale")
        producer.send(route("192.168.12.0/24", kind=RTM_DELROUTE))
        until(lab.mirrored, A_OFFLOADED)
    # Its end is no withdrawal, and the next replay sweeps what it does not name, once it has settled.
    until(lambda: agent.status()["hosts"], [])
    with Producer(lab.host) as producer:
        producer.send(route("192.168.12.0/24", "192.168.102.1"))
        until(lambda: lab.mirrored()["a"], ["192.168.12.0/24 dev eth4"])
        until(lab.mirrored, {"a": ["192.168.12.0/24 dev eth4"], "b": []})


def test_nothing_is_swept_before_the_replay_is_complete(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    mirror.listener.end(signal.SIGKILL)
    mirror.agent.end(signal.SIGKILL)
    agent = mirror.agent.start().ready()
    half = route("192.168.11.0/24", "192.168.101.1")
    with Producer(lab.host) as producer:
        producer.send(half)
        producer.take(1)
        always(lab.mirrored, OFFLOADED)
        assert agent.status()["hosts"][0]["replay"] == "in progress"
        # A change of the DPU that maps everything again must not sweep either.
        lab.dpu.ip("route add 10.77.0.0/16 dev eth3 table 10")
        until(lambda: agent.status()["remaps"], lambda count: count >= 1)
        always(lab.mirrored, OFFLOADED)
    until(lambda: agent.status()["hosts"], [])
    always(lab.mirrored, OFFLOADED)  # a replay that was cut off is none
    with Producer(lab.host) as producer:
        producer.send(half, DONE)
        until(lab.mirrored, A_OFFLOADED)


def test_frames_in_pieces_and_several_messages_a_frame(lab: MirrorLab) -> None:
    agent = lab.agent().ready()
    routes = [route(f"192.168.11.{number}/32", "192.168.101.1") for number in range(40)]
    stream = frame(*routes[:20]) + frame(routes[20]) + frame(*routes[21:], message(0x7F, b"unknown!"), DONE)
    with Producer(lab.host) as producer:
        for start in range(0, len(stream), 113):
            producer.sock.sendall(stream[start : start + 113])
        answers = producer.take(40)
        assert [answer.prefix for answer in answers] == [f"192.168.11.{number}/32" for number in range(40)]
        assert {answer.flags for answer in answers} == {OFFLOAD}
        until(lambda: len(lab.mirrored()["b"]), 40)
        agent.says("ignoring netlink messages of unknown type 127")
        producer.send(route("10.0.0.0/24", "192.168.101.1"), route("10.0.1.0/24", "192.168.101.1", table=100))
        # What every producer understands, and behind it the reason in an extended ack.
        assert [(told.kind, told.prefix, told.flags) for told in producer.take(4)] == [
            (RTM_NEWROUTE, "10.0.0.0/24", TRAP),
            (2, "", 0),
            (RTM_NEWROUTE, "10.0.1.0/24", TRAP),
            (2, "", 0),
        ]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x01\x00\x02",
        frame(message(RTM_NEWROUTE, b"\x02\x18")),
        frame(route("10.0.0.0/24", "192.168.101.1")[:-4]),
        frame(b"\xff\xff\xff\xff" + route("10.0.0.0/24", "192.168.101.1")[4:]),
    ],
    ids=["http", "short length", "no rtmsg", "cut short", "false length"],
)
def test_rubbish_ends_its_connection_and_nothing_else(lab: MirrorLab, rubbish: bytes) -> None:
    agent = lab.agent().ready()
    with Producer(lab.host) as producer:
        producer.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        producer.take(1)
        until(lab.mirrored, A_OFFLOADED)
        producer.sock.sendall(rubbish)
        assert producer.closed()
    agent.says("disconnected, its routes stay")
    assert "Traceback" not in agent.log()
    assert lab.mirrored() == A_OFFLOADED
    with Producer(lab.host) as producer:
        producer.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        assert producer.take(1)[0].flags == OFFLOAD


def test_the_same_host_again_replaces_its_half_open_connection(lab: MirrorLab) -> None:
    agent = lab.agent().ready()
    with Producer(lab.host) as first:
        first.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        first.take(1)
        with Producer(lab.host) as second:
            assert first.closed()
            second.send(route("192.168.11.0/24", "192.168.101.1"), route("192.168.12.0/24", "192.168.102.1"), DONE)
            assert [told.flags for told in second.take(2)] == [OFFLOAD, OFFLOAD]
            assert [host["host"] for host in agent.status()["hosts"]] == ["192.168.101.2"]
    assert "Traceback" not in agent.log()


def test_a_second_host_is_refused_until_the_first_has_left(lab: MirrorLab) -> None:
    agent = lab.agent().ready()
    with Producer(lab.host) as first:
        first.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        first.take(1)
        with Producer(lab.host, "192.168.102.1") as second:
            assert second.closed()
        agent.says("192.168.102.2: refused: host 192.168.101.2 is connected already, and a DPU mirrors one host only")
        first.send(route("192.168.12.0/24", "192.168.102.1"))
        assert first.take(1)[0].flags == OFFLOAD
    until(lambda: agent.status()["hosts"], [])
    with Producer(lab.host, "192.168.102.1") as second:
        second.send(route("192.168.12.0/24", "192.168.102.1"), DONE)
        assert second.take(1)[0].flags == OFFLOAD
        until(lab.mirrored, {"a": ["192.168.12.0/24 dev eth4"], "b": []})


def test_hosts_limits_who_may_connect_without_certificates_too(lab: MirrorLab) -> None:
    agent = lab.agent(hosts=["192.168.102.2"]).ready()
    with Producer(lab.host) as producer:
        assert producer.closed()
    agent.says("192.168.101.2: refused: 192.168.101.2 is not in `hosts`")
    with Producer(lab.host, "192.168.102.1") as producer:
        producer.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        assert producer.take(1)[0].flags == OFFLOAD


def test_an_address_in_use_is_one_line_and_exit_1(lab: MirrorLab) -> None:
    lab.agent().ready()
    second = lab.agent()
    assert second.process is not None
    assert second.process.wait(15) == 1
    assert "cannot listen on :: port 2620: Address already in use" in second.log()
    assert "Traceback" not in second.log()
