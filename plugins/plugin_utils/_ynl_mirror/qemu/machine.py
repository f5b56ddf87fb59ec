# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual machine of a lab is to QEMU: its files, its cards, its command line. Pure: no I/O.

A cable is a pair of datagram sockets (``-netdev dgram``, QEMU 7.2): no bridge, no privilege, and an end that dies and
comes back finds its place again. Management is QEMU's user-mode network, with a port of 127.0.0.1 forwarded to SSH.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from ....module_utils._ynl_mirror.lab.plan import Topology

#: The most that fits into sun_path of unix(7), less the closing zero.
SOCKET_PATH_BYTES = 107
#: QEMU's user-mode network gives its first guest this address and is itself 10.0.2.2.
MANAGEMENT_ADDRESS = "10.0.2.15"
MANAGEMENT_MAC = "52:54:00:12:34:56"
_FIRST_SLOT, _LAST_SLOT = 0x10, 0x1F  # PCI; what every machine has is below
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,57}[a-z0-9])?")
#: What a lab keeps in its folder beside the folders of its machines.
KEPT = ("cables", "ssh", "ca", "report")
KERNEL_ARGUMENTS = (
    # noatime and the like are in the image's fstab; the rest saves an emulated machine work.
    "root=/dev/vda rootfstype=ext4 rw console=ttyS0 net.ifnames=0 loglevel=4 "
    "mitigations=off audit=0 no_timer_check tsc=reliable random.trust_cpu=on"
)


class Accelerator(Enum):
    """What executes the guests' instructions."""

    KVM = "kvm"
    TCG = "tcg"

    @property
    def arguments(self) -> list[str]:
        """QEMU's options: the host's own processor, or the most that the emulation can do."""
        if self is Accelerator.KVM:
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", "tcg,tb-size=128", "-cpu", "max"]


@dataclass(frozen=True)
class Nic:
    """A network card: an end of a cable whose two ends are the sockets *local* and *remote*."""

    name: str
    mac: str
    slot: int
    local: str
    remote: str

    def netdev(self) -> dict[str, Any]:
        """The arguments of QMP's netdev_add, or of ``-netdev`` as JSON."""
        ends = {"local": {"type": "unix", "path": self.local}, "remote": {"type": "unix", "path": self.remote}}
        return {"type": "dgram", "id": self.name, **ends}

    def device(self) -> dict[str, Any]:
        """The arguments of QMP's device_add, or of ``-device`` as JSON. Slots ascend, so names do in the guest."""
        place = {"addr": hex(self.slot), "mac": self.mac}
        return {"driver": "virtio-net-pci", "id": f"card-{self.name}", "netdev": self.name, "romfile": "", **place}


@dataclass(frozen=True)
class Machine:
    """A machine with a folder of its own; *name* is what it is called in messages and in its ``ps`` line."""

    name: str
    folder: str
    nics: tuple[Nic, ...] = ()

    @property
    def disk(self) -> str:
        """Its overlay over an image."""
        return os.path.join(self.folder, "disk.qcow2")

    @property
    def console(self) -> str:
        """What it prints on its serial console."""
        return os.path.join(self.folder, "console.log")

    @property
    def seed(self) -> str:
        """What a cloud image is told at its first boot."""
        return os.path.join(self.folder, "seed.iso")

    @property
    def software_file(self) -> str:
        """The `Software` that it was started from, written once that has succeeded."""
        return os.path.join(self.folder, "software.json")

    @property
    def log(self) -> str:
        """What QEMU itself has to say."""
        return os.path.join(self.folder, "qemu.log")

    @property
    def pid_file(self) -> str:
        """Written by QEMU."""
        return os.path.join(self.folder, "pid")

    @property
    def monitor(self) -> str:
        """Socket of QMP."""
        return os.path.join(self.folder, "qmp.sock")

    @property
    def agent(self) -> str:
        """Socket of the guest agent."""
        return os.path.join(self.folder, "agent.sock")


