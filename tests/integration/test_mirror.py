# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror end to end: what the host routes appears in the DPU's VRFs, and stays equal to it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import NOTHING, OFFLOADED, Daemon, MirrorLab, batch
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

#: VRF c has no link and no route of its own but the one to the host, so it gets what belongs to a, to b, and to both.
THREE_VRFS: dict[str, Any] = {
    "a": {"table": 10, "links": ["eth1", "eth3"]},
    "b": {"table": 20, "links": ["eth2", "eth4"]},
    "c": {"table": 30},
}
#: The host's ways into VRF a and VRF b, and where the DPU sends what they stand for; one line per family.
FAMILIES = {
    "ipv4": ("10.1.1.0/24", "192.168.101.1", "192.168.102.1", "via 192.168.11.2 dev eth3", "via 192.168.12.2 dev eth4"),
    "ipv6": ("fd01:1::/48", "fd00:101::1", "fd00:102::1", "via fd00:11::2 dev eth3", "via fd00:12::2 dev eth4"),
}


def _reach_more(lab: MirrorLab) -> None:
    """Let VRF a and b reach more than their connected subnets, by way of the end hosts; they need no mirror for it."""
    for subnet, link, table in ((11, "eth3", 10), (12, "eth4", 20)):
        batch(
            lab.dpu,
            f"route add 10.0.0.0/8 via 192.168.{subnet}.2 dev {link} table {table}",
            f"route add fd01::/16 via fd00:{subnet}::2 dev {link} table {table}",
        )


def _vrfs(a: list[str], b: list[str]) -> dict[str, list[str]]:
    return {"a": a, "b": b}


def _in_c(*routes: str) -> dict[str, list[str]]:
    """These routes in VRF c, and none in those that know where to send the packets themselves."""
    return {**NOTHING, "30": sorted(routes)}


# -- what the mirror is for


def test_offload_takes_four_hops_to_two_and_back(lab: MirrorLab) -> None:
    slow = {
        "192.168.12.2": ["192.168.11.1", "192.168.101.2", "192.168.102.1", "192.168.12.2"],
        "fd00:12::2": ["fd00:11::1", "fd00:101::2", "fd00:102::1", "fd00:12::2"],
    }
    fast = {"192.168.12.2": ["192.168.11.1", "192.168.12.2"], "fd00:12::2": ["fd00:11::1", "fd00:12::2"]}
    assert {to: lab.hops(to) for to in slow} == slow
    mirror = lab.mirror()
    assert {to: lab.hops(to) for to in slow} == slow

    lab.deploy()
    until(lab.mirrored, OFFLOADED)
    assert {to: lab.hops(to) for to in slow} == fast
    for daemon in (mirror.agent, mirror.listener):
        for prefix in ("192.168.11.0/24", "192.168.12.0/24", "fd00:11::/64", "fd00:12::/64"):
            until(lambda d=daemon, p=prefix: d.state(p), ("offloaded", None))

    lab.withdraw()
    until(lab.mirrored, NOTHING)
    assert {to: lab.hops(to) for to in slow} == slow


def test_routes_from_before_the_daemons_arrive_with_the_replay(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    assert lab.mirrored() == OFFLOADED
    assert mirror.listener.status()["agents"][0]["offloaded"] == 4
    assert mirror.agent.status()["offloaded"] == 4


# -- changes


@pytest.mark.parametrize("family", FAMILIES)
def test_every_change_is_followed(lab: MirrorLab, family: str) -> None:
    prefix, to_a, to_b, by_a, by_b = FAMILIES[family]
    _reach_more(lab)
    lab.mirror(agent={"vrfs": THREE_VRFS})
    by_a, by_b = f"{prefix} {by_a}", f"{prefix} {by_b}"

    lab.host.ip(f"route add {prefix} via {to_a}")
    until(lab.mirrored, _in_c(by_a))
    lab.host.ip(f"route replace {prefix} via {to_b}")
    until(lab.mirrored, _in_c(by_b))
    lab.host.ip(f"route replace {prefix} nexthop via {to_a} weight 3 nexthop via {to_b} weight 1")
    both = f"{by_a} weight 3 + {by_b[len(prefix) + 1 :]} weight 1"
    until(lab.mirrored, _in_c(both))
    lab.host.ip(f"route replace {prefix} via {to_b}")
    until(lab.mirrored, _in_c(by_b))
    lab.host.ip(f"route del {prefix}")
    until(lab.mirrored, NOTHING)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_metric_is_used_and_the_next_takes_over(lab: MirrorLab, family: str) -> None:
    prefix, to_a, to_b, by_a, by_b = FAMILIES[family]
    _reach_more(lab)
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS})
    by_a, by_b = f"{prefix} {by_a}", f"{prefix} {by_b}"

    lab.host.ip(f"route add {prefix} via {to_a} metric 200")
    until(lab.mirrored, _in_c(by_a))
    lab.host.ip(f"route add {prefix} via {to_b} metric 100")
    until(lab.mirrored, _in_c(by_b))
    lab.host.ip(f"route add {prefix} via {to_a} metric 300")
    lab.host.ip(f"route del {prefix} metric 100")
    until(lab.mirrored, _in_c(by_a))
    assert len(mirror.listener.routes(prefix=prefix)) == 1
    assert mirror.listener.routes(prefix=prefix)[prefix]["metric"] == 200
    lab.host.ip(f"route del {prefix} metric 200")
    lab.host.ip(f"route del {prefix} metric 300")
    until(lab.mirrored, NOTHING)


