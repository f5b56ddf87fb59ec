# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ekho lab of virtual machines, watched from outside: plays, shells on its machines, pings, traceroutes, reboots.

The machines are emulated and slow, so a shell over a connection that stays open does what needs no Ansible.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import COLLECTIONS, run_tool
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

SECONDS = 300.0  # the most that anything takes, on a machine that is busy: a reboot
PLAY_SECONDS = 900.0  # and a play
DPU, HOST = "ekho-dpu", "ekho-host"
#: Who traces whom.
WAYS = {"ekho-host-a": ("192.168.12.2", "fd00:12::2"), "ekho-host-b": ("192.168.11.2", "fd00:11::2")}
#: Who pings whom: each direction and each family once, since every packet costs emulated machines time.
PINGED = {"ekho-host-a": "192.168.12.2", "ekho-host-b": "fd00:11::2"}
#: What each end host has on the other side of the DPU: addresses of the other VRF, which packets reach over the host.
FAR_SIDE = {"ekho-host-a": ("192.168.12.1", "fd00:12::1"), "ekho-host-b": ("192.168.11.1", "fd00:11::1")}
HOPS_TO_FAR_SIDE = 3
#: A reply that has passed one router, the DPU, has this left of the 64 that Linux starts with.
TTL_OF_TWO_HOPS = 63
#: What the system writes by itself (/etc/passwd-: the accounts before their last change), and Ansible's own folder.
_SYSTEMS_OWN = ("/proc", "/sys", "/dev", "/run", "/tmp", "/etc/*-", "/var/log", "/var/lib/systemd", "/root/.ansible")
_NOT_OURS = r"\( " + " -o ".join(f"-path '{path}'" for path in _SYSTEMS_OWN) + r" \) -prune -o"
#: A folder's size says nothing of what is in it now.
_DESCRIBED = r"\( -type d -printf '%y %m %u:%g %p\n' -o -printf '%y %m %u:%g %s %p %l\n' \)"
_CHANGED = re.compile(r"^TASK \[(?:.* : )?(.*)\] \*+$|^changed: \[([^\]]*)\]", re.MULTILINE)
_REPLY = re.compile(r"icmp_seq=(\d+) ttl=(\d+)")
_HOP = re.compile(r"^ *(\d+)  (\S+)", re.MULTILINE)
_BOOT = "cat /proc/sys/kernel/random/boot_id"


@dataclass
class Pings:
    """The replies to pings between the end hosts: by destination, their numbers and what is left of their TTL."""

    replies: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, list[int]]:
        """Numbers without a reply, by destination. One that is still on its way at the end is not lost."""
        lost = {}
        for destination, replies in self.replies.items():
            answered = {number for number, _ttl in replies}
            lost[destination] = sorted(set(range(1, max(answered, default=0))) - answered)
        return lost

    @property
    def ttls(self) -> set[int]:
        """All that replies have had left."""
        return {ttl for replies in self.replies.values() for _number, ttl in replies}

    @property
    def fewest(self) -> int:
        """How many replies came from the destination that sent the fewest."""
        return min(map(len, self.replies.values()))


