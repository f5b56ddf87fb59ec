# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that the lab's machines start from, built once and kept in the user's cache folder.

There are two steps, each cached under a hash of its inputs: a disk with a distribution's packages (mmdebstrap; no root,
no loop device), and that disk booted once, with the saved state of the booted machine. A machine of the lab resumes
from that state instead of booting. A folder of the cache with missing files, or files of another size, is built again.
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
from .machine import Accelerator, Machine, Progress, Software
from .process import MachineError, agent, end, monitor, processes, run, start, until
from .requirements import check_build, qemu_version

BUILD_SECONDS = 1200.0
BOOT_SECONDS = 300.0
STOP_SECONDS = 30.0
PROGRESS_SECONDS = 15.0
_CONTENTS = "contents.json"
PACKAGES = (
    *("linux-image-cloud-amd64", "tiny-initramfs", "systemd-sysv", "udev", "kmod", "qemu-guest-agent"),
    *("openssh-server", "python3", "python3-venv", "iproute2", "iputils-ping", "traceroute", "procps"),
)
#: Units that a machine of the lab does not need; emulated, each costs about a second of every boot.
MASKED_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "getty.target", "systemd-pstore.service", "systemd-update-utmp.service"),
    "systemd-update-utmp-runlevel.service",
)
#: Run after the packages are installed.
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
#: Run before the packages are installed: the initramfs needs only the disk's modules, which are not built in.
PREPARE = """\
mkdir -p "$1"/etc/tiny-initramfs
printf 'AUTO_MODULES=no\\nINCLUDE_MODULES=virtio_pci,virtio_blk\\nMICROCODE=no\\n' \\
    > "$1"/etc/tiny-initramfs/tiny-initramfs.conf
"""


class ImageError(Exception):
    """The image could not be built; the text says why, and names the fix."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the disk."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    prepare: str = PREPARE
    customize: str = CUSTOMIZE
    size: str = "4G"

    @property
    def key(self) -> str:
        """The name of the disk in the cache."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Image:
    """A disk to create overlays of, and the saved state of a machine that has booted from it."""

    disk: str
    software: Software
    state: str | None = None
    form: str = "qcow2"


def cache_folder() -> str:
    """The lab's folder in the user's cache (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "ekho-lab")


def base_image(cache: str, recipe: Recipe, progress: Progress) -> tuple[str, str, str]:
    """The paths of disk, kernel and initrd; built if they are not in the cache."""
    folder = os.path.join(cache, f"disk-{recipe.key}")
    with _locked(cache, progress) as lock:
        if not _is_whole(folder, progress):
            check_build()
            progress("building the base image from packages, once for all labs (about a minute)")
            started = time.monotonic()
            with _unfinished(folder) as making:
                _build(recipe, making, _Programs(progress, lock))
            progress(f"base image built ({time.monotonic() - started:.0f} s)")
        # Each build names its disk differently: an overlay of another build must not find it.
        disk = next(name for name in _contents(folder) if name.startswith("disk-"))
    return tuple(os.path.join(folder, name) for name in (disk, "vmlinuz", "initrd"))  # type: ignore[return-value]


async def booted(cache: str, image: Image, progress: Progress) -> Image:
    """The image with the saved state of a machine that has booted from it; booted and saved if not in the cache."""
    parts = [image.disk, image.software.to_json(), qemu_version()]
    if image.software.accelerator is Accelerator.KVM:
        parts.append(_processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = os.path.join(cache, f"state-{key}")
    with _locked(cache, progress):
        if not _is_whole(folder, progress):
            progress("booting the base image to save the state of the booted machine, once for all labs (about 15 s)")
            started = time.monotonic()
            with _unfinished(folder) as making:
                await _boot_and_save(image, making)
            progress(f"state of the booted machine saved ({time.monotonic() - started:.0f} s)")
    return replace(image, disk=os.path.join(folder, "disk.qcow2"), state=os.path.join(folder, "state"))


def given_image(disk: str, software: Software) -> Image:
    """A cloud image of the user's: checks it and reads its format."""
    for path in (disk, software.kernel, software.initrd):
        if path is not None and not os.access(path, os.R_OK):
            raise ImageError(f"the image file {path} does not exist or cannot be read")
    asked = subprocess.run(["qemu-img", "info", "--output=json", disk], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise ImageError(f"{disk} is not an image for QEMU: {asked.stderr.strip()}")
    return Image(disk, replace(software, cloud=True), form=json.loads(asked.stdout)["format"])


def new_disk(image: Image, disk: str) -> None:
    """Create the disk of a machine that starts from the image: an overlay of the base image."""
    if image.state is None:
        _overlay(disk, image.disk, image.form)
    else:
        shutil.copyfile(image.disk, disk)


def forget_state(image: Image) -> None:
    """Remove a saved state that QEMU refused; the next lab saves it again. No machine depends on it."""
    if image.state is not None:
        shutil.rmtree(os.path.dirname(image.state), ignore_errors=True)


def _overlay(disk: str, over: str, form: str = "qcow2") -> None:
    """Create a disk with the differences from another."""
    _Programs(lambda _text: None)(["qemu-img", "create", "-q", "-f", "qcow2", "-F", form, "-b", over, disk])


def _build(recipe: Recipe, folder: str, call: Callable[..., None]) -> None:
    """Packages to an archive, and the archive to a file system in a file, without being root.

    The file system survives a crash, at some cost: a machine of the lab that is killed must boot again.
    """
    archive, root, raw = (os.path.join(folder, name) for name in ("root.tar", "root", "disk.raw"))
    leave_out = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("man", "doc", "locale", "info")]
    words = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}", *leave_out]
    # Scripts as text: without root they run as another user, who may not be able to read files of this one.
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
            # Ignore failed units here: the lab reports them machine by machine.
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
            raise ImageError(
                f"the state of the booted machine could not be saved: {outcome.get('error-desc', outcome['status'])}"
            )
    except MachineError as error:
        raise ImageError(str(error)) from None
    finally:
        end(processes(folder))


