# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab of virtual machines requires on this machine, and whether KVM works here."""

from __future__ import annotations

import importlib.util
import os
import platform
import pwd
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Mapping

from .machine import Accelerator

OLDEST_QEMU = (7, 2)  # `-netdev dgram`
PROBE_SECONDS = 3.0
KVM = "/dev/kvm"
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "ssh": "openssh-client"}
BUILD_PROGRAMS = {"mmdebstrap": "mmdebstrap", "fakeroot": "fakeroot", "mke2fs": "e2fsprogs"}
LIBRARIES = {"qemu.qmp": "qemu.qmp"}


class Lacking(Exception):
    """A requirement is missing; the text says what to install or to choose."""


def check(*, build: bool = False) -> None:
    """Raise `Lacking` unless everything that a lab needs is here; with BUILD, also what builds the image."""
    if platform.machine() != "x86_64":
        raise Lacking(
            f"the lab's machines are x86_64, and this one is {platform.machine()}; use network namespaces (LAB=netns)"
        )
    _have(PROGRAMS)
    missing = [package for name, package in LIBRARIES.items() if not _has(name)]
    if missing:
        raise Lacking(f"Ansible's Python lacks {', '.join(missing)}: pip install {' '.join(missing)}")
    found = qemu_version()
    numbers = re.search(r"(\d+)\.(\d+)", found)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_QEMU:
        raise Lacking(f"found {found}; the lab needs QEMU {'.'.join(map(str, OLDEST_QEMU))} or later")
    if build:
        check_build()


def check_build() -> None:
    """Raise `Lacking` unless the image can be built here. Without root mmdebstrap needs subordinate user IDs."""
    _have(BUILD_PROGRAMS)
    if os.geteuid() == 0:
        return
    _have({"newuidmap": "uidmap"})
    user = pwd.getpwuid(os.geteuid()).pw_name
    for file in ("/etc/subuid", "/etc/subgid"):
        if not has_range(file, user, os.geteuid()):
            ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
            raise Lacking(
                f"{user} has no range of 65536 IDs in {file} to build the image with: sudo usermod {ranges} {user}"
            )
    tried = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise Lacking(
            f"building the image needs user namespaces, which users cannot create here ({tried.stderr.strip()}): "
            "sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=1000, or use an existing image "
            "(ekho_lab_image)"
        )


def has_range(file: str, user: str, number: int) -> bool:
    """Whether a file such as /etc/subuid has enough IDs for a distribution (65536) for a user, by name or number."""
    try:
        with open(file, encoding="utf-8") as stream:
            entries = [line.strip().split(":") for line in stream]
    except FileNotFoundError:
        return False
    return any(len(entry) == 3 and entry[0] in (user, str(number)) and int(entry[2]) >= 65536 for entry in entries)


def _have(programs: Mapping[str, str]) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    packages = [package for program, package in programs.items() if shutil.which(program, path=path) is None]
    if packages:
        raise Lacking(f"packages are missing: sudo apt-get install {' '.join(packages)}")


def qemu_version() -> str:
    """The first line of ``qemu-system-x86_64 --version``."""
    done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def choose_accelerator(wanted: str, kernel: str | None) -> tuple[Accelerator, str]:
    """KVM or TCG, and why. *wanted* is ``auto``, ``kvm`` or ``tcg``; KVM is tried with a guest of *kernel*.

    An accessible /dev/kvm proves nothing: under a nested hypervisor a guest may hang in its first instructions. Raises
    `Lacking` if KVM is wanted and does not work.
    """
    if wanted == "tcg":
        return Accelerator.TCG, "as requested"
    problem = _problem_of_kvm(kernel)
    if problem is None:
        return Accelerator.KVM, "a test guest boots under KVM"
    if wanted == "kvm":
        raise Lacking(f"KVM does not work: {problem}; set ekho_lab_accelerator to tcg or auto")
    return Accelerator.TCG, problem


def _problem_of_kvm(kernel: str | None) -> str | None:
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{KVM}: {error.strerror}"
    if kernel is None:
        return "KVM cannot be tested without image_kernel"
    if not _boots_under_kvm(kernel):
        return f"a test guest under KVM printed nothing within {PROBE_SECONDS:.0f} s, although {KVM} can be opened"
    return None


def _boots_under_kvm(kernel: str) -> bool:
    """Whether a kernel prints its first line within seconds."""
    words = ["qemu-system-x86_64", *Accelerator.KVM.arguments, "-machine", "pc", "-m", "256", "-nodefaults"]
    words += ["-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
    words += ["-kernel", kernel, "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(words, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing) as process:
        try:
            return prints(process, b"Linux version", PROBE_SECONDS)
        finally:
            process.kill()


def prints(process: subprocess.Popen[bytes], text: bytes, seconds: float) -> bool:
    """Whether a process prints a text within some seconds."""
    if process.stdout is None:  # no pipe
        return False
    deadline, printed = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and selector.select(left):
            chunk = os.read(process.stdout.fileno(), 65536)
            printed += chunk
            if not chunk or text in printed:
                break
    return text in printed


def _has(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # raised for its parent package
        return False
