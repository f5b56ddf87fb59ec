# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strangers at either end of the wire: FRR's zebra feeds the agent, and the listener feeds a plain FPM consumer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import NOTHING, OFFLOADED, MirrorLab, batch
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    NLMSG_ERROR,
    OFFLOAD,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    TRAP,
    Consumer,
    Message,
    Producer,
    foreign_route,
    group,
    label_route,
    nexthop,
    nexthop_gone,
    route,
    route_through,
    sysctl,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers.zebra import Zebra
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

STATIC = [
    "192.168.11.0/24 192.168.101.1",
    "192.168.12.0/24 192.168.102.1",
    "fd00:11::/64 fd00:101::1",
    "fd00:12::/64 fd00:102::1",
]


#: VRF c leads to the host with everything that VRF a and b know the way to.
VRFS: dict[str, Any] = {
    "a": {"table": 10, "links": ["eth1", "eth3"]},
    "b": {"table": 20, "links": ["eth2", "eth4"]},
    "c": {"table": 30},
}


@pytest.fixture(params=[True, False], ids=["objects", "hops"])
def zebra(lab: MirrorLab, request: pytest.FixtureRequest) -> Iterator[Zebra]:
    made = Zebra(lab.host, "192.168.101.1", STATIC, objects=request.param)
    yield made
    made.close()


# -- zebra in the listener's place


def test_zebra_offloads_through_the_agent(lab: MirrorLab, zebra: Zebra) -> None:
    agent = lab.agent(settle_time=1.0).ready()
    lab.dpu.ip("route add 10.66.0.0/16 dev eth3 table 20 proto 121")  # an earlier life's, not zebra's
    zebra.start()
    until(lambda: {name: set(OFFLOADED[name]) <= set(there) for name, there in lab.mirrored().items()}, _all)
    assert len(lab.hops()) == len(lab.hops("fd00:12::2")) == 2
    # zebra never says that its replay is complete; silence for the settle time does.
    agent.says(r"192.168.101.2: replay complete \(no data for 1 s\): \d+ routes .* 1 stale")
    until(lab.mirrored, OFFLOADED)
    for prefix in ("192.168.11.0/24", "fd00:12::/64"):
        assert agent.state(prefix) == ("offloaded", None)
    # zebra's connected routes come as well, and are recognised.
    assert agent.state("192.168.101.0/24") == ("slow_path", "connected route of the host: no gateway")

    zebra.set("no ip route 192.168.11.0/24 192.168.101.1")
    zebra.set("no ipv6 route fd00:12::/64 fd00:102::1")
    until(lab.mirrored, {"a": ["192.168.12.0/24 dev eth4"], "b": ["fd00:11::/64 dev eth3"]})
    # It took our answers, and neither side closed the connection.
    counters = zebra.counters()
    assert counters["Input bytes"] > 0
    assert (counters["Connection closes"], counters["Connection errors"]) == (0, 0)
    assert [host["updates_received"] > 0 for host in agent.status()["hosts"]] == [True]
    assert "Traceback" not in agent.log()


def _all(found: dict[str, bool]) -> bool:
    return all(found.values())


def _in_c(*routes: str) -> dict[str, list[str]]:
    return {**NOTHING, "30": sorted(routes)}


def test_zebras_changes_and_multipath_are_followed(lab: MirrorLab, zebra: Zebra) -> None:
    by_a, by_b = (f"10.1.0.0/16 {egress}" for egress in _two_egresses(lab))
    lab.agent(vrfs=VRFS).ready()
    zebra.configure(["10.1.0.0/16 192.168.101.1"])
    zebra.start()
    until(lab.mirrored, _in_c(by_a))
    zebra.set("ip route 10.1.0.0/16 192.168.102.1")
    until(lab.mirrored, _in_c(f"{by_a} weight 1 + via 192.168.12.2 dev eth4 weight 1"))
    zebra.set("no ip route 10.1.0.0/16 192.168.101.1")
    until(lab.mirrored, _in_c(by_b))
    zebra.set("ip route 10.1.0.0/16 blackhole 5")
    zebra.set("no ip route 10.1.0.0/16 192.168.102.1")
    until(lab.mirrored, NOTHING)


def test_zebras_ipv6_multipath_is_followed(lab: MirrorLab, zebra: Zebra) -> None:
    for subnet, link, table in ((11, "eth3", 10), (12, "eth4", 20)):
        batch(lab.dpu, f"route add fd10::/16 via fd00:{subnet}::2 dev {link} table {table}")
    lab.agent(vrfs=VRFS).ready()
    zebra.configure(["fd10:1::/32 fd00:101::1", "fd10:1::/32 fd00:102::1"])
    zebra.start()
    by_a, by_b = "via fd00:11::2 dev eth3", "via fd00:12::2 dev eth4"
    until(lab.mirrored, _in_c(f"fd10:1::/32 {by_a} weight 1 + {by_b} weight 1"))
    zebra.set("no ipv6 route fd10:1::/32 fd00:101::1")
    until(lab.mirrored, _in_c(f"fd10:1::/32 {by_b}"))


