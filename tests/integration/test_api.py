# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP interface over real sockets: unix and TCP, streams, changes, errors, and how it starts and stops."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.client import (
    ControlClient,
    NotReachable,
    Refused,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.common import HttpConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.api import serve
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.http_server import SocketInUse
from ansible_collections.ekho.ynl_mirror.tests.support.peers.served import MIRRORED, SLOW_PATH, Agent, Listener, Served
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

POSTED = {"rta-dst": "10.0.0.0", "rtm-dst-len": 8, "rtm-table": 10, "rta-oif": 3}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.sock")


def _tcp(served: Served, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and body of a request over TCP."""
    connection = http.client.HTTPConnection(*served.addresses[0], timeout=10)
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read()
    finally:
        connection.close()


def test_health_status_routes_and_explain_over_the_control_socket(path: str) -> None:
    with Served(Listener(), path):
        client = ControlClient(path)
        assert client.health() == {"ready": True, "name": "listener"}
        assert client.get("/status")["routes"] == 2
        assert list(client.lines("/routes")) == [MIRRORED, SLOW_PATH]
        assert list(client.lines("/routes", state="slow_path")) == [SLOW_PATH]
        assert list(client.lines("/routes", prefix="192.168.11.0/24")) == [MIRRORED]
        assert client.get("/explain", prefix="192.168.11.0/24")["steps"][0].startswith("gateway")


def test_a_daemon_that_is_not_ready_says_503(path: str) -> None:
    daemon = Listener()
    daemon.is_ready = False
    with Served(daemon, path, HttpConfig(port=0)) as served:
        assert _tcp(served, "GET", "/healthz")[0] == 503
        assert ControlClient(path).health() == {"ready": False, "name": "listener"}


@pytest.mark.parametrize(
    ("target", "query", "status", "told"),
    [
        ("/rutes", {}, 404, "/rutes: not found on the listener; did you mean '/routes'?"),
        ("/route", {}, 404, "/route: not found on the listener"),
        ("/routes", {"stat": "x"}, 400, "query stat: unknown parameter; did you mean 'state'?"),
        ("/routes", {"state": "ofloaded"}, 400, "unknown state 'ofloaded'; did you mean 'offloaded'?"),
        ("/routes", {"prefix": "broken"}, 400, "'broken' is no prefix"),
        ("/status", {"x": "y"}, 400, "query x: unknown parameter; this path takes no parameters"),
        ("/explain", {}, 400, "query prefix: missing"),
        ("/explain", {"prefix": "ten"}, 400, "'ten' is no prefix"),
    ],
)
def test_a_wrong_request_names_the_fault_and_the_fix(
    path: str, target: str, query: dict[str, str], status: int, told: str
) -> None:
    with Served(Listener(), path), pytest.raises(Refused) as caught:
        ControlClient(path).get(target, **query)
    assert caught.value.status == status
    assert told in str(caught.value)


def test_metrics_are_prometheus_text_with_the_process_beside(path: str) -> None:
    with Served(Listener(), path, HttpConfig(port=0)) as served:
        status, content_type, body = _tcp(served, "GET", "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain")
    lines = body.decode().splitlines()
    assert 'ynl_mirror_routes{state="slow_path"} 1.0' in lines
    assert "ynl_mirror_netlink_overruns_total 3.0" in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_a_long_list_of_routes_is_streamed_while_others_are_served(path: str) -> None:
    daemon = Listener()
    daemon.many = 50_000
    with Served(daemon, path):
        client = ControlClient(path)
        lines = client.lines("/routes")
        assert next(lines)["prefix"] == "10.0.0.0/24"
        started = time.monotonic()
        assert client.health() is not None
        assert time.monotonic() - started < 1.0
        assert sum(1 for _line in lines) == 50_001


def test_watch_streams_changes_until_the_client_leaves(path: str) -> None:
    daemon = Listener()
    with Served(daemon, path) as served:
        changes = ControlClient(path).lines("/watch")
        ready = threading.Event()
        got: list[dict[str, Any]] = []

        def reader() -> None:
            ready.set()
            got.append(next(changes))
            got.append(next(changes))
            changes.close()

        thread = threading.Thread(target=reader)
        thread.start()
        assert ready.wait(5)
        until(lambda: len(daemon.queues) == 1)
        for number in (1, 2):
            served.call(daemon.queues[0].put_nowait, {"number": number})
        thread.join(5)
        assert got == [{"number": 1}, {"number": 2}]
        until(lambda: not daemon.queues)


def test_a_watcher_does_not_hold_up_the_end_of_the_daemon(path: str) -> None:
    daemon = Listener()
    with Served(daemon, path):
        left: list[object] = []
        thread = threading.Thread(target=lambda: left.extend(ControlClient(path).lines("/watch")))
        thread.start()
        until(lambda: len(daemon.queues) == 1)
        started = time.monotonic()
    assert time.monotonic() - started < 2.0
    thread.join(5)
    assert not thread.is_alive()
    assert left == []


def test_the_agent_adds_lists_and_deletes_routes(path: str) -> None:
    agent = Agent()
    with Served(agent, path):
        client = ControlClient(path)
        assert client.get("/route") == []
        added = client.post("/route/add", POSTED)["added"]
        assert (added["rtm-protocol"], added["rta-table"], added["rtm-type"]) == (122, 10, "unicast")
        client.post("/route/add", {**POSTED, "rta-dst": "11.0.0.0"})
        assert [route["rta-dst"] for route in client.get("/route")] == ["10.0.0.0", "11.0.0.0"]
        client.post("/route/del", POSTED)
        assert [route["rta-dst"] for route in client.get("/route")] == ["11.0.0.0"]
        with pytest.raises(Refused, match=r"no route to 10\.0\.0\.0 of protocol 122"):
            client.post("/route/del", POSTED)
        with pytest.raises(Refused, match="rtm-dst-len: missing"):
            client.post("/route/add", {"rta-dst": "10.0.0.0"})
        with pytest.raises(Refused, match="use POST"):
            client.get("/route/add")


def test_changes_over_tcp_are_refused_unless_allowed(path: str) -> None:
    agent = Agent()
    with Served(agent, path, HttpConfig(port=0)) as served:
        status, _type, body = _tcp(served, "POST", "/route/add", POSTED)
        assert status == 403
        assert b"set http.allow_changes" in body
    assert agent.kernel == []
    with Served(agent, path, HttpConfig("::1", 0, allow_changes=True)) as served:
        assert _tcp(served, "POST", "/route/add", POSTED, Origin="http://elsewhere.example")[0] == 403
        assert agent.kernel == []
        assert _tcp(served, "POST", "/route/add", POSTED)[0] == 200
        assert _tcp(served, "GET", "/route")[:2] == (200, "application/json")
    assert len(agent.kernel) == 1


def test_a_body_that_is_no_json_or_too_long_is_refused(path: str) -> None:
    with Served(Agent(), path, HttpConfig(port=0, allow_changes=True)) as served:
        connection = http.client.HTTPConnection(*served.addresses[0], timeout=10)
        connection.request("POST", "/route/add", "{")
        response = connection.getresponse()
        assert (response.status, b"the body is not JSON" in response.read()) == (400, True)
        connection.close()
        assert _tcp(served, "POST", "/route/add", ["x" * 70_000])[0] == 413


def test_the_control_socket_is_for_owner_and_group_and_goes_with_the_daemon(path: str) -> None:
    with Served(Listener(), path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert not os.path.exists(path)
    with pytest.raises(NotReachable, match="no daemon is listening; start it"):
        ControlClient(path).get("/status")
    assert ControlClient(path).health() is None


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    with Served(Listener(), path):
        with pytest.raises(SocketInUse, match="in use by another daemon; stop it"):
            Served(Listener(), path).__enter__()
        assert ControlClient(path).health() is not None


def test_a_file_in_the_place_of_the_socket_is_kept(path: str) -> None:
    Path(path).write_text("kept")
    with pytest.raises(SocketInUse, match="exists and is not a socket"):
        Served(Listener(), path).__enter__()
    assert Path(path).read_text() == "kept"


def test_a_missing_directory_and_a_taken_port_are_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"control socket .*/absent/control.sock: No such file .*; create its directory"):
        Served(Listener(), str(tmp_path / "absent" / "control.sock")).__enter__()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"http 127.0.0.1 port {port}: Address already in use; choose another"):
            Served(Listener(), path, HttpConfig(port=port)).__enter__()
    assert not os.path.exists(path)


def test_signals_stay_with_the_daemon(path: str) -> None:
    async def main() -> bool:
        caught = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caught.set)
        async with serve(Listener(), path, None):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(caught.wait(), 5)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        return caught.is_set()

    assert asyncio.run(main())
