# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings up one machine of a lab: starts QEMU, makes the guest the host that it should be, waits for SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from ....module_utils._ynl_mirror.lab.plan import Host
from .guest import (
    APPLY,
    APPLY_CLOUD,
    DIGEST_FILE,
    archive,
    identity,
    lacks_script,
    name_cards,
    observe_script,
    observed_state,
    repair,
    wait_for,
)
from .image import Image, forget_state, new_disk
from .machine import MANAGEMENT_ADDRESS, Machine, Progress, Software
from .place import Place, read_private, read_public, write
from .process import MachineError, agent, end, last_line, monitor, pid, processes, run, start, status, until
from .seed import seed
from .ssh import greets, lets_in, login, run_over_ssh

Shell = Callable[..., Awaitable[str]]  # a script, and what it reads from its standard input
#: After this time without progress a message says that it is still busy.
QUIET_SECONDS = 15.0
#: QEMU's status of a machine that only has to be continued.
PAUSED = ("paused", "io-error")
_FORWARD = re.compile(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")


class BringUp:
    """One machine in one run; COMMANDS gets what is done, or with DRY what would be done."""

    def __init__(
        self, place: Place, machine: Machine, commands: list[str], progress: Progress, *, dry: bool, seconds: float
    ) -> None:
        self._place = place
        self._machine = machine
        self._commands = commands
        self._progress = progress
        self._dry = dry
        self._seconds = seconds

    async def run(self, host: Host, image: Image | None) -> int | None:
        """Start the machine if it does not run, repair it, and wait for SSH. Returns the port."""
        machine = self._machine
        async with self._reporting() as report:
            started = await self._start(image, report)
            if self._dry and started:
                return await self._forward() if started == "continued" else None
            cloud = _recorded(machine).cloud
            async with self._shell(cloud=cloud) as shell:
                if started:
                    report("booted")
                changed = await self._make_host(host, shell, fresh=started == "fresh", cloud=cloud)
                if started or changed:
                    report("network configured" if started else "needs repair" if self._dry else "repaired")
            port = await self._forward()
            if port is None:
                return None
            await until(machine, lambda: greets(port), self._seconds, "does not answer on SSH")
            report("ready: SSH answers" if started else "running")
        return port

    @contextlib.asynccontextmanager
    async def _shell(self, *, cloud: bool) -> AsyncIterator[Shell]:
        """Runs scripts in the guest as root, once that is possible: by its agent, or in a cloud image over SSH."""
        machine = self._machine
        if not cloud:
            async with agent(machine, self._seconds) as guest:
                if not self._dry:
                    await guest.execute("guest-set-time", {"time": time.time_ns()})
                yield partial(run, machine, guest)
            return
        port = await self._forward()
        if port is None:
            raise MachineError(f"{machine.name}: no port is forwarded to SSH yet; run this again without check mode")
        words = login(machine.name, port, self._place.login_key, self._place.known_hosts)
        otherwise = "does not accept SSH logins; the image needs cloud-init (with NoCloud) and an SSH server"
        await until(machine, lambda: lets_in(words), self._seconds, otherwise)
        yield partial(run_over_ssh, machine, words)

    @contextlib.asynccontextmanager
    async def _reporting(self) -> AsyncIterator[Progress]:
        """Reports progress with the machine's name and the seconds since the start, and in between that it is alive."""
        machine = self._machine
        begun = last = time.monotonic()

        def report(what: str) -> None:
            nonlocal last
            last = time.monotonic()
            self._progress(f"{machine.name:<12} {last - begun:5.1f} s  {what}")

        async def remind() -> None:
            while True:
                await asyncio.sleep(max(0.1, last + QUIET_SECONDS - time.monotonic()))
                if time.monotonic() >= last + QUIET_SECONDS:
                    line = last_line(machine)[:80]
                    report(f"still busy; last line of its console: {line}" if line else "still busy")

        reminder = asyncio.create_task(remind())
        try:
            yield report
        finally:
            reminder.cancel()

    async def _start(self, image: Image | None, report: Progress) -> str:
        """Start the machine if need be. Returns what was done.

        ``""``: nothing, it was running; ``continued``: it was paused; ``again``: it boots from its disk; ``fresh``: it
        resumes from the saved state, without anything of the lab in it yet.
        """
        machine = self._machine
        if pid(machine) is not None and has_started(machine):
            now = await status(machine)
            if now == "running":
                return ""
            if now in PAUSED:
                self._commands.append(f"continue {machine.name}")
                if not self._dry:
                    report(f"continuing (QEMU's status was {now})")
                    async with monitor(machine) as qmp:
                        await qmp.execute("cont")
                return "continued"
        self._commands.append(f"start {machine.name}")
        if self._dry:
            return "again"
        if has_started(machine):
            report("booting from its disk")
            await start(machine, _started_with(machine))
            return "again"
        if image is None:  # it had been started when this run began
            raise MachineError(f"{machine.name}: its files were removed during this run; run this again")
        return await self._start_fresh(image, report)

    async def _start_fresh(self, image: Image, report: Progress) -> str:
        """Start the machine for the first time, or for the first time with success."""
        machine = self._machine
        os.makedirs(machine.folder, mode=0o700, exist_ok=True)
        end(processes(machine.folder))
        new_disk(image, machine.disk)
        if image.software.cloud:
            self._write_seed()
        how = "fresh"
        try:
            report("resuming from the saved state" if image.state else "booting")
            await start(machine, image.software, image.state)
        except MachineError as error:
            if image.state is None:
                raise
            how = "again"
            report(f"cannot resume from the saved state ({' '.join(str(error).split())[:160]}); booting instead")
            await start(machine, image.software)
            forget_state(image)
        write(machine.software_file, image.software.to_json())
        return how

    def _write_seed(self) -> None:
        machine = self._machine
        os.makedirs(machine.seed, mode=0o700, exist_ok=True)
        host_key = self._place.key(machine.name)
        keys = read_private(host_key), read_public(host_key), read_public(self._place.login_key)
        for name, text in seed(machine.name, *keys).items():
            write(os.path.join(machine.seed, name), text)

    async def _make_host(self, host: Host, shell: Shell, *, fresh: bool, cloud: bool) -> bool:
        """Write the host's files, and repair its network. Returns whether anything was missing."""
        machine = self._machine
        if self._place.missing_key([machine]) is not None:  # in check mode
            self._commands.append(f"{machine.name}: write its keys")
            return True
        before = len(self._commands)
        host_key, login_key = read_private(self._place.key(machine.name)), read_public(self._place.login_key)
        named = {nic.name: nic.mac for nic in machine.nics} if cloud else None
        entries = identity(machine.name, host, host_key, login_key, named)
        have = await shell(f"cat {DIGEST_FILE} 2>/dev/null || true")
        if have != entries[DIGEST_FILE].text:
            self._commands.append(f"{machine.name}: write {', '.join(entries)}")
            if not self._dry:
                if named is not None:
                    await _check_image(machine, shell)
                await shell(APPLY if named is None else "\n".join([APPLY_CLOUD, *name_cards(named)]), archive(entries))
        present, settings = (set(), {}) if fresh else observed_state(await shell(observe_script(host)))
        lines = repair(host, present, settings)
        self._commands += [f"{machine.name}: {line}" for line in lines if line != "END"]
        if lines and not self._dry:
            cards = [interface.name for interface in host.interfaces]  # just plugged in: their drivers may be loading
            await shell("\n".join(["set -e", *map(wait_for, cards), *lines]))
        return len(self._commands) > before

    async def _forward(self) -> int | None:
        """The port of 127.0.0.1 that is forwarded to the machine's SSH; QEMU chooses a free one."""
        machine = self._machine
        async with monitor(machine) as qmp:
            shown = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
            if _FORWARD.search(shown) is None:
                self._commands.append(f"{machine.name}: forward a port of 127.0.0.1 to SSH")
                if self._dry:
                    return None
                line = f"hostfwd_add management tcp:127.0.0.1:0-{MANAGEMENT_ADDRESS}:22"
                await qmp.execute("human-monitor-command", {"command-line": line})
                shown = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
        found = _FORWARD.search(shown)
        if found is None:
            raise MachineError(f"{machine.name}: QEMU forwards no port to SSH: {shown.strip()}")
        return int(found.group(1))


def has_started(machine: Machine) -> bool:
    """Whether a start of the machine from its disk has succeeded before. An interrupted start does not count."""
    return os.path.exists(machine.software_file) and os.path.exists(machine.disk)


async def _check_image(machine: Machine, shell: Shell) -> None:
    lacking = (await shell(lacks_script())).split()
    if lacking:
        raise MachineError(
            f"{machine.name}: the image lacks {', '.join(lacking)}; add them to it, since the lab's machines reach no "
            "package index"
        )


def _recorded(machine: Machine) -> Software:
    """What the machine was started from."""
    try:
        with open(machine.software_file, encoding="utf-8") as file:
            return Software.from_json(file.read())
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(
            f"{machine.name}: {machine.software_file} is damaged ({error}); take the lab down, then bring it up again"
        ) from None


def _started_with(machine: Machine) -> Software:
    """What the machine was started from, if its files still exist."""
    software = _recorded(machine)
    for path in (software.kernel, software.initrd):
        if path is not None and not os.path.exists(path):
            raise MachineError(
                f"{machine.name} was started from {path}, which no longer exists; take the lab down, then bring it up"
            )
    return software
