# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that the lab's machines start from, made once and kept in the user's cache folder.

Two steps, each kept by a hash of what went into it: a disk with a distribution's packages (mmdebstrap; no root, no
loop device), and that disk booted once, with the state of the booted machine beside it. A machine of the lab goes on
from that state instead of booting.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from .qemu_guest import FOLDER, NETWORK_SCRIPT, network_script
from .qemu_machine import Accelerator, Machine, Software
from .qemu_process import MachineError, agent, monitor, run, start, stop, until
from .qemu_requirements import qemu_version

Tell = Callable[[str], None]

BUILD_SECONDS = 1200.0
BOOT_SECONDS = 300.0
PACKAGES = (
    *("linux-image-cloud-amd64", "tiny-initramfs", "systemd-sysv", "udev", "kmod", "qemu-guest-agent"),
    *("openssh-server", "python3", "python3-venv", "iproute2", "iputils-ping", "traceroute", "procps"),
)
#: What a machine of the lab has no use for; emulated, each costs it a second or so of every boot.
MASKED_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "getty.target", "systemd-pstore.service", "systemd-update-utmp.service"),
)
NETWORK_UNIT = f"""\
[Unit]
Description=The network of this machine in the lab
DefaultDependencies=no
After=local-fs.target systemd-udevd.service systemd-sysctl.service
Before=network.target shutdown.target
Conflicts=shutdown.target
Wants=network.target

[Service]
Type=oneshot
ExecStart={NETWORK_SCRIPT}
TimeoutStartSec=60
RemainAfterExit=yes
StandardError=journal+console

[Install]
WantedBy=sysinit.target
"""
#: The name that systemd 252 and 253 do not find by themselves: without it udev renames nothing, with it nothing fails.
CUSTOMIZE = f"""\
set -e
cd "$1"
echo ekho > etc/hostname
echo '/dev/vda / ext4 noatime 0 1' > etc/fstab
rm -f etc/ssh/ssh_host_*
mkdir -p .{FOLDER} root/.ssh
chmod 700 root/.ssh
cat > .{NETWORK_SCRIPT} << 'END-OF-FILE'
{network_script()}END-OF-FILE
chmod 755 .{NETWORK_SCRIPT}
cat > etc/systemd/system/ekho-lab-network.service << 'END-OF-FILE'
{NETWORK_UNIT}END-OF-FILE
printf 'UseDNS no\\nPasswordAuthentication no\\n' > etc/ssh/sshd_config.d/lab.conf
chroot . systemctl --quiet enable ekho-lab-network
chroot . systemctl --quiet disable ssh systemd-timesyncd 2>/dev/null || true
chroot . systemctl --quiet mask {" ".join(MASKED_UNITS)}
"""
#: mmdebstrap packs only what the kernel does not have built in: the way to the disk.
INITRAMFS = "AUTO_MODULES=no\nINCLUDE_MODULES=virtio_pci,virtio_blk\nMICROCODE=no\n"


class ImageError(Exception):
    """The image could not be made; the text says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """All that goes into the disk."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    initramfs: str = INITRAMFS
    customize: str = CUSTOMIZE
    size: str = "4G"

    @property
    def key(self) -> str:
        """Names the disk in the cache."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Image:
    """A disk to lay an overlay over, and the state of the machine that has booted from it."""

    disk: str
    software: Software
    state: str | None = None


def cache_folder() -> str:
    """The lab's folder below the user's (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "ekho-lab")


def base_image(cache: str, recipe: Recipe, tell: Tell) -> tuple[str, str, str]:
    """The paths of disk, kernel and initrd; built if they are not there."""
    folder = os.path.join(cache, f"image-{recipe.key}")
    with _locked(cache):
        if not _is_there(folder):
            tell("building the base image from packages, once (a minute)")
            with _unfinished(folder) as making:
                _build(recipe, making)
    return os.path.join(folder, "disk.qcow2"), os.path.join(folder, "vmlinuz"), os.path.join(folder, "initrd")