def test_ipv6_hops_come_and_go_one_by_one(lab: MirrorLab) -> None:
    """APPEND names the whole hop list, DELROUTE the hop that goes: an IPv6 way of speaking."""
    prefix, to_a, to_b, by_a, by_b = FAMILIES["ipv6"]
    _reach_more(lab)
    lab.mirror(agent={"vrfs": THREE_VRFS})
    lab.host.ip(f"route add {prefix} via {to_a}")
    lab.host.ip(f"route append {prefix} via {to_b}")
    until(lab.mirrored, _in_c(f"{prefix} {by_a} weight 1 + {by_b} weight 1"))
    lab.host.ip(f"route del {prefix} via {to_a}")
    until(lab.mirrored, _in_c(f"{prefix} {by_b}"))


def test_a_prefix_with_routes_for_a_tos_stays_on_the_slow_path(lab: MirrorLab) -> None:
    prefix, to_a, to_b, by_a, _by_b = FAMILIES["ipv4"]
    _reach_more(lab)
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS})
    lab.host.ip(f"route add {prefix} via {to_a}")
    until(lab.mirrored, _in_c(f"{prefix} {by_a}"))
    lab.host.ip(f"route add {prefix} via {to_b} tos 0x10")
    until(lab.mirrored, NOTHING)
    assert mirror.listener.state(prefix) == ("slow_path", "the prefix has routes for a tos: 0x10")
    lab.host.ip(f"route del {prefix} via {to_b} tos 0x10")
    until(lab.mirrored, _in_c(f"{prefix} {by_a}"))


@pytest.mark.parametrize("family", FAMILIES)
def test_nexthop_objects_are_flattened(lab: MirrorLab, family: str) -> None:
    prefix, to_a, to_b, by_a, by_b = FAMILIES[family]
    _reach_more(lab)
    lab.mirror(agent={"vrfs": THREE_VRFS})
    by_a, by_b = f"{prefix} {by_a}", f"{prefix} {by_b}"

    batch(lab.host, f"nexthop add id 1 via {to_a} dev eth1", f"nexthop add id 2 via {to_b} dev eth2")
    lab.host.ip("nexthop add id 10 group 1")
    lab.host.ip(f"route add {prefix} nhid 10")
    until(lab.mirrored, _in_c(by_a))
    lab.host.ip("nexthop replace id 10 group 1/2,4")
    both = f"{by_a} weight 1 + {by_b[len(prefix) + 1 :]} weight 4"
    until(lab.mirrored, _in_c(both))
    lab.host.ip("nexthop del id 1")  # the group shrinks, without a route event
    until(lab.mirrored, _in_c(by_b))
    lab.host.ip("nexthop replace id 2 via " + to_a + " dev eth1")
    until(lab.mirrored, _in_c(by_a))
    lab.host.ip("nexthop del id 2")  # takes group and route along; IPv4 routes silently
    until(lab.mirrored, NOTHING)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        # The DPU's end of the cable has no carrier: VRF a does not reach the host any more, and its packets are lost.
        ("link set eth1 down", _vrfs([], [])),
        # Nor does it where the host has lost the address that VRF a sends to. IPv6 needs no address.
        ("-4 address flush dev eth1", _vrfs(["fd00:12::/64 dev eth4"], ["fd00:11::/64 dev eth3"])),
        # The DPU's end goes too, and VRF a has another way to the host.
        ("link delete eth1", _vrfs(OFFLOADED["a"], [])),
    ],
)
def test_what_the_kernel_takes_away_in_silence_goes(lab: MirrorLab, change: str, left: dict[str, list[str]]) -> None:
    lab.deploy()
    batch(
        lab.dpu,
        "route add default via 192.168.102.2 dev eth2 table 10 metric 2000",
        "route add default via fd00:102::2 dev eth2 table 10 metric 2000",
    )
    lab.mirror(listener={"agents": [{"address": "192.168.102.1"}]})
    assert lab.mirrored() == OFFLOADED
    lab.host.ip(change)
    until(lab.mirrored, left)


