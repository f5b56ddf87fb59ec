# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: the task that a machine is checked for, the facts found there, and the findings. Pure.

look.py gathers the facts, judge.py turns them into findings. Units are bytes, seconds and Unix time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..config.agent import AgentConfig
from ..config.common import TlsConfig
from ..config.listener import ListenerConfig, PeerAddress

OK, WARNING, PROBLEM = "ok", "warning", "problem"

#: What the daemons import, as PyPI calls it.
PYTHON_PACKAGES = ("uvicorn", "prometheus-client")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: its name, `ok`, `warning` or `problem`, what was found, and how to fix it."""

    check: str
    level: str
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


def either(check: str, fine: str, troubles: Iterable[Finding]) -> list[Finding]:
    """The troubles of one check, or one finding that it is fine."""
    return list(troubles) or [Finding(check, OK, fine)]


# -- the task ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What the mirror will do on the machine, and what the controller knows.

    *names*: what the machine's certificate has to name. *expected*: the agents of all listeners, address and name.
    *accepted*: the names of hosts that agents accept; empty accepts all. *own_certificates*: the files are the user's,
    no role replaces them. *authority_sha256*: of the controller's authority, empty when there is none yet.
    """

    agent: AgentConfig | None = None
    listener: ListenerConfig | None = None
    names: tuple[str, ...] = ()
    expected: tuple[PeerAddress, ...] = ()
    accepted: tuple[str, ...] = ()
    user: str | None = None
    own_certificates: bool = False
    authority_sha256: str = ""
    renew_days: int = 30
    controller_time: float | None = None
    clock_seconds: int = 300
    packages_from: str = "none"
    wheels_found: bool = True
    config_dir: str = "/etc/ynl-mirror"
    lib_dir: str = "/usr/local/lib/ynl-mirror"
    timeout: float = 3.0

    @property
    def tls(self) -> TlsConfig | None:
        """The TLS files of the daemon."""
        config = self.agent or self.listener
        return config.tls if config else None

    @property
    def prefix(self) -> str:
        """The prefix of the role's variables."""
        return "dpu_agent" if self.agent else "mirror_listener"


# -- the facts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Daemon:
    """A process in the machine's network namespace that is known to manage routes."""

    name: str
    pid: int


@dataclass(frozen=True)
class Machine:
    """Kernel, Python, privilege, clock, memory and disk. *strict_dumps* is an error, or empty.

    *clock_kept*: whether the kernel counts its clock as synchronised. *networkd_removes*: the settings by which
    systemd-networkd removes what it has not made: ManageForeignRoutes, ManageForeignRoutingPolicyRules.
    """

    release: str
    python: tuple[int, int, int]
    executable: str
    uid: int
    net_admin: bool
    strict_dumps: str
    now: float
    clock_kept: bool
    memory_available: int
    disk_free: int
    disk_path: str
    missing_packages: tuple[str, ...] = ()
    missing_for_venv: tuple[str, ...] = ()
    has_venv: bool = False
    daemons: tuple[Daemon, ...] = ()
    networkd_removes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinkState:
    """A link of a VRF. *rp_filter*, *forwarding*: as the kernel applies them. *ruled*: families of its `iif` rules."""

    name: str
    up: bool = True
    carrier: bool = True
    rp_filter: int = 0
    forwarding: Mapping[str, bool] = field(default_factory=dict)
    ruled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class VrfState:
    """A VRF. *owners*: routes by protocol number. *unreachable*, *default*: families with such a default route."""

    name: str
    table: int
    device: bool
    links: tuple[LinkState, ...] = ()
    owners: Mapping[int, int] = field(default_factory=dict)
    unreachable: frozenset[str] = frozenset()
    default: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Port:
    """A TCP port for the agent to listen at. *holder*: the process that uses it already; *ours*: it is the agent."""

    address: str
    port: int
    holder: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Place:
    """Where an address of the machine is: its link, and the VRF device that the link is in (empty: none)."""

    link: str
    vrf_device: str = ""


@dataclass(frozen=True)
class Dpu:
    """The machine as a DPU. *kernel_vrf*: whether the kernel can make VRF devices: `yes`, `no` or `unknown`.

    *protocol_names*: number -> name. *deployed*: an agent was put here by its role.
    """

    vrfs: tuple[VrfState, ...] = ()
    links: tuple[str, ...] = ()
    kernel_vrf: str = "unknown"
    l3mdev_rules: frozenset[str] = frozenset()
    tcp_l3mdev_accept: bool = False
    ipv6: bool = True
    places: Mapping[str, Place] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    deployed: bool = False
    protocol_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reach:
    """An attempt to connect to an agent: *answer* is `connected`, `refused`, or why there is none."""

    address: str
    port: int
    answer: str
    milliseconds: float = 0.0


@dataclass(frozen=True)
class Host:
    """The machine as a host: its attempts to reach agents, its routes by table, and whether IPv6 losses are silent."""

    reaches: tuple[Reach, ...] = ()
    routes: Mapping[int, int] = field(default_factory=dict)
    skip_notify: bool = False


@dataclass(frozen=True)
class Tls:
    """Files of one machine, or of the authority. *absent*: those that do not exist. *error*: why they are unusable.

    *chain*: why a peer would reject the certificate, its dates aside. *start* and *end* are those of the
    certificate, *ca_end* that of the authority's. *owner*: the user who owns the key.
    """

    absent: tuple[str, ...] = ()
    error: str = ""
    chain: str = ""
    start: float | None = None
    end: float | None = None
    ca_end: float | None = None
    names: tuple[str, ...] = ()
    ca_sha256: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Facts:
    """All facts about one machine."""

    machine: Machine
    dpu: Dpu | None = None
    host: Host | None = None
    tls: Tls | None = None
    receive_buffer: int | None = None
