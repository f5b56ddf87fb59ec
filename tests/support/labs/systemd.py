# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real systemd as PID 1 of namespaces of its own, for tests of services: boots in about a second, leaves nothing.

It shares the machine's files but for /run, /var/log and the units: it knows the journal and empty targets, nothing
else, so that nothing of this machine is started a second time (or cleaned, as systemd-tmpfiles would). What it writes
below /etc, /usr/local and /var/lib it alone sees, and is gone with it: a user, an installation in the usual places.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ansible_collections.ekho.ynl_mirror.tests.support.until import until

SYSTEMD = Path("/usr/lib/systemd/systemd")
UNITS = Path("/usr/lib/systemd/system")
HIERARCHIES = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
TARGETS = ("sysinit", "basic", "multi-user", "network-pre", "shutdown", "umount", "final")
NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")

BOOT = """
set -e
mount --make-rprivate /
for directory in /usr/lib/systemd/system-generators /usr/lib/systemd/system /run /var/log; do
    mount -t tmpfs -o mode=755 tmpfs $directory
done
cp {units}/* /usr/lib/systemd/system/
mkdir /run/netns
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
for directory in /etc /usr/local /var/lib; do
    layer=/mnt/$(echo $directory | tr / -)
    mkdir $layer $layer/upper $layer/work
    mount -t overlay overlay -o lowerdir=$directory,upperdir=$layer/upper,workdir=$layer/work $directory
done
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/system
ip link set lo up
export container=test
exec {systemd} --system --unit=multi-user.target --log-target=journal
"""


class Systemd:
    """The booted system; commands run inside."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(
        self, *command: str, env: dict[str, str] | None = None, seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; what it prints is captured."""
        prefix = ["nsenter", f"--target={self._pid}", *NAMESPACES, f"--wdns={os.getcwd()}"]
        return subprocess.run(
            [*prefix, *command], capture_output=True, text=True, timeout=seconds, check=False, env=env
        )


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Systemd]:
    """Boot one, with its units prepared in FOLDER."""
    cgroups = [Path(at, f"ynlt-{os.getpid()}") for at in HIERARCHIES if Path(at, "cgroup.procs").exists()]
    for cgroup in cgroups:
        cgroup.mkdir()
    process = None
    try:
        join = "".join(f"echo $$ > {cgroup}/cgroup.procs; " for cgroup in cgroups)
        script = BOOT.format(units=_units(folder), systemd=SYSTEMD)
        process = subprocess.Popen(
            ["sh", "-c", f'{join} exec unshare --fork --kill-child {" ".join(NAMESPACES)} sh -c "$1"', "sh", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        yield _wait(process)
    finally:
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        for cgroup in cgroups:
            _remove(cgroup)


def _units(folder: Path) -> Path:
    """The units of the system, in a folder."""
    folder.mkdir()
    for unit in UNITS.glob("systemd-journald*"):
        if unit.is_file():
            shutil.copy(unit, folder)
    for target in TARGETS:
        (folder / f"{target}.target").write_text(f"[Unit]\nDescription={target}\nDefaultDependencies=no\n")
    return folder


def _wait(process: subprocess.Popen[bytes]) -> Systemd:
    """The system, once it has booted."""

    def running() -> Systemd | None:
        if process.poll() is not None:
            raise RuntimeError(f"systemd has ended: {process.communicate()[1].decode(errors='replace')}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            system = Systemd(int(children[0]))
            if system.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return system
        return None

    system = until(running, otherwise="systemd has not booted")
    assert system
    assert system.run("systemctl", "start", "systemd-journald").returncode == 0
    return system


def _remove(cgroup: Path) -> None:
    """Remove a control group and those below it; the kernel takes a moment to notice that they are empty."""

    def gone(directory: Path) -> bool:
        with contextlib.suppress(OSError):
            directory.rmdir()
        return not directory.exists()

    for directory in sorted((Path(at) for at, _dirs, _files in os.walk(cgroup)), reverse=True):
        until(partial(gone, directory), otherwise=f"{directory} does not go")
