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
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ....module_utils._ynl_mirror.lab.plan import Host, Topology
from .guest import (
    APPLY,
    APPLY_CLOUD,
    DIGEST_FILE,
    archive,
    identity,
    lacks_script,
    look_script,
    looked,
    name_cards,
    repair,
    wait_for,
)
from .image import Image, forget_state, new_disk
from .keys import make_key, private_key, public_key
from .lock import Busy, locked
from .machine import KEPT, MANAGEMENT_ADDRESS, Accelerator, Machine, Software, machines, wrong
from .process import (
    MachineError,
    agent,
    end,
    last_words,
    monitor,
    pid,
    processes,
    run,
    start,
    status,
    until,
)
from .seed import seed
from .ssh import greets, lets_in, login, run_over_ssh

Tell = Callable[[str], None]
Shell = Callable[..., Awaitable[str]]  # a script, and what is given to it on its standard input
#: Somebody else may be building the image.
TURN_SECONDS = 1800.0
#: How long nothing is told before it is told that a machine is still at it.
QUIET_SECONDS = 15.0
#: QEMU's words for a machine that only has to be let go on.
HELD = ("paused", "io-error")
FOLDER = "ekho-lab"  # of labs, if nothing else is said; goes with the last one
FILES = ("lab.json", "ssh_config", "known_hosts", "id_ed25519", "inventory.yml")
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
        It is called only if there is a machine that has never been started.
        """
        made = machines(self.place.name, topology, self.place.run_dir)
        problem = wrong(topology, self.place.run_dir, made)
        if problem is not None:
            raise LabFailure(problem)
        with self._alone():
            note = self.read_note()
            links = sorted(sorted([":".join(link.one), ":".join(link.two)]) for link in topology.links)
            if note is not None and note["links"] != links:
                raise LabFailure(f"lab {self.place.name} was made with other links; take it down first")
            strange = self._strange()
            if note is None and strange:
                raise LabFailure(
                    f"{self.place.run_dir} holds {strange[0]}, which is nothing of a lab, and lab_down removes that "
                    "folder; choose one that is empty or not there (ekho_lab_run_dir)"
                )
            start_from: Image | None = None
            if not self._dry:
                if not all(map(_has_begun, made)):
                    start_from = await image(Accelerator(note["accelerator"]) if note else None)
                note = self._claim(note, links, start_from)
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
        """End the machines and remove the run folder, whatever state they are in; returns the module's results."""
        run_dir = self.place.run_dir
        if not os.path.isdir(run_dir) and not processes(run_dir):
            return {"machines": {}}
        with self._alone():
            if os.path.isdir(run_dir) and not self._is_lab():
                return {"machines": {}}
            found = processes(run_dir)
            folders = sorted(name for name in _listed(run_dir) if name not in KEPT)
            made = [Machine(f"ekho-{name}", os.path.join(run_dir, name)) for name in folders]
            ended = {one.name: {"pid": pid(one)} for one in made if os.path.isdir(one.folder)}
            self.commands += [f"kill {number}" for number, what in sorted(found.items()) if what == "qemu"]
            self.commands.append(f"rm -r {run_dir}")
            if not self._dry:
                end(found)
                shutil.rmtree(run_dir, ignore_errors=not os.path.isdir(run_dir))
        return {"machines": ended}

    def read_note(self) -> dict[str, Any] | None:
        """What an earlier run has noted."""
        try:
            with open(self.place.note_file, encoding="utf-8") as file:
                note: dict[str, Any] = json.load(file)
            if note["backend"] == "qemu":
                Accelerator(note["accelerator"])
                list(note["links"])
                return note
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LabFailure(
                f"{self.place.note_file} is damaged ({error}); take the lab down (make lab-down LAB=qemu), then bring "
                "it up again"
            ) from None
        raise LabFailure(f"{self.place.run_dir} holds a lab of another kind ({note['backend']}); take that down first")

    def _is_lab(self) -> bool:
        """Whether the run folder holds a lab of ours, or what is left of one; other folders are never removed."""
        try:
            if self.read_note() is not None:
                return True
        except LabFailure:
            if _is_whole_note(self.place.note_file):
                raise  # it is somebody else's
        strange = self._strange()
        if strange and os.path.exists(self.place.note_file):
            raise LabFailure(
                f"{self.place.note_file} is damaged, and {strange[0]} beside it is nothing that a lab makes; remove "
                f"{self.place.run_dir} yourself"
            )
        return not strange

    def _strange(self) -> list[str]:
        """What is in the run folder but not of a lab."""
        return sorted(name for name in _listed(self.place.run_dir) if not self._is_ours(name))

    def _is_ours(self, name: str) -> bool:
        folder = os.path.join(self.place.run_dir, name)
        marks = ("ssh_host_ed25519_key", "disk.qcow2", "software.json")
        known = name in KEPT or name.removesuffix(".new") in FILES
        return known or any(os.path.exists(os.path.join(folder, mark)) for mark in marks) or not _listed(folder, ["?"])

    # Before the machines

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two runs for one lab take turns; a run that was interrupted may still be ending."""
        folder = os.path.dirname(self.place.run_dir)
        if self._dry and not os.path.isdir(folder):
            yield
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.path.join(folder, f".{self.place.name}.lock")
        try:
            with locked(lock, self._tell, f"lab {self.place.name}", TURN_SECONDS, keep=False):
                yield
        except Busy as error:
            raise LabFailure(str(error)) from None
        finally:
            if os.path.basename(folder) == FOLDER:
                with contextlib.suppress(OSError):  # another lab is there, or this one
                    os.rmdir(folder)

    def _claim(self, old: dict[str, Any] | None, links: list[list[str]], image: Image | None) -> dict[str, Any]:
        """Note what is about to be made."""
        accelerator = image.software.accelerator.value if image is not None else (old or {})["accelerator"]
        os.makedirs(self.place.run_dir, mode=0o700, exist_ok=True)
        kind = {"backend": "qemu", "vrf": "device", "accelerator": accelerator}
        note = {"name": self.place.name, **kind, "links": links}
        _write(self.place.note_file, json.dumps(note, indent=1) + "\n")
        for folder in (os.path.join(self.place.run_dir, "cables"), self.place.masters):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        return note

    def _keys(self, made: list[Machine]) -> None:
        """A key for logging in, one for every machine, and the list by which the machines are recognised."""
        make_key(self.place.login_key)
        known = ""
        for machine in made:
            os.makedirs(machine.folder, mode=0o700, exist_ok=True)
            make_key(_host_key(machine))
            known += f"{machine.name} {public_key(_host_key(machine))}\n"
        self._keep_file(self.place.known_hosts, known)

    def _write_ssh_config(self, ports: dict[str, int | None]) -> None:
        text = "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {name}\n" for name, port in ports.items()
        )
        text += (
            f"Host *\n  User root\n  IdentityFile {_quoted(self.place.login_key)}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {_quoted(self.place.known_hosts)}\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n  PasswordAuthentication no\n  LogLevel ERROR\n"
        )
        self._keep_file(self.place.ssh_config, text)

    def _keep_file(self, path: str, text: str) -> None:
        """Write a file, if that is a change."""
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
        self.commands.append(f"write {path}")
        if not self._dry:
            _write(path, text)

    # A machine

    async def _bring_up(self, machine: Machine, host: Host, image: Image | None) -> int | None:
        """Start it if it does not run, make it the host it is to be, and wait for SSH. Returns the port."""
        async with self._story(machine) as tell:
            started = await self._run(machine, image, tell)
            if self._dry and started:
                return await self._forward(machine) if started == "held" else None
            cloud = _noted(machine).cloud
            async with self._shell(machine, cloud=cloud) as shell:
                if started:
                    tell("booted")
                changed = await self._make_host(machine, host, shell, fresh=started == "fresh", cloud=cloud)
                if started or changed:
                    tell("has its network" if started else "lacks something" if self._dry else "is repaired")
            port = await self._forward(machine)
            if port is None:
                return None
            await until(machine, lambda: greets(port), self._seconds, "does not answer on SSH")
            tell("answers on SSH: ready" if started else "runs")
        return port

    @contextlib.asynccontextmanager
    async def _shell(self, machine: Machine, *, cloud: bool) -> AsyncIterator[Shell]:
        """What runs scripts in the guest as root: its agent, or SSH to a cloud image. Waits until there is one."""
        if not cloud:
            async with agent(machine, self._seconds) as guest:
                if not self._dry:
                    await guest.execute("guest-set-time", {"time": time.time_ns()})
                yield partial(run, machine, guest)
            return
        port = await self._forward(machine)
        if port is None:
            raise MachineError(f"{machine.name}: no port leads to its SSH yet")
        words = login(machine.name, port, self.place.login_key, self.place.known_hosts)
        otherwise = "does not let SSH in; the image has to have cloud-init (with NoCloud) and an SSH server"
        await until(machine, lambda: lets_in(words), self._seconds, otherwise)
        yield partial(run_over_ssh, machine, words)

    @contextlib.asynccontextmanager
    async def _story(self, machine: Machine) -> AsyncIterator[Tell]:
        """Tells how a machine comes up, with its name and the seconds, and from time to time that it is still at it."""
        begun = told = time.monotonic()

        def tell(what: str) -> None:
            nonlocal told
            told = time.monotonic()
            self._tell(f"{machine.name:<12} {told - begun:5.1f} s  {what}")

        async def remind() -> None:
            while True:
                await asyncio.sleep(max(0.1, told + QUIET_SECONDS - time.monotonic()))
                if time.monotonic() >= told + QUIET_SECONDS:
                    said = last_words(machine)[:80]
                    tell(f"is still at it; its console: {said}" if said else "is still at it")

        reminder = asyncio.create_task(remind())
        try:
            yield tell
        finally:
            reminder.cancel()

    async def _run(self, machine: Machine, image: Image | None, tell: Tell) -> str:
        """Have it run. Returns how.

        ``""``: it did; ``held``: it goes on; ``again``: it boots from its disk; ``fresh``: it goes on from the saved
        state, where nothing of the lab is yet.
        """
        if pid(machine) is not None and _has_begun(machine):
            now = await status(machine)
            if now == "running":
                return ""
            if now in HELD:
                self.commands.append(f"continue {machine.name}")
                if not self._dry:
                    tell(f"goes on (it was {now})")
                    async with monitor(machine) as qmp:
                        await qmp.execute("cont")
                return "held"
        self.commands.append(f"start {machine.name}")
        if self._dry:
            return "again"
        if _has_begun(machine):
            tell("boots again, from its disk")
            await start(machine, _begun_with(machine))
            return "again"
        if image is None:  # it was there when this run began
            raise MachineError(f"{machine.name}: its files have been removed meanwhile; run this again")
        return await self._start_fresh(machine, image, tell)

    async def _start_fresh(self, machine: Machine, image: Image, tell: Tell) -> str:
        """Start it for the first time, or for the first time that succeeds."""
        end(processes(machine.folder))
        new_disk(image, machine.disk)
        software = image.software
        if software.cloud:
            keys = private_key(_host_key(machine)), public_key(_host_key(machine)), public_key(self.place.login_key)
            _write(machine.seed, seed(machine.name, *keys))
            software = replace(software, drives=(machine.seed,))
        how = "fresh"
        try:
            tell("goes on from the saved state" if image.state else "boots")
            await start(machine, software, image.state)
        except MachineError as error:
            if image.state is None:
                raise
            how = "again"
            tell(f"cannot go on from the saved state ({' '.join(str(error).split())[:160]}), so it boots")
            await start(machine, software)
            forget_state(image)
        _write(machine.software_file, software.to_json())
        return how

    async def _make_host(self, machine: Machine, host: Host, shell: Shell, *, fresh: bool, cloud: bool) -> bool:
        """Its files, then whatever of its network is missing. Whether there was anything to do."""
        if not all(map(os.path.exists, (_host_key(machine), self.place.login_key))):  # in check mode
            self.commands.append(f"{machine.name}: write its keys")
            return True
        before = len(self.commands)
        host_key, login_key = private_key(_host_key(machine)), public_key(self.place.login_key)
        named = {nic.name: nic.mac for nic in machine.nics} if cloud else None
        entries = identity(machine.name, host, host_key, login_key, named)
        have = await shell(f"cat {DIGEST_FILE} 2>/dev/null || true")
        if have != entries[DIGEST_FILE].text:
            self.commands.append(f"{machine.name}: write {', '.join(entries)}")
            if not self._dry:
                if named is not None:
                    await _check_image(machine, shell)
                await shell(APPLY if named is None else "\n".join([APPLY_CLOUD, *name_cards(named)]), archive(entries))
        present, settings = (set(), {}) if fresh else looked(await shell(look_script(host)))
        lines = repair(host, present, settings)
        self.commands += [f"{machine.name}: {line}" for line in lines if line != "END"]
        if lines and not self._dry:
            cards = [interface.name for interface in host.interfaces]  # plugged in just now, maybe still on their way
            await shell("\n".join(["set -e", *map(wait_for, cards), *lines]))
        return len(self.commands) > before

    async def _forward(self, machine: Machine) -> int | None:
        """The port of 127.0.0.1 that leads to the machine's SSH; QEMU takes one that is free."""
        async with monitor(machine) as qmp:
            shown = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
            if _FORWARD.search(shown) is None:
                self.commands.append(f"{machine.name}: forward a port of 127.0.0.1 to SSH")
                if self._dry:
                    return None
                line = f"hostfwd_add management tcp:127.0.0.1:0-{MANAGEMENT_ADDRESS}:22"
                await qmp.execute("human-monitor-command", {"command-line": line})
                shown = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
        found = _FORWARD.search(shown)
        if found is None:
            raise MachineError(f"{machine.name}: QEMU forwards no port to its SSH: {shown.strip()}")
        return int(found.group(1))


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


