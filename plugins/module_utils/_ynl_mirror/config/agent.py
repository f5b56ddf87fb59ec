# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's option table (see options.py; what both daemons have is in common.py). Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..model.routes import PROTO_MANUAL, PROTO_MIRROR, RT_TABLE_LOCAL, Address, Prefix
from .common import FPM_PORT, SOCKET, DaemonConfig, HttpConfig
from .fields import ConfigError, suggestion
from .host_policy import EVERY_VRF, HOST, LIMIT, Host, HostPolicy
from .names import U32
from .options import (
    ADDRESS,
    LINK,
    LOCAL_ADDRESS,
    PREFIX,
    PROTOCOL,
    TABLE,
    TEXT,
    Table,
    choice,
    integer,
    many,
    named,
    number,
    option,
    optional,
    record,
    required,
)

INFERENCES = ("static", "nexthop", "prefix")
DEFAULT_INFERENCE = INFERENCES[:2]


@dataclass(frozen=True)
class ListenAddress(Table):
    """Where an agent accepts FPM connections; port 0 lets the kernel choose."""

    address: str = required(LOCAL_ADDRESS, "Address of this machine. V(::) is every address, IPv4 and IPv6.")
    port: int = option(integer(0, 65535), FPM_PORT, "TCP port.")


@dataclass(frozen=True)
class VrfSpec(Table):
    """A VRF where the kernel has no VRF device: its table, and the links that policy rules bind to it."""

    table: int = required(TABLE, "Routing table, by number or name.")
    links: tuple[str, ...] = option(many(LINK), (), "Names of its links.")

    def check(self, path: str) -> None:
        """The local table is nobody's VRF."""
        if self.table == RT_TABLE_LOCAL:
            raise ConfigError(f"{path}.table: {RT_TABLE_LOCAL} is the kernel's local table; choose the VRF's own")


@dataclass(frozen=True)
class StaticRule(Table):
    """The user's own mapping: announced routes to *prefix*, or through *gateway*, leave by *dev* in *vrf*."""

    vrf: str = required(TEXT, "VRF that the destination is in.")
    dev: str = required(LINK, "Link to the destination.")
    prefix: Prefix | None = option(optional(PREFIX), None, "Prefix of the announced route.")
    gateway: Address | None = option(optional(ADDRESS), None, "Gateway of the announced route.")
    via: Address | None = option(optional(ADDRESS), None, "Gateway on that link.")

    def check(self, path: str) -> None:
        """By prefix or by gateway."""
        if (self.prefix is None) == (self.gateway is None):
            raise ConfigError(f"{path}: give exactly one of prefix and gateway")


