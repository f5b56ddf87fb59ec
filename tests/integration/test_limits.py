# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may fill, asked of real daemons: policies, limits, and leases."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import (
    NOTHING,
    OFFLOADED,
    MirrorLab,
    Pair,
    RouteMonitor,
    batch,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    OFFLOAD,
    RTM_DELROUTE,
    TRAP,
    Producer,
    group,
    nexthop,
    nexthop_gone,
    route,
    route_through,
    wide_route,
)
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

#: The host as an agent without TLS knows it.
HOST = "192.168.101.2"
OVER = f"over the limit of 3 routes from {HOST}"


def _mirror(lab: MirrorLab, vrf_limits: dict[str, int] | None = None, **policy: Any) -> Pair:
    return lab.mirror(agent={"hosts": [{"name": HOST, **policy}], "vrf_limits": vrf_limits or {}})


def _many(lab: MirrorLab, count: int) -> list[str]:
    """Routes of the host that go to VRF b; eth3 reaches all of them."""
    lab.dpu.ip("route add 10.0.0.0/8 dev eth3 table 10")
    prefixes = [f"10.0.{number}.0/24" for number in range(count)]
    batch(lab.host, *(f"route add {prefix} via 192.168.101.1" for prefix in prefixes))
    return prefixes


@pytest.mark.parametrize(
    ("policy", "left", "reason"),
    [
        ({"vrfs": ["b"]}, {**OFFLOADED, "a": []}, f"policy: {HOST} may not install routes in VRF a"),
        (
            {"exclude_prefixes": ["192.168.12.0/24", "fd00:12::/32"]},
            {**OFFLOADED, "a": []},
            f"policy: {HOST} may not install this prefix: `exclude_prefixes` has ",
        ),
        (
            {"prefixes": ["192.168.11.0/24", "fd00:11::/64"]},
            {**OFFLOADED, "a": []},
            f"policy: {HOST} may not install this prefix: not covered by `prefixes`",
        ),
    ],
    ids=["vrfs", "exclude_prefixes", "prefixes"],
)
def test_outside_of_its_policy_a_host_installs_nothing_and_both_sides_say_why(
    lab: MirrorLab, policy: dict[str, Any], left: dict[str, list[str]], reason: str
) -> None:
    lab.deploy()
    mirror = _mirror(lab, **policy)
    assert lab.mirrored() == left
    told = mirror.agent.explain("192.168.12.0/24")
    assert told["state"] == "failed"
    assert told["reason"].startswith(reason)
    assert f"not admitted: {told['reason']}" in told["steps"]
    assert mirror.listener.state("192.168.12.0/24") == ("failed", told["reason"])
    assert mirror.listener.status()["agents"][0]["failed"] == mirror.agent.status()["failed"] == 2
    assert set(mirror.agent.routes(state="failed")) == {"192.168.12.0/24", "fd00:12::/64"}


