# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the facts of a machine: kernel, Python, clock, memory, disk, daemons. Changes nothing.

Those of its network are in look_network.py, those of its certificates in look_tls.py.
"""

from __future__ import annotations

import configparser
import contextlib
import ctypes
import glob
import importlib.util
import os
import re
import sys
import time
from collections.abc import Sequence

from ..netlink.sockets import KernelError, Monitor, Requests
from .facts import PYTHON_PACKAGES, Daemon, Facts, Machine, Task
from .look_network import look_at_dpu, look_at_host
from .look_tls import look_at_tls

_CAP_NET_ADMIN = 12
#: adjtimex(2): the clock is not synchronised.
_TIME_ERROR = 5
#: More than a struct timex has on any machine (208 bytes on 64 bits).
_TIMEX = 512

#: Daemons that manage routes, as /proc/PID/comm has them: at most 15 bytes.
ROUTE_DAEMONS = frozenset(("zebra", "bird", "bird6", "systemd-network", "NetworkManager"))
#: In the order in which systemd searches for a file; of drop-ins with the same name the first counts.
NETWORKD_DIRECTORIES = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
NETWORKD_SETTINGS = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
_FALSE = ("0", "no", "n", "false", "f", "off")


def look(task: Task) -> Facts:
    """All facts that the task's findings need. OSError when /proc or a folder cannot be read."""
    config = task.agent or task.listener
    granted = None
    strict_dumps = ""
    try:
        with Requests() as requests:
            dpu = look_at_dpu(requests, task) if task.agent else None
            host = look_at_host(requests, task) if task.listener else None
        if config is not None:
            granted = _receive_buffer(config.receive_buffer)
    except KernelError as error:
        dpu = host = None
        strict_dumps = str(error)
    return Facts(
        machine=look_at_machine(task, strict_dumps),
        dpu=dpu,
        host=host,
        tls=look_at_tls(task.tls) if task.tls is not None else None,
        receive_buffer=granted,
    )


def look_at_machine(task: Task, strict_dumps: str = "") -> Machine:
    """The machine itself; *strict_dumps* is the kernel's error, if it refused them."""
    disk_path = _existing(task.lib_dir)
    disk = os.statvfs(disk_path)
    return Machine(
        release=os.uname().release,
        python=sys.version_info[:3],
        executable=sys.executable,
        uid=os.geteuid(),
        net_admin=bool(int(_value("/proc/self/status", "CapEff") or "0", 16) >> _CAP_NET_ADMIN & 1),
        strict_dumps=strict_dumps,
        now=time.time(),
        clock_kept=clock_is_kept(),
        memory_available=int((_value("/proc/meminfo", "MemAvailable") or "0 kB").split()[0]) * 1024,
        disk_free=disk.f_bavail * disk.f_frsize,
        disk_path=disk_path,
        missing_packages=_missing(PYTHON_PACKAGES),
        missing_for_venv=_missing(("venv", "ensurepip")),
        has_venv=bool(glob.glob(os.path.join(task.lib_dir, "python*-*", "complete"))),  # see environment.py
        daemons=route_daemons(),
        networkd_removes=what_networkd_removes(),
    )


def _receive_buffer(wanted: int) -> int:
    """The receive buffer that the kernel grants, tried on a socket without subscriptions."""
    monitor = Monitor(wanted, groups=())
    monitor.close()
    return monitor.granted


def _existing(path: str) -> str:
    """The nearest folder above a path that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "/"
    return path


def _missing(packages: Sequence[str]) -> tuple[str, ...]:
    """Those that this interpreter cannot import, by their names on PyPI."""
    return tuple(name for name in packages if importlib.util.find_spec(name.replace("-", "_")) is None)


def clock_is_kept() -> bool:
    """Whether the kernel counts its clock as synchronised, by whatever program (adjtimex(2), read only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.adjtimex(ctypes.create_string_buffer(_TIMEX))) not in (_TIME_ERROR, -1)


def _value(path: str, name: str) -> str:
    """The value of `NAME:` in a file of /proc; empty where there is none."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(name + ":"):
                return line.partition(":")[2].strip()
    return ""


# -- daemons ----------------------------------------------------------------------------------------------------------


def route_daemons() -> tuple[Daemon, ...]:
    """Those of ROUTE_DAEMONS that run in this network namespace, one process of each name."""
    here = os.readlink("/proc/self/ns/net")
    found: dict[str, Daemon] = {}
    for entry in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        with contextlib.suppress(OSError):  # the process has ended
            with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
            if name in ROUTE_DAEMONS and os.readlink(f"/proc/{entry}/ns/net") == here:
                found.setdefault(name, Daemon(name, int(entry)))
    return tuple(found.values())


def what_networkd_removes(directories: Sequence[str] = NETWORKD_DIRECTORIES) -> tuple[str, ...]:
    """Those of NETWORKD_SETTINGS in force. By default systemd-networkd removes the routes and rules of others.

    networkd.conf(5): the first networkd.conf, then the drop-ins of all directories by name; the last setting counts.
    """
    settings = dict.fromkeys(NETWORKD_SETTINGS, "yes")
    for path in _networkd_files(directories):
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd distinguishes upper and lower case
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                parser.read_file(file)
        except (OSError, configparser.Error):
            continue
        for name in NETWORKD_SETTINGS:
            settings[name] = parser.get("Network", name, fallback="") or settings[name]
    return tuple(name for name in NETWORKD_SETTINGS if settings[name].lower() not in _FALSE)


def _networkd_files(directories: Sequence[str]) -> list[str]:
    mains = [os.path.join(directory, "networkd.conf") for directory in directories]
    drop_ins: dict[str, str] = {}
    for directory in directories:
        folder = os.path.join(directory, "networkd.conf.d")
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if re.fullmatch(r".+\.conf", name):
                    drop_ins.setdefault(name, os.path.join(folder, name))
    return [*(path for path in mains if os.path.exists(path))][:1] + [drop_ins[name] for name in sorted(drop_ins)]
