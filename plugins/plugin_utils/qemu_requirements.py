# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine must have for a lab of virtual machines, and whether it can run them under KVM."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import selectors
import shutil
import subprocess
import time

from .qemu_machine import Accelerator

OLDEST_QEMU = (7, 2)  # `-netdev dgram`
PROBE_SECONDS = 3.0
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "ssh": "openssh-client"}
BUILD_PROGRAMS = {"mmdebstrap": "mmdebstrap", "fakeroot": "fakeroot", "mke2fs": "e2fsprogs"}
LIBRARIES = {"qemu.qmp": "qemu.qmp", "cryptography": "cryptography"}


class Lacking(Exception):
    """Something is not here; the text says what to install or to choose."""


def check(*, build: bool) -> None:
    """Raise `Lacking` unless all is here; with BUILD also what makes the image."""
    if platform.machine() != "x86_64":
        raise Lacking(
            f"the lab's machines are x86_64 and this machine is {platform.machine()}: choose the backend netns"
        )
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    wanted = {**PROGRAMS, **(BUILD_PROGRAMS if build else {})}
    packages = [package for program, package in wanted.items() if shutil.which(program, path=path) is None]
    if packages:
        raise Lacking(f"these packages are missing: apt-get install {' '.join(packages)}")
    missing = [package for name, package in LIBRARIES.items() if not _has(name)]
    if missing:
        raise Lacking(f"Ansible's Python lacks {', '.join(missing)}: pip install {' '.join(missing)}")
    found = qemu_version()
    numbers = re.search(r"(\d+)\.(\d+)", found)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_QEMU:
        raise Lacking(f"this is {found}; the lab needs QEMU {'.'.join(map(str, OLDEST_QEMU))} or later")


def qemu_version() -> str:
    """The first line of ``qemu-system-x86_64 --version``."""
    done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def choose_accelerator(wanted: str, kernel: str | None) -> tuple[Accelerator, str]:
    """KVM or TCG, and why. *wanted* is ``auto``, ``kvm`` or ``tcg``; with *kernel* a guest is started for a moment.

    That /dev/kvm can be opened proves nothing: a nested hypervisor may let a guest hang in its first instructions.
    """
    if wanted != "auto":
        return Accelerator(wanted), "as asked for"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Accelerator.TCG, f"/dev/kvm: {error.strerror}"
    if kernel is None:
        return Accelerator.TCG, "there is no kernel to try KVM with"
    if _boots_under_kvm(kernel):
        return Accelerator.KVM, "a guest runs under it"
    return Accelerator.TCG, f"/dev/kvm opens, but a guest that was tried did nothing under it for {PROBE_SECONDS:.0f} s"


def _boots_under_kvm(kernel: str) -> bool:
    """Whether a kernel says its first line within seconds."""
    words = ["qemu-system-x86_64", *Accelerator.KVM.arguments, "-machine", "pc", "-m", "256", "-nodefaults"]
    words += ["-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
    words += ["-kernel", kernel, "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(words, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing) as process:
        try:
            return _says(process, b"Linux version", PROBE_SECONDS)
        finally:
            process.kill()


def _says(process: subprocess.Popen[bytes], text: bytes, seconds: float) -> bool:
    assert process.stdout is not None  # it is a pipe
    deadline, said = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(process.stdout.fileno(), 65536)
            said += chunk
            if not chunk or text in said:
                break
    return text in said


def _has(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
