# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that the lab's machines start from, made once and kept in the user's cache folder.

Two steps, each kept by a hash of what went into it: a disk with a distribution's packages (mmdebstrap; no root, no
loop device), and that disk booted once, with the state of the booted machine beside it. A machine of the lab goes on
from that state instead of booting. A folder of the cache is used only while its files are as long as they were; a
damaged one is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from .guest import FOLDER, NETWORK_SCRIPT, NETWORK_UNIT, network_script
from .lock import Busy, locked
from .machine import Accelerator, Machine, Software
from .process import MachineError, agent, end, monitor, processes, run, start, until
from .requirements import check_build, qemu_version

Tell = Callable[[str], None]

BUILD_SECONDS = 1200.0
BOOT_SECONDS = 300.0
STOP_SECONDS = 30.0
TELL_SECONDS = 15.0
_CONTENTS = "contents.json"
PACKAGES = (
    *("linux-image-cloud-amd64", "tiny-initramfs", "systemd-sysv", "udev", "kmod", "qemu-guest-agent"),
    *("openssh-server", "python3", "python3-venv", "iproute2", "iputils-ping", "traceroute", "procps"),
)
#: What a machine of the lab has no use for; emulated, each costs it a second or so of every boot.
MASKED_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "getty.target", "systemd-pstore.service", "systemd-update-utmp.service"),
    "systemd-update-utmp-runlevel.service",
)
#: After packages.
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
#: Before packages: the initramfs holds only what the kernel does not have built in, the way to the disk.
PREPARE = """\
mkdir -p "$1"/etc/tiny-initramfs
printf 'AUTO_MODULES=no\\nINCLUDE_MODULES=virtio_pci,virtio_blk\\nMICROCODE=no\\n' \\
    > "$1"/etc/tiny-initramfs/tiny-initramfs.conf
"""


class ImageError(Exception):
    """The image could not be made; the text says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """All that goes into the disk."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    prepare: str = PREPARE
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
    form: str = "qcow2"


def cache_folder() -> str:
    """The lab's folder below the user's (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "ekho-lab")


def base_image(cache: str, recipe: Recipe, tell: Tell) -> tuple[str, str, str]:
    """The paths of disk, kernel and initrd; built if they are not there."""
    folder = os.path.join(cache, f"disk-{recipe.key}")
    with _locked(cache, tell) as lock:
        if not _is_whole(folder, tell):
            check_build()
            tell("building the base image from packages: once, then it is kept in the cache (about a minute)")
            begun = time.monotonic()
            with _unfinished(folder) as making:
                _build(recipe, making, _Caller(tell, lock))
            tell(f"the base image is built ({time.monotonic() - begun:.0f} s)")
        # A disk that was built anew has another name, so that no overlay takes it for the one that it was laid over.
        disk = next(name for name in _contents(folder) if name.startswith("disk-"))
    return tuple(os.path.join(folder, name) for name in (disk, "vmlinuz", "initrd"))  # type: ignore[return-value]


async def booted(cache: str, image: Image, tell: Tell) -> Image:
    """The image with the state of a machine that has booted from it; booted and saved if that is not there."""
    parts = [image.disk, image.software.to_json(), qemu_version()]
    if image.software.accelerator is Accelerator.KVM:
        parts.append(_processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = os.path.join(cache, f"state-{key}")
    with _locked(cache, tell):
        if not _is_whole(folder, tell):
            tell("booting the base image and saving the booted machine: once, too (about a quarter of a minute)")
            begun = time.monotonic()
            with _unfinished(folder) as making:
                await _boot_and_save(image, making)
            tell(f"the booted machine is saved ({time.monotonic() - begun:.0f} s)")
    return replace(image, disk=os.path.join(folder, "disk.qcow2"), state=os.path.join(folder, "state"))


def given_image(disk: str, software: Software) -> Image:
    """A cloud image that the user has: checked, and its format read."""
    for path in (disk, software.kernel, software.initrd):
        if path is not None and not os.access(path, os.R_OK):
            raise ImageError(f"there is no image file {path}, or it cannot be read")
    asked = subprocess.run(["qemu-img", "info", "--output=json", disk], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise ImageError(f"{disk} is no image for QEMU: {asked.stderr.strip()}")
    return Image(disk, replace(software, cloud=True), form=json.loads(asked.stdout)["format"])


def new_disk(image: Image, disk: str) -> None:
    """A disk for a machine that starts from the image; it lies over the base image, and over nothing else."""
    if image.state is None:
        _overlay(disk, image.disk, image.form)
    else:
        shutil.copyfile(image.disk, disk)


def forget_state(image: Image) -> None:
    """Remove a saved state that was refused; the next lab makes it anew. No machine depends on it."""
    if image.state is not None:
        shutil.rmtree(os.path.dirname(image.state), ignore_errors=True)


def _overlay(disk: str, over: str, form: str = "qcow2") -> None:
    """A new disk that holds what differs from another."""
    _Caller(lambda _text: None)(["qemu-img", "create", "-q", "-f", "qcow2", "-F", form, "-b", over, disk])


def _build(recipe: Recipe, folder: str, call: Callable[..., None]) -> None:
    """Packages into an archive, that into a file system in a file, as root in name only.

    With a journal, though that costs a little: a machine of the lab may be killed, and is to boot again.
    """
    archive, root, raw = (os.path.join(folder, name) for name in ("root.tar", "root", "disk.raw"))
    leave_out = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("man", "doc", "locale", "info")]
    words = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}", *leave_out]
    # Scripts as text: without root they run as a user who may be unable to read files of this one.
    words += ['--aptopt=Apt::Install-Recommends "false"', f"--essential-hook={recipe.prepare}"]
    words += [f"--customize-hook={recipe.customize}", recipe.suite, archive]
    call(words, folder)
    os.mkdir(root)
    copy = f"tar -xpf root.tar -C root && mke2fs -q -t ext4 -J size=16 -d root disk.raw {recipe.size}"
    call(["fakeroot", "sh", "-c", copy], folder)
    for name in ("vmlinuz", "initrd"):
        link = {"vmlinuz": "vmlinuz", "initrd": "initrd.img"}[name]
        shutil.copyfile(os.path.join(root, os.readlink(os.path.join(root, link))), os.path.join(folder, name))
    call(
        ["qemu-img", "convert", "-O", "qcow2", raw, os.path.join(folder, f"disk-{secrets.token_hex(4)}.qcow2")], folder
    )
    shutil.rmtree(root)
    for path in (archive, raw):
        os.unlink(path)


async def _boot_and_save(image: Image, folder: str) -> None:
    machine = Machine("ekho-image", folder)
    _overlay(machine.disk, image.disk)
    state = os.path.join(folder, "state")
    try:
        await start(machine, image.software)
        async with agent(machine, BOOT_SECONDS) as guest:
            # Not --wait alone: what has failed by then is told by the lab, machine by machine.
            await run(machine, guest, "systemctl is-system-running --wait || true; sync", seconds=BOOT_SECONDS)
        async with monitor(machine) as qmp:
            await qmp.execute("stop")
            await qmp.execute("migrate-set-parameters", {"max-bandwidth": 1 << 34})
            await qmp.execute("migrate", {"uri": f"exec:cat > {shlex.quote(state)}"})

            async def saved() -> bool:
                return (await qmp.execute("query-migrate")).get("status") in ("completed", "failed")

            await until(machine, saved, BOOT_SECONDS, "has not saved its state")
            outcome = await qmp.execute("query-migrate")
        if outcome["status"] != "completed":
            raise ImageError(f"the booted machine could not be saved: {outcome.get('error-desc', outcome['status'])}")
    except MachineError as error:
        raise ImageError(str(error)) from None
    finally:
        end(processes(folder))


def _is_whole(folder: str, tell: Tell) -> bool:
    """Whether the folder is there with all that was put into it; remove it when something is wrong with it."""
    if not os.path.isdir(folder):
        return False
    try:
        wrong = [
            name for name, size in _contents(folder).items() if os.path.getsize(os.path.join(folder, name)) != size
        ]
    except (OSError, ValueError) as error:
        wrong = [str(error)]
    if not wrong:
        return True
    tell(f"{folder} in the cache is damaged ({', '.join(wrong)}), so it is made anew")
    shutil.rmtree(folder)
    return False


def _contents(folder: str) -> dict[str, int]:
    """The files of a folder of the cache, with their lengths."""
    with open(os.path.join(folder, _CONTENTS), encoding="utf-8") as file:
        return dict(json.load(file))


def _processor() -> str:
    """The model of the host's processor, which a machine under KVM has seen."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return "".join(sorted({line for line in file if line.startswith(("model name", "flags"))}))


