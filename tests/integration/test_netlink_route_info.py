# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""netlink_route_info in a namespace: the routes that the kernel uses, and the events of a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.names import read_names
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf import route_info
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router

pytestmark = pytest.mark.controller

MODULE = "ansible_collections.ekho.ynl_mirror.plugins.modules.netlink_route_info"


@pytest.fixture
def router(namespaces: NamespaceFactory) -> Router:
    return Router.make(namespaces("router"))


def run_module(namespace: Namespace, folder: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    """The module's result, run as Ansible runs it but without Ansible's start-up time."""
    arguments = folder / "arguments.json"
    ansible = {"_ansible_check_mode": check, "_ansible_remote_tmp": str(folder)}
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {**options, **ansible}}))
    done = subprocess.run(
        ["ip", "netns", "exec", namespace.name, sys.executable, "-m", MODULE, str(arguments)],
        env={**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def gather(namespace: Namespace, **options: Any) -> dict[str, Any]:
    """The same within this process."""
    with namespace.entered():
        return route_info.gather(route_info.Question.from_dict(options, read_names()))


def test_of_several_routes_the_one_that_the_kernel_uses_is_returned(router: Router) -> None:
    ns = router.namespace
    ns.ip("route add 10.9.0.0/16 via 192.0.2.9 metric 20 proto static")
    ns.ip("route add 10.9.0.0/16 via 192.0.2.8 metric 10 proto static")
    ns.ip("route add 10.9.0.0/16 via 192.0.2.7 tos 8 proto static")
    ns.ip("route add blackhole 203.0.113.0/24 proto bgp")
    result = gather(ns, families=["ipv4"])
    assert list(result) == ["routes"]
    assert [(route["dst"], route["protocol"]) for route in result["routes"]] == [
        ("10.9.0.0/16", "static"),
        ("192.0.2.0/24", "kernel"),
        ("198.51.100.0/24", "kernel"),
        ("203.0.113.0/24", "bgp"),
    ]
    assert result["routes"][0] == {
        "dst": "10.9.0.0/16",
        "type": "unicast",
        "gateway": "192.0.2.8",
        "dev": "eth1",
        "metric": 10,
        "family": "ipv4",
        "table": 254,
        "protocol": "static",
    }


def test_tables_families_and_filters_select(router: Router) -> None:
    ns = router.namespace
    ns.ip("route add 10.9.0.0/16 via 192.0.2.9 proto static")
    ns.ip("route add 10.0.0.0/8 dev eth1 table 100 proto static")
    ns.ip("-6 route add fd00:9::/32 dev eth2 table 100 proto static")
    static = {"filters": {"protocols": ["static"]}}
    found = gather(ns, tables=["main", 100], **static)["routes"]
    assert [(route["dst"], route["table"]) for route in found] == [
        ("10.9.0.0/16", 254),
        ("10.0.0.0/8", 100),
        ("fd00:9::/32", 100),
    ]
    found = gather(ns, tables=[100], families=["ipv6"], **static)["routes"]
    assert [route["dst"] for route in found] == ["fd00:9::/32"]
    found = gather(ns, tables=[100], filters={"interfaces": ["eth2"], "exclude_prefixes": ["10.0.0.0/8"]})["routes"]
    assert [route["dst"] for route in found] == ["fd00:9::/32"]
    assert gather(ns, tables=[77])["routes"] == []


CASES: dict[str, dict[str, Any]] = {
    "tables[0]: no number for 'mian'": {"tables": ["mian"]},
    "tables: empty; list at least one table": {"tables": []},
    "families: empty; list ipv4, ipv6 or both": {"families": []},
    "filters.prefixes[0]: '10.0.0.1/8' has host bits set": {"filters": {"prefixes": ["10.0.0.1/8"]}},
    "duration: expected a number from 0.001 to 86400, got 0": {"duration": 0},
    "max_events: expected a whole number from 1 to": {"duration": 1, "max_events": 0},
    "receive_buffer: expected a whole number from 4096 to": {"duration": 1, "receive_buffer": 1},
}


@pytest.mark.parametrize(("message", "options"), CASES.items())
def test_an_invalid_option_is_named(netns: Namespace, tmp_path: Path, message: str, options: dict[str, Any]) -> None:
    result = run_module(netns, tmp_path, **options)
    assert result["failed"]
    assert message in result["msg"]


def test_events_are_captured_until_enough_are_there(netns: Namespace, tmp_path: Path) -> None:
    netns.ip("link set lo up")
    one, other = "198.51.100.0/24 dev lo", "10.0.0.0/8 dev lo"
    turn = f"ip route add {one} proto static; ip route del {one}; ip route add {other}; ip route del {other}"
    changes = netns.start("sh", "-c", f"while sleep 0.1; do {turn}; done")
    options = {"duration": 30, "filters": {"protocols": ["static"]}, "max_events": 4}
    result = run_module(netns, tmp_path, check=True, **options)
    changes.terminate()
    assert (result["changed"], result["complete"]) == (False, False)
    assert len(result["events"]) == 4
    assert {event["event"] for event in result["events"]} == {"added", "deleted"}
    assert {event["dst"] for event in result["events"]} == {"198.51.100.0/24"}
    times = [event["time"] for event in result["events"]]
    assert times == sorted(times)
    assert times[-1] < 30


def test_a_capture_without_events_lasts_for_its_duration_and_is_complete(netns: Namespace) -> None:
    started = os.times().elapsed
    result = gather(netns, duration=0.2, tables=[77])
    assert result == {"routes": [], "events": [], "complete": True}
    assert os.times().elapsed - started >= 0.19


@pytest.fixture
def changes_in_between(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands of ip(8) to run after the routes have been read and before the capture begins."""
    commands: list[str] = []
    read = route_info._read

    def read_then_change(question: route_info.Question) -> Any:
        result = read(question)
        for command in commands:
            router.namespace.ip(command)
        return result

    monkeypatch.setattr(route_info, "_read", read_then_change)
    return commands


def test_each_kind_of_change_is_an_event_and_none_is_lost_after_the_routes_were_read(
    router: Router, changes_in_between: list[str]
) -> None:
    changes_in_between += [
        "route add 10.9.0.0/16 via 192.0.2.9",
        "route replace 10.9.0.0/16 via 192.0.2.8",
        "route append 10.9.0.0/16 via 192.0.2.7",
        "route delete 10.9.0.0/16 via 192.0.2.8",
    ]
    result = gather(router.namespace, duration=0.1, families=["ipv4"])
    assert [route["dst"] for route in result["routes"]] == ["192.0.2.0/24", "198.51.100.0/24"]
    assert [(event["event"], event["gateway"]) for event in result["events"]] == [
        ("added", "192.0.2.9"),
        ("replaced", "192.0.2.8"),
        ("appended", "192.0.2.7"),
        ("deleted", "192.0.2.8"),
    ]
    assert result["complete"]


def test_events_that_the_kernel_has_dropped_are_reported_as_an_overrun(
    router: Router, changes_in_between: list[str]
) -> None:
    changes_in_between += [f"route add 10.{n}.0.0/16 dev eth1" for n in range(40)]
    result = gather(router.namespace, duration=0.1, families=["ipv4"], receive_buffer=4096)
    assert "overrun" in [event["event"] for event in result["events"]]
    assert len(result["events"]) < 40
    assert not result["complete"]
