# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of virtual machines: brings it up, repairs it, takes it down.

Every step looks first and does only what is missing, so that a run that was interrupted anywhere is finished by the
next one. All that a lab is, is in its run folder: a folder per machine, the cables, the keys, and the note `lab.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..module_utils.lab_plan import Host, Topology
from .qemu_guest import APPLY, DIGEST_FILE, archive, identity, look_script, looked, repair, wait_for
from .qemu_image import Image, overlay
from .qemu_machine import MANAGEMENT_ADDRESS, Accelerator, Machine, machines, too_long
from .qemu_process import MachineError, agent, monitor, pid, run, start, stop, until
from .ssh_keys import make_key, private_key, public_key

Tell = Callable[[str], None]
_FORWARD = re.compile(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")


class LabFailure(Exception):
    """The lab could not be made or removed; the message names the item and the way out."""


@dataclass(frozen=True)
class Place:
    """Where a lab is: its name, its folder."""

    name: str
    run_dir: str

    @property
    def note_file(self) -> str:
        """What the lab is made of."""
        return os.path.join(self.run_dir, "lab.json")

    @property
    def ssh_config(self) -> str:
        """For ``ssh -F``."""
        return os.path.join(self.run_dir, "ssh_config")

    @property
    def known_hosts(self) -> str:
        """The machines' keys, known before their first start."""
        return os.path.join(self.run_dir, "known_hosts")

    @property
    def login_key(self) -> str:
        """The key that every machine of the lab lets in."""
        return os.path.join(self.run_dir, "id_ed25519")

    @property
    def masters(self) -> str:
        """The control sockets of OpenSSH's shared connections."""
        return os.path.join(self.run_dir, "ssh")


class Lab:
    """One lab; ``commands`` collects what was done, or with ``dry`` what would have been."""

    def __init__(self, place: Place, tell: Tell, *, dry: bool = False, seconds: float = 180.0) -> None:
        self.place = place
        self.commands: list[str] = []
        self._tell = tell
        self._dry = dry
        self._seconds = seconds

    async def make(self, topology: Topology, image: Callable[[Accelerator | None], Any]) -> dict[str, Any]:
        """Make or repair the lab; returns the module's results.

        IMAGE, awaited with the accelerator that the lab was made with (None: choose), gives the `Image` to start from.
        It is called only if a machine has to be started.
        """
        made = machines(self.place.name, topology, self.place.run_dir)
        path = too_long(self.place.run_dir, made)
        if path is not None:
            raise LabFailure(f"the path {path} is too long for a socket; choose a shorter ekho_lab_run_dir")
        with self._alone():
            note = self.read_note()
            down = [machine for machine in made if pid(machine) is None]
            start_from: Image | None = None
            if down and not self._dry:
                start_from = await image(Accelerator(note["accelerator"]) if note else None)
                note = self._claim(topology, start_from)
            self._keys(made)
            work = [self._bring_up(machine, host, start_from) for machine, host in zip(made, topology.hosts)]
            ports = dict(zip([machine.name for machine in made], await _all(work)))
            self._write_ssh_config(ports)
        return {
            "machines": {machine.name: {"ssh_port": ports[machine.name], "pid": pid(machine)} for machine in made},
            "accelerator": note["accelerator"] if note else None,
            "ssh_config": self.place.ssh_config,
        }

    def remove(self) -> dict[str, Any]:
        """End the machines and remove the run folder; returns the module's results."""
        run_dir = self.place.run_dir
        if self.read_note() is None:
            return {"machines": {}}
        with self._alone():
            names = [name for name in os.listdir(run_dir) if os.path.exists(os.path.join(run_dir, name, "pid"))]
            found = [Machine(name, os.path.join(run_dir, name)) for name in sorted(names)]
            ended = {machine.name: {"pid": pid(machine)} for machine in found}
            self.commands += [f"kill {one['pid']}" for one in ended.values() if one["pid"]] + [f"rm -r {run_dir}"]
            if not self._dry:
                self._end_masters()
                for machine in found:
                    stop(machine)
                shutil.rmtree(run_dir)
                with contextlib.suppress(OSError):  # another lab is there
                    os.rmdir(os.path.dirname(run_dir))
        return {"machines": ended}

    def read_note(self) -> dict[str, Any] | None:
        """What an earlier run has noted."""
        try:
            with open(self.place.note_file, encoding="utf-8") as file:
                note: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LabFailure(
                f"{self.place.note_file} is damaged ({error}); end the lab's machines and remove it"
            ) from None
        if note.get("backend") != "qemu":
            raise LabFailure(f"{self.place.run_dir} holds a lab of another kind; take that down first")
        return note

    # Before the machines

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two runs for one lab take turns; a run that was interrupted may still be ending."""
        folder = os.path.dirname(self.place.run_dir)
        if self._dry and not os.path.isdir(folder):
            yield
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.path.join(folder, f".{self.place.name}.lock"), "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)

    def _claim(self, topology: Topology, image: Image) -> dict[str, Any]:
        """Note what is about to be made; a lab that was made with other cables is not changed under its guests."""
        old = self.read_note()
        note = {
            "name": self.place.name,
            "backend": "qemu",
            "vrf": "device",
            "accelerator": image.software.accelerator.value,
            "links": sorted(sorted([":".join(link.one), ":".join(link.two)]) for link in topology.links),
        }
        if old is not None and old["links"] != note["links"]:
            raise LabFailure(f"lab {self.place.name} was made with other links; take it down first")
        for folder in (self.place.run_dir, os.path.join(self.place.run_dir, "cables"), self.place.masters):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        _write(self.place.note_file, json.dumps(note, indent=1) + "\n")
        return note

    def _keys(self, made: list[Machine]) -> None:
        """A key for logging in, one for every machine, and the list by which the machines are recognised."""
        if self._dry:
            return
        make_key(self.place.login_key)
        known = ""
        for machine in made:
            os.makedirs(machine.folder, mode=0o700, exist_ok=True)
            make_key(_host_key(machine))
            known += f"{machine.name} {public_key(_host_key(machine))}\n"
        _write(self.place.known_hosts, known)

    def _write_ssh_config(self, ports: dict[str, int | None]) -> None:
        if self._dry:
            return
        text = "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {name}\n" for name, port in ports.items()
        )
        text += (
            f"Host *\n  User root\n  IdentityFile {_quoted(self.place.login_key)}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {_quoted(self.place.known_hosts)}\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n  PasswordAuthentication no\n  LogLevel ERROR\n"
        )
        _write(self.place.ssh_config, text)

    # A machine

    async def _bring_up(self, machine: Machine, host: Host, image: Image | None) -> int | None:
        """Start it if it does not run, make it the host it is to be, and wait for SSH. Returns the port."""
        begun = time.monotonic()

        def tell(what: str) -> None:
            self._tell(f"{machine.name}: {what} ({time.monotonic() - begun:.1f} s)")

        fresh = not _has_disk(machine)
        if pid(machine) is None:
            self.commands.append(f"start {machine.name}")
            if image is None:
                return None
            if fresh:
                overlay(machine.disk, image.disk)
            await start(machine, image.software, image.state if fresh else None)
            tell("goes on from the saved state" if fresh and image.state else "boots")
        async with agent(machine, self._seconds) as guest:
            if image is not None and not self._dry:
                await guest.execute("guest-set-time", {"time": time.time_ns()})
            await self._make_host(machine, host, guest, fresh=fresh and image is not None)
            tell("has its network")
        port = await self._forward(machine)
        await until(machine, lambda: _ssh_answers(port), self._seconds, "does not answer on SSH")
        tell("answers on SSH: ready")
        return port

    async def _make_host(self, machine: Machine, host: Host, guest: Any, *, fresh: bool) -> None:
        """Its files, then whatever of its network is missing."""
        host_key, login_key = private_key(_host_key(machine)), public_key(self.place.login_key)
        entries = identity(machine.name, host, host_key, login_key)
        have = await run(machine, guest, f"cat {DIGEST_FILE} 2>/dev/null || true")
        if have != entries[DIGEST_FILE].text:
            self.commands.append(f"{machine.name}: write {', '.join(entries)}")
            if not self._dry:
                await run(machine, guest, APPLY, archive(entries))
        present, settings = (set(), {}) if fresh else looked(await run(machine, guest, look_script(host)))
        lines = repair(host, present, settings)
        self.commands += [f"{machine.name}: {line}" for line in lines if line != "END"]
        if lines and not self._dry:
            cards = [interface.name for interface in host.interfaces]  # plugged in just now, maybe still on their way
            await run(machine, guest, "\n".join(["set -e", *map(wait_for, cards), *lines]))

    async def _forward(self, machine: Machine) -> int:
        """The port of 127.0.0.1 that leads to the machine's SSH; QEMU takes one that is free."""
        async with monitor(machine) as qmp:
            shown = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
            if _FORWARD.search(shown) is None:
                line = f"hostfwd_add management tcp:127.0.0.1:0-{MANAGEMENT_ADDRESS}:22"
                await qmp.execute("human-monitor-command", {"command-line": line})
                shown = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
        found = _FORWARD.search(shown)
        if found is None:
            raise MachineError(f"{machine.name}: QEMU forwards no port to its SSH: {shown.strip()}")
        return int(found.group(1))

    def _end_masters(self) -> None:
        """End the connections that Ansible's ssh has kept open to the machines."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.place.masters):
                words = ["ssh", "-o", f"ControlPath={os.path.join(self.place.masters, name)}", "-O", "exit", "machine"]
                subprocess.run(words, capture_output=True, timeout=10, check=False)


async def _all(work: Sequence[Awaitable[Any]]) -> list[Any]:
    """The results; what went wrong is told of every machine, when all are done."""
    results = await asyncio.gather(*work, return_exceptions=True)
    wrong = [result for result in results if isinstance(result, BaseException)]
    for error in wrong:
        if not isinstance(error, MachineError):
            raise error
    if wrong:
        raise MachineError("\n".join(map(str, wrong)))
    return results


async def _ssh_answers(port: int) -> bool:
    """Whether sshd says its name."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return (await asyncio.wait_for(reader.readline(), 5.0)).startswith(b"SSH-")
        finally:
            writer.close()
    except (OSError, asyncio.TimeoutError):
        return False


def _has_disk(machine: Machine) -> bool:
    return os.path.exists(machine.disk)


def _host_key(machine: Machine) -> str:
    return os.path.join(machine.folder, "ssh_host_ed25519_key")


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _write(path: str, text: str) -> None:
    """Replace a file in one step."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