async def _check_image(machine: Machine, shell: Shell) -> None:
    lacking = (await shell(lacks_script())).split()
    if lacking:
        raise MachineError(
            f"{machine.name}: the image lacks {', '.join(lacking)}, and the lab's machines reach no package index; add "
            "them to the image"
        )


def _has_begun(machine: Machine) -> bool:
    """Whether it has been started with its disk. What an interrupted run has left of a start does not count."""
    return os.path.exists(machine.software_file) and os.path.exists(machine.disk)


def _noted(machine: Machine) -> Software:
    """What it was started from."""
    try:
        with open(machine.software_file, encoding="utf-8") as file:
            return Software.from_json(file.read())
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(
            f"{machine.name}: {machine.software_file} is damaged ({error}); take the lab down, then bring it up again"
        ) from None


def _begun_with(machine: Machine) -> Software:
    """The same, and it is still there."""
    software = _noted(machine)
    for path in (software.kernel, software.initrd, *software.drives):
        if path is not None and not os.path.exists(path):
            raise MachineError(
                f"{machine.name} was started from {path}, which is gone; take the lab down, then bring it up again"
            )
    return software


def _is_whole_note(path: str) -> bool:
    """Whether a lab's note tells of which backend it is."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        note = json.load(file)
        return isinstance(note, dict) and note.get("backend") not in (None, "qemu")
    return False


def _listed(folder: str, otherwise: Sequence[str] = ()) -> list[str]:
    """The names in a folder; OTHERWISE when it is none."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return list(otherwise)


def _host_key(machine: Machine) -> str:
    return os.path.join(machine.folder, "ssh_host_ed25519_key")


def _quoted(path: str) -> str:
    """A path in OpenSSH's configuration, where a per cent sign begins something else."""
    path = path.replace("%", "%%")
    return f'"{path}"' if " " in path else path


def _write(path: str, content: str | bytes) -> None:
    """Replace a file in one step."""
    with open(path + ".new", "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.replace(path + ".new", path)
