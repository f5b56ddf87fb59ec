# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes, repairs and removes the network namespaces of a lab with iproute2, after the plan of `lab_plan`.

Every step looks first and adds only what is missing, so that a run that was interrupted anywhere is finished by the
next one. What the lab made is noted in ``RUN_DIR/lab.json`` before it is made: only such namespaces are ever touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .plan import Host, Link, Topology, VrfKind, missing, observed, peers, wanted, wanted_sysctls

NETNS_DIR = "/run/netns"
STOP_SECONDS = 5.0  # what a process has between SIGTERM and SIGKILL
PACKAGES = {"ip": "iproute2", "sysctl": "procps", "unshare": "util-linux"}

# A command line and its standard input -> exit code, standard output, standard error.
Run = Callable[..., "tuple[int, str, str]"]


class LabFailure(Exception):
    """The lab could not be made or removed; the message names the item and the way out."""


class Lab:
    """One lab by name; ``commands`` collects what was done, or with ``dry`` what would have been."""

    def __init__(self, name: str, run_dir: str, run: Run, dry: bool = False) -> None:
        self.name = name
        self.run_dir = run_dir
        self.note_file = os.path.join(run_dir, "lab.json")
        self.commands: list[str] = []
        self._run = run
        self._dry = dry
        for program, package in PACKAGES.items():
            if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
                raise LabFailure(f"the program {program} is missing; install the package {package}")

    def make(self, topology: Topology, kind: VrfKind | None) -> dict[str, Any]:
        """Make or repair; ``kind`` None decides by the lab's note or else by trying. Returns the module's results."""
        names = {host.name: host.namespace for host in topology.hosts}
        with self._alone():
            note = self._claim(list(names.values()))
            if kind is None:
                kind, reason = self._decide(note)
            else:
                reason = "asked for"
            self._note(kind, reason, names)
            present = self._present()
            for host in topology.hosts:
                if host.namespace not in present:
                    self._do(["ip", "netns", "add", host.namespace])
                self._settings(host, kind, host.namespace in present)
            fresh = {namespace for namespace in names.values() if namespace not in present}
            before = {host.name: [] if host.namespace in fresh else self._addresses(host) for host in topology.hosts}
            for link in topology.links:
                self._cable(topology, link, before)
            for host in topology.hosts:
                self._fill(host, kind, host.namespace in fresh)
        return {"namespaces": names, "vrf": kind.value, "vrf_reason": reason}

    def remove(self) -> dict[str, Any]:
        """End what runs in the lab's namespaces, then remove them and the run folder. Returns the module's results."""
        note = self._read_note()
        if note is None:
            return {"namespaces": {}, "stopped": []}
        present = {host: ns for host, ns in note["namespaces"].items() if ns in self._present()}
        with self._alone():
            self._not_inside(list(present.values()))
            stopped = self._stop(list(present.values()))
            for namespace in present.values():
                self._do(["ip", "netns", "delete", namespace])
            self.commands.append(f"rm -r {self.run_dir}")
            if not self._dry:
                shutil.rmtree(self.run_dir)
                with suppress(OSError):  # another lab is there
                    os.rmdir(os.path.dirname(self.run_dir))
        return {"namespaces": note["namespaces"], "stopped": stopped}

    # The lab's note, and whose the namespaces are

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two runs for labs of one folder take turns; a run that was interrupted may still be ending."""
        folder = os.path.dirname(self.run_dir)
        if self._dry and not os.path.isdir(folder):
            yield
            return
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _claim(self, namespaces: list[str]) -> dict[str, Any] | None:
        """The note of an earlier run; without one nobody may hold the names that the lab is about to take."""
        note = self._read_note()
        mine = set(note["namespaces"].values()) if note else set()
        foreign = sorted(self._present().intersection(namespaces).difference(mine))
        if foreign:
            raise LabFailure(
                f"network namespace {', '.join(foreign)} exists and is not of this lab; give the lab another name "
                f"(ekho_lab_name), or remove it with: ip netns delete {foreign[0]}"
            )
        self._not_inside(namespaces)
        return note

    def _read_note(self) -> dict[str, Any] | None:
        try:
            with open(self.note_file, encoding="utf-8") as file:
                note: dict[str, Any] = json.load(file)
                return note
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LabFailure(f"{self.note_file} is damaged ({error}); remove it and the lab's namespaces") from error

    def _note(self, kind: VrfKind, reason: str, names: dict[str, str]) -> None:
        """Write down what is about to be made, in one step, so that no interruption leaves half a note."""
        old = self._read_note()
        note = {"name": self.name, "vrf": kind.value, "vrf_reason": reason}
        note_now = {**note, "namespaces": {**(old or {}).get("namespaces", {}), **names}}
        if old == note_now or self._dry:
            return
        os.makedirs(self.run_dir, mode=0o755, exist_ok=True)
        with open(self.note_file + ".new", "w", encoding="utf-8") as file:
            json.dump(note_now, file, indent=1)
        os.replace(self.note_file + ".new", self.note_file)

    @staticmethod
    def _present() -> set[str]:
        try:
            return set(os.listdir(NETNS_DIR))
        except FileNotFoundError:
            return set()

    @staticmethod
    def _not_inside(namespaces: list[str]) -> None:
        here = os.stat("/proc/self/ns/net").st_ino
        for namespace in namespaces:
            path = os.path.join(NETNS_DIR, namespace)
            if os.path.exists(path) and os.stat(path).st_ino == here:
                raise LabFailure(f"this runs inside the lab's namespace {namespace}; leave it (exit) and run it again")

    # Making

    def _decide(self, note: dict[str, Any] | None) -> tuple[VrfKind, str]:
        """VRF devices or rules: as the lab was made, else by making a VRF device where it is gone at once.

        ``unshare --net`` gives a namespace without a name, which ends with the command.
        """
        if note:
            return VrfKind(note["vrf"]), note["vrf_reason"]
        trial = ["unshare", "--net", "ip", "link", "add", "trial", "type", "vrf", "table", "10"]
        code, _out, complaint = self._run(trial)
        if code == 0:
            return VrfKind.DEVICE, "this kernel has VRF devices"
        return VrfKind.RULES, f"this kernel has no VRF devices ({complaint.strip()})"

    def _settings(self, host: Host, kind: VrfKind, existed: bool) -> None:
        """Kernel settings come before the links, which inherit some of them when they appear."""
        want = wanted_sysctls(host, kind)
        have: dict[str, str] = {}
        if existed and want:
            out = self._ask(["ip", "netns", "exec", host.namespace, "sysctl", "-e", *want])
            pairs = (line.partition("=") for line in out.splitlines())
            have = {key.strip(): value.strip() for key, _equals, value in pairs}
        change = [f"{key}={value}" for key, value in want.items() if have.get(key) != value]
        if change:
            self._do(["ip", "netns", "exec", host.namespace, "sysctl", "-q", "-w", *change])

    def _cable(self, topology: Topology, link: Link, addresses: dict[str, list[Any]]) -> None:
        """Lay a cable unless both ends are there and know each other; a single or wrong end is replaced."""
        ends = [(topology.host(host), interface) for host, interface in (link.one, link.two)]
        seen = [peers(addresses[host.name]).get(interface) for host, interface in ends]
        if seen[0] and seen[1] and seen[0] == tuple(reversed(seen[1])):
            return
        for (host, interface), end in zip(ends, seen):
            if end:
                self._do(["ip", "-n", host.namespace, "link", "delete", interface])
        (one, first), (two, second) = ends
        line = ["ip", "link", "add", first, "netns", one.namespace, "type", "veth"]
        self._do([*line, "peer", "name", second, "netns", two.namespace])

    def _fill(self, host: Host, kind: VrfKind, fresh: bool) -> None:
        """Everything inside a host in a batch or three: VRFs, addresses, routes, and the rules of each family."""
        present = set() if fresh or (self._dry and not self._exists(host)) else self._look(host)
        for option, lines in missing(wanted(host, kind), present).items():
            ip = ["ip", *([option] if option else []), "-n", host.namespace]
            self.commands += [f"{' '.join(ip)} {line}" for line in lines]
            if self._dry:
                continue
            code, _out, complaint = self._run([*ip, "-batch", "-"], data="\n".join(lines) + "\n")
            if code:
                raise LabFailure(f"in namespace {host.namespace}: {_with_line(complaint, lines)}")

    @staticmethod
    def _exists(host: Host) -> bool:
        return os.path.exists(os.path.join(NETNS_DIR, host.namespace))

    def _look(self, host: Host) -> set[tuple[object, ...]]:
        read: dict[str, dict[int, Any]] = {"route": {}, "rule": {}}
        for family in (4, 6):
            ip = ["ip", f"-{family}", "-n", host.namespace, "-d", "-N", "-j"]
            read["route"][family] = json.loads(self._ask([*ip, "route", "show", "table", "all"]) or "[]")
            read["rule"][family] = json.loads(self._ask([*ip, "rule", "show"]) or "[]")
        return observed(self._addresses(host), read["route"], read["rule"])

    def _addresses(self, host: Host) -> list[Any]:
        if self._dry and not self._exists(host):
            return []
        shown: list[Any] = json.loads(self._ask(["ip", "-n", host.namespace, "-d", "-j", "address"]) or "[]")
        return shown

    # Removing

    def _stop(self, namespaces: list[str]) -> list[str]:
        """End the processes of these namespaces: politely, then for good. Returns them as ``PID COMMAND``."""
        pids = [pid for namespace in namespaces for pid in self._pids(namespace)]
        told = [f"{pid} {_command_line(pid)}" for pid in pids]
        self.commands += [f"kill {line}" for line in told]
        if self._dry:
            return told
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            deadline = time.monotonic() + seconds
            # Read again: a supervisor may have started a child since.
            left = [pid for namespace in namespaces for pid in self._pids(namespace)]
            for pid in left:
                _signal(pid, number)
            while left and time.monotonic() < deadline:
                time.sleep(0.05)
                left = [pid for namespace in namespaces for pid in self._pids(namespace)]
        return told

    def _pids(self, namespace: str) -> list[int]:
        return [int(pid) for pid in self._ask(["ip", "netns", "pids", namespace]).split()]

    # Commands

    def _ask(self, command: list[str]) -> str:
        """Run a command that only reads."""
        code, out, complaint = self._run(command)
        if code:
            raise LabFailure(f"{' '.join(command)}: {complaint.strip() or out.strip()}")
        return out

    def _do(self, command: list[str]) -> None:
        self.commands.append(" ".join(command))
        if not self._dry:
            self._ask(command)


def _with_line(complaint: str, lines: list[str]) -> str:
    """A batch tells the number of the line that failed; say the line itself as well."""
    text = complaint.strip()
    number = text.rpartition("-:")[2]
    return f"{text} ({lines[int(number) - 1]})" if number.isdigit() and int(number) <= len(lines) else text


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return "(ended)"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