@dataclass(frozen=True)
class Software:
    """What a machine starts from. Without *kernel* the disk has a boot loader of its own."""

    accelerator: Accelerator
    memory: int
    kernel: str | None
    initrd: str | None
    arguments: str = KERNEL_ARGUMENTS
    drives: tuple[str, ...] = field(default=())
    #: A cloud image: it is told its keys by cloud-init, and all else over SSH, as it may have no guest agent.
    cloud: bool = False

    def to_json(self) -> str:
        """As text."""
        return json.dumps({**asdict(self), "accelerator": self.accelerator.value}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Software:
        """Back from text; ValueError, KeyError or TypeError when it is none."""
        read = json.loads(text)
        return cls(**{**read, "accelerator": Accelerator(read["accelerator"]), "drives": tuple(read["drives"])})


def machines(lab: str, topology: Topology, run_dir: str) -> list[Machine]:
    """A machine per host of the lab, with a card per interface. The sockets of the cables are in ``RUN_DIR/cables``."""
    other = {end: far for link in topology.links for end, far in ((link.one, link.two), (link.two, link.one))}
    made = []
    for host in topology.hosts:
        nics = tuple(
            Nic(
                interface.name,
                mac(lab, host.name, interface.name),
                _FIRST_SLOT + number,
                cable_end(run_dir, (host.name, interface.name)),
                cable_end(run_dir, other[host.name, interface.name]),
            )
            for number, interface in enumerate(host.interfaces)
        )
        made.append(Machine(f"ekho-{host.name}", os.path.join(run_dir, host.name), nics))
    return made


def cable_end(run_dir: str, end: tuple[str, str]) -> str:
    """The socket at one end of a cable."""
    return os.path.join(run_dir, "cables", ":".join(end))


def mac(lab: str, host: str, interface: str) -> str:
    """A locally administered address that is the same each time, and another for every card of every lab."""
    digest = hashlib.sha256("\0".join((lab, host, interface)).encode()).hexdigest()
    return "52:54:" + ":".join(digest[at : at + 2] for at in range(0, 8, 2))


def wrong(topology: Topology, run_dir: str, made: Sequence[Machine]) -> str | None:
    """Why these machines cannot be, if so: a name, the number of cards, the length of a path."""
    for host in topology.hosts:
        if _HOST_NAME.fullmatch(host.name) is None:
            return f"host {host.name!r}: a name has lower-case letters, digits and inner hyphens, 59 at most"
        if host.name in KEPT:
            return f"host {host.name!r}: the lab keeps a folder of that name for itself; choose another name"
        if len(host.interfaces) > _LAST_SLOT - _FIRST_SLOT + 1:
            return f"host {host.name}: a machine has room for {_LAST_SLOT - _FIRST_SLOT + 1} interfaces"
    paths = [path for one in made for path in (one.monitor, one.agent, *(nic.local for nic in one.nics))]
    # OpenSSH makes its control sockets (of 10 characters) under a temporary name first.
    paths.append(os.path.join(run_dir, "ssh", "0123456789.0123456789012345"))
    path = next((path for path in paths if len(os.fsencode(path)) > SOCKET_PATH_BYTES), None)
    return path and f"the path {path} is too long for a socket; choose a shorter ekho_lab_run_dir"


def command(machine: Machine, software: Software, incoming: str | None = None) -> list[str]:
    """The command line. With *incoming* the machine waits for a saved state, and gets its cards afterwards."""
    words = ["qemu-system-x86_64", "-name", f"guest={machine.name}", "-machine", "pc,vmport=off"]
    words += [*software.accelerator.arguments, "-smp", "1", "-m", str(software.memory)]
    words += ["-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-pidfile", machine.pid_file, "-qmp", f"unix:{_value(machine.monitor)},server=on,wait=off"]
    words += ["-chardev", f"file,id=console,path={_value(machine.console)},append=on", "-serial", "chardev:console"]
    words += ["-drive", f"if=none,id=root,file={_value(machine.disk)},format=qcow2,discard=unmap,cache=unsafe"]
    words += ["-device", "virtio-blk-pci,drive=root,addr=0x2", "-device", "virtio-serial-pci,addr=0x3"]
    words += ["-chardev", f"socket,id=agent,path={_value(machine.agent)},server=on,wait=off"]
    words += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    words += ["-netdev", "user,id=management,restrict=on"]
    words += ["-device", f"virtio-net-pci,netdev=management,mac={MANAGEMENT_MAC},addr=0x4,romfile="]
    # Tells a guest that it goes on from a saved state, so that it does not repeat the random numbers of another.
    words += ["-device", "vmgenid,guid=auto"]
    if software.kernel is not None:
        words += ["-kernel", software.kernel, "-append", software.arguments]
        words += ["-initrd", software.initrd] if software.initrd else []
    for number, drive in enumerate(software.drives):
        words += ["-drive", f"if=none,id=drive{number},file={_value(drive)},format=raw,readonly=on"]
        words += ["-device", f"virtio-blk-pci,drive=drive{number},addr={hex(5 + number)}"]
    if incoming is not None:
        return [*words, "-incoming", f"exec:cat {shlex.quote(incoming)}"]
    for nic in machine.nics:
        words += ["-netdev", json.dumps(nic.netdev()), "-device", json.dumps(nic.device())]
    return words


def _value(path: str) -> str:
    """A path within an option of QEMU, where a comma ends the value."""
    return path.replace(",", ",,")