def test_too_many_next_hops_are_refused_and_fewer_are_taken(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.0.0.0/8 table 10 nexthop via 192.168.11.2 dev eth3 nexthop via 192.168.11.3 dev eth3")
    lab.host.ip("route add 10.1.0.0/16 via 192.168.101.1")
    mirror = _mirror(lab, nexthops=1)
    refused = ("failed", "over the limit of 1 next hops: the route has 2")
    assert mirror.agent.state("10.1.0.0/16") == mirror.listener.state("10.1.0.0/16") == refused
    lab.dpu.ip("route replace 10.0.0.0/8 via 192.168.11.2 dev eth3 table 10")
    until(lab.mirrored, {"a": [], "b": ["10.1.0.0/16 via 192.168.11.2 dev eth3"]})
    until(lambda: mirror.listener.state("10.1.0.0/16"), ("offloaded", None))


def test_over_its_limit_the_rest_waits_until_the_host_withdraws_something(lab: MirrorLab) -> None:
    prefixes = _many(lab, 5)
    mirror = _mirror(lab, routes=3)
    installed = set(mirror.agent.routes(state="offloaded"))
    refused = set(mirror.agent.routes(state="failed"))
    assert (len(installed), installed | refused) == (3, set(prefixes))
    assert {route["reason"] for route in mirror.listener.routes(state="failed").values()} == {OVER}
    (host,) = mirror.agent.status()["hosts"]
    assert (host["routes_limit"], host["routes_waiting"]) == (3, 2)

    # A restart keeps who was in, and writes nothing at all.
    monitor = RouteMonitor(lab.dpu, lab.folder)
    mirror.agent.end(signal.SIGKILL)
    mirror.agent.start().ready()
    until(lambda: set(mirror.agent.routes(state="failed")), refused)
    mirror.synced()
    assert monitor.lines() == []

    batch(lab.host, *(f"route del {prefix}" for prefix in sorted(installed)[:2]))
    until(lambda: len(lab.mirrored()["b"]), 3)
    for prefix in refused:
        until(lambda p=prefix: mirror.listener.state(p), ("offloaded", None))
    assert mirror.agent.status()["failed"] == 0


def test_a_full_vrf_refuses_what_is_too_much_and_the_others_go_on(lab: MirrorLab) -> None:
    prefixes = _many(lab, 4)
    mirror = _mirror(lab, {"b": 2, "*": 100})
    assert len(lab.mirrored()["b"]) == 2
    reason = "VRF b: over the limit of 2 routes"
    assert {route["reason"] for route in mirror.listener.routes(state="failed").values()} == {reason}
    vrfs = {vrf["vrf"]: (vrf["routes"], vrf["routes_limit"]) for vrf in mirror.agent.status()["vrfs"]}
    assert vrfs == {"a": (0, 100), "b": (2, 2)}
    lab.host.ip("route add 192.168.12.0/24 via 192.168.102.1")
    until(lab.mirrored, lambda found: found["a"] == ["192.168.12.0/24 dev eth4"])
    batch(lab.host, *(f"route del {prefix}" for prefix in prefixes[:2]))
    until(lambda: lab.mirrored()["b"], [f"{prefix} dev eth3" for prefix in prefixes[2:]])
    until(lambda: mirror.listener.status()["agents"][0]["failed"], 0)


def test_a_flood_over_the_limit_is_refused_and_the_agent_lives(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.0.0.0/8 dev eth3 table 10")
    agent = lab.agent(host_defaults={"routes": 100}).ready()
    with Producer(lab.host) as producer:
        for high in range(40):
            producer.send(*(route(f"10.{high}.{low}.0/24", "192.168.101.1") for low in range(250)))
            producer.take(500 if high else 400)  # a route that is refused is answered by two messages
        producer.send(DONE)
        until(lambda: agent.status()["announced_routes"], 10000)
        until(lambda: agent.status()["hosts"][0]["replay"], "complete")
        assert len(lab.mirrored()["b"]) == 100
        status = agent.status()
        assert (status["offloaded"], status["failed"]) == (100, 9900)
    assert "Traceback" not in agent.log()


def test_what_is_remembered_of_a_host_is_bounded_and_what_was_not_gets_in_when_there_is_room(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.0.0.0/8 dev eth3 table 10")
    batch(lab.host, *(f"route add 10.{n // 200}.{n % 200}.0/24 via 192.168.101.1" for n in range(16600)))
    mirror = lab.mirror(agent={"hosts": [{"name": HOST, "routes": 10}]})
    total = mirror.listener.status()["routes"]  # with those that are slow by nature
    assert total > 16600
    status = mirror.agent.status()
    assert status["offloaded"] == 10
    assert status["announced_routes"] == 2 * 10 + 16384
    assert status["hosts"][0]["routes_over_limit"] == total - status["announced_routes"]
    assert mirror.agent.metric("ynl_mirror_routes_over_limit") == total - status["announced_routes"]
    mirror.agent.says(r"route limit reached \(16404 prefixes, ")
    told = mirror.listener.status()["agents"][0]
    assert (told["offloaded"], told["failed"] + told["slow_path"]) == (10, total - 10)
    assert told["failed"] > 16500
    # All that is remembered goes: the rest gets in.
    known = {prefix for prefix in mirror.agent.routes() if prefix.startswith("10.")}
    rest = sorted(set(mirror.listener.routes()) - known)
    batch(lab.host, *(f"route del {prefix}" for prefix in known))
    until(lambda: mirror.agent.status()["announced_routes"], len(rest))
    mirror.agent.says("below the route limit again: the host has to replay the routes that were ignored")
    until(lambda: len(lab.mirrored()["b"]), 10)
    refused = len([prefix for prefix in rest if prefix.startswith("10.")]) - 10
    until(lambda: mirror.listener.status()["agents"][0]["failed"], refused)


def test_paths_of_thousands_of_next_hops_fill_no_memory_and_get_in_when_there_is_room(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.0.0.0/8 dev eth3 table 10")
    agent = lab.agent(hosts=[{"name": HOST, "routes": 40}]).ready()
    prefixes = [f"10.0.{number}.0/24" for number in range(40)]
    with Producer(lab.host) as producer:
        producer.send(*(route(prefix, "192.168.101.1") for prefix in prefixes), DONE)
        producer.take(40)
        for number, prefix in enumerate(prefixes):  # 163,600 next hops, where 69,652 are remembered
            producer.send(wide_route(prefix, "192.168.101.1", 4090, metric=number))
            producer.take(1 if number < 17 else 2)
        until(lambda: agent.status()["hosts"][0].get("routes_over_limit"), 40 - 17)
        until(lambda: agent.status()["announced_routes"], 17)
        # Where a route leads that is not remembered nobody knows, so none stays.
        until(lambda: lab.mirrored()["b"], sorted(f"{prefix} dev eth3" for prefix in prefixes[:17]))
        agent.says(
            r"route limit reached \(16464 prefixes, 69652 next hops of different paths\); further routes are ignored"
        )
        producer.send(*(route(prefix, kind=RTM_DELROUTE) for prefix in prefixes[:17]))
        producer.closed()
    agent.says("below the route limit again: the host has to replay the routes that were ignored")
    with Producer(lab.host) as producer:
        producer.send(*(route(prefix, "192.168.101.1") for prefix in prefixes), DONE)
        until(lambda: len(lab.mirrored()["b"]), 40)
        assert "routes_over_limit" not in agent.status()["hosts"][0]


def test_nexthop_objects_are_limited_like_paths_and_those_that_go_make_room(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.0.0.0/8 dev eth3 table 10")
    agent = lab.agent(hosts=[{"name": HOST, "routes": 40}]).ready()
    with Producer(lab.host) as producer:
        producer.send(nexthop(1, "192.168.101.1"))
        for number in range(10, 80):  # 70,070 next hops, where 69,652 are remembered
            producer.send(group(number, dict.fromkeys(range(1001, 2001), 1)))
        producer.send(route_through("10.1.0.0/16", 1), route_through("10.2.0.0/16", 79), DONE)
        assert [told.flags for told in producer.take(2)] == [OFFLOAD, TRAP]
        agent.says(
            r"limit of nexthop objects reached \(69652 next hops, 1024 in a group\); routes that name further ones "
        )
        producer.send(nexthop_gone(10), group(79, {1: 1}))
        until(lambda: lab.mirrored()["b"], ["10.1.0.0/16 dev eth3", "10.2.0.0/16 dev eth3"])
    assert "Traceback" not in agent.log()


# -- leases


def test_the_routes_of_a_host_that_stays_away_are_withdrawn_when_its_lease_ends(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = _mirror(lab, withdraw_after=0.5)
    assert mirror.agent.status()["lease"] is None
    before = lab.others()
    mirror.listener.end(signal.SIGKILL)
    lease = until(lambda: mirror.agent.status()["lease"], bool)
    assert (lease["host"], lease["withdraw_after"]) == (HOST, 0.5)
    until(lab.mirrored, NOTHING)
    mirror.agent.says(f"{HOST} disconnected for 0.5 s: 4 routes withdrawn")
    until(lambda: mirror.agent.status()["lease"], lambda lease: lease["withdrawn"] == 4)
    assert mirror.agent.status()["announced_routes"] == mirror.agent.status()["failed"] == 0
    assert lab.others() == before
    mirror.listener.start()
    until(lab.mirrored, OFFLOADED)
    assert mirror.agent.status()["lease"] is None


def test_the_lease_of_what_an_agent_finds_counts_from_its_start(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = _mirror(lab, withdraw_after=0.5)
    mirror.agent.end(signal.SIGKILL)
    mirror.listener.end(signal.SIGKILL)
    assert lab.mirrored() == OFFLOADED
    mirror.agent.start().ready()
    until(lab.mirrored, NOTHING)
    mirror.agent.says("the host disconnected for 0.5 s: 4 routes withdrawn")


def test_without_a_lease_routes_are_held_and_a_host_that_comes_back_in_time_loses_none(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = _mirror(lab, withdraw_after=300)
    monitor = RouteMonitor(lab.dpu, lab.folder)
    mirror.listener.end(signal.SIGKILL)
    until(lambda: mirror.agent.status()["lease"], bool)
    mirror.listener.start()
    mirror.synced()
    mirror.listener.end(signal.SIGKILL)
    until(lambda: mirror.agent.status()["hosts"], [])
    mirror.agent.reload(hosts=[HOST])  # no lease any more
    until(lambda: mirror.agent.status()["lease"], None)
    always(lab.mirrored, OFFLOADED)
    assert monitor.lines() == []


def test_a_host_that_comes_only_to_fail_does_not_restart_its_lease(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = _mirror(lab, withdraw_after=2)
    mirror.listener.end(signal.SIGKILL)
    until(lambda: mirror.agent.status()["hosts"], [])

    def fail_again() -> bool:
        with Producer(lab.host) as producer:
            producer.sock.sendall(b"garbage!")
            producer.closed()
        return lab.mirrored() == NOTHING

    until(fail_again, True)


def test_a_policy_for_a_missing_vrf_is_logged(lab: MirrorLab) -> None:
    agent = lab.agent(vrfs={}, vrf_limits={"blue": 5, "*": 9}, hosts=[{"name": HOST, "vrfs": ["red"]}]).ready()
    agent.says("VRF blue, red in `hosts` or `vrf_limits` does not exist")