@contextlib.contextmanager
def _locked(cache: str, tell: Tell) -> Iterator[int]:
    """Labs that come up side by side take turns with the cache."""
    os.makedirs(cache, mode=0o700, exist_ok=True)
    try:
        with locked(os.path.join(cache, "lock"), tell, f"the images in {cache}", BUILD_SECONDS + BOOT_SECONDS) as lock:
            yield lock
    except Busy as error:
        raise ImageError(str(error)) from None


@contextlib.contextmanager
def _unfinished(folder: str) -> Iterator[str]:
    """A folder that gets its name once it is whole; one that an interrupted run has left goes first."""
    making = folder + ".unfinished"
    end(processes(making))
    shutil.rmtree(making, ignore_errors=True)
    os.mkdir(making)
    try:
        yield making
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    sizes = {}
    for name in sorted(os.listdir(making)):
        with open(os.path.join(making, name), "rb") as file:
            os.fsync(file.fileno())
            sizes[name] = os.fstat(file.fileno()).st_size
    with open(os.path.join(making, _CONTENTS), "w", encoding="utf-8") as file:
        json.dump(sizes, file, indent=1)
    os.rename(making, folder)


class _Caller:
    """Runs programs one after the other; TELL hears from time to time that one is still at work.

    A program inherits LOCK, so that it keeps it should this run be killed.
    """

    def __init__(self, tell: Tell, lock: int | None = None) -> None:
        self._tell = tell
        self._inherited = () if lock is None else (lock,)

    def __call__(self, words: Sequence[str], folder: str | None = None) -> None:
        """ImageError with the end of what it said when it fails."""
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C"}
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=self._inherited,
                start_new_session=True,
            )
            try:
                code = self._wait(process, words[0], said.fileno())
            finally:
                _end_session(process)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if code:
            raise ImageError(f"{words[0]} failed:\n" + "\n".join(text.splitlines()[-10:]))

    def _wait(self, process: subprocess.Popen[bytes], name: str, said: int) -> int:
        begun = time.monotonic()
        while time.monotonic() - begun < BUILD_SECONDS:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(TELL_SECONDS)
            lines = os.pread(said, 4096, max(0, os.fstat(said).st_size - 4096)).decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            self._tell(f"{name} is at work ({time.monotonic() - begun:.0f} s): {last.rpartition(chr(13))[2][:80]}")
        raise ImageError(f"{name} takes longer than {BUILD_SECONDS:.0f} s; is the network slow?")


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End a program that was interrupted, and what it has started; asked nicely it cleans up."""
    for what in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
