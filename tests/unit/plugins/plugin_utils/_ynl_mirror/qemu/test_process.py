# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a machine: what ends it, and what is told then. The processes are real, but no QEMU."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import process as of_qemu
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Machine
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.process import (
    CONSOLE_LINES,
    MachineError,
    end,
    last_words,
    pid,
    processes,
    until,
)

pytestmark = pytest.mark.controller


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine("ekho-one", str(tmp_path))


@pytest.fixture
def qemu(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """What has QEMU's option in its command line; it is not impressed by SIGTERM."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    words = ["sh", "-c", script, "qemu", "-pidfile", machine.pid_file]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not end when asked is not waited for as long as a machine that saves its disk."""
    monkeypatch.setattr(of_qemu, "STOP_SECONDS", 1.0)


async def _never() -> bool:
    return False


def _waited(machine: Machine, alive: bool, seconds: float) -> str:
    begun = time.monotonic()
    with pytest.raises(MachineError) as caught:
        asyncio.run(until(machine, _never, seconds, "does not sing", lambda: alive))
    assert time.monotonic() - begun < 5
    return str(caught.value)


def test_what_takes_too_long_is_told_with_the_end_of_the_console(machine: Machine) -> None:
    Path(machine.console).write_bytes(b"".join(b"\x1b[0;32mline %d\x1b[0m\r\n" % number for number in range(5000)))
    said = _waited(machine, alive=True, seconds=0.1).splitlines()
    assert said[0] == f"ekho-one does not sing after 0 s. The end of its console ({machine.console}):"
    assert said[1:] == [f"line {number}" for number in range(5000 - CONSOLE_LINES, 5000)]
    assert last_words(machine) == "line 4999"


def test_an_empty_console_is_told(machine: Machine) -> None:
    assert "is empty: has the kernel enough memory" in _waited(machine, alive=True, seconds=0.1)


def test_a_process_that_has_ended_is_not_waited_for(machine: Machine) -> None:
    Path(machine.log).write_text("qemu: terminating on signal 9\n")
    assert "ekho-one has ended. qemu: terminating on signal 9" in _waited(machine, alive=False, seconds=60)


def test_a_kernel_that_has_given_up_is_not_waited_for(machine: Machine) -> None:
    Path(machine.console).write_text("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n")
    assert "its kernel has given up" in _waited(machine, alive=True, seconds=60)


@pytest.mark.parametrize("text", ["", "nonsense", "1", "999999999"])
def test_a_file_that_names_no_machine_of_ours_names_none(machine: Machine, text: str) -> None:
    """Process ids are given again; another's process must not be taken for a machine, and not be ended."""
    Path(machine.pid_file).write_text(text)
    assert pid(machine) is None


def test_a_machine_is_found_with_and_without_its_file(
    machine: Machine, qemu: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert pid(machine) is None
    Path(machine.pid_file).write_text(f"{qemu.pid}\n")
    assert pid(machine) == qemu.pid
    os.unlink(machine.pid_file)
    assert processes(machine.folder) == {qemu.pid: "qemu"}
    assert processes(str(tmp_path.parent)) == {qemu.pid: "qemu"}
    assert processes(machine.folder[:-1]) == {}  # a folder whose name begins likewise
    assert processes(str(tmp_path.parent.parent)) == {}  # one that holds many labs, or all of a user's files


@pytest.mark.usefixtures("_impatient")
def test_what_does_not_end_when_asked_is_ended(machine: Machine, qemu: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    end(processes(machine.folder))
    assert processes(machine.folder) == {}
    assert time.monotonic() - begun < 10


@pytest.mark.usefixtures("_impatient")
def test_what_is_stopped_is_ended_too(machine: Machine, qemu: subprocess.Popen[bytes]) -> None:
    qemu.send_signal(signal.SIGSTOP)
    end(processes(machine.folder))
    assert processes(machine.folder) == {}