# -- selection


def test_filters_keep_routes_at_home_and_say_why(lab: MirrorLab) -> None:
    _reach_more(lab)
    filters = {
        "protocols": ["static", "boot"],
        "prefixes": ["10.0.0.0/8", "exact 192.168.12.0/24"],
        "exclude_prefixes": ["10.9.0.0/16"],
        "types": ["unicast"],
        "interfaces": ["eth1"],
    }
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS}, listener={"filters": filters})
    batch(
        lab.host,
        "route add 10.1.1.0/24 via 192.168.101.1 proto static",
        "route add 10.2.1.0/24 via 192.168.101.1 proto dhcp",
        "route add 10.9.1.0/24 via 192.168.101.1",
        "route add 172.16.0.0/24 via 192.168.101.1",
        "route add 10.3.1.0/24 via 192.168.102.1",
        "route add blackhole 10.4.1.0/24",
    )
    by_a = "10.1.1.0/24 via 192.168.11.2 dev eth3"
    until(lab.mirrored, _in_c(by_a))
    reasons = {
        "10.2.1.0/24": "filtered: protocol dhcp is not in filters.protocols",
        "10.9.1.0/24": "filtered: the prefix matches filters.exclude_prefixes (10.9.0.0/16)",
        "172.16.0.0/24": "filtered: the prefix matches none of filters.prefixes",
        "10.3.1.0/24": "filtered: no next hop uses an interface of filters.interfaces",
        "10.4.1.0/24": "filtered: type blackhole is not in filters.types",
    }
    for prefix, reason in reasons.items():
        state, why = until(lambda p=prefix: mirror.listener.state(p), lambda told: told[0] is not None)
        assert (state, why) == ("slow_path", reason)
    assert list(mirror.agent.routes(state="offloaded")) == ["10.1.1.0/24"]
    # A route that the filters let pass no more is withdrawn, and one that they let pass now goes out.
    lab.host.ip("route replace 10.1.1.0/24 via 192.168.101.1 proto dhcp")
    lab.host.ip("route replace 10.2.1.0/24 via 192.168.101.1 proto static")
    until(lab.mirrored, _in_c(by_a.replace("10.1.1", "10.2.1")))


def test_a_filter_by_interface_follows_the_name(lab: MirrorLab) -> None:
    lab.deploy()
    agents = [{"address": "192.168.102.1"}]
    lab.mirror(listener={"agents": agents, "filters": {"interfaces": ["uplink", "eth2"]}})
    assert lab.mirrored() == _vrfs(OFFLOADED["a"], [])
    batch(lab.host, "link property add dev eth1 altname was-eth1", "link set dev eth1 name uplink")
    until(lab.mirrored, OFFLOADED)


def test_excluded_protocols_and_families_stay_on_the_slow_path(lab: MirrorLab) -> None:
    lab.deploy()
    lab.host.ip("route replace fd00:11::/64 via fd00:101::1 proto bird")
    mirror = lab.mirror(listener={"families": ["ipv6"], "filters": {"exclude_protocols": ["bird"]}})
    assert lab.mirrored() == _vrfs(["fd00:12::/64 dev eth4"], [])
    assert mirror.listener.state("192.168.11.0/24") == (None, None)
    reason = "filtered: protocol bird is in filters.exclude_protocols"
    assert mirror.listener.state("fd00:11::/64") == ("slow_path", reason)


