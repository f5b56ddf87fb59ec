# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mass-withdrawal guard: withdrawals that would remove too much are held until the host confirms them."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs import mirror as mirror_lab
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import MirrorLab, RouteMonitor, batch
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    RTM_DELROUTE,
    Producer,
    nexthop,
    nexthop_gone,
    route,
    route_through,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers.middleman import Middleman
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

TO_A = "via 192.168.101.1"
EGRESS = "via 192.168.11.2 dev eth3"
HELD = "withdrawals held until the host confirms them"
PREFIXES = [f"10.1.{number}.0/24" for number in range(150)]

#: The same program, which waits a second where it would wait a minute.
IMPATIENT = """
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent import agent
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli import main
agent.CONFIRM_TIMEOUT, agent._RETRY = 1.0, 0.5
raise SystemExit(main.main())
"""


def _prepare(lab: MirrorLab, prefixes: list[str]) -> None:
    """An egress of VRF a, and routes of the host to it."""
    lab.dpu.ip(f"route add 10.0.0.0/8 {EGRESS} table 10")
    batch(lab.host, *(f"route add {prefix} {TO_A}" for prefix in prefixes))


def _mirrored(lab: MirrorLab) -> list[str]:
    return sorted(line.split()[0] for line in lab.mirrored()["b"])


def test_a_host_that_withdraws_everything_is_asked_to_confirm_and_then_obeyed(lab: MirrorLab) -> None:
    _prepare(lab, PREFIXES)
    mirror = lab.mirror()
    until(lambda: _mirrored(lab), sorted(PREFIXES))
    batch(lab.host, *(f"route del {prefix}" for prefix in PREFIXES[:-1]))
    until(lambda: _mirrored(lab), PREFIXES[-1:])
    mirror.agent.says(f"{HELD}: VRF b would lose .* of 150 mirrored ipv4 routes at once")
    mirror.agent.says("host confirmed the held withdrawals; applying them")
    until(lambda: mirror.agent.status()["held"], {"withdrawals": 0, "reason": None})
    assert mirror.listener.status()["agents"][0]["replays"] == 2
    mirror.synced()
    assert mirror.listener.state(PREFIXES[-1]) == ("offloaded", None)


def test_what_the_host_did_not_withdraw_stays_without_a_gap(lab: MirrorLab) -> None:
    _prepare(lab, PREFIXES)
    with Middleman(lab.host, "192.168.101.2", "192.168.101.1") as middleman:
        mirror = lab.mirror(listener={"agents": [{"address": "192.168.101.2"}]})
        until(lambda: _mirrored(lab), sorted(PREFIXES))
        monitor = RouteMonitor(lab.dpu, lab.folder)
        before = mirror.listener.status()["agents"][0]["replays"]
        middleman.inject(*(route(prefix, kind=RTM_DELROUTE) for prefix in PREFIXES))
        mirror.agent.says(HELD)
        until(lambda: mirror.agent.status()["held"], {"withdrawals": 0, "reason": None})
        until(lambda: mirror.listener.status()["agents"][0]["replays"], before + 1)
        mirror.synced()
        assert monitor.lines() == []
        assert _mirrored(lab) == sorted(PREFIXES)


def test_a_producer_that_cannot_be_asked_confirms_by_reconnecting(lab: MirrorLab) -> None:
    _prepare(lab, [])
    agent = lab.agent(settle_time=0.3).ready()
    with Producer(lab.host) as host:
        host.send(*(route(prefix, "192.168.101.1") for prefix in PREFIXES))
        agent.says("replay complete")
        host.send(*(route(prefix, kind=RTM_DELROUTE) for prefix in PREFIXES[1:]))
        assert host.closed()
    agent.says(HELD)
    assert agent.status()["held"]["withdrawals"] == 149
    assert _mirrored(lab) == sorted(PREFIXES)
    assert agent.metric("ynl_mirror_held_withdrawals") == 149
    with Producer(lab.host) as host:
        host.send(route(PREFIXES[0], "192.168.101.1"), route("10.2.0.0/24", "192.168.101.1"))
        until(lambda: _mirrored(lab), [PREFIXES[0], "10.2.0.0/24"])
    assert agent.status()["held"]["withdrawals"] == 0


