# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service modules where PID 1 is systemd: a real one, booted in namespaces of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.unit import unit_text
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, MACHINE_PYTHON
from ansible_collections.ekho.ynl_mirror.tests.support.labs.systemd import SYSTEMD, Systemd, booted
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

UNIT = "ynl-mirror-agent"

pytestmark = [
    pytest.mark.controller,
    pytest.mark.skipif(not SYSTEMD.exists(), reason="this machine has no systemd to boot"),
]


class Machine:
    """The booted system as Ansible's localhost."""

    def __init__(self, system: Systemd, root: Path) -> None:
        self.system = system
        self.root = root

    def agent(self, fails: bool = False, **options: Any) -> dict[str, Any]:
        """The result of the module dpu_agent, with a small configuration."""
        given = {
            "plaintext": True,
            "vrfs": {"a": {"table": 10, "links": ["lo"]}},
            "config_dir": str(self.root / "config"),
            "lib_dir": str(self.root / "lib"),
            "bin_dir": str(self.root / "bin"),
            "runtime_dir": str(self.root / "run"),
            **options,
        }
        done = self.system.run(
            str(Path(sys.executable).parent / "ansible"),
            "localhost",
            "--connection=local",
            f"--extra-vars=ansible_python_interpreter={MACHINE_PYTHON}",
            "--module-name=ekho.ynl_mirror.dpu_agent",
            f"--args={json.dumps(given)}",
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json", "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"},
        )
        assert done.stdout.startswith("{"), done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]
        assert bool(result.get("failed")) == fails, result.get("msg") or result
        return result

    def log(self) -> str:
        """What the journal has of the unit."""
        return self.system.run("journalctl", "--unit", UNIT, "--output=cat", "--no-pager").stdout

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """The entries of the journal that match, with all their fields."""
        done = self.system.run("journalctl", "--unit", UNIT, "--output=json", "--no-pager", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.system.run("systemctl", "show", "--value", "--property", name, UNIT).stdout.strip()


@pytest.fixture
def machine(_root: None, tmp_path: Path) -> Iterator[Machine]:
    with booted(tmp_path / "units") as system:
        yield Machine(system, tmp_path)


def test_a_unit_is_installed_restarted_revived_stopped_and_removed(machine: Machine) -> None:
    first = machine.agent()
    assert first["service"]["manager"] == "systemd"
    assert first["status"]["ready"]
    # Type=notify: active means that READY=1 has come
    assert (machine.show("ActiveState"), machine.show("UnitFileState")) == ("active", "enabled")
    state = machine.system.run("cat", f"/proc/{machine.show('MainPID')}/status").stdout
    assert "CapEff:\t0000000000001000\n" in state
    assert "NoNewPrivs:\t1\n" in state
    assert machine.agent()["changed"] is False

    second = machine.agent(settle_time=2)
    assert second["service"]["pid"] != first["service"]["pid"]
    assert second["status"]["uptime"] < first["status"]["uptime"] + 30

    machine.system.run("systemctl", "kill", "--signal=KILL", UNIT)
    until(lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active")
    assert machine.show("StatusText") == "agent is ready"

    stopped = machine.agent(state="stopped")
    assert (stopped["actions"], stopped["service"]["running"]) == (["stop the agent"], False)
    assert machine.show("ActiveState") == "inactive"

    assert machine.agent(state="absent")["changed"]
    assert machine.show("LoadState") == "not-found"
    assert {path.name for path in machine.root.iterdir()} == {"units"}
    assert machine.agent(state="absent")["changed"] is False


def test_a_unit_that_cannot_start_fails_with_its_journal_and_can_be_stopped(machine: Machine) -> None:
    result = machine.agent(fails=True, listen=[{"address": "192.0.2.1"}], timeout=3)
    assert "The end of its log:" in result["msg"]
    assert "cannot listen on 192.0.2.1" in result["msg"]
    until(lambda: machine.show("ActiveState") == "activating")
    assert machine.agent(state="stopped")["actions"] == ["stop the agent"]
    assert machine.show("ActiveState") == "inactive"


def test_a_unit_that_fails_again_and_again_waits_longer_each_time(machine: Machine) -> None:
    machine.agent(fails=True, listen=[{"address": "192.0.2.1"}], timeout=1)
    until(lambda: machine.log().count("the previous run failed") == 3)
    pauses = re.findall(r"the previous run failed; starting in ([\d.]+) s", machine.log())
    assert pauses == ["0.5", "1.0", "2.0"]
    # A configuration that works does not wait for what the one before has done, and a clean end leaves no debt.
    assert machine.agent()["status"]["ready"]
    machine.system.run("systemctl", "restart", UNIT)
    assert machine.log().count("waiting") <= 4


@pytest.mark.parametrize(("name", "user", "most"), [("agent", "x", 1.9), ("listener", "x", 1.9), ("agent", None, 1.9)])
def test_the_sandbox_has_a_good_score(tmp_path: Path, name: str, user: str | None, most: float) -> None:
    unit = tmp_path / f"ynl-mirror-{name}.service"
    command = ["/usr/bin/true", name]
    unit.write_text(unit_text(name, command, {}, user=user, runtime_dir="/run/x", reads=["/usr/x"], stop_seconds=10))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    score = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert score is not None
    assert float(score.group(1)) <= most, done.stdout
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert str(unit) not in verified.stderr  # no line that systemd does not understand


def test_the_journal_has_the_fields_of_a_log_line(machine: Machine) -> None:
    machine.agent(listen=[{"address": "127.0.0.1"}], hosts=["ekho-host"])
    stranger = "import socket; socket.create_connection(('127.0.0.1', 2620)).recv(1)"
    assert machine.system.run(sys.executable, "-c", stranger).returncode == 0
    refused = machine.entries("YNL_MIRROR_PEER=127.0.0.1")[-1]
    assert refused["MESSAGE"] == "127.0.0.1: refused: 127.0.0.1 is not in `hosts`"
    told = {name: refused[name] for name in ("PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER", "CODE_FUNC", "_SYSTEMD_UNIT")}
    assert told == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "ynl-mirror-agent",
        "LOGGER": "ynl_mirror.agent",
        "CODE_FUNC": "_admit",
        "_SYSTEMD_UNIT": f"{UNIT}.service",
    }
    assert refused["YNL_MIRROR_REASON"] == "127.0.0.1 is not in `hosts`"
    assert machine.entries("PRIORITY=6", "CODE_FUNC=_notify")[0]["MESSAGE"] == "agent is ready"


def test_a_daemon_that_hangs_is_started_again(machine: Machine) -> None:
    machine.agent()
    machine.system.run("mkdir", "-p", f"/run/systemd/system/{UNIT}.service.d")
    drop_in = "[Service]\nWatchdogSec=2\n"
    machine.system.run("sh", "-c", f"printf '{drop_in}' > /run/systemd/system/{UNIT}.service.d/test.conf")
    machine.system.run("systemctl", "daemon-reload")
    machine.system.run("systemctl", "restart", UNIT)
    time.sleep(5)
    assert machine.show("NRestarts") == "0"  # it feeds the watchdog
    machine.system.run("kill", f"-{signal.SIGSTOP.value}", machine.show("MainPID"))
    until(lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active")


def test_a_service_keeps_a_capture_of_the_kernel_as_its_documentation_says(machine: Machine) -> None:
    machine.agent()
    text = (CHECKOUT / "docs" / "capture.md").read_text()
    (drop_in,) = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    (entry,) = re.findall(r'```json\n"capture": (.*?)```', text, re.DOTALL)
    config = machine.root / "config" / "agent.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "capture": json.loads(entry)}))
    place = f"/etc/systemd/system/{UNIT}.service.d"
    (machine.root / "drop-in").write_text(drop_in)
    put = f"mkdir {place} && cp {machine.root}/drop-in {place}/capture.conf && systemctl daemon-reload"
    assert machine.system.run("sh", "-c", f"{put} && systemctl restart {UNIT}").returncode == 0, machine.log()
    replayed = machine.system.run(str(machine.root / "bin" / "ynl-mirror"), "replay", json.loads(entry)["file"])
    assert (replayed.returncode, replayed.stderr) == (0, "")
    assert "starts: 1\n" in replayed.stdout
    assert "links: 1\n" in replayed.stdout