class QemuMirrorLab:
    """A lab that is there or about to be made."""

    def __init__(self, name: str) -> None:
        self.name = name
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        self.run_dir = Path(base, "ekho-lab", name)

    def play(self, playbook: str, *options: str, collections: Path = COLLECTIONS) -> str:
        """Play a playbook of the collection, with the lab's inventory file; returns what Ansible printed."""
        return run_tool(
            "ansible-playbook",
            f"--inventory={self.run_dir / 'inventory.yml'}",
            "--extra-vars=ekho_lab_backend=qemu",
            f"--extra-vars=ekho_lab_name={self.name}",
            *options,
            f"ekho.ynl_mirror.{playbook}",
            seconds=PLAY_SECONDS,
            env={"ANSIBLE_COLLECTIONS_PATH": str(collections)},
        )

    def molecule(self, step: str) -> str:
        """One step of the Molecule scenario `qemu`, which is this lab's."""
        return run_tool("molecule", step, "-s", "qemu", seconds=PLAY_SECONDS, env={"EKHO_MOLECULE_LAB": self.name})

    def shell(self, machine: str, script: str, seconds: float = SECONDS) -> str:
        """What a script prints on a machine; AssertionError when it fails there."""
        # Not a pipe: the connection that stays open keeps it, and nobody would see its end.
        with tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(
                [*self._ssh(machine), script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=seconds,
                check=False,
            )
            errors.seek(0)
            assert done.returncode == 0, f"{machine}: {script}: {done.stdout}{errors.read()}"
        return done.stdout

    def hops(self) -> dict[str, int | None]:
        """How many hops each end host needs to the other, in both families; None when it is not reached."""
        return self._all_hops(WAYS)

    def hops_to_far_side(self) -> dict[str, int | None]:
        """How many hops each end host needs to the DPU's address in the other VRF, in both families."""
        return self._all_hops(FAR_SIDE)

    def wait_for_hops(self, number: int) -> None:
        """Return once every way has that many hops."""
        until(lambda: set(self.hops().values()), {number}, SECONDS, f"not every way has {number} hops")

    def reboot(self, machine: str) -> None:
        """Boot a machine again; returns when SSH answers from the new system."""
        before = self.shell(machine, _BOOT)
        self.shell(machine, "systemctl reboot || true")
        self._forget(machine)

        def is_another() -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
                return self.shell(machine, _BOOT, seconds=15) != before
            return False

        until(is_another, True, SECONDS, f"{machine} has not come back from its reboot")

    @contextlib.contextmanager
    def pings(self) -> Iterator[Pings]:
        """Five pings a second, both ways, while the block lasts; the replies are there when it has ended."""
        pings = Pings()
        running = {}
        for machine, destination in PINGED.items():
            # Ends with its standard input, whatever becomes of us.
            script = f"ping -n -i 0.2 {destination} & read line; kill -INT $!; wait"
            running[destination] = subprocess.Popen(
                [*self._ssh(machine), script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        try:
            yield pings
        finally:
            for destination, process in running.items():
                output, _unused = process.communicate("\n", timeout=SECONDS)
                pings.replies[destination] = [(int(number), int(ttl)) for number, ttl in _REPLY.findall(output)]

    def files(self, machine: str) -> list[str]:
        """Every file of a machine's disk, but for what the system writes by itself: type, mode, owner, size, place."""
        return self.shell(machine, f"find / -xdev {_NOT_OURS} {_DESCRIBED} | sort").splitlines()

    def _all_hops(self, ways: Mapping[str, tuple[str, ...]]) -> dict[str, int | None]:
        return {
            destination: self._hops(machine, destination)
            for machine, destinations in ways.items()
            for destination in destinations
        }

    def _hops(self, machine: str, destination: str) -> int | None:
        traced = _HOP.findall(self.shell(machine, f"traceroute -n -q 1 -w 2 -m 6 {destination}"))
        number, address = traced[-1]
        return int(number) if address == destination else None

    def _ssh(self, machine: str) -> list[str]:
        master = self.run_dir / "ssh" / f"t-{machine}"
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=300", "-o", f"ControlPath={master}"]
        return ["ssh", "-F", str(self.run_dir / "ssh_config"), "-o", "ConnectTimeout=10", *shared, machine]

    def _forget(self, machine: str) -> None:
        """End the shared connection, whose other end is about to go."""
        subprocess.run([*self._ssh(machine), "-O", "exit"], capture_output=True, timeout=30, check=False)


def changes(output: str) -> list[str]:
    """What an Ansible run has changed on machines of the lab, or in a check would have: `MACHINE: TASK`."""
    found, task = [], ""
    for name, host in _CHANGED.findall(output):
        if name:
            task = name
        elif "localhost" not in host:
            found.append(f"{host}: {task}")
    return sorted(found)


def count_changed(output: str) -> int:
    """How many tasks of an Ansible run have changed something anywhere, by its own count."""
    counts = re.findall(r"\bchanged=(\d+)", output)
    assert counts, output
    return sum(map(int, counts))