def test_zebra_comes_back_and_what_it_does_not_name_any_more_goes(lab: MirrorLab, zebra: Zebra) -> None:
    agent = lab.agent(settle_time=1.0).ready()
    zebra.start()
    until(lab.mirrored, OFFLOADED)
    zebra.kill()
    until(lambda: agent.status()["hosts"], [])
    always(lab.mirrored, OFFLOADED)
    zebra.configure(STATIC[:1])
    zebra.start()
    until(lab.mirrored, {"a": [], "b": OFFLOADED["b"][:1]})


# -- other producers


def test_what_is_not_ours_is_passed_over_and_logged_once(lab: MirrorLab) -> None:
    agent = lab.agent().ready()
    labels = [label_route(number, "192.168.101.1") for number in (100, 101)]
    with Producer(lab.host) as host:
        # An MPLS route comes first, as from zebra, and more of them later.
        host.send(*labels, foreign_route(128), foreign_route(129), route("192.168.11.0/24", "192.168.101.1"), *labels)
        host.send(DONE)
        until(lambda: lab.mirrored()["b"], ["192.168.11.0/24 dev eth3"])
        assert host.take(1) == [Message(RTM_NEWROUTE, "192.168.11.0/24", 254, OFFLOAD)]
        agent.says("replay complete")
        assert agent.status()["hosts"][0]["connected"]
    for what in ("MPLS routes (address family 28)", "IPv4 multicast routes (address family 128)"):
        assert agent.log().count(f"ignoring {what}, which are not mirrored") == 1


def _two_egresses(lab: MirrorLab) -> tuple[str, str]:
    """VRF a and b both know the way to 10.0.0.0/8; returns where to."""
    for subnet, link, table in ((11, "eth3", 10), (12, "eth4", 20)):
        batch(lab.dpu, f"route add 10.0.0.0/8 via 192.168.{subnet}.2 dev {link} table {table}")
    return "via 192.168.11.2 dev eth3", "via 192.168.12.2 dev eth4"


def test_a_group_that_is_replaced_in_place_moves_all_its_routes(lab: MirrorLab) -> None:
    by_a, by_b = _two_egresses(lab)
    agent = lab.agent(vrfs=VRFS).ready()
    with Producer(lab.host) as host:
        host.send(nexthop(7, "192.168.101.1"), nexthop(8, "192.168.102.1"), group(9, {7: 1}))
        through = [route_through(prefix, 9) for prefix in ("10.1.0.0/16", "10.2.0.0/16")]
        host.send(*through, route("10.3.0.0/16", "192.168.101.1"), DONE)
        assert [answer.flags for answer in host.take(2)] == [OFFLOAD, OFFLOAD]
        # The answer is the message as it came, but for the flags.
        assert host.flagged(0) == through[1]
        moved = ["10.1.0.0/16", "10.2.0.0/16"]
        until(lab.mirrored, _in_c(*(f"{prefix} {by_a}" for prefix in (*moved, "10.3.0.0/16"))))
        host.send(group(9, {8: 1}))
        until(lab.mirrored, _in_c(*(f"{prefix} {by_b}" for prefix in moved), f"10.3.0.0/16 {by_a}"))
        # The same by a member.
        host.send(nexthop(8, "192.168.101.1"))
        until(lab.mirrored, _in_c(*(f"{prefix} {by_a}" for prefix in (*moved, "10.3.0.0/16"))))
        host.send(nexthop_gone(9))
        until(lab.mirrored, _in_c(f"10.3.0.0/16 {by_a}"))
        assert agent.state("10.1.0.0/16") == ("slow_path", "next hops of nexthop object 9 unknown")
        host.send(route("10.1.0.0/16", "192.168.102.1"), route("10.2.0.0/16", kind=RTM_DELROUTE), group(9, {7: 1}))
        until(lab.mirrored, _in_c(f"10.1.0.0/16 {by_b}", f"10.3.0.0/16 {by_a}"))
    assert "Traceback" not in agent.log()


def test_a_word_on_forwarding_maps_everything_again_and_is_no_unknown_message(lab: MirrorLab) -> None:
    agent = lab.agent().ready()
    with Producer(lab.host) as host:
        host.send(sysctl(forwarding=True), route("192.168.11.0/24", "192.168.101.1"), DONE)
        until(lambda: lab.mirrored()["b"], ["192.168.11.0/24 dev eth3"])
        remaps = until(lambda: agent.status()["remaps"], bool)
        host.send(sysctl(forwarding=True))  # nothing new
        host.send(sysctl(forwarding=False, family=10), sysctl(forwarding=False, index=3))
        until(lambda: agent.status()["remaps"], lambda now: now > remaps)
    assert "ignoring" not in agent.log()