async def booted(cache: str, image: Image, tell: Tell) -> Image:
    """The image with the state of a machine that has booted from it; booted and saved if that is not there."""
    parts = [image.disk, repr(image.software), qemu_version()]
    if image.software.accelerator is Accelerator.KVM:
        parts.append(_processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = os.path.join(cache, f"booted-{key}")
    with _locked(cache):
        if not _is_there(folder):
            tell("booting the base image and saving the booted machine, once (a quarter of a minute)")
            with _unfinished(folder) as making:
                await _boot_and_save(image, making)
    return replace(image, disk=os.path.join(folder, "disk.qcow2"), state=os.path.join(folder, "state"))


def overlay(disk: str, over: str) -> None:
    """A new disk that holds what differs from another."""
    _call(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", over, disk])


def _build(recipe: Recipe, folder: str) -> None:
    """Packages into an archive, that into a file system in a file, as root in name only."""
    archive, root, raw = (os.path.join(folder, name) for name in ("root.tar", "root", "disk.raw"))
    scripts = {"customize": recipe.customize, "initramfs": recipe.initramfs}
    for name, text in scripts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    leave_out = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("man", "doc", "locale", "info")]
    prepare = 'mkdir -p "$1"/etc/tiny-initramfs && cp initramfs "$1"/etc/tiny-initramfs/tiny-initramfs.conf'
    words = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}", *leave_out]
    words += ['--aptopt=Apt::Install-Recommends "false"', f"--essential-hook={prepare}"]
    words += ['--customize-hook=sh customize "$1"', recipe.suite, archive]
    _call(words, folder)
    os.mkdir(root)
    copy = f"tar -xpf {archive} -C {root} && mke2fs -q -t ext4 -O ^has_journal -d {root} {raw} {recipe.size}"
    _call(["fakeroot", "sh", "-c", copy], folder)
    for name in ("vmlinuz", "initrd"):
        link = {"vmlinuz": "vmlinuz", "initrd": "initrd.img"}[name]
        shutil.copyfile(os.path.join(root, os.readlink(os.path.join(root, link))), os.path.join(folder, name))
    _call(["qemu-img", "convert", "-O", "qcow2", raw, os.path.join(folder, "disk.qcow2")], folder)
    shutil.rmtree(root)
    for path in (archive, raw):
        os.unlink(path)


async def _boot_and_save(image: Image, folder: str) -> None:
    machine = Machine("ekho-image", folder)
    overlay(machine.disk, image.disk)
    state = os.path.join(folder, "state")
    try:
        await start(machine, image.software)
        async with agent(machine, BOOT_SECONDS) as guest:
            # Not --wait alone: what has failed by then is told by the lab, machine by machine.
            await run(machine, guest, "systemctl is-system-running --wait || true; sync", seconds=BOOT_SECONDS)
        async with monitor(machine) as qmp:
            await qmp.execute("stop")
            await qmp.execute("migrate-set-parameters", {"max-bandwidth": 1 << 34})
            await qmp.execute("migrate", {"uri": f"exec:cat > '{state}'"})

            async def saved() -> bool:
                return (await qmp.execute("query-migrate")).get("status") in ("completed", "failed")

            await until(machine, saved, BOOT_SECONDS, "has not saved its state")
            outcome = await qmp.execute("query-migrate")
        if outcome["status"] != "completed":
            raise ImageError(f"the booted machine could not be saved: {outcome.get('error-desc', outcome['status'])}")
    except MachineError as error:
        raise ImageError(str(error)) from None
    finally:
        stop(machine)


def _is_there(folder: str) -> bool:
    return os.path.isdir(folder)


def _processor() -> str:
    """The model of the host's processor, which a machine under KVM has seen."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return "".join(sorted({line for line in file if line.startswith(("model name", "flags"))}))


@contextlib.contextmanager
def _locked(cache: str) -> Iterator[None]:
    """Labs that come up side by side take turns with the cache."""
    os.makedirs(cache, mode=0o700, exist_ok=True)
    descriptor = os.open(os.path.join(cache, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _unfinished(folder: str) -> Iterator[str]:
    """A folder that gets its name once it is whole; one that an interrupted run has left goes first."""
    making = folder + ".unfinished"
    shutil.rmtree(making, ignore_errors=True)
    os.mkdir(making)
    yield making
    os.rename(making, folder)


def _call(words: Sequence[str], folder: str | None = None) -> None:
    """Run a program; ImageError with the end of what it said when it fails."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                words,
                cwd=folder,
                env={**os.environ, "PATH": path, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=BUILD_SECONDS,
                check=False,
            )
            said.seek(0)
            text = said.read()
    except subprocess.TimeoutExpired:
        raise ImageError(f"{words[0]} takes longer than {BUILD_SECONDS:.0f} s; is the network slow?") from None
    if done.returncode:
        raise ImageError(f"{words[0]} failed:\n" + "\n".join(text.splitlines()[-10:]))
