# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates, repairs and removes the network namespaces of a lab with iproute2, following `plan`.

Every step reads the current state first and adds only what is missing: the next run completes an interrupted one. The
lab's namespaces are recorded in ``RUN_DIR/lab.json`` before they are created; no other namespace is ever touched.
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
STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL
PACKAGES = {"ip": "iproute2", "sysctl": "procps", "unshare": "util-linux"}

# A command line and its standard input -> exit code, standard output, standard error.
Run = Callable[..., "tuple[int, str, str]"]


class LabFailure(Exception):
    """The lab could not be created or removed; the message names the item and the fix."""


class Lab:
    """A lab; ``commands`` lists what was done, or with ``dry`` what would have been done."""

    def __init__(self, name: str, run_dir: str, run: Run, dry: bool = False) -> None:
        self.name = name
        self.run_dir = run_dir
        self.record_file = os.path.join(run_dir, "lab.json")
        self.commands: list[str] = []
        self._run = run
        self._dry = dry
        for program, package in PACKAGES.items():
            if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
                raise LabFailure(f"program {program} is missing; install package {package}")

    def make(self, topology: Topology, kind: VrfKind | None) -> dict[str, Any]:
        """Create or repair the lab; ``kind`` None: as recorded, else by trying. Returns the module's results."""
        names = {host.name: host.namespace for host in topology.hosts}
        with self._alone():
            record = self._claim(list(names.values()))
            if kind is None:
                kind, reason = self._decide(record)
            else:
                reason = "as requested"
            self._record(kind, reason, names)
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
        """Stop what runs in the lab's namespaces, remove them and the run folder. Returns the module's results."""
        record = self._read_record()
        if record is None:
            return {"namespaces": {}, "stopped": []}
        present = {host: ns for host, ns in record["namespaces"].items() if ns in self._present()}
        with self._alone():
            self._not_inside(list(present.values()))
            stopped = self._stop(list(present.values()))
            for namespace in present.values():
                self._do(["ip", "netns", "delete", namespace])
            self.commands.append(f"rm -r {self.run_dir}")
            if not self._dry:
                shutil.rmtree(self.run_dir)
                with suppress(OSError):  # another lab uses it
                    os.rmdir(os.path.dirname(self.run_dir))
        return {"namespaces": record["namespaces"], "stopped": stopped}

    # The lab's record, and who owns namespaces

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Runs for labs in the same folder take turns; an interrupted run may still be finishing."""
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
        """The record of an earlier run. Namespaces of these names that are not in it belong to something else."""
        record = self._read_record()
        mine = set(record["namespaces"].values()) if record else set()
        foreign = sorted(self._present().intersection(namespaces).difference(mine))
        if foreign:
            raise LabFailure(
                f"network namespace {', '.join(foreign)} exists and does not belong to this lab; give the lab another "
                f"name (ekho_lab_name), or remove it with: ip netns delete {foreign[0]}"
            )
        self._not_inside(namespaces)
        return record

    def _read_record(self) -> dict[str, Any] | None:
        try:
            with open(self.record_file, encoding="utf-8") as file:
                record: dict[str, Any] = json.load(file)
                return record
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LabFailure(f"{self.record_file} is damaged ({error}); remove it and the lab's namespaces") from error

    def _record(self, kind: VrfKind, reason: str, names: dict[str, str]) -> None:
        """Record what is about to be created, in one step: no interruption leaves an incomplete file."""
        old = self._read_record()
        made_of = {"vrf": kind.value, "vrf_reason": reason}
        record = {"name": self.name, **made_of, "namespaces": {**(old or {}).get("namespaces", {}), **names}}
        if old == record or self._dry:
            return
        os.makedirs(self.run_dir, mode=0o755, exist_ok=True)
        with open(self.record_file + ".new", "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
        os.replace(self.record_file + ".new", self.record_file)

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
                raise LabFailure(
                    f"this command runs inside the lab's namespace {namespace}; exit that shell and run it again"
                )

    # Creating

    def _decide(self, record: dict[str, Any] | None) -> tuple[VrfKind, str]:
        """VRF devices or rules: as recorded, otherwise by trying to create a VRF device.

        ``unshare --net`` creates a nameless namespace for it, which ends with the command.
        """
        if record:
            return VrfKind(record["vrf"]), record["vrf_reason"]
        trial = ["unshare", "--net", "ip", "link", "add", "trial", "type", "vrf", "table", "10"]
        code, _out, complaint = self._run(trial)
        if code == 0:
            return VrfKind.DEVICE, "this kernel has VRF devices"
        return VrfKind.RULES, f"this kernel has no VRF devices ({complaint.strip()})"

    def _settings(self, host: Host, kind: VrfKind, existed: bool) -> None:
        """Kernel settings come before the links, which inherit some of them when they are created."""
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
        """Create a link unless its two ends exist and are peers; a single or wrong end is replaced."""
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
        """Create everything inside a host in up to three batches: VRFs, addresses, routes, and rules by family."""
        present = set() if fresh or (self._dry and not self._exists(host)) else self._observe(host)
        for option, lines in missing(wanted(host, kind), present).items():
            ip = ["ip", *([option] if option else []), "-n", host.namespace]
            self.commands += [f"{' '.join(ip)} {line}" for line in lines]
            if self._dry:
                continue
            code, _out, complaint = self._run([*ip, "-batch", "-"], data="\n".join(lines) + "\n")
            if code:
                raise LabFailure(f"namespace {host.namespace}: {_with_line(complaint, lines)}")

    @staticmethod
    def _exists(host: Host) -> bool:
        return os.path.exists(os.path.join(NETNS_DIR, host.namespace))

    def _observe(self, host: Host) -> set[tuple[object, ...]]:
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
        """Stop the processes in these namespaces, by SIGKILL if need be. Returns them as ``PID COMMAND``."""
        pids = [pid for namespace in namespaces for pid in self._pids(namespace)]
        stopped = [f"{pid} {_command_line(pid)}" for pid in pids]
        self.commands += [f"kill {line}" for line in stopped]
        if self._dry:
            return stopped
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            deadline = time.monotonic() + seconds
            # Read again: a supervisor may have started another child.
            left = [pid for namespace in namespaces for pid in self._pids(namespace)]
            for pid in left:
                _signal(pid, number)
            while left and time.monotonic() < deadline:
                time.sleep(0.05)
                left = [pid for namespace in namespaces for pid in self._pids(namespace)]
        return stopped

    def _pids(self, namespace: str) -> list[int]:
        return [int(pid) for pid in self._ask(["ip", "netns", "pids", namespace]).split()]

    # Commands

    def _ask(self, command: list[str]) -> str:
        """Run a command that changes nothing."""
        code, out, complaint = self._run(command)
        if code:
            raise LabFailure(f"{' '.join(command)}: {complaint.strip() or out.strip()}")
        return out

    def _do(self, command: list[str]) -> None:
        self.commands.append(" ".join(command))
        if not self._dry:
            self._ask(command)


def _with_line(complaint: str, lines: list[str]) -> str:
    """Add the line itself to an error of a batch, which has only its number."""
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
