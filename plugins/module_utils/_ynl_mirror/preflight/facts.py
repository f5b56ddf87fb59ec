# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: what is asked about a machine before the mirror goes onto it, what was found there, and what that means.

look.py fills the facts, judge.py turns them into findings. Bytes, seconds and Unix time.
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
PYTHON_PACKAGES = ("pyroute2", "uvicorn", "prometheus-client")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: its name, `ok`, `warning` or `problem`, what was found, and the way out."""

    check: str
    level: str
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


def either(check: str, fine: str, troubles: Iterable[Finding]) -> list[Finding]:
    """The troubles of one check, or that it is fine."""
    return list(troubles) or [Finding(check, OK, fine)]


# -- asked ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What the mirror is to do on the machine, and what its controller knows.

    *names*: those that the machine's certificate is to have. *expected*: where and as whom listeners look for agents.
    *accepted*: the names of hosts that agents accept, empty accepts all. *own_certificates*: the files are the user's,
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
        """What the variables of the role start with."""
        return "dpu_agent" if self.agent else "mirror_listener"


# -- found ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Daemon:
    """A process in the machine's own network namespace that is known to deal in routes."""

    name: str
    pid: int


@dataclass(frozen=True)
class Machine:
    """Kernel, Python, privilege, clock and room. *strict_dumps* is an error, or empty.

    *clock_kept*: whether the kernel knows of somebody who keeps its clock right. *networkd_removes*: the settings of
    systemd-networkd by which it removes what it has not made: ManageForeignRoutes, ManageForeignRoutingPolicyRules.
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
    """A TCP port for the agent to listen at. *holder*: the process that does so already, *ours*: it is the agent."""

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
    """What an agent meets. *kernel_vrf*: whether the kernel can make VRF devices, `yes`, `no` or `unknown`.

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
    """What a listener meets: the agents it is to reach, its routes by table, and IPv6 that goes without a word."""

    reaches: tuple[Reach, ...] = ()
    routes: Mapping[int, int] = field(default_factory=dict)
    skip_notify: bool = False


@dataclass(frozen=True)
class Tls:
    """Files of one machine, or of the authority. *absent*: those that are not there. *error*: why they are of no use.

    *chain*: why the other side would refuse the certificate, its times left out. *start* and *end* are those of the
    certificate, *ca_end* of the authority's. *owner*: the user whose the key is.
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
    """All that was found."""

    machine: Machine
    dpu: Dpu | None = None
    host: Host | None = None
    tls: Tls | None = None
    receive_buffer: int | None = None