@dataclass(frozen=True)
class AgentConfig(DaemonConfig):
    """What the agent accepts, and how it maps and installs it."""

    listen: tuple[ListenAddress, ...] = option(
        many(record(ListenAddress), "list at least one address"),
        (ListenAddress("::"),),
        "Addresses and ports that hosts connect to.",
    )
    hosts: tuple[Host, ...] = option(
        many(HOST),
        (),
        "Names in the certificates of the hosts that may connect. Empty accepts all that the authority has signed.",
        reloadable=True,
    )
    host_defaults: HostPolicy = option(
        record(HostPolicy), HostPolicy(), "What each host may fill, unless C(hosts) says otherwise.", reloadable=True
    )
    vrf_limits: Mapping[str, int] = option(
        named(LIMIT),
        {},
        "Maximum number of mirrored routes in a VRF - name of the VRF to a number. V(*) is every VRF not named.",
        reloadable=True,
    )
    host_tables: tuple[int, ...] = option(
        many(TABLE, "list at least one table, such as 254 (main)"),
        (254,),
        "Routing tables of the hosts whose routes are installed, by number or name.",
    )
    vrfs: Mapping[str, VrfSpec] = option(
        named(record(VrfSpec)),
        {},
        "VRFs made by policy rules instead of VRF devices - name of the VRF to C(table) and C(links).",
    )
    inference: tuple[str, ...] = option(
        many(choice(INFERENCES), "list at least one of " + ", ".join(INFERENCES)),
        DEFAULT_INFERENCE,
        "Ways to find the VRF and egress of an announced route. The first that knows decides. V(prefix) is a guess.",
        reloadable=True,
    )
    static: tuple[StaticRule, ...] = option(
        many(record(StaticRule)), (), "Rules for the inference V(static).", reloadable=True
    )
    imports: Mapping[str, tuple[str, ...]] = option(
        named(many(TEXT)),
        {},
        "VRFs from which a VRF imports egresses - name of the VRF to a list of names.",
        reloadable=True,
    )
    host_links: tuple[str, ...] = option(
        many(LINK),
        (),
        "Links that lead to the hosts, besides those that own the gateways of their routes.",
        reloadable=True,
    )
    protocol: int = option(
        PROTOCOL, PROTO_MIRROR, "Protocol of the installed routes, by number or name. It marks them as the agent's."
    )
    metric: int | None = option(
        optional(integer(0, U32)),
        None,
        "Metric of the installed routes, trap routes apart. The kernel's default when left out.",
        reloadable=True,
    )
    settle_time: float = option(
        number(0, 3600),
        5.0,
        "Seconds of silence that complete the replay of a host that marks no end, such as FRR's zebra.",
        reloadable=True,
    )
    guard_share: float = option(
        number(0, 1),
        0.5,
        "Share of a VRF's mirrored routes that a host may withdraw at once without confirmation.",
    )
    guard_routes: int = option(
        integer(0, U32),
        100,
        "Number of routes that a host may withdraw at once without confirmation, whatever their share.",
    )
    control_socket: str = option(SOCKET, "/run/ynl-mirror/agent.sock", "Path of the control socket.", in_modules=False)
    http: HttpConfig | None = option(
        optional(record(HttpConfig)), None, "HTTP interface on TCP, besides the control socket. None when left out."
    )

    @property
    def host_names(self) -> tuple[str, ...]:
        """The hosts that may connect; none: all that the authority has signed."""
        return tuple(host.name for host in self.hosts)

    def policy_of(self, host: str) -> HostPolicy:
        """What a host may do."""
        own = next((known.own for known in self.hosts if known.name == host), {})
        return dataclasses.replace(self.host_defaults, **own)

    def check(self, path: str) -> None:
        """References between options, and numbers with a meaning of their own."""
        super().check(path)
        if self.protocol < 5 or self.protocol == PROTO_MANUAL:
            raise ConfigError(
                f"protocol: {self.protocol} is what others install under; choose a number from 5 to 255 that nobody "
                f"uses here and that is not {PROTO_MANUAL}, such as {PROTO_MIRROR}"
            )
        for index, name in enumerate(self.host_names):
            if name in self.host_names[:index]:
                raise ConfigError(f"hosts[{index}]: {name} is listed twice; say all about a host in one item")
        _check_vrfs(self.vrfs)
        if self.vrfs:
            _check_vrf_names(self)


def _check_vrfs(vrfs: Mapping[str, VrfSpec]) -> None:
    """A table and a link have one VRF."""
    tables: dict[int, str] = {}
    links: dict[str, str] = {}
    for name, vrf in vrfs.items():
        if tables.setdefault(vrf.table, name) != name:
            raise ConfigError(f"vrfs.{name}.table: {vrf.table} is VRF {tables[vrf.table]}'s too; give each its own")
        for index, link in enumerate(vrf.links):
            if links.setdefault(link, name) != name:
                raise ConfigError(f"vrfs.{name}.links[{index}]: {link} is in VRF {links[link]} too; a link has one VRF")


def _check_vrf_names(config: AgentConfig) -> None:
    """Where the configuration names the VRFs, nothing may refer to another one."""
    known = list(config.vrfs)
    for path, name in _named_vrfs(config):
        if name not in known:
            raise ConfigError(f"{path}: no VRF {name!r} in vrfs; {suggestion(name, known)}")


def _named_vrfs(config: AgentConfig) -> Iterator[tuple[str, str]]:
    """Where a VRF is named, and how."""
    for index, rule in enumerate(config.static):
        yield f"static[{index}].vrf", rule.vrf
    for name, sources in config.imports.items():
        yield f"imports.{name}", name
        for index, source in enumerate(sources):
            yield f"imports.{name}[{index}]", source
    for name in config.vrf_limits:
        if name != EVERY_VRF:
            yield f"vrf_limits.{name}", name
    for index, name in enumerate(config.host_defaults.vrfs):
        yield f"host_defaults.vrfs[{index}]", name
    for number_, host in enumerate(config.hosts):
        for index, name in enumerate(host.own.get("vrfs", ())):
            yield f"hosts[{number_}].vrfs[{index}]", name
