# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running QEMU and the guest inside: start it, talk to its monitor and its guest agent, end it.

Every wait is bounded, and ends early when the process has ended. What goes wrong is a `MachineError` that names the
machine and shows the end of its console.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .qemu_machine import Machine, Software, command

CONSOLE_LINES = 20
POLL_SECONDS = 0.05
START_SECONDS = 20.0
STOP_SECONDS = 5.0
ANSWER_SECONDS = 5.0


class MachineError(Exception):
    """A machine did not do what it should; the text names it."""


async def start(machine: Machine, software: Software, incoming: str | None = None) -> None:
    """Start QEMU in a session of its own; with *incoming*, a file with a saved state, the machine goes on from it."""
    process = _spawn(machine, command(machine, software, incoming))
    try:
        async with monitor(machine, START_SECONDS, lambda: process.poll() is None) as qmp:
            if incoming is not None:
                await _resume(machine, qmp)
    except MachineError as error:
        process.kill()
        process.wait()
        said = _tail(machine.log)
        raise MachineError(f"{machine.name}: QEMU could not be started: {said or error}") from None


def _spawn(machine: Machine, words: list[str]) -> subprocess.Popen[bytes]:
    for path in (machine.monitor, machine.agent, machine.pid_file, *(nic.local for nic in machine.nics)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    with open(machine.log, "wb") as log:
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            words, cwd=machine.folder, stdin=nothing, stdout=log, stderr=log, start_new_session=True
        )


async def _resume(machine: Machine, qmp: Any) -> None:
    """Plug the cards in, which the saved machine had not, and let it run."""

    async def loaded() -> bool:
        return bool((await qmp.execute("query-status"))["status"] != "inmigrate")

    await until(machine, loaded, START_SECONDS, "has not read its saved state")
    for nic in machine.nics:
        await qmp.execute("netdev_add", nic.netdev())
        await qmp.execute("device_add", nic.device())
    await qmp.execute("cont")


@contextlib.asynccontextmanager
async def monitor(
    machine: Machine, seconds: float = ANSWER_SECONDS, alive: Callable[[], bool] | None = None
) -> AsyncIterator[Any]:
    """QMP, connected."""
    client = await _connected(machine, machine.monitor, seconds, "does not answer on its monitor", alive)
    try:
        yield client
    except _qmp_errors() as error:
        raise MachineError(f"{machine.name}: {error}") from error
    finally:
        await _leave(client)


@contextlib.asynccontextmanager
async def agent(machine: Machine, seconds: float) -> AsyncIterator[Any]:
    """The guest agent, connected once the guest has booted so far."""
    client = await _connected(machine, machine.agent, seconds, "has not booted (no word of its guest agent)", None)
    try:
        yield client
    except _qmp_errors() as error:
        raise MachineError(f"{machine.name}: guest agent: {error}") from error
    finally:
        await _leave(client)


async def run(machine: Machine, client: Any, script: str, data: bytes = b"", seconds: float = 60.0) -> str:
    """Run a shell script in the guest and return what it printed; MachineError when it fails."""
    given = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    started = await client.execute("guest-exec", {**given, "input-data": base64.b64encode(data).decode()})
    status: dict[str, Any] = {}

    async def ended() -> bool:
        status.update(await client.execute("guest-exec-status", {"pid": started["pid"]}))
        return bool(status["exited"])

    await until(machine, ended, seconds, f"is not done with: {script.splitlines()[0]}")
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
    """Wait for CHECK to become true; MachineError `NAME OTHERWISE` with the end of the console when it does not.

    ALIVE tells whether to go on waiting; by default it is the process's being there.
    """
    deadline = time.monotonic() + seconds
    while not await check():
        if not (alive() if alive is not None else pid(machine) is not None):
            raise MachineError(f"{machine.name} has ended. {_tail(machine.log)}{_console(machine)}")
        if time.monotonic() > deadline:
            raise MachineError(f"{machine.name} {otherwise} after {seconds:.0f} s.{_console(machine)}")
        await asyncio.sleep(POLL_SECONDS)


def pid(machine: Machine) -> int | None:
    """The process, if it is one of ours that runs."""
    try:
        with open(machine.pid_file, encoding="ascii") as file:
            number = int(file.read())
        with open(f"/proc/{number}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except (OSError, ValueError):
        return None
    return number if os.fsencode(machine.pid_file) in words else None


def stop(machine: Machine) -> bool:
    """End the process, by force if need be. False when there was none."""
    number = pid(machine)
    if number is None:
        return False
    for what in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, what)
        deadline = time.monotonic() + STOP_SECONDS
        while pid(machine) is not None and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):  # when it is our own child
                os.waitpid(number, os.WNOHANG)
            time.sleep(POLL_SECONDS)
        if pid(machine) is None:
            return True
    raise MachineError(f"{machine.name}: process {number} does not end")


async def _connected(
    machine: Machine, path: str, seconds: float, otherwise: str, alive: Callable[[], bool] | None
) -> Any:
    """A client of the socket; tried until somebody answers."""
    from qemu.qmp import QMPClient, QMPError  # here, so that whoever reads the documentation needs no QEMU

    found: list[Any] = []
    guest = path == machine.agent

    async def answers() -> bool:
        client = QMPClient(machine.name)
        client.await_greeting = client.negotiate = not guest  # an agent has no greeting
        try:
            await asyncio.wait_for(client.connect(path), ANSWER_SECONDS)
            if guest:
                await asyncio.wait_for(client.execute("guest-sync", {"id": 1}), ANSWER_SECONDS)
        except (QMPError, OSError, asyncio.TimeoutError):
            await _leave(client)
            return False
        found.append(client)
        return True

    await until(machine, answers, seconds, otherwise, alive)
    return found[0]


async def _leave(client: Any) -> None:
    with contextlib.suppress(Exception):  # whatever it is, the connection is over
        await asyncio.wait_for(client.disconnect(), ANSWER_SECONDS)


def _qmp_errors() -> type[Exception]:
    from qemu.qmp import QMPError

    return QMPError


def _console(machine: Machine) -> str:
    end = _tail(machine.console)
    return (
        f" The end of its console ({machine.console}):\n{end}" if end else f" Its console is empty ({machine.console})."
    )


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-CONSOLE_LINES:])
