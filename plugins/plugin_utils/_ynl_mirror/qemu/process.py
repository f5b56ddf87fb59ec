# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU process and its guest: start it, talk to its monitor and its guest agent, stop it.

Every wait has a time limit, and ends early if QEMU exits or the guest's kernel panics. Failures are a `MachineError`
that names the machine and shows the end of its console.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from .machine import Machine, Software, command

CONSOLE_LINES = 40
POLL_SECONDS = 0.05
START_SECONDS = 20.0
LOAD_SECONDS = 60.0
STOP_SECONDS = 5.0
ANSWER_SECONDS = 5.0
#: An emulated guest is slow when others run beside it.
AGENT_SECONDS = 30.0
_PANIC = "Kernel panic - not syncing"
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")  # colours and the like


class MachineError(Exception):
    """A machine failed; the text names it."""


class Talk:
    """A connection to a monitor or a guest agent, with a time limit for every command."""

    def __init__(self, machine: Machine, client: Any, seconds: float) -> None:
        self._machine = machine
        self.client = client
        self._seconds = seconds

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The answer to a command; MachineError if it is an error or late."""
        from qemu.qmp import QMPError

        name = self._machine.name
        try:
            return await asyncio.wait_for(self.client.execute(command, arguments), self._seconds)
        except asyncio.TimeoutError:
            late = f"{name} has not answered {command} for {self._seconds:.0f} s."
            raise MachineError(f"{late}{await _paused(self._machine)}{_console(self._machine)}") from None
        except QMPError as error:
            raise MachineError(f"{name}: {command}: {error}") from None


async def start(machine: Machine, software: Software, incoming: str | None = None) -> None:
    """Start QEMU in its own session; with *incoming*, a file with a saved state, the machine resumes from it."""
    process = _spawn(machine, command(machine, software, incoming))
    try:
        async with monitor(machine, START_SECONDS, lambda: process.poll() is None) as qmp:
            if incoming is not None:
                await _resume(machine, qmp, lambda: process.poll() is None)
    except MachineError as error:
        process.kill()
        process.wait()
        raise MachineError(f"{machine.name}: QEMU could not be started: {_tail(machine.log) or error}") from None


def _spawn(machine: Machine, words: list[str]) -> subprocess.Popen[bytes]:
    end(processes(machine.folder))
    for path in (machine.monitor, machine.agent, machine.pid_file, *(nic.local for nic in machine.nics)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    with contextlib.suppress(FileNotFoundError):
        os.replace(machine.console, f"{machine.console}.before")
    with open(machine.log, "wb") as log:
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            words, cwd=machine.folder, stdin=nothing, stdout=log, stderr=log, start_new_session=True
        )


async def _resume(machine: Machine, qmp: Talk, alive: Callable[[], bool]) -> None:
    """Plug in the cards, which the saved machine does not have, and let it run."""

    async def loaded() -> bool:
        return bool((await qmp.execute("query-status"))["status"] != "inmigrate")

    await until(machine, loaded, LOAD_SECONDS, "has not loaded its saved state", alive)
    for nic in machine.nics:
        await qmp.execute("netdev_add", nic.netdev())
        await qmp.execute("device_add", nic.device())
    await qmp.execute("cont")


async def status(machine: Machine) -> str | None:
    """The machine's status in QEMU's monitor, normally `running`; None without an answer."""
    talk = await _try(machine, machine.monitor)
    if talk is None:
        return None
    try:
        answer = await asyncio.wait_for(talk.client.execute("query-status"), ANSWER_SECONDS)
    except Exception:  # of any kind: there is no answer
        return None
    finally:
        await _leave(talk)
    return str(answer["status"])


@contextlib.asynccontextmanager
async def monitor(
    machine: Machine, seconds: float = ANSWER_SECONDS, alive: Callable[[], bool] | None = None
) -> AsyncIterator[Talk]:
    """QMP, connected."""
    talk = await _connected(machine, machine.monitor, seconds, "does not answer on its monitor", alive)
    try:
        yield talk
    finally:
        await _leave(talk)


@contextlib.asynccontextmanager
async def agent(machine: Machine, seconds: float) -> AsyncIterator[Talk]:
    """The guest agent, connected once the guest has started it."""
    talk = await _connected(machine, machine.agent, seconds, "has not booted (its guest agent does not answer)", None)
    try:
        yield talk
    finally:
        await _leave(talk)


async def run(machine: Machine, client: Talk, script: str, data: bytes = b"", seconds: float = 60.0) -> str:
    """Run a shell script in the guest and return its output; MachineError if it fails."""
    given = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    started = await client.execute("guest-exec", {**given, "input-data": base64.b64encode(data).decode()})
    status: dict[str, Any] = {}

    async def ended() -> bool:
        status.update(await client.execute("guest-exec-status", {"pid": started["pid"]}))
        return bool(status["exited"])

    await until(machine, ended, seconds, f"has not finished {script.splitlines()[0]!r}")
    out, err = (base64.b64decode(status.get(name, "")).decode(errors="replace") for name in ("out-data", "err-data"))
    if status.get("exitcode") != 0:
        raise MachineError(f"{machine.name}: {err.strip() or out.strip() or status}")
    return out


async def until(
    machine: Machine,
    check: Callable[[], Awaitable[bool]],
    seconds: float,
    otherwise: str,
    alive: Callable[[], bool] | None = None,
) -> None:
    """Wait until CHECK is true; otherwise MachineError `NAME OTHERWISE after N s`, with the end of the console.

    ALIVE says whether to continue waiting; by default, whether the process runs.
    """
    deadline = time.monotonic() + seconds
    while not await check():
        if not (alive() if alive is not None else pid(machine) is not None):
            raise MachineError(f"{machine.name}: QEMU has exited. {_tail(machine.log)}{_console(machine)}")
        if _PANIC in _tail(machine.console):
            raise MachineError(f"{machine.name}: its kernel has panicked.{_console(machine)}")
        if time.monotonic() > deadline:
            late = f"{machine.name} {otherwise} after {seconds:.0f} s."
            raise MachineError(f"{late}{await _paused(machine)}{_console(machine)}")
        await asyncio.sleep(POLL_SECONDS)


def pid(machine: Machine) -> int | None:
    """The process ID of the running machine, if any."""
    try:
        with open(machine.pid_file, encoding="ascii") as file:
            number = int(file.read())
        words = _words(number)
    except (OSError, ValueError):
        return None
    return number if machine.pid_file in words else None


def processes(folder: str) -> dict[int, str]:
    """The processes of the lab in FOLDER, or of the machine in it: process ids, each with ``qemu`` or ``ssh``.

    These are machines, including those that have not written their process ID yet, and OpenSSH's shared connections.
    For folders further up there are none.
    """
    found = {}
    for number in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            words = _words(number)
        except OSError:  # it has exited
            continue
        path, what = "", ""
        if words[0].startswith("ssh: ") and words[0].endswith(" [mux]"):  # the name that OpenSSH sets
            path, what = words[0].removeprefix("ssh: ").removesuffix(" [mux]"), "ssh"
        elif "-pidfile" in words[:-1]:
            path, what = words[words.index("-pidfile") + 1], "qemu"
        if folder in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
            found[number] = what
    return found


def end(found: Mapping[int, str]) -> None:
    """Stop processes, by SIGKILL if need be."""
    left = set(found)
    for what in (signal.SIGTERM, signal.SIGKILL):
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, what)
        deadline = time.monotonic() + STOP_SECONDS
        while left and time.monotonic() < deadline:
            left = {number for number in left if _runs(number)}
            if left:
                time.sleep(POLL_SECONDS)
    if left:
        raise MachineError(f"these processes do not exit: {', '.join(f'{found[one]} {one}' for one in sorted(left))}")


def _runs(number: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # it is somebody else's child
        os.waitpid(number, os.WNOHANG)
    try:
        return _words(number) != [""]  # a zombie has no command line
    except OSError:
        return False


def _words(number: int) -> list[str]:
    """The command line of a process, at least one word."""
    with open(f"/proc/{number}/cmdline", "rb") as file:
        return os.fsdecode(file.read()).split("\0")


async def _connected(
    machine: Machine, path: str, seconds: float, otherwise: str, alive: Callable[[], bool] | None
) -> Talk:
    """A connection to the socket; tries until there is an answer."""
    found: list[Talk] = []

    async def answers() -> bool:
        talk = await _try(machine, path)
        found.extend([talk] if talk is not None else [])
        return talk is not None

    await until(machine, answers, seconds, otherwise, alive)
    return found[0]


async def _try(machine: Machine, path: str) -> Talk | None:
    """One attempt to connect."""
    from qemu.qmp import QMPClient, QMPError  # here: reading the documentation needs no QEMU

    guest = path == machine.agent
    client = QMPClient(machine.name)
    client.await_greeting = client.negotiate = not guest  # an agent sends no greeting
    talk = Talk(machine, client, AGENT_SECONDS if guest else ANSWER_SECONDS)
    try:
        await asyncio.wait_for(client.connect(path), ANSWER_SECONDS)
        if guest:
            await asyncio.wait_for(client.execute("guest-sync", {"id": 1}), ANSWER_SECONDS)
    except (QMPError, OSError, asyncio.TimeoutError):
        await _leave(talk)
        return None
    return talk


async def _leave(talk: Talk) -> None:
    with contextlib.suppress(Exception):  # of any kind: the connection is gone
        await asyncio.wait_for(talk.client.disconnect(), ANSWER_SECONDS)


async def _paused(machine: Machine) -> str:
    """A hint if QEMU has paused the machine."""
    now = await status(machine)
    if now == "io-error":
        return f" QEMU paused it because it cannot write to {machine.disk}; free disk space."
    return "" if now in (None, "running") else f" Its status in QEMU is {now}."


def _console(machine: Machine) -> str:
    last = _tail(machine.console)
    if last:
        return f" The end of its console ({machine.console}):\n{last}"
    return f" Its console ({machine.console}) is empty; check ekho_lab_memory and ekho_lab_accelerator."


def last_line(machine: Machine) -> str:
    """The last line of its console."""
    lines = _tail(machine.console).splitlines()
    return lines[-1] if lines else ""


def _tail(path: str) -> str:
    """The last lines of a file; nothing if it has none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = (_SEQUENCE.sub("", line).rstrip() for line in text.splitlines())
    return "\n".join([line for line in lines if line][-CONSOLE_LINES:])