def test_a_route_waits_for_its_nexthop_object_and_is_answered_again(lab: MirrorLab) -> None:
    by_a, _by_b = _two_egresses(lab)
    agent = lab.agent(vrfs=VRFS).ready()
    with Producer(lab.host) as host:
        host.send(route_through("10.1.0.0/16", 20), DONE)
        assert [(told.kind, told.flags) for told in host.take(2)] == [(RTM_NEWROUTE, TRAP), (NLMSG_ERROR, 0)]
        assert agent.state("10.1.0.0/16") == ("slow_path", "next hops of nexthop object 20 unknown")
        host.send(group(20, {21: 1}))
        host.send(nexthop(21, "192.168.101.1"))
        assert host.take(1) == [Message(RTM_NEWROUTE, "10.1.0.0/16", 254, OFFLOAD)]
        assert lab.mirrored() == _in_c(f"10.1.0.0/16 {by_a}")
    # Objects are those of one connection: numbers of the previous one mean nothing.
    with Producer(lab.host) as host:
        host.send(route_through("10.1.0.0/16", 20), DONE)
        assert host.take(1)[0].flags == TRAP
    assert "Traceback" not in agent.log()


# -- a stranger in the agent's place


def test_the_listener_feeds_a_consumer_that_never_answers(lab: MirrorLab) -> None:
    lab.deploy()
    _only_main(lab)
    consumer = Consumer(lab.dpu, "192.168.101.1")
    listener = lab.listener().ready()
    with consumer.accept() as stream:
        replay = [item for item in stream.replay() if item.kind == RTM_NEWROUTE]
        prefixes = {item.prefix for item in replay}
        assert len(prefixes) == len(replay)
        assert {Message(RTM_NEWROUTE, prefix, 254, 0) for prefix in prefixes} == set(replay)
        assert prefixes > {"192.168.11.0/24", "192.168.12.0/24", "fd00:11::/64", "fd00:12::/64", "192.168.101.2/32"}
        for version in (".", ":"):
            lengths = [int(item.prefix.partition("/")[2]) for item in replay if version in item.prefix]
            assert lengths == sorted(lengths, reverse=True)
        lab.host.ip("route del 192.168.11.0/24")
        assert stream.take(1) == [Message(RTM_DELROUTE, "192.168.11.0/24", 254, 0)]
        told = ("pending", "sent; the consumer does not answer")
        until(lambda: listener.state("192.168.12.0/24"), told)
        assert listener.status()["agents"][0]["pending"] == len(prefixes) - 1
    # The next connection gets a replay of its own.
    with consumer.accept() as stream:
        again = [item.prefix for item in stream.replay() if item.kind == RTM_NEWROUTE]
        assert sorted(again) == sorted(prefixes - {"192.168.11.0/24"})
    consumer.close()


def _only_main(lab: MirrorLab) -> None:
    """Take away the table behind main, which has all that the tests announce: what main loses is gone then."""
    for family in ("-4", "-6"):
        lab.host.ip(f"{family} rule del pref 33000 lookup 200")


def test_a_slow_consumer_gets_the_latest_state_and_no_backlog(lab: MirrorLab) -> None:
    """Changes coalesce per prefix while the consumer does not read: no message for every step in between."""
    consumer = Consumer(lab.dpu, "192.168.101.1", receive_buffer=4096)
    listener = lab.listener(filters={"prefixes": ["10.0.0.0/8"]}).ready()
    routes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000)]
    with consumer.accept() as stream:
        stream.replay()
        for _round in range(4):
            batch(lab.host, *(f"route add {route} via 192.168.101.1" for route in routes))
            batch(lab.host, *(f"route del {route}" for route in routes))
        batch(lab.host, *(f"route add {route} via 192.168.101.1" for route in routes[::2]))
        batch(lab.host, "route add 10.255.255.0/24 via 192.168.101.1")
        until(lambda: listener.state("10.255.255.0/24")[0], "pending")
        final: dict[str, int] = {}
        count = 0
        for item in stream.read():
            if item.prefix.startswith("10."):
                final[item.prefix] = item.kind
            count += 1
            if final.get("10.255.255.0/24") and sum(kind == RTM_NEWROUTE for kind in final.values()) == 5_001:
                break
        assert {prefix for prefix, kind in final.items() if kind == RTM_NEWROUTE} == {*routes[::2], "10.255.255.0/24"}
        assert count < 40_000  # of 85,001 events
    consumer.close()


def test_answers_of_a_stranger_are_shown(lab: MirrorLab) -> None:
    lab.host.ip("route add 10.1.0.0/16 via 192.168.101.1")
    consumer = Consumer(lab.dpu, "192.168.101.1")
    listener = lab.listener(filters={"prefixes": ["10.0.0.0/8"]}).ready()
    with consumer.accept() as stream:
        stream.replay()
        stream.send(stream.flagged(OFFLOAD, "10.1.0.0/16"))
        until(lambda: listener.state("10.1.0.0/16"), ("offloaded", None))
        # An answer about something that was never sent, or nonsense in between, changes nothing.
        stream.send(route("10.99.0.0/16", "192.168.101.1"))
        assert listener.state("10.99.0.0/16") == (None, None)
        stream.sock.shutdown(socket.SHUT_WR)
    with consumer.accept() as stream:
        stream.replay()
        stream.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        until(lambda: str(listener.status()["agents"][0]["error"]), lambda text: "not an FPM frame" in text)
    consumer.close()
    assert "Traceback" not in listener.log()
