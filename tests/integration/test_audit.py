# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audits: silent drift is found, reported and repaired, and nothing else is changed.

Each test makes a state wrong behind the daemons' backs: a lost message, lost notifications of a kernel.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.audit import AUDIT
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import Prefix
from ansible_collections.ekho.ynl_mirror.tests.support.faults.deafen import deafen
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon, MirrorLab, batch
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    Consumer,
    Message,
    Producer,
    route,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers.middleman import Middleman
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

OFTEN = {"audit_interval": 0.3}
SELDOM = {"audit_interval": 0}
TO_A = "via 192.168.101.1"
EGRESS = "via 192.168.11.2 dev eth3"
BUCKETS = 17


def _prefixes(count: int) -> list[str]:
    return [f"10.1.{number >> 2}.{number % 4 * 64}/26" for number in range(count)]


def _prepare(lab: MirrorLab) -> None:
    """An egress of VRF a for the routes of the host."""
    lab.dpu.ip(f"route add 10.0.0.0/8 {EGRESS} table 10")


def _mirrored(lab: MirrorLab) -> list[str]:
    return [line.split()[0] for line in lab.mirrored()["b"] if line.startswith("10.")]


def _audit(daemon: Daemon) -> dict[str, Any]:
    told: dict[str, Any] = daemon.status()["audit"]
    return told


def _rounds(daemon: Daemon, kind: str, more: int = 2) -> None:
    """Wait until *more* further audits have ended."""
    wanted = _audit(daemon)["rounds"][kind] + more
    until(lambda: _audit(daemon)["rounds"][kind] >= wanted, True)


class _Loses:
    """Loses the first message of some kind about each of some prefixes."""

    def __init__(self, *which: tuple[int, str]) -> None:
        self.left = set(which)

    def __call__(self, message: Message) -> bool:
        which = (message.kind, message.prefix)
        found = which in self.left
        self.left.discard(which)
        return found


def test_what_was_lost_on_the_way_is_found_by_the_buckets_that_differ(lab: MirrorLab) -> None:
    _prepare(lab)
    prefixes = _prefixes(600)
    batch(lab.host, *(f"route add {prefix} {TO_A}" for prefix in prefixes))
    new, gone, moved = "10.2.0.0/26", prefixes[100], prefixes[333]
    buckets = {Prefix.parse(prefix).key % BUCKETS for prefix in (new, gone, moved)}
    assert len(buckets) == 3
    with Middleman(lab.host, "192.168.101.2", "192.168.101.1") as middleman:
        mirror = lab.mirror(agent=OFTEN, listener={"agents": [{"address": "192.168.101.2"}], **SELDOM})
        until(lambda: sorted(_mirrored(lab)), sorted(prefixes))
        middleman.loses = loses = _Loses((RTM_NEWROUTE, new), (RTM_DELROUTE, gone), (RTM_NEWROUTE, moved))
        middleman.passed.clear()
        batch(lab.host, f"route add {new} {TO_A}", f"route del {gone}")
        lab.host.ip(f"route replace {moved} via 192.168.102.1")
        until(lambda: (loses.left, _audit(mirror.agent)["drift"]["wire"]), (set(), 3))
        mirror.synced()
        wanted = {*prefixes, new} - {gone, moved}  # the one that moved has no egress in VRF b
        until(lambda: sorted(_mirrored(lab)), sorted(wanted))
        assert mirror.agent.state(moved)[0] == "slow_path"
        _rounds(mirror.agent, "wire")
        told = _audit(mirror.agent)
        assert told["buckets_transferred"] == len(buckets)
        assert told["buckets_compared"] > 2 * BUCKETS
        # A bucket of 17 has some 35 of the 600 routes.
        assert len([message for message in middleman.passed if message.kind == RTM_NEWROUTE]) < 150
        for prefix, wrong in ((new, "missing"), (gone, "stale"), (moved, "different")):
            mirror.agent.says(f"wire audit: .*{prefix} {wrong}")
        assert mirror.agent.metric("ynl_mirror_audit_drift_routes_total", audit="wire") == 3
        assert mirror.agent.status()["hosts"][0]["wire_audit"] == "running"


def test_nothing_is_compared_while_the_route_limit_is_reached_and_all_is_below_it(lab: MirrorLab) -> None:
    """Routes over the limit of a host are not stored: they are missing, but no drift."""
    _prepare(lab)
    batch(lab.host, *(f"route add 10.{n // 200}.{n % 200}.0/24 {TO_A}" for n in range(16600)))
    mirror = lab.mirror(agent={"hosts": [{"name": "192.168.101.2", "routes": 10}], **OFTEN}, listener=SELDOM)

    def suspended() -> tuple[bool, str]:
        (host,) = mirror.agent.status()["hosts"] or [{"wire_audit": "no host"}]
        return bool(host.get("routes_over_limit")), host["wire_audit"]

    until(suspended, (True, "suspended: route limit reached"))
    compared = _audit(mirror.agent)["buckets_compared"]
    _rounds(mirror.agent, "wire")
    told = _audit(mirror.agent)
    assert told["buckets_compared"] > compared  # the listener is asked, so that it shows when there is room again
    assert (told["buckets_transferred"], told["drift"]["wire"]) == (0, 0)
    known = {prefix for prefix in mirror.agent.routes() if prefix.startswith("10.")}
    batch(lab.host, *(f"route del {prefix}" for prefix in known))
    until(suspended, (False, "running"))
    _rounds(mirror.agent, "wire")
    told = _audit(mirror.agent)
    assert (told["buckets_transferred"], told["drift"]["wire"]) == (0, 0)
    assert mirror.agent.status()["announced_routes"] == mirror.listener.status()["routes"]


