# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH to a machine of a lab: whether it answers, and scripts over it where there is no guest agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from .machine import Machine
from .process import MachineError

GREETING_SECONDS = 5.0
LOGIN_SECONDS = 30.0


async def greets(port: int) -> bool:
    """Whether an SSH server answers on a port of 127.0.0.1."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return (await asyncio.wait_for(reader.readline(), GREETING_SECONDS)).startswith(b"SSH-")
        finally:
            writer.close()
    except (OSError, asyncio.TimeoutError):
        return False


def login(name: str, port: int, key: str, known_hosts: str) -> list[str]:
    """The command line that logs in as root, to the host key known in advance."""
    options = {
        "Port": str(port),
        "User": "root",
        "HostKeyAlias": name,
        "IdentityFile": f'"{key}"',
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "LogLevel": "ERROR",
    }
    given = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
    return ["ssh", "-F", "none", *given, "127.0.0.1"]


async def lets_in(words: Sequence[str]) -> bool:
    """Whether the machine accepts our login: it has its host key and our login key."""
    code, _out, _err = await _ssh([*words, "true"], b"", LOGIN_SECONDS)
    return code == 0


async def run_over_ssh(
    machine: Machine, words: Sequence[str], script: str, data: bytes = b"", seconds: float = 60.0
) -> str:
    """Run a shell script in the guest and return its output; MachineError if it fails."""
    code, out, err = await _ssh([*words, script], data, seconds)
    if code is None:
        raise MachineError(f"{machine.name} has not finished after {seconds:.0f} s: {script.splitlines()[0]}")
    if code:
        raise MachineError(f"{machine.name}: {err.strip() or out.strip() or f'exit {code}'}")
    return out


async def _ssh(words: Sequence[str], data: bytes, seconds: float) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        out, err = await asyncio.wait_for(process.communicate(data), seconds)
    except asyncio.TimeoutError:
        return None, "", ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
