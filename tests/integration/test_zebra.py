# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strangers at either end of the wire: FRR's zebra feeds the agent, and the listener feeds a plain FPM consumer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import NOTHING, OFFLOADED, MirrorLab, batch
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    OFFLOAD,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    Consumer,
    Message,
    route,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers.zebra import Zebra
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

STATIC = [
    "192.168.11.0/24 192.168.101.1",
    "192.168.12.0/24 192.168.102.1",
    "fd00:11::/64 fd00:101::1",
    "fd00:12::/64 fd00:102::1",
]


@pytest.fixture
def zebra(lab: MirrorLab) -> Iterator[Zebra]:
    made = Zebra(lab.host, "192.168.101.1", STATIC)
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


def test_zebras_changes_and_multipath_are_followed(lab: MirrorLab, zebra: Zebra) -> None:
    for subnet, link, table in ((11, "eth3", 10), (12, "eth4", 20)):
        batch(lab.dpu, f"route add 10.0.0.0/8 via 192.168.{subnet}.2 dev {link} table {table}")
    vrfs = {
        "a": {"table": 10, "links": ["eth1", "eth3"]},
        "b": {"table": 20, "links": ["eth2", "eth4"]},
        "c": {"table": 30},
    }
    lab.agent(vrfs=vrfs).ready()
    zebra.configure(["10.1.0.0/16 192.168.101.1"])
    zebra.start()
    by_a, by_b = "10.1.0.0/16 via 192.168.11.2 dev eth3", "10.1.0.0/16 via 192.168.12.2 dev eth4"
    until(lab.mirrored, {"a": [], "b": [by_a], "30": [by_a]})
    zebra.set("ip route 10.1.0.0/16 192.168.102.1")
    both = f"{by_a} weight 1 + via 192.168.12.2 dev eth4 weight 1"
    until(lab.mirrored, {"a": [], "b": [], "30": [both]})
    zebra.set("no ip route 10.1.0.0/16 192.168.101.1")
    until(lab.mirrored, {"a": [by_b], "b": [], "30": [by_b]})
    zebra.set("ip route 10.1.0.0/16 blackhole 5")
    zebra.set("no ip route 10.1.0.0/16 192.168.102.1")
    until(lab.mirrored, NOTHING)


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


# -- a stranger in the agent's place


def test_the_listener_feeds_a_consumer_that_never_answers(lab: MirrorLab) -> None:
    lab.deploy()
    lab.host.ip("route del 192.168.11.0/24 table 200")  # which would decide once the route in main is gone
    consumer = Consumer(lab.dpu, "192.168.101.1")
    listener = lab.listener(filters={"exclude_protocols": ["kernel"]}).ready()
    with consumer.accept() as stream:
        replay = stream.replay()
        routes = [item for item in replay if item.kind == RTM_NEWROUTE]
        # Whether the host forwards comes first (RTM_NEWNETCONF), then its routes, those that stay slow among them.
        assert [item.kind for item in replay] == [80] * (len(replay) - len(routes) - 1) + [24] * len(routes) + [3]
        assert {(item.table, item.flags) for item in routes} == {(254, 0)}
        announced = {item.prefix for item in routes}
        assert announced == set(listener.routes())
        assert announced > {"192.168.11.0/24", "192.168.12.0/24", "fd00:11::/64", "fd00:12::/64", "192.168.101.2/32"}
        for version in (".", ":"):
            lengths = [int(item.prefix.partition("/")[2]) for item in routes if version in item.prefix]
            assert lengths == sorted(lengths, reverse=True)
        lab.host.ip("route del 192.168.11.0/24")
        assert stream.take(1) == [Message(RTM_DELROUTE, "192.168.11.0/24", 254, 0)]
        told = ("pending", "sent; the consumer does not answer")
        until(lambda: listener.state("192.168.12.0/24"), told)
        assert listener.status()["agents"][0]["pending"] == len(routes) - 1
    # The next connection gets a replay of its own.
    with consumer.accept() as stream:
        again = {item.prefix for item in stream.replay() if item.kind == RTM_NEWROUTE}
        assert again == announced - {"192.168.11.0/24"}
    consumer.close()


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