def test_a_table_other_than_main_is_mirrored(lab: MirrorLab) -> None:
    lab.deploy()
    _reach_more(lab)
    batch(lab.host, "route add 10.1.1.0/24 via 192.168.101.1 table 4711", "rule add pref 4000 lookup 4711")
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS}, listener={"tables": [4711]})
    by_a = "10.1.1.0/24 via 192.168.11.2 dev eth3"
    assert lab.mirrored() == _in_c(by_a)
    lab.host.ip("route add 10.1.2.0/24 via 192.168.101.1 table 4711")
    until(lab.mirrored, _in_c(by_a, by_a.replace("10.1.1", "10.1.2")))
    assert set(mirror.listener.routes(state="offloaded")) == {"10.1.1.0/24", "10.1.2.0/24"}
    assert mirror.listener.state("192.168.11.0/24") == (
        *("slow_path", "decided by table main, which `tables` does not list"),
    )
    lab.host.ip("route flush table 4711")
    until(lab.mirrored, NOTHING)


def test_of_two_host_tables_the_first_is_used(lab: MirrorLab) -> None:
    _reach_more(lab)
    batch(
        lab.host,
        "route add 10.1.1.0/24 via 192.168.101.1 table 4711",
        "route add 10.1.1.0/24 via 192.168.102.1",
        "rule add pref 4000 lookup 4711",
    )
    lab.mirror(agent={"vrfs": THREE_VRFS}, listener={"tables": [4711, "main"]})
    assert lab.mirrored() == _in_c("10.1.1.0/24 via 192.168.11.2 dev eth3")
    lab.host.ip("route flush table 4711")
    until(lab.mirrored, _in_c("10.1.1.0/24 via 192.168.12.2 dev eth4"))


def test_a_table_that_no_rule_looks_up_is_no_part_of_the_view(lab: MirrorLab) -> None:
    _reach_more(lab)
    lab.host.ip("route add 10.1.1.0/24 via 192.168.101.1 table 4711")
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS}, listener={"tables": [254, 4711]})
    assert mirror.listener.state("10.1.1.0/24") == (None, None)
    assert mirror.listener.status()["tables_without_rule"] == ["4711"]
    assert "table 4711 is in `tables`, but no rule looks it up" in mirror.listener.log()
    assert lab.mirrored() == NOTHING
    lab.host.ip("rule add pref 4000 lookup 4711")
    until(lab.mirrored, _in_c("10.1.1.0/24 via 192.168.11.2 dev eth3"))
    assert mirror.listener.status()["tables_without_rule"] == []


# -- several agents


def _second_dpu(lab: MirrorLab) -> Daemon:
    """Another DPU on a third link of the host, with an agent; VRF x has a link to 10.0.0.0/8, VRF y asks the host."""
    dpu = lab.namespace("dpu2")
    dpu.connect("eth1", lab.host, "eth3")
    dpu.connect("eth2", lab.host_b, "eth9")
    lab.host.ip("address add 192.168.103.2/24 dev eth3")
    batch(
        dpu,
        "address add 192.168.103.1/24 dev eth1",
        "route add 10.0.0.0/8 dev eth2 table 10",
        "rule add iif eth2 lookup 10",
        "route add default via 192.168.103.2 dev eth1 table 20",
    )
    vrfs = {"x": {"table": 10, "links": ["eth1", "eth2"]}, "y": {"table": 20}}
    return lab.agent(namespace=dpu, vrfs=vrfs, host_links=["eth1"])


def test_one_listener_feeds_two_agents(lab: MirrorLab) -> None:
    _reach_more(lab)
    second = _second_dpu(lab).ready()
    agents = [{"address": "192.168.101.1"}, {"address": "192.168.103.1"}]
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS}, listener={"agents": agents})

    def on_second() -> list[str]:
        return second.namespace.ip("route show table 20 proto 121").split("\n")[:-1]

    lab.host.ip("route add 10.1.1.0/24 via 192.168.101.1")
    lab.host.ip("route add 10.2.2.0/24 via 192.168.103.1")
    until(lab.mirrored, _in_c("10.1.1.0/24 via 192.168.11.2 dev eth3"))
    until(on_second, lambda lines: [line.split()[:3] for line in lines] == [["10.2.2.0/24", "dev", "eth2"]])
    mirror.synced()
    route = mirror.listener.routes(prefix="10.2.2.0/24")["10.2.2.0/24"]
    assert route["agents"]["192.168.103.1:2620"] == {"state": "offloaded", "reason": None}
    assert route["agents"]["192.168.101.1:2620"]["state"] == "slow_path"
    assert "gateway 192.168.103.1 is not an address of the DPU" in route["agents"]["192.168.101.1:2620"]["reason"]
    # One that goes away holds up nobody, and finds everything when it comes back.
    second.end(signal.SIGKILL)
    lab.host.ip("route del 10.1.1.0/24")
    lab.host.ip("route del 10.2.2.0/24")
    until(lab.mirrored, NOTHING)
    second.start()
    until(on_second, [])


