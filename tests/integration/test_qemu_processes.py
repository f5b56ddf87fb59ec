# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that a lab waits for, runs and stops, and locks between them: real ones, but no QEMU."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image, process, requirements
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.image import ImageError
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.lock import locked
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Accelerator, Machine
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.process import (
    CONSOLE_LINES,
    MachineError,
    end,
    last_line,
    pid,
    processes,
    until,
)
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.requirements import (
    Lacking,
    check,
    choose_accelerator,
    prints,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import COLLECTIONS

pytestmark = pytest.mark.controller


# Waiting for a machine, and stopping it


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine("ekho-one", str(tmp_path))


@pytest.fixture
def qemu(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """What has QEMU's option in its command line; it ignores SIGTERM."""
    # Without a child: until it has become another program, a child has its parent's command line.
    script = "trap '' TERM; echo ready; read -r never"
    words = ["sh", "-c", script, "qemu", "-pidfile", machine.pid_file]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


async def _never() -> bool:
    return False


def _waited(machine: Machine, alive: bool, seconds: float) -> str:
    begun = time.monotonic()
    with pytest.raises(MachineError) as caught:
        asyncio.run(until(machine, _never, seconds, "does not sing", lambda: alive))
    assert time.monotonic() - begun < 5
    return str(caught.value)


def test_a_timeout_is_reported_with_the_end_of_the_console(machine: Machine) -> None:
    Path(machine.console).write_bytes(b"".join(b"\x1b[0;32mline %d\x1b[0m\r\n" % number for number in range(5000)))
    said = _waited(machine, alive=True, seconds=0.1).splitlines()
    assert said[0] == f"ekho-one does not sing after 0 s. The end of its console ({machine.console}):"
    assert said[1:] == [f"line {number}" for number in range(5000 - CONSOLE_LINES, 5000)]
    assert last_line(machine) == "line 4999"


def test_an_empty_console_is_reported(machine: Machine) -> None:
    assert "is empty; check ekho_lab_memory" in _waited(machine, alive=True, seconds=0.1)


def test_waiting_ends_when_qemu_exits(machine: Machine) -> None:
    Path(machine.log).write_text("qemu: terminating on signal 9\n")
    assert "ekho-one: QEMU has exited. qemu: terminating on signal 9" in _waited(machine, alive=False, seconds=60)


def test_a_kernel_panic_ends_the_wait(machine: Machine) -> None:
    Path(machine.console).write_text("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n")
    assert "its kernel has panicked" in _waited(machine, alive=True, seconds=60)


@pytest.mark.parametrize("text", ["", "nonsense", "1", "999999999"])
def test_a_pid_file_counts_only_for_a_machine_of_the_lab(machine: Machine, text: str) -> None:
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


def test_what_ignores_sigterm_is_killed(
    machine: Machine, qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    begun = time.monotonic()
    end(processes(machine.folder))
    assert processes(machine.folder) == {}
    assert time.monotonic() - begun < 5


def test_what_is_suspended_is_killed_too(
    machine: Machine, qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    qemu.send_signal(signal.SIGSTOP)
    end(processes(machine.folder))
    assert processes(machine.folder) == {}


# Programs that build the image


def test_a_failed_program_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^sh failed:\nE: no space left$"):
        image._Programs(print)(["sh", "-c", "echo E: no space left >&2; exit 1"], str(tmp_path))


def test_a_slow_program_is_reported_and_then_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "PROGRESS_SECONDS", 0.1)
    monkeypatch.setattr(image, "BUILD_SECONDS", 0.5)
    progress: list[str] = []
    with pytest.raises(ImageError, match=r"has not finished after 0 s"):
        image._Programs(progress.append)(["sh", "-c", "echo I: unpacking; sleep 60 & wait"])
    assert "I: unpacking" in progress[0]
    assert len(progress) > 1


def test_a_program_holds_the_lock_of_a_run_that_was_killed(tmp_path: Path) -> None:
    """The next run must not build into the same folder at the same time."""
    script = f"""
import sys
sys.path.insert(0, {str(COLLECTIONS)!r})
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image
with image._locked({str(tmp_path)!r}, print) as lock:
    image._Programs(print, lock)(["sh", "-c", "echo > begun; sleep 1; echo > done"], {str(tmp_path)!r})
"""
    with subprocess.Popen([sys.executable, "-c", script]) as run:
        while not (tmp_path / "begun").exists():
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    progress: list[str] = []
    with image._locked(str(tmp_path), progress.append):
        assert (tmp_path / "done").exists()
    assert progress == [f"another run is using the images in {tmp_path}; waiting for it"]


# Locks


def test_a_cache_that_is_busy_for_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "BUILD_SECONDS", 0.2)
    monkeypatch.setattr(image, "BOOT_SECONDS", 0.1)

    def hold_it_twice() -> None:
        with image._locked(str(tmp_path), print), image._locked(str(tmp_path), print):
            pytest.fail("two hold the lock")

    with pytest.raises(ImageError, match="another run has been using"):
        hold_it_twice()


def test_one_at_a_time_although_each_removes_the_file(tmp_path: Path) -> None:
    """A run that waits on a removed file must not take it for the lock: a third run has a new file."""
    inside, most = 0, 0
    lock = str(tmp_path / "lock")

    def work() -> None:
        nonlocal inside, most
        for _turn in range(5):
            with locked(lock, lambda _text: None, "it", 60.0, keep=False):
                inside += 1
                most = max(most, inside)
                time.sleep(0.01)
                inside -= 1

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert list(tmp_path.iterdir()) == []


# A test guest under KVM


@pytest.mark.parametrize(
    ("script", "seconds", "expected"),
    [
        ("echo Booting; printf 'Linux ver'; sleep 0.1; printf 'sion 6.1'; exec sleep 60", 20.0, True),  # in two pieces
        ("exec sleep 60", 0.3, False),  # a guest that hangs in its boot ROM
        ("echo qemu: could not load kernel", 20.0, False),
        ("exec yes", 0.3, False),  # one that prints without end
    ],
)
def test_what_a_guest_prints_in_time_counts(script: str, seconds: float, expected: bool) -> None:
    begun = time.monotonic()
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as guest:
        try:
            assert prints(guest, b"Linux version", seconds) is expected
        finally:
            guest.kill()
    assert time.monotonic() - begun < 10


def _program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs before all others, and a /dev/kvm that can be opened."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(requirements, "KVM", "/dev/null")
    return tmp_path


def test_kvm_is_chosen_if_a_guest_prints_something(programs: Path) -> None:
    _program(programs, "qemu-system-x86_64", "echo '[    0.000000] Linux version 6.1'; exec sleep 60")
    assert choose_accelerator("auto", "/vmlinuz") == (Accelerator.KVM, "a test guest boots under KVM")
    assert choose_accelerator("kvm", "/vmlinuz")[0] is Accelerator.KVM


def test_kvm_that_runs_no_guest_is_reported(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PROBE_SECONDS", 0.3)
    _program(programs, "qemu-system-x86_64", "exec sleep 60")
    chosen, reason = choose_accelerator("auto", "/vmlinuz")
    assert chosen is Accelerator.TCG
    assert "printed nothing" in reason
    with pytest.raises(Lacking, match=r"KVM does not work: .* printed nothing .*; set ekho_lab_accelerator to tcg"):
        choose_accelerator("kvm", "/vmlinuz")


def test_without_the_device_no_guest_is_started(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(programs, "qemu-system-x86_64", "echo 'Linux version 6.1'")
    monkeypatch.setattr(requirements, "KVM", "/nowhere/kvm")
    assert choose_accelerator("auto", "/vmlinuz") == (Accelerator.TCG, "/nowhere/kvm: No such file or directory")


def test_an_old_qemu_is_named(programs: Path) -> None:
    _program(programs, "qemu-system-x86_64", "echo 'QEMU emulator version 5.2.0 (Debian)'")
    with pytest.raises(Lacking, match=r"found QEMU emulator version 5\.2\.0 .* needs QEMU 7\.2 or later"):
        check()