def test_held_routes_keep_the_next_hops_of_an_object_that_is_gone(lab: MirrorLab) -> None:
    _prepare(lab, [])
    agent = lab.agent(settle_time=0.3).ready()
    with Producer(lab.host) as host:
        host.send(nexthop(7, "192.168.101.1"), *(route_through(prefix, 7) for prefix in PREFIXES))
        agent.says("replay complete")
        host.send(*(route(prefix, kind=RTM_DELROUTE) for prefix in PREFIXES), nexthop_gone(7))
        assert host.closed()
    agent.says(HELD)
    assert _mirrored(lab) == sorted(PREFIXES)
    with Producer(lab.host) as host:
        host.send(nexthop(3, "192.168.101.1"), route_through(PREFIXES[0], 3))
        until(lambda: _mirrored(lab), PREFIXES[:1])


def test_a_host_that_never_confirms_is_obeyed_in_the_end(lab: MirrorLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_lab, "PROGRAM", (sys.executable, "-c", IMPATIENT))
    _prepare(lab, [])
    agent = lab.agent().ready()
    with Producer(lab.host) as host:
        host.send(*(route(prefix, "192.168.101.1") for prefix in PREFIXES), DONE)
        agent.says("replay complete")
        host.send(*(route(prefix, kind=RTM_DELROUTE) for prefix in PREFIXES[1:]))
        agent.says(HELD)
        until(lambda: _mirrored(lab), PREFIXES[:1])
    agent.says("held withdrawals not confirmed within 1 s; applying them: VRF b would lose ")
    assert agent.status()["held"] == {"withdrawals": 0, "reason": None}


def test_what_a_host_withdraws_just_before_it_leaves_is_withdrawn(lab: MirrorLab) -> None:
    _prepare(lab, [])
    agent = lab.agent(settle_time=0.3).ready()
    prefixes = [*PREFIXES, *(f"10.2.{number}.0/24" for number in range(100))]
    with Producer(lab.host) as host:
        host.send(*(route(prefix, "192.168.101.1") for prefix in prefixes))
        agent.says("replay complete")
        host.send(*(route(prefix, kind=RTM_DELROUTE) for prefix in prefixes[:110]))  # under half of them, over 100
    until(lambda: _mirrored(lab), sorted(prefixes[110:]))
    assert HELD not in agent.log()


def test_the_default_route_alone_is_held(lab: MirrorLab) -> None:
    lab.host.ip(f"route add default {TO_A}")
    rule = {"prefix": "0.0.0.0/0", "vrf": "a", "dev": "eth3", "via": "192.168.11.2"}
    mirror = lab.mirror(agent={"static": [rule], "inference": ["static"]})
    # Beside it are trap routes, for what the host does not send by its default route.
    until(lambda: "0.0.0.0/0" in _mirrored(lab), True)
    lab.host.ip("route del default")
    until(lambda: _mirrored(lab), [])
    mirror.agent.says(rf"{HELD}: VRF b would lose the default route, 1 of \d+ mirrored ipv4 routes at once")


def test_a_host_that_comes_back_with_nothing_is_asked_too(lab: MirrorLab) -> None:
    _prepare(lab, PREFIXES)
    mirror = lab.mirror()
    until(lambda: _mirrored(lab), sorted(PREFIXES))
    for daemon in (mirror.listener, mirror.agent):  # so the agent knows its routes by their protocol number alone
        daemon.end()
    batch(lab.host, *(f"route del {prefix}" for prefix in PREFIXES))
    mirror.agent.start().ready()
    mirror.listener.start().ready()
    until(lambda: _mirrored(lab), [])
    mirror.agent.says(HELD)
    mirror.agent.says("host confirmed the held withdrawals; applying them")


def test_what_goes_for_a_reason_on_the_dpu_is_not_held(lab: MirrorLab) -> None:
    _prepare(lab, PREFIXES)
    mirror = lab.mirror()
    until(lambda: _mirrored(lab), sorted(PREFIXES))
    lab.dpu.ip("link set eth3 down")
    until(lambda: _mirrored(lab), [])
    assert HELD not in mirror.agent.log()


def test_a_guard_that_is_off_holds_nothing(lab: MirrorLab) -> None:
    _prepare(lab, PREFIXES)
    mirror = lab.mirror(agent={"guard_share": 1})
    until(lambda: _mirrored(lab), sorted(PREFIXES))
    batch(lab.host, *(f"route del {prefix}" for prefix in PREFIXES))
    until(lambda: _mirrored(lab), [])
    mirror.synced()
    assert HELD not in mirror.agent.log()
    assert mirror.listener.status()["agents"][0]["replays"] == 1