# -- volume and loss


def _many(count: int) -> list[str]:
    """*count* different /24 within 10.0.0.0/8."""
    return [f"10.{number >> 8}.{number & 255}.0/24" for number in range(count)]


def _by_a(lab: MirrorLab) -> set[str]:
    """The mirrored IPv4 routes of VRF c whose egress is that of VRF a."""
    lines = lab.dpu.ip("-4 route show table 30 proto 121").splitlines()
    return {line.split()[0] for line in lines if line.split()[1:5] == ["via", "192.168.11.2", "dev", "eth3"]}


def test_a_burst_loses_nothing(lab: MirrorLab) -> None:
    _reach_more(lab)
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS})
    routes = _many(20_000)
    batch(lab.host, *(f"route add {route} via 192.168.101.1" for route in routes))
    batch(lab.host, *(f"route del {route}" for route in routes[::2]))
    batch(lab.host, *(f"route replace {route} via 192.168.102.1" for route in routes[1::4]))
    until(lambda: _by_a(lab), set(routes[3::4]))
    mirror.synced()
    assert sum(prefix.startswith("10.") for prefix in mirror.listener.routes(state="offloaded")) == 10_000
    assert mirror.agent.status()["offloaded"] == 10_000
    lab.host.ip("route flush root 10.0.0.0/8")
    until(lab.mirrored, NOTHING)
    assert mirror.listener.status()["overruns"] == 0


def test_an_overrun_of_the_listener_is_found_and_repaired(lab: MirrorLab) -> None:
    _reach_more(lab)
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS}, listener={"receive_buffer": 4096})
    routes = _many(2_000)
    # While the listener stands still its buffer takes a handful of notifications, and the rest is lost.
    mirror.listener.signal(signal.SIGSTOP)
    batch(lab.host, *(f"route add {route} via 192.168.101.1" for route in routes))
    batch(lab.host, *(f"route del {route}" for route in routes[::2]))
    mirror.listener.signal(signal.SIGCONT)
    until(lambda: _by_a(lab), set(routes[1::2]))
    assert mirror.listener.status()["overruns"] >= 1
    assert mirror.listener.metric("ynl_mirror_netlink_overruns_total") >= 1
    mirror.listener.says(r"receive buffer overrun \(ENOBUFS\), at least \d+ notifications lost, full resync")
    assert mirror.listener.process is not None
    assert mirror.listener.process.poll() is None


@pytest.mark.parametrize("change", ["route replace 10.0.0.0/8 dev eth3 table 10", "route del 172.16.0.0/24 table 10"])
def test_an_overrun_of_the_agent_is_found_and_repaired(lab: MirrorLab, change: str) -> None:
    _reach_more(lab)
    batch(lab.host, "route add 10.1.1.0/24 via 192.168.101.1", "route add 10.1.2.0/24 via 192.168.101.1")
    mirror = lab.mirror(agent={"vrfs": THREE_VRFS, "receive_buffer": 4096})
    mirror.agent.signal(signal.SIGSTOP)
    fill = [f"route {verb} 172.16.{number}.0/24 dev eth3 table 10" for number in range(100) for verb in ("add", "del")]
    batch(lab.dpu, *fill, "route add 172.16.0.0/24 dev eth3 table 10", "route del 10.1.1.0/24 table 30", change)
    mirror.agent.signal(signal.SIGCONT)
    way = "dev eth3" if "replace" in change else "via 192.168.11.2 dev eth3"
    until(lab.mirrored, _in_c(f"10.1.1.0/24 {way}", f"10.1.2.0/24 {way}"))
    assert mirror.agent.status()["overruns"] >= 1