def _is_whole(folder: str, progress: Progress) -> bool:
    """Whether the folder is complete; removes it if it is damaged."""
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
    progress(f"{folder} in the cache is damaged ({', '.join(wrong)}); creating it again")
    shutil.rmtree(folder)
    return False


def _contents(folder: str) -> dict[str, int]:
    """The files of a folder in the cache, with their sizes."""
    with open(os.path.join(folder, _CONTENTS), encoding="utf-8") as file:
        return dict(json.load(file))


def _processor() -> str:
    """The host's processor model, on which a state saved under KVM depends."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return "".join(sorted({line for line in file if line.startswith(("model name", "flags"))}))


@contextlib.contextmanager
def _locked(cache: str, progress: Progress) -> Iterator[int]:
    """Labs that are brought up at the same time take turns with the cache."""
    os.makedirs(cache, mode=0o700, exist_ok=True)
    try:
        with locked(
            os.path.join(cache, "lock"), progress, f"the images in {cache}", BUILD_SECONDS + BOOT_SECONDS
        ) as lock:
            yield lock
    except Busy as error:
        raise ImageError(str(error)) from None


@contextlib.contextmanager
def _unfinished(folder: str) -> Iterator[str]:
    """A folder that gets its name when it is complete; removes the remains of an interrupted run first."""
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


class _Programs:
    """Runs programs one after the other, and reports from time to time that one is still running.

    A program inherits LOCK, and holds it even if this process is killed.
    """

    def __init__(self, progress: Progress, lock: int | None = None) -> None:
        self._progress = progress
        self._inherited = () if lock is None else (lock,)

    def __call__(self, words: Sequence[str], folder: str | None = None) -> None:
        """Run a program; ImageError with the end of its output if it fails."""
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C"}
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._inherited,
                start_new_session=True,
            )
            try:
                code = self._wait(process, words[0], output.fileno())
            finally:
                _end_session(process)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if code:
            raise ImageError(f"{words[0]} failed:\n" + "\n".join(text.splitlines()[-10:]))

    def _wait(self, process: subprocess.Popen[bytes], name: str, output: int) -> int:
        started = time.monotonic()
        while time.monotonic() - started < BUILD_SECONDS:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(PROGRESS_SECONDS)
            lines = os.pread(output, 4096, max(0, os.fstat(output).st_size - 4096)).decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            self._progress(
                f"{name} is running ({time.monotonic() - started:.0f} s): {last.rpartition(chr(13))[2][:80]}"
            )
        raise ImageError(f"{name} has not finished after {BUILD_SECONDS:.0f} s; is the package mirror slow?")


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Stop an interrupted program and its children; SIGTERM lets it clean up."""
    for what in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