def test_routes_that_come_and_go_all_the_time_are_no_drift(lab: MirrorLab) -> None:
    _prepare(lab)
    prefixes = _prefixes(600)
    batch(lab.host, *(f"route add {prefix} {TO_A}" for prefix in prefixes))
    mirror = lab.mirror(agent=OFTEN, listener=OFTEN)
    churn = lab.folder / "churn"
    churn.write_text(
        "".join(f"route del {p}\nroute add {p} {TO_A}\nroute replace {p} {TO_A} mtu 1400\n" for p in prefixes)
    )
    busy = lab.host.start("sh", "-c", f"while ip -force -batch {churn}; do :; done")
    try:
        for daemon, kind in ((mirror.agent, "wire"), (mirror.agent, "fib"), (mirror.listener, "replica")):
            _rounds(daemon, kind, 3)
        before = mirror.listener.status()["agents"][0]["updates_sent"]
        until(lambda: mirror.listener.status()["agents"][0]["updates_sent"] > before, True)  # it is busy still
    finally:
        busy.kill()
        busy.wait()
    for daemon in (mirror.agent, mirror.listener):
        assert set(_audit(daemon)["drift"].values()) == {0}, _audit(daemon)["last_drift"]
        assert "Traceback" not in daemon.log()


def test_an_announced_route_whose_notification_was_lost_is_found_in_the_hosts_kernel(lab: MirrorLab) -> None:
    _prepare(lab)
    prefixes = _prefixes(8)
    batch(lab.host, *(f"route add {prefix} {TO_A}" for prefix in prefixes[:6]))
    mirror = lab.mirror(agent=SELDOM, listener=OFTEN)
    deafen(mirror.listener)
    batch(lab.host, *(f"route add {prefix} {TO_A}" for prefix in prefixes[6:]), f"route del {prefixes[0]}")
    until(lambda: sorted(_mirrored(lab)), sorted(prefixes[1:]))
    mirror.listener.says(f"replica audit: .*{prefixes[0]} stale")
    mirror.listener.says(f"replica audit: .*{prefixes[7]} missing")
    assert _audit(mirror.listener)["drift"]["replica"] == 3
    _rounds(mirror.listener, "replica")
    assert _audit(mirror.listener)["drift"]["replica"] == 3  # found once, right from then on


def test_a_mirrored_route_that_was_deleted_unheard_is_back(lab: MirrorLab) -> None:
    _prepare(lab)
    prefixes = _prefixes(6)
    batch(lab.host, *(f"route add {prefix} {TO_A}" for prefix in prefixes))
    mirror = lab.mirror(agent=OFTEN, listener=SELDOM)
    others = lab.others()
    deafen(mirror.agent)
    lab.dpu.ip(f"route del {prefixes[2]} table 20 proto 121")
    lab.dpu.ip(f"route add 10.9.0.0/16 {EGRESS} table 20 proto 121")
    until(lambda: sorted(_mirrored(lab)), sorted(prefixes))
    mirror.agent.says(f"FIB audit: .*{prefixes[2]} missing")
    mirror.agent.says("FIB audit: .*10.9.0.0/16 stale")
    _rounds(mirror.agent, "fib")
    assert _audit(mirror.agent)["drift"] == {"replica": 0, "wire": 0, "fib": 2}
    assert lab.others() == others


def test_an_egress_that_changed_unheard_is_found_in_the_dpus_kernel(lab: MirrorLab) -> None:
    _prepare(lab)
    (prefix,) = _prefixes(1)
    lab.host.ip(f"route add {prefix} {TO_A}")
    mirror = lab.mirror(agent=OFTEN, listener=SELDOM)
    until(lambda: lab.mirrored()["b"], [f"{prefix} {EGRESS}"])
    deafen(mirror.agent)
    lab.dpu.ip("route replace 10.0.0.0/8 via 192.168.11.3 dev eth3 table 10")
    until(lambda: lab.mirrored()["b"], [f"{prefix} via 192.168.11.3 dev eth3"])
    mirror.agent.says("replica audit: 1 ipv4 routes of table 10 .*10.0.0.0/8 different")


def test_a_foreign_consumer_never_sees_the_audit(lab: MirrorLab) -> None:
    lab.deploy()
    consumer = Consumer(lab.dpu, "192.168.101.1")
    listener = lab.listener(**OFTEN).ready()
    with consumer.accept() as stream:
        _rounds(listener, "replica", 3)
        lab.host.ip(f"route add 10.5.0.0/16 {TO_A}")
        seen = []
        for message in stream.read():
            seen.append(message)
            if message.prefix == "10.5.0.0/16":
                break
    consumer.close()
    assert AUDIT not in {message.kind for message in seen}


@pytest.mark.parametrize("end", [(), (DONE,)], ids=["without an end", "with an end"])
def test_a_producer_that_knows_no_audit_works_without_it(lab: MirrorLab, end: tuple[bytes, ...]) -> None:
    _prepare(lab)
    agent = lab.agent(settle_time=0.2, **OFTEN).ready()
    with Producer(lab.host) as host:
        host.send(route("10.1.0.0/24", "192.168.101.1"), *end)
        agent.says("replay complete")
        _rounds(agent, "fib", 4)
        host.send(route("10.2.0.0/24", "192.168.101.1"))
        seen = []
        for message in host.read():
            seen.append(message)
            if message.prefix == "10.2.0.0/24":
                break
        assert sum(message.kind == AUDIT for message in seen) == len(end)  # asked once, where it may be one of ours
        told = agent.status()["hosts"][0]["wire_audit"]
        assert told == ("the listener does not answer" if end else "not started")
        until(lambda: sorted(_mirrored(lab)), ["10.1.0.0/24", "10.2.0.0/24"])
