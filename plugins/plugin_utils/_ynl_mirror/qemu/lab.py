# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of virtual machines: creates it, repairs it, removes it.

Every step reads the current state first and does only what is missing: the next run completes an interrupted one.
Everything that belongs to a lab is in its run folder: a folder for each machine, the cables, the keys, and the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from ....module_utils._ynl_mirror.lab.plan import Topology
from .bring_up import BringUp, has_started
from .image import Image
from .lock import Busy, locked
from .machine import KEPT, Accelerator, Machine, Progress, machines, wrong
from .place import FOLDER, LabFailure, Place, listed, read_public, write
from .process import MachineError, end, pid, processes

#: Another run may be building the image.
TURN_SECONDS = 1800.0


class Lab:
    """One lab; ``commands`` lists what was done, or with ``dry`` what would have been done."""

    def __init__(self, place: Place, progress: Progress, *, dry: bool = False, seconds: float = 180.0) -> None:
        self.place = place
        self.commands: list[str] = []
        self._progress = progress
        self._dry = dry
        self._seconds = seconds

    async def make(self, topology: Topology, image: Callable[[Accelerator | None], Any]) -> dict[str, Any]:
        """Create or repair the lab; returns the module's results.

        IMAGE is awaited with the accelerator that the lab was created with (None: choose one) and returns the `Image`
        to start from. It is called only if a machine has never been started.
        """
        made = machines(self.place.name, topology, self.place.run_dir)
        problem = wrong(topology, self.place.run_dir, made)
        if problem is not None:
            raise LabFailure(problem)
        with self._alone():
            links = sorted(sorted([":".join(link.one), ":".join(link.two)]) for link in topology.links)
            record = self._checked(links, made)
            start_from: Image | None = None
            if not self._dry:
                if not all(map(has_started, made)):
                    start_from = await image(Accelerator(record["accelerator"]) if record else None)
                record = self._claim(record, links, start_from)
                self._write_known_hosts(made)
            work = [self._bring_up(machine).run(host, start_from) for machine, host in zip(made, topology.hosts)]
            ports = dict(zip([machine.name for machine in made], await _all(work)))
            self._write_ssh_config(ports)
        return {
            "machines": {machine.name: {"ssh_port": ports[machine.name], "pid": pid(machine)} for machine in made},
            "accelerator": record["accelerator"] if record else None,
            "ssh_config": self.place.ssh_config,
        }

    def remove(self) -> dict[str, Any]:
        """Stop the machines and remove the run folder, whatever state they are in; returns the module's results."""
        run_dir = self.place.run_dir
        if not os.path.isdir(run_dir) and not processes(run_dir):
            return {"machines": {}}
        with self._alone():
            if os.path.isdir(run_dir) and not self.place.is_lab():
                return {"machines": {}}
            found = processes(run_dir)
            folders = sorted(name for name in listed(run_dir) if name not in KEPT)
            made = [Machine(f"ekho-{name}", os.path.join(run_dir, name)) for name in folders]
            stopped = {one.name: {"pid": pid(one)} for one in made if os.path.isdir(one.folder)}
            self.commands += [f"kill {number}" for number, what in sorted(found.items()) if what == "qemu"]
            self.commands.append(f"rm -r {run_dir}")
            if not self._dry:
                end(found)
                shutil.rmtree(run_dir, ignore_errors=not os.path.isdir(run_dir))
        return {"machines": stopped}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two runs for one lab take turns; an interrupted run may still be finishing."""
        folder = os.path.dirname(self.place.run_dir)
        if self._dry and not os.path.isdir(folder):
            yield
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.path.join(folder, f".{self.place.name}.lock")
        try:
            with locked(lock, self._progress, f"lab {self.place.name}", TURN_SECONDS, keep=False):
                yield
        except Busy as error:
            raise LabFailure(str(error)) from None
        finally:
            if os.path.basename(folder) == FOLDER:
                with contextlib.suppress(OSError):  # this or another lab is in it
                    os.rmdir(folder)

    def _checked(self, links: list[list[str]], made: Sequence[Machine]) -> dict[str, Any] | None:
        """The record of an earlier run, unless something prevents this one."""
        record = self.place.read_record()
        if record is not None and record["links"] != links:
            raise LabFailure(f"lab {self.place.name} was created with other links; take it down first")
        foreign = self.place.foreign()
        if record is None and foreign:
            raise LabFailure(
                f"{self.place.run_dir} contains {foreign[0]}, which does not belong to a lab; choose a new or an empty "
                "folder (ekho_lab_run_dir), because lab_down removes it"
            )
        key = None if self._dry else self.place.missing_key(made)
        if key is not None:
            raise LabFailure(f"there is no SSH key {key}; create it with community.crypto.openssh_keypair")
        return record

    def _claim(self, old: dict[str, Any] | None, links: list[list[str]], image: Image | None) -> dict[str, Any]:
        """Record what is about to be created."""
        accelerator = image.software.accelerator.value if image is not None else (old or {})["accelerator"]
        os.makedirs(self.place.run_dir, mode=0o700, exist_ok=True)
        kind = {"backend": "qemu", "vrf": "device", "accelerator": accelerator}
        record = {"name": self.place.name, **kind, "links": links}
        write(self.place.record_file, json.dumps(record, indent=1) + "\n")
        for folder in (os.path.join(self.place.run_dir, "cables"), self.place.masters):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        return record

    def _write_known_hosts(self, made: Sequence[Machine]) -> None:
        lines = [f"{machine.name} {read_public(self.place.key(machine.name))}\n" for machine in made]
        self._keep_file(self.place.known_hosts, "".join(lines))

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
        """Write a file if its content changes."""
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
        self.commands.append(f"write {path}")
        if not self._dry:
            write(path, text)

    def _bring_up(self, machine: Machine) -> BringUp:
        return BringUp(self.place, machine, self.commands, self._progress, dry=self._dry, seconds=self._seconds)


async def _all(work: Sequence[Awaitable[Any]]) -> list[Any]:
    """The results; once all are done, an error with the failures of every machine."""
    results = await asyncio.gather(*work, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, MachineError):
            raise failure
    if failures:
        raise MachineError("\n".join(map(str, failures)))
    return results


def _quoted(path: str) -> str:
    """A path in OpenSSH's configuration, where a per cent sign starts a token."""
    path = path.replace("%", "%%")
    return f'"{path}"' if " " in path else path
