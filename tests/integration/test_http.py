# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and programs ask the running daemons: HTTP on TCP and on the control socket, and the command."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import MANUAL, NOTHING, OFFLOADED, Daemon, MirrorLab
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

HTTP = {"address": "127.0.0.1", "port": 4321}
OPEN = {**HTTP, "allow_changes": True}
#: As the proof of concept posts it: a route of VRF b's table by a link.
ROUTE = {"rtm-family": 2, "rtm-table": 20, "rtm-dst-len": 24, "rta-dst": "10.1.2.0", "rtm-type": "unicast"}


class _Inside(http.client.HTTPConnection):
    """A connection made inside a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__("127.0.0.1", 4321, timeout=10)
        self._namespace = namespace

    def connect(self) -> None:
        """Connect in there."""
        with self._namespace.entered():
            self.sock = socket.create_connection((self.host, self.port), self.timeout)


def _ask(namespace: Namespace, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a request over TCP."""
    connection = _Inside(namespace)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _index(lab: MirrorLab, link: str) -> int:
    return int(lab.dpu.ip_json(f"link show {link}")[0]["ifindex"])


# -- asking


def test_health_and_status_show_that_the_daemons_work(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror(agent={"http": HTTP}, listener={"http": HTTP})
    assert _ask(lab.dpu, "GET", "/healthz") == (200, {"ready": True, "name": "agent"})
    assert _ask(lab.host, "GET", "/healthz") == (200, {"ready": True, "name": "listener"})
    _status, agent = _ask(lab.dpu, "GET", "/status")
    assert agent["vrfs"] == [
        {"vrf": "a", "table": 10, "links": ["eth1", "eth3"], "routes": 2},
        {"vrf": "b", "table": 20, "links": ["eth2", "eth4"], "routes": 2},
    ]
    assert (agent["offloaded"], agent["failed"], agent["host_links"]) == (4, 0, ["eth1", "eth2"])
    assert [(host["host"], host["replay"]) for host in agent["hosts"]] == [("192.168.101.2", "complete")]
    # The kernel's own routes (fe80::/64) may come late.
    listener = until(lambda: _ask(lab.host, "GET", "/status")[1], lambda told: not told["agents"][0]["pending"])
    (told,) = listener["agents"]
    assert (told["connected"], told["offloaded"], told["failed"]) == (True, 4, 0)
    assert told["offloaded"] + told["slow_path"] == listener["routes"]
    assert listener["receive_buffer"] == 128 * 1024 * 1024
    # The control socket is for root and its group.
    assert stat.S_IMODE(os.stat(mirror.agent.socket).st_mode) == 0o660


def test_metrics_count_routes_writes_hosts_and_agents(lab: MirrorLab) -> None:
    mirror = lab.mirror()
    lab.deploy()
    until(lab.mirrored, OFFLOADED)
    mirror.synced()
    agent, listener = mirror.agent, mirror.listener
    assert agent.metric("ynl_mirror_vrf_routes", vrf="b", family="ipv6") == 1
    assert agent.metric("ynl_mirror_routes", state="offloaded") == 4
    assert agent.metric("ynl_mirror_route_writes_total", operation="added") == 4
    assert agent.metric("ynl_mirror_hosts_connected") == 1
    assert listener.metric("ynl_mirror_agent_up", agent="192.168.101.1:2620") == 1
    assert listener.metric("ynl_mirror_agent_routes", state="offloaded") == 4
    assert listener.metric("ynl_mirror_table_routes", family="ipv4", table="main") == 4  # two of them connected
    assert listener.metric("ynl_mirror_netlink_notifications_total") >= 4
    assert agent.metric("process_resident_memory_bytes") > 1_000_000
    lab.withdraw()
    until(lab.mirrored, NOTHING)
    until(lambda: agent.metric("ynl_mirror_route_writes_total", operation="deleted"), 4.0)
    agent.end()
    until(lambda: listener.metric("ynl_mirror_agent_up"), 0.0)


def test_routes_are_found_by_state_and_prefix(lab: MirrorLab) -> None:
    lab.deploy()
    refused = {"prefix": "192.168.11.0/24", "vrf": "a", "dev": "eth3", "via": "192.168.11.1"}  # the DPU itself
    mirror = lab.mirror(agent={"http": HTTP, "static": [refused]})
    installed = {"192.168.12.0/24", "fd00:11::/64", "fd00:12::/64"}
    assert set(mirror.agent.routes(state="offloaded")) == set(mirror.listener.routes(state="offloaded")) == installed
    assert (
        set(mirror.agent.routes(state="failed")) == set(mirror.listener.routes(state="failed")) == {"192.168.11.0/24"}
    )
    assert set(mirror.agent.routes(state="slow_path")) == set(mirror.listener.routes(state="slow_path")) != set()
    route = mirror.agent.routes(prefix="fd00:11::/64")["fd00:11::/64"]
    place = {"vrf": "b", "table": "20", "nexthops": [{"dev": "eth3"}], "protocol": "ynl_mirror", "metric": 1024}
    assert route["installed"] == [place]
    assert _ask(lab.dpu, "GET", "/explain?prefix=192.168.11.1/24") == (
        400,
        {"error": "'192.168.11.1/24' has host bits set; did you mean 192.168.11.0/24?"},
    )
    status, answer = _ask(lab.dpu, "GET", "/routes?state=ofloaded")
    assert (status, "did you mean 'offloaded'" in answer["error"]) == (400, True)


def test_the_dpus_routes_in_the_names_of_the_kernels_spec(lab: MirrorLab) -> None:
    lab.deploy()
    lab.mirror(agent={"http": HTTP})
    status, routes = _ask(lab.dpu, "GET", "/route")
    assert status == 200
    found = [route for route in routes if route["rtm-protocol"] == 121 and route.get("rta-dst") == "192.168.11.0"]
    assert found == [
        {
            "rtm-family": 2,
            "rtm-dst-len": 24,
            "rtm-src-len": 0,
            "rtm-tos": 0,
            "rtm-table": 20,
            "rtm-protocol": 121,
            "rtm-scope": 253,
            "rtm-type": "unicast",
            "rtm-flags": 0,
            "rta-table": 20,
            "rta-dst": "192.168.11.0",
            "rta-oif": _index(lab, "eth3"),
        }
    ]
    assert {10, 20} <= {route["rta-table"] for route in routes}


# -- changing


def test_one_route_is_posted_and_taken_back(lab: MirrorLab) -> None:
    lab.agent(http=OPEN).ready()
    before = lab.others()
    route = {**ROUTE, "rta-oif": _index(lab, "eth3")}
    assert _ask(lab.dpu, "POST", "/route/add", route)[0] == 200
    assert lab.mirrored(MANUAL)["b"] == ["10.1.2.0/24 dev eth3"]
    status, answer = _ask(lab.dpu, "POST", "/route/add", route)
    assert (status, "File exists" in answer["error"]) == (409, True)
    assert _ask(lab.dpu, "POST", "/route/del", route)[0] == 200
    assert lab.others() == before
    status, answer = _ask(lab.dpu, "POST", "/route/del", route)
    assert (status, "No such process" in answer["error"]) == (409, True)


def test_a_posted_route_survives_the_mirrors_sweeps(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    mirror.agent.client.post("/route/add", {**ROUTE, "rta-oif": _index(lab, "eth3")})
    mirror.agent.end(signal.SIGKILL)
    lab.withdraw()
    mirror.agent.start()
    until(lab.mirrored, NOTHING)
    assert lab.mirrored(MANUAL)["b"] == ["10.1.2.0/24 dev eth3"]


def test_without_allow_changes_tcp_may_only_read(lab: MirrorLab) -> None:
    agent = lab.agent(http=HTTP).ready()
    before = lab.others()
    route = {**ROUTE, "rta-oif": _index(lab, "eth3")}
    for path in ("/route/add", "/route/del"):
        status, answer = _ask(lab.dpu, "POST", path, route)
        assert (status, "http.allow_changes" in answer["error"]) == (403, True)
    assert lab.others() == before
    agent.client.post("/route/add", route)  # the control socket is guarded by its mode
    assert lab.mirrored(MANUAL)["b"] == ["10.1.2.0/24 dev eth3"]


@pytest.mark.parametrize("protocol", [4, 99, 121])
def test_del_takes_nobody_elses_route(lab: MirrorLab, protocol: int) -> None:
    lab.dpu.ip(f"route add 10.1.2.0/24 dev eth3 table 20 proto {protocol}")
    lab.agent(http=OPEN).ready()
    before = lab.dpu.ip("-N route show table 20")
    claim = {**ROUTE, "rta-oif": _index(lab, "eth3"), "rtm-protocol": protocol}
    assert _ask(lab.dpu, "POST", "/route/del", claim)[0] == 409
    assert lab.dpu.ip("-N route show table 20") == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rta-dst": "10.1.2.1"}, "has host bits set"),
        ({"rta-oif": 4711}, "No such device"),
        ({"rta-gateway": "fd00::1"}, "is not of the route's family"),
        ({"rtm-dst-len": 33}, "rtm-dst-len"),
        ({"rta-gatway": "192.168.11.2"}, "rta-gateway"),
        ({"rtm-type": "unicorn"}, "unicast"),
    ],
)
def test_a_faulty_route_is_refused_by_name(lab: MirrorLab, change: dict[str, Any], complaint: str) -> None:
    agent = lab.agent(http=OPEN).ready()
    before = lab.others()
    status, answer = _ask(lab.dpu, "POST", "/route/add", {**ROUTE, "rta-oif": _index(lab, "eth3"), **change})
    assert status in (400, 409)
    assert complaint in answer["error"]
    assert lab.others() == before
    assert "Traceback" not in agent.log()


