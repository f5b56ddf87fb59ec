# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vrf_route and vrf_info as Ansible runs them: packed, shipped and started in a namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import MACHINE_PYTHON
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router

pytestmark = pytest.mark.controller

MANY = 100_000


class Controller:
    """Plays tasks on a namespace with ansible-playbook and returns their results."""

    def __init__(self, router: Router, folder: Path) -> None:
        self.router = router
        self.folder = folder
        self.python = MACHINE_PYTHON

    def play(self, *tasks: dict[str, Any]) -> list[dict[str, Any]]:
        """Play tasks such as ``{"vrf_route": {...}, "check_mode": True}``; a failure does not stop the next one."""
        results = self.folder / "results.json"
        plays = [
            {
                "hosts": "all",
                "gather_facts": False,
                "tasks": [
                    *({**_named(task), "register": f"r{n}", "ignore_errors": True} for n, task in enumerate(tasks)),
                    {
                        "ansible.builtin.copy": {
                            "dest": str(results),
                            "content": "{{ [" + ", ".join(f"r{n}" for n in range(len(tasks))) + "] | to_json }}",
                        }
                    },
                ],
            }
        ]
        playbook, inventory = self.folder / "playbook.json", self.folder / "inventory.json"
        playbook.write_text(json.dumps(plays))
        variables = {
            "ansible_connection": "ekho.ynl_mirror.netns",
            "ansible_host": self.router.namespace.name,
            "ansible_python_interpreter": self.python,
        }
        inventory.write_text(json.dumps({"all": {"hosts": {"router": variables}}}))
        program = Path(sys.executable).parent / "ansible-playbook"
        done = subprocess.run(
            [str(program), "-i", str(inventory), "--diff", str(playbook)],
            env={**os.environ, "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        found = json.loads(results.read_text())
        assert isinstance(found, list)
        return found

    def messages(self, module: str, cases: dict[str, dict[str, Any]]) -> dict[str, str]:
        """The message that each case (part of it -> arguments) fails with; every case has to fail."""
        results = self.play(*({module: arguments} for arguments in cases.values()))
        assert all(result["failed"] for result in results)
        return dict(zip(cases, (result["msg"] for result in results)))


def _named(task: dict[str, Any]) -> dict[str, Any]:
    return {f"ekho.ynl_mirror.{name}" if name.startswith("vrf_") else name: value for name, value in task.items()}


@pytest.fixture
def controller(namespaces: NamespaceFactory, tmp_path: Path) -> Controller:
    return Controller(Router.make(namespaces("router")), tmp_path)


def test_a_single_route_may_be_given_by_options_of_the_task(controller: Controller) -> None:
    task = {"vrf_route": {"table": 10, "dst": "10.0.0.0/8", "gateway": "192.0.2.2", "metric": "{{ 4 + 1 }}"}}
    predicted, result, again = controller.play({**task, "check_mode": True}, task, task)
    for one in (predicted, result):
        assert one["changed"]
        assert one["commands"] == ["ip route add 10.0.0.0/8 via 192.0.2.2 proto 121 metric 5 table 10"]
    assert predicted["diff"]["after"] == "10.0.0.0/8 via 192.0.2.2 proto 121 metric 5\n"
    assert result["diff"]["after"] == "10.0.0.0/8 via 192.0.2.2 dev eth1 proto 121 metric 5\n"
    assert result["after"] == [
        {"dst": "10.0.0.0/8", "type": "unicast", "gateway": "192.0.2.2", "dev": "eth1", "metric": 5}
    ]
    assert not again["changed"]
    assert controller.router.show() == ["10.0.0.0/8 via 192.0.2.2 dev eth1 proto 121 metric 5"]


ERRORS: dict[str, dict[str, Any]] = {
    "routes[0] (10.0.0.1/8): host bits are set": {"table": 10, "routes": [{"dst": "10.0.0.1/8"}]},
    "did you mean 'gateway'?": {"table": 10, "routes": [{"dst": "10.0.0.0/8", "gatway": "x"}]},
    "gateway describes a single route, which needs dst": {"table": 10, "gateway": "192.0.2.2"},
    "state merged needs routes, routes_file, or dst": {"table": 10},
    "state gathered reads all routes": {"table": 10, "state": "gathered", "routes": []},
    "mutually exclusive: routes|dst": {"table": 10, "routes": [], "dst": "10.0.0.0/8"},
    "mutually exclusive: vrf|table": {"table": 10, "vrf": "red", "routes": []},
    "one of the following is required: vrf, table": {"routes": []},
    "/no/such/file cannot be read: No such file": {"table": 10, "routes_file": "/no/such/file"},
    "/etc/hostname is not JSON": {"table": 10, "routes_file": "/etc/hostname"},
    "/dev/zero is not a regular file": {"table": 10, "routes_file": "/dev/zero"},
    "vrf: no VRF named 'red'": {"vrf": "red", "state": "gathered"},
}


def test_an_invalid_task_of_vrf_route_says_what_is_wrong(controller: Controller) -> None:
    for part, message in controller.messages("vrf_route", ERRORS).items():
        assert part in message


def test_the_machine_needs_no_python_library(controller: Controller, tmp_path: Path) -> None:
    (tmp_path / "pyroute2.py").write_text("raise ImportError('not for this test')\n")
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {MACHINE_PYTHON} "$@"\n')
    wrapper.chmod(0o755)
    controller.python = str(wrapper)
    for result in controller.play({"vrf_route": {"table": 10, "state": "gathered"}}, {"vrf_info": {}}):
        assert not result.get("failed"), result["msg"]


def test_continue_on_error_succeeds_with_a_warning(controller: Controller) -> None:
    routes = [{"dst": "10.0.0.0/8", "dev": "eth1"}, {"dst": "11.0.0.0/8", "gateway": "203.0.113.9"}]
    [result] = controller.play({"vrf_route": {"table": 10, "continue_on_error": True, "routes": routes}})
    assert result["changed"]
    assert not result["failed"]
    assert "routes[1] (11.0.0.0/8): Nexthop has invalid gateway" in result["warnings"][0]
    assert result["failed_routes"][0]["route"]["dst"] == "11.0.0.0/8"


@pytest.mark.timeout(300)
def test_a_hundred_thousand_routes_in_seconds(controller: Controller, tmp_path: Path) -> None:
    routes = [{"dst": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "gateway": "192.0.2.2"} for n in range(MANY)]
    path, empty = tmp_path / "routes.json", tmp_path / "empty.json"
    path.write_text(json.dumps(routes))
    empty.write_text("[]")
    task = {"table": 10, "state": "overridden", "return_routes": False}
    started = os.times()
    results = controller.play(*({"vrf_route": {**task, "routes_file": str(name)}} for name in (path, path, empty)))
    ended = os.times()
    stats = [result["stats"] for result in results]
    assert [(s["added"], s["unchanged"], s["deleted"]) for s in stats] == [(MANY, 0, 0), (0, MANY, 0), (0, 0, MANY)]
    assert [result["changed"] for result in results] == [True, False, True]
    # CPU time, Ansible's included, does not depend on what else runs: some 7 s.
    spent = ended.children_user + ended.children_system - started.children_user - started.children_system
    assert spent < 20


def test_vrf_info_returns_vrfs_links_addresses_rules_and_routes(controller: Controller) -> None:
    namespace = controller.router.namespace
    namespace.ip("rule add iif eth2 lookup 20 priority 1000")
    namespace.ip("route add 10.0.0.0/8 via 192.0.2.2 table 10 proto static")
    namespace.ip("link set eth2 down")
    vrfs = {"a": {"table": 10, "links": ["eth1"]}, "b": {"table": 20}}
    [facts] = controller.play({"vrf_info": {"vrfs": vrfs}})
    assert not facts["changed"]
    assert facts["vrfs"] == [
        {"name": "a", "table": 10, "links": ["eth1"], "device": False},
        {"name": "b", "table": 20, "links": ["eth2"], "device": False},
    ]
    links = {link["name"]: link for link in facts["links"]}
    assert (links["eth1"]["vrf"], links["eth1"]["carrier"], links["eth1"]["kind"]) == ("a", True, "veth")
    assert (links["eth2"]["vrf"], links["eth2"]["up"]) == ("b", False)
    assert {"address": "192.0.2.1", "prefix_length": 24, "family": "ipv4", "link": "eth1", "vrf": "a"} in facts[
        "addresses"
    ]
    assert {"family": "ipv4", "priority": 1000, "table": 20, "iif": "eth2", "source": None, "l3mdev": False} in facts[
        "rules"
    ]
    assert [route for route in facts["routes"] if route["vrf"] == "a"] == [
        {
            "dst": "10.0.0.0/8",
            "type": "unicast",
            "gateway": "192.0.2.2",
            "dev": "eth1",
            "metric": 0,
            "family": "ipv4",
            "table": 10,
            "vrf": "a",
            "protocol": "static",
        }
    ]


INFO_ERRORS: dict[str, dict[str, Any]] = {
    "vrfs.a.links: no link 'eth9' on this machine; choose from: ": {"vrfs": {"a": {"table": 10, "links": ["eth9"]}}},
    "vrfs.a.table: missing": {"vrfs": {"a": {"links": []}}},
    "vrfs.a.link: unknown field": {"vrfs": {"a": {"table": 10, "link": []}}},
    "tables[0]: no number for 'mian'": {"tables": ["mian"]},
    "protocols[0]: expected a whole number": {"protocols": ["300"]},
}


def test_an_invalid_option_of_vrf_info_is_named(controller: Controller) -> None:
    for part, message in controller.messages("vrf_info", INFO_ERRORS).items():
        assert part in message
