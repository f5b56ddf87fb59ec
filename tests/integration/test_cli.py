# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `ynl-mirror` against a served daemon: what it prints, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli import main, show
from ansible_collections.ekho.ynl_mirror.tests.support.peers.served import MIRRORED, SLOW_PATH, Agent, Listener, Served

LIBRARY = "ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror"
RUN = f"import sys; from {LIBRARY}.cli import main; sys.exit(main.main())"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    daemon = Listener()
    with Served(daemon, str(tmp_path / "listener.sock")):
        yield daemon


def _run(tmp_path: Path, *arguments: str) -> int:
    return main.main(arguments, runtime_dir=str(tmp_path))


def test_status_prints_each_field_on_a_line(
    tmp_path: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "status") == 0
    assert capsys.readouterr().out == (
        "name: listener\nversion: 0.1.0\nroutes: 2\nagents:\n    address 192.0.2.1 up yes\nready: yes\n"
    )


def test_status_of_a_daemon_that_is_not_ready_exits_1(tmp_path: Path, listener: Listener) -> None:
    listener.is_ready = False
    assert _run(tmp_path, "status") == 1


def test_routes_show_state_reason_and_place(
    tmp_path: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "routes") == 0
    assert capsys.readouterr().out == (
        "192.168.11.0/24 announced via 192.168.101.1 proto static offloaded\n"
        "    vrf b dev eth3 proto ynl_mirror\n"
        "0.0.0.0/0 nexthop via 10.0.0.1 dev eth1 weight 1 nexthop dev eth2 weight 2 proto bgp metric 20 table 100 "
        "slow path\n"
        "    no gateway of this machine\n"
        "    agent one pending\n"
        "    agent two failed\n"
    )
    assert _run(tmp_path, "routes", "--state", "slow_path", "--json") == 0
    assert json.loads(capsys.readouterr().out) == SLOW_PATH


def test_a_route_without_a_gateway_is_shown_without_a_gap(capsys: pytest.CaptureFixture[str]) -> None:
    announced = {"nexthops": [{}], "protocol": "kernel", "metric": 0}
    show.route({"prefix": "192.168.101.0/24", "announced": announced, "state": "slow_path"}, as_json=False)
    assert capsys.readouterr().out == "192.168.101.0/24 announced proto kernel slow path\n"


def test_explain_exits_1_when_a_prefix_is_not_mirrored(
    tmp_path: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "explain", "192.168.11.0/24") == 0
    assert capsys.readouterr().out == (
        "192.168.11.0/24 announced via 192.168.101.1 proto static offloaded\n"
        "    vrf b dev eth3 proto ynl_mirror\n"
        "  1. gateway 192.168.101.1 is on eth1, VRF a\n"
        "  2. VRF a leaves by eth3\n"
    )
    assert _run(tmp_path, "explain", "0.0.0.0/0", "--json") == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "no gateway of this machine"
    assert _run(tmp_path, "explain", "198.51.100.0/24") == 1
    assert capsys.readouterr().out == "198.51.100.0/24 unknown\n    the host has no such route\n"


def test_what_the_daemon_refuses_is_a_line_and_exit_2(
    tmp_path: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "explain", "ten") == 2
    assert capsys.readouterr().err == "ynl-mirror: query prefix: 'ten' is no prefix\n"
    assert _run(tmp_path, "routes", "--state", "ofloaded") == 2
    assert "did you mean 'offloaded'?" in capsys.readouterr().err


def test_without_a_daemon_it_exits_3_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, "status") == 3
    assert capsys.readouterr().err == (
        f"ynl-mirror: {tmp_path}: no control socket of a daemon; start one, or set --socket\n"
    )
    assert _run(tmp_path, "status", "--socket", str(tmp_path / "x.sock")) == 3
    assert "x.sock: no daemon is listening; start it" in capsys.readouterr().err


def test_two_daemons_on_a_machine_are_selected_by_name(
    tmp_path: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    with Served(Agent(), str(tmp_path / "agent.sock")):
        assert _run(tmp_path, "status") == 2
        assert "add `--socket agent` or `--socket listener`" in capsys.readouterr().err
        assert _run(tmp_path, "status", "--socket", "agent") == 0
        assert capsys.readouterr().out.startswith("name: agent\n")


def test_watch_prints_changes_and_says_when_the_daemon_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = Listener()
    codes: list[int] = []
    with Served(daemon, str(tmp_path / "listener.sock")) as served:
        watcher = threading.Thread(target=lambda: codes.append(_run(tmp_path, "watch")))
        watcher.start()
        while not daemon.queues:
            watcher.join(0.01)
        change = {
            "event": "upsert",
            "prefix": "10.0.0.0/8",
            "state": "offloaded",
            "reason": None,
            "nexthops": [{"dev": "eth3"}],
        }
        served.call(daemon.queues[0].put_nowait, change)
    watcher.join(10)
    printed = capsys.readouterr()
    assert printed.out == "upsert 10.0.0.0/8 dev eth3 offloaded\n"
    assert printed.err == "ynl-mirror: the daemon has stopped; start it and watch again\n"
    assert codes == [3]


def _process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"], "COLUMNS": "100"},
    )


def test_check_names_a_faulty_configuration_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "listener.json"
    file.write_text(json.dumps({"plaintext": True, "agents": [{"adress": "192.0.2.1"}]}))
    result = _process("listener", "--config", str(file), "--check")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"ynl-mirror: {file}: agents[0].address: missing; did you misspell it as 'adress'?\n"
    file.write_text(json.dumps({"plaintext": True, "agents": [{"address": "192.0.2.1"}]}))
    result = _process("listener", "--config", str(file), "--check")
    assert (result.returncode, result.stdout) == (0, f"{file}: valid\n")


def test_usage_errors_exit_2_and_help_lists_exit_codes_and_examples() -> None:
    assert _process().returncode == 2
    assert _process("stat").returncode == 2
    text = _process("--help").stdout
    assert "exit codes: 0 success; 1 not mirrored" in text
    assert "explain 192.168.12.0/24" in text


def test_a_closed_pipe_is_no_error(tmp_path: Path, listener: Listener) -> None:
    listener.many = 50_000
    command = (
        f"{sys.executable} -c '{RUN}' routes --socket {tmp_path}/listener.sock | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    result = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]},
    )
    assert (result.stdout, result.stderr) == ("10.0.0.0/24 offloaded\n0\n", "")


def test_json_of_a_route_is_what_the_daemon_sent(
    tmp_path: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "routes", "--prefix", "192.168.11.0/24", "--json") == 0
    assert json.loads(capsys.readouterr().out) == MIRRORED