# -- the command


def test_the_command_asks_running_daemons(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    status = mirror.agent.command("status")
    assert (status.returncode, status.stderr) == (0, "")
    assert "    vrf b table 20 links eth2,eth4 routes 2\n" in status.stdout
    as_json = json.loads(mirror.listener.command("status", "--json").stdout)
    assert as_json["agents"][0]["offloaded"] == 4

    routes = mirror.agent.command("routes", "--state", "offloaded")
    assert routes.returncode == 0
    first = "192.168.11.0/24 announced via 192.168.101.1 proto boot offloaded\n    vrf b dev eth3 proto ynl_mirror\n"
    assert first in routes.stdout
    lines = mirror.listener.command("routes", "--prefix", "fd00:12::/64", "--json").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["offloaded"]

    told = mirror.agent.command("explain", "192.168.11.0/24")
    assert told.returncode == 0
    assert "\n  1. the host announced 192.168.11.0/24 via 192.168.101.1 proto boot\n  2. VRF a: " in told.stdout
    assert ". nexthop: gateway 192.168.101.1 is on eth1 in VRF a (table 10)\n" in told.stdout
    told = mirror.listener.command("explain", "192.168.101.0/24")
    assert (told.returncode, "connected route of the host: no gateway" in told.stdout) == (1, True)
    assert mirror.listener.command("explain", "10.99.0.0/16", "--json").returncode == 1
    told = mirror.agent.command("explain", "ten")
    assert (told.returncode, "'ten' is not a prefix" in told.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["agent", "listener"])
def test_watch_prints_changes_as_they_come_until_the_daemon_stops(lab: MirrorLab, tmp_path: Path, kind: str) -> None:
    lab.host.ip("route del 192.168.11.0/24 table 200")  # which would decide once the route in main is gone
    mirror = lab.mirror()
    daemon: Daemon = getattr(mirror, kind)
    output = tmp_path / "watch.txt"
    watcher = daemon.watch(output)
    until(lambda: _touch(lab, output), True)  # the watcher is there
    lab.host.ip("route add 192.168.11.0/24 via 192.168.101.1")
    until(lambda: [event for event in _events(output, "192.168.11.0/24") if "offloaded" in event.values()])
    lab.host.ip("route del 192.168.11.0/24")
    until(lambda: _events(output, "192.168.11.0/24")[-1]["event"], "delete")
    daemon.end()
    assert watcher.wait(15) == 3


def _touch(lab: MirrorLab, output: Path) -> bool:
    lab.host.ip("route replace 192.0.2.0/24 via 192.168.102.1")
    lab.host.ip("route replace 192.0.2.0/24 via 192.168.101.1")
    return bool(_events(output, "192.0.2.0/24"))


def _events(output: Path, prefix: str) -> list[dict[str, Any]]:
    whole = output.read_text().rpartition("\n")[0]
    return [event for event in map(json.loads, whole.splitlines()) if event.get("prefix") == prefix]


def test_exit_codes_show_that_a_daemon_is_gone(lab: MirrorLab) -> None:
    listener = lab.listener().ready()
    assert listener.command("status").returncode == 0
    assert listener.end() == 0
    gone = listener.command("status")
    assert (gone.returncode, gone.stdout) == (3, "")
    assert "no daemon is listening; start it" in gone.stderr
    # A killed one leaves its socket behind, which stops neither the question nor its successor.
    listener.start().ready()
    listener.end(signal.SIGKILL)
    assert listener.command("routes").returncode == 3
    listener.start().ready()
    assert listener.command("status").returncode == 0


def test_a_second_daemon_at_the_same_socket_is_refused(lab: MirrorLab) -> None:
    first = lab.listener().ready()
    second = lab.listener(start=False)
    second.config["control_socket"] = first.socket
    second.start()
    assert second.process is not None
    assert second.process.wait(15) == 1
    assert "in use by another daemon; stop it or choose another path" in second.log()
    assert "Traceback" not in second.log()
    assert first.command("status").returncode == 0
