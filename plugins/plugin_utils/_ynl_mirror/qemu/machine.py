# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine of a lab as QEMU sees it: its files, its cards, its command line. Pure: no I/O.

A cable is a pair of datagram sockets (``-netdev dgram``, QEMU 7.2). It needs no bridge and no privilege, and works
again when a machine at one end is restarted. Management is QEMU's user-mode network, with a port of 127.0.0.1 forwarded
to SSH.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from ....module_utils._ynl_mirror.lab.plan import Topology

#: Gets messages on progress.
Progress = Callable[[str], None]
#: The size of sun_path in unix(7), without the terminating zero.
SOCKET_PATH_BYTES = 107
#: The first guest's address in QEMU's user-mode network; QEMU itself is 10.0.2.2.
MANAGEMENT_ADDRESS = "10.0.2.15"
MANAGEMENT_MAC = "52:54:00:12:34:56"
_FIRST_SLOT, _LAST_SLOT = 0x10, 0x1F  # PCI slots of cards; the devices of every machine are below
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,57}[a-z0-9])?")
#: The folders in a lab's run folder that are not a machine's.
KEPT = ("cables", "keys", "ssh", "ca", "report")
KERNEL_ARGUMENTS = (
    # Options such as noatime are in the image's fstab; these save an emulated machine work.
    "root=/dev/vda rootfstype=ext4 rw console=ttyS0 net.ifnames=0 loglevel=4 "
    "mitigations=off audit=0 no_timer_check tsc=reliable random.trust_cpu=on"
)


class Accelerator(Enum):
    """What executes the guests' instructions."""

    KVM = "kvm"
    TCG = "tcg"

    @property
    def arguments(self) -> list[str]:
        """QEMU's options: the host's processor, or everything that the emulation supports."""
        if self is Accelerator.KVM:
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", "tcg,tb-size=128", "-cpu", "max"]


@dataclass(frozen=True)
class Nic:
    """A network card at the socket *local*; the socket *remote* is the other end of its cable."""

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
        """The arguments of QMP's device_add, or of ``-device`` as JSON. The guest numbers cards in slot order."""
        place = {"addr": hex(self.slot), "mac": self.mac}
        return {"driver": "virtio-net-pci", "id": f"card-{self.name}", "netdev": self.name, "romfile": "", **place}


@dataclass(frozen=True)
class Machine:
    """A machine and its folder; *name* is its name in messages and in the output of ``ps``."""

    name: str
    folder: str
    nics: tuple[Nic, ...] = ()

    @property
    def disk(self) -> str:
        """Its disk, usually an overlay over an image."""
        return os.path.join(self.folder, "disk.qcow2")

    @property
    def console(self) -> str:
        """The output of its serial console."""
        return os.path.join(self.folder, "console.log")

    @property
    def seed(self) -> str:
        """Folder of the files for cloud-init, in a machine from a cloud image."""
        return os.path.join(self.folder, "seed")

    @property
    def software_file(self) -> str:
        """The `Software` that it was started from, written after the first successful start."""
        return os.path.join(self.folder, "software.json")

    @property
    def log(self) -> str:
        """QEMU's own output."""
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
    """What a machine starts from. Without *kernel* the disk has a boot loader."""

    accelerator: Accelerator
    memory: int
    kernel: str | None
    initrd: str | None
    arguments: str = KERNEL_ARGUMENTS
    #: A cloud image: cloud-init installs the keys, and SSH does the rest, because there may be no guest agent.
    cloud: bool = False

    def to_json(self) -> str:
        """As text."""
        return json.dumps({**asdict(self), "accelerator": self.accelerator.value}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Software:
        """From text; ValueError, KeyError or TypeError if it is something else."""
        read = json.loads(text)
        return cls(**{**read, "accelerator": Accelerator(read["accelerator"])})


def machines(lab: str, topology: Topology, run_dir: str) -> list[Machine]:
    """A machine for each host of the lab, with a card for each interface. Cables are sockets in ``RUN_DIR/cables``."""
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
    """A locally administered address: always the same for a card, and different for every card of every lab."""
    digest = hashlib.sha256("\0".join((lab, host, interface)).encode()).hexdigest()
    return "52:54:" + ":".join(digest[at : at + 2] for at in range(0, 8, 2))


def wrong(topology: Topology, run_dir: str, made: Sequence[Machine]) -> str | None:
    """Why these machines cannot be created, if so: a name, the number of cards, the length of a path."""
    for host in topology.hosts:
        if _HOST_NAME.fullmatch(host.name) is None:
            return f"host {host.name!r}: use lower-case letters, digits and inner hyphens, at most 59"
        if host.name in KEPT:
            return f"host {host.name!r}: the lab has a folder of that name; choose another name"
        if len(host.interfaces) > _LAST_SLOT - _FIRST_SLOT + 1:
            return f"host {host.name}: a machine has at most {_LAST_SLOT - _FIRST_SLOT + 1} interfaces"
    paths = [path for one in made for path in (one.monitor, one.agent, *(nic.local for nic in one.nics))]
    # OpenSSH first creates its control sockets (10 characters) under a temporary name.
    paths.append(os.path.join(run_dir, "ssh", "0123456789.0123456789012345"))
    path = next((path for path in paths if len(os.fsencode(path)) > SOCKET_PATH_BYTES), None)
    return path and f"the path {path} is too long for a socket; choose a shorter ekho_lab_run_dir"


def command(machine: Machine, software: Software, incoming: str | None = None) -> list[str]:
    """The command line. With *incoming* the machine waits for a saved state, and gets its cards after it."""
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
    # Lets a guest notice that it was resumed, and not repeat the random numbers of another machine.
    words += ["-device", "vmgenid,guid=auto"]
    if software.kernel is not None:
        words += ["-kernel", software.kernel, "-append", software.arguments]
        words += ["-initrd", software.initrd] if software.initrd else []
    if software.cloud:
        words += ["-drive", f"if=none,id=seed,format=raw,readonly=on,{seed_file_system(machine.seed)}"]
        words += ["-device", "virtio-blk-pci,drive=seed,addr=0x5"]
    if incoming is not None:
        return [*words, "-incoming", f"exec:cat {shlex.quote(incoming)}"]
    for nic in machine.nics:
        words += ["-netdev", json.dumps(nic.netdev()), "-device", json.dumps(nic.device())]
    return words


def seed_file_system(folder: str) -> str:
    """The options by which QEMU presents a folder as an unpartitioned FAT file system, with NoCloud's label."""
    return f"file.driver=vvfat,file.dir={_value(folder)},file.label=CIDATA,file.floppy=on"


def _value(path: str) -> str:
    """A path in a QEMU option, where a comma ends the value."""
    return path.replace(",", ",,")
