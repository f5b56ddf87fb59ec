# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option tables of the daemons' services: how they run, and where their files are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.agent import AgentConfig
from ..config.common import DaemonConfig
from ..config.listener import ListenerConfig
from ..config.options import FILE, TEXT, Table, choice, number, option, optional


@dataclass(frozen=True)
class ServiceOptions(Table):
    """How any daemon runs on its machine."""

    service_manager: str = option(choice(("auto", "systemd", "supervised")), "auto", "What keeps the daemon running.")
    user: str | None = option(optional(TEXT), None, "System user that the daemon runs as. Empty is root.")
    interpreter: str | None = option(optional(FILE), None, "Python that the daemon runs with.")
    timeout: float = option(number(0.1, 86400), 30.0, "Seconds to wait for the daemon to be ready.")
    config_dir: str = option(FILE, "/etc/ynl-mirror", "Directory of the configuration file.")
    state_dir: str = option(FILE, "/var/lib/ynl-mirror", "Directory of the pid file, without systemd.")
    runtime_dir: str = option(FILE, "/run/ynl-mirror", "Directory of the control socket.")
    log_dir: str = option(FILE, "/var/log/ynl-mirror", "Directory of the log file, without systemd.")
    lib_dir: str = option(FILE, "/usr/local/lib/ynl-mirror", "Directory of the program.")
    bin_dir: str = option(FILE, "/usr/local/bin", "Directory of the command C(ynl-mirror).")
    unit_dir: str = option(FILE, "/etc/systemd/system", "Directory of the systemd unit.")


@dataclass(frozen=True)
class AgentServiceOptions(ServiceOptions):
    """How an agent runs on its machine."""

    rt_protos_dir: str | None = option(
        optional(FILE),
        None,
        "Directory of iproute2 for a file that names the protocols 121 and 122, for C(ip route) to show V(ynl_mirror).",
    )


@dataclass(frozen=True)
class Daemon:
    """A daemon, and the tables that hold all its options."""

    name: str
    config: type[DaemonConfig]
    service: type[ServiceOptions]


AGENT = Daemon("agent", AgentConfig, AgentServiceOptions)
LISTENER = Daemon("listener", ListenerConfig, ServiceOptions)
