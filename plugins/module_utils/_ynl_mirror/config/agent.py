# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's configuration as a frozen value: JSON object -> AgentConfig, and back (see common.py). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.routes import PROTO_MANUAL, PROTO_MIRROR, RT_TABLE_LOCAL, Address, Prefix
from .common import (
    AUDIT_INTERVAL,
    FPM_PORT,
    LOG_LEVELS,
    RECEIVE_BUFFER,
    CaptureConfig,
    HttpConfig,
    TlsConfig,
    capture_of,
    check_not_empty,
    http_of,
    socket_path,
    transport_of,
)
from .fields import (
    ConfigError,
    Fields,
    as_address,
    as_choice,
    as_link,
    as_local_address,
    as_prefix,
    as_text,
    suggestion,
)
from .host_policy import EVERY_VRF, HostPolicy, host_entry, hosts_of, vrf_limit
from .names import U32, Names

INFERENCES = ("nexthop", "prefix", "static")


@dataclass(frozen=True)
class ListenAddress:
    """Where an agent accepts FPM connections; port 0 lets the kernel choose."""

    address: str = "::"
    port: int = FPM_PORT

    @classmethod
    def from_dict(cls, data: object, path: str) -> ListenAddress:
        """From {"address", "port"}."""
        fields = Fields(data, path)
        made = cls(str(as_local_address(fields.required("address"), fields.path("address"))),
                   fields.integer("port", FPM_PORT, 0, 65535))  # fmt: skip
        fields.done()
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"address": self.address, "port": self.port}


@dataclass(frozen=True)
class VrfSpec:
    """A VRF where the kernel has no VRF device: its table, and the links that policy rules bind to it."""

    table: int
    links: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"table": self.table, "links": list(self.links)}


@dataclass(frozen=True)
class StaticRule:
    """The user's own mapping: announced routes to PREFIX, or through GATEWAY (one of both), leave by DEV in VRF."""

    vrf: str
    dev: str
    prefix: Prefix | None = None
    gateway: Address | None = None
    via: Address | None = None

    @classmethod
    def from_dict(cls, data: object, path: str) -> StaticRule:
        """From {"prefix" or "gateway", "vrf", "dev", "via"}."""
        fields = Fields(data, path)
        prefix, gateway, via = fields.take("prefix"), fields.take("gateway"), fields.take("via")
        made = cls(
            vrf=fields.text("vrf"),
            dev=as_link(fields.required("dev"), fields.path("dev")),
            prefix=None if prefix is None else as_prefix(prefix, fields.path("prefix")),
            gateway=None if gateway is None else as_address(gateway, fields.path("gateway")),
            via=None if via is None else as_address(via, fields.path("via")),
        )
        fields.done()
        if (made.prefix is None) == (made.gateway is None):
            raise ConfigError(f"{path}: give exactly one of prefix and gateway")
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "prefix": None if self.prefix is None else str(self.prefix),
            "gateway": None if self.gateway is None else str(self.gateway),
            "vrf": self.vrf,
            "dev": self.dev,
            "via": None if self.via is None else str(self.via),
        }


@dataclass(frozen=True)
class AgentConfig:
    """What the agent accepts, and how it maps and installs it."""

    tls: TlsConfig | None
    plaintext: bool = False
    listen: tuple[ListenAddress, ...] = (ListenAddress(),)
    hosts: tuple[str, ...] = ()
    host_policies: Mapping[str, HostPolicy] = field(default_factory=dict)  # of those of hosts that have their own
    host_defaults: HostPolicy = field(default_factory=HostPolicy)
    vrf_limits: Mapping[str, int] = field(default_factory=dict)
    host_tables: tuple[int, ...] = (254,)
    vrfs: Mapping[str, VrfSpec] = field(default_factory=dict)
    inference: tuple[str, ...] = INFERENCES
    static: tuple[StaticRule, ...] = ()
    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    host_links: tuple[str, ...] = ()
    protocol: int = PROTO_MIRROR
    metric: int | None = None
    settle_time: float = 5.0
    guard_share: float = 0.5
    guard_routes: int = 100
    receive_buffer: int = RECEIVE_BUFFER
    control_socket: str = "/run/ynl-mirror/agent.sock"
    http: HttpConfig | None = None
    log_level: str = "info"
    capture: CaptureConfig | None = None
    audit_interval: float = AUDIT_INTERVAL

    @classmethod
    def from_dict(cls, data: object, names: Names | None = None) -> AgentConfig:
        """From the JSON object; ConfigError names what is wrong."""
        names = names or Names()
        fields = Fields(data)
        tls, plaintext = transport_of(fields)
        defaults = HostPolicy.from_dict(fields.take("host_defaults", {}), "host_defaults")
        hosts, host_policies = hosts_of(fields, defaults)
        made = cls(
            tls=tls,
            plaintext=plaintext,
            listen=fields.many("listen", ListenAddress.from_dict, [{"address": "::"}]),
            hosts=hosts,
            host_policies=host_policies,
            host_defaults=defaults,
            vrf_limits=fields.named("vrf_limits", vrf_limit),
            host_tables=fields.many("host_tables", names.table, ["main"]),
            vrfs=fields.named("vrfs", lambda value, path: _vrf(value, path, names)),
            inference=fields.many("inference", _inference, INFERENCES),
            static=fields.many("static", StaticRule.from_dict),
            imports=fields.named("imports", _import_list),
            host_links=fields.many("host_links", as_link),
            protocol=names.protocol(fields.take("protocol", PROTO_MIRROR), "protocol"),
            metric=fields.integer("metric", None, 0, U32) if fields.has("metric") else fields.take("metric"),
            settle_time=fields.number("settle_time", 5.0, 0, 3600),
            guard_share=fields.number("guard_share", 0.5, 0, 1),
            guard_routes=fields.integer("guard_routes", 100, 0, U32),
            receive_buffer=fields.integer("receive_buffer", RECEIVE_BUFFER, 4096, 2**31 - 1),
            control_socket=socket_path(fields, "/run/ynl-mirror/agent.sock"),
            http=http_of(fields, changes=True),
            log_level=fields.choice("log_level", "info", LOG_LEVELS),
            capture=capture_of(fields),
            audit_interval=fields.number("audit_interval", AUDIT_INTERVAL, 0, 86400),
        )
        fields.done()
        _check_agent(made)
        return made

    def policy_of(self, host: str) -> HostPolicy:
        """What a host may do."""
        return self.host_policies.get(host, self.host_defaults)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object; `from_dict` of it gives an equal value."""
        return {
            "listen": [address.to_dict() for address in self.listen],
            "tls": self.tls.to_dict() if self.tls else None,
            "plaintext": self.plaintext,
            "hosts": [host_entry(name, self.host_policies.get(name)) for name in self.hosts],
            "host_defaults": self.host_defaults.to_dict(),
            "vrf_limits": dict(self.vrf_limits),
            "host_tables": list(self.host_tables),
            "vrfs": {name: vrf.to_dict() for name, vrf in self.vrfs.items()},
            "inference": list(self.inference),
            "static": [rule.to_dict() for rule in self.static],
            "imports": {name: list(sources) for name, sources in self.imports.items()},
            "host_links": list(self.host_links),
            "protocol": self.protocol,
            "metric": self.metric,
            "settle_time": self.settle_time,
            "guard_share": self.guard_share,
            "guard_routes": self.guard_routes,
            "receive_buffer": self.receive_buffer,
            "control_socket": self.control_socket,
            "http": self.http.to_dict() if self.http else None,
            "log_level": self.log_level,
            "capture": self.capture.to_dict() if self.capture else None,
            "audit_interval": self.audit_interval,
        }


def _check_agent(config: AgentConfig) -> None:
    """What no single field can know: references between fields, and numbers with a meaning of their own."""
    check_not_empty(config.listen, "listen", "list at least one address")
    check_not_empty(config.host_tables, "host_tables", "list at least one table, such as 254 (main)")
    check_not_empty(config.inference, "inference", "list at least one of " + ", ".join(INFERENCES))
    if config.protocol < 5 or config.protocol == PROTO_MANUAL:
        raise ConfigError(
            f"protocol: {config.protocol} is what others install under; choose a number from 5 to 255 that nobody uses "
            f"here and that is not {PROTO_MANUAL}, such as {PROTO_MIRROR}"
        )
    tables: dict[int, str] = {}
    links: dict[str, str] = {}
    for name, vrf in config.vrfs.items():
        if tables.setdefault(vrf.table, name) != name:
            raise ConfigError(f"vrfs.{name}.table: {vrf.table} is VRF {tables[vrf.table]}'s too; each needs its own")
        for index, link in enumerate(vrf.links):
            if links.setdefault(link, name) != name:
                raise ConfigError(f"vrfs.{name}.links[{index}]: {link} is in VRF {links[link]} too; a link has one VRF")
    if config.vrfs:
        _check_vrf_names(config)


def _check_vrf_names(config: AgentConfig) -> None:
    """Where the configuration names the VRFs, nothing may refer to another one."""
    known = list(config.vrfs)
    uses = [(f"static[{index}].vrf", rule.vrf) for index, rule in enumerate(config.static)]
    for name, sources in config.imports.items():
        uses.append((f"imports.{name}", name))
        uses.extend((f"imports.{name}[{index}]", source) for index, source in enumerate(sources))
    uses.extend((f"vrf_limits.{name}", name) for name in config.vrf_limits if name != EVERY_VRF)
    uses.extend((f"host_defaults.vrfs[{index}]", name) for index, name in enumerate(config.host_defaults.vrfs))
    for number, host in enumerate(config.hosts):
        policy = config.host_policies.get(host, HostPolicy())
        uses.extend((f"hosts[{number}].vrfs[{index}]", name) for index, name in enumerate(policy.vrfs))
    for path, name in uses:
        if name not in known:
            raise ConfigError(f"{path}: no VRF {name!r} in vrfs; {suggestion(name, known)}")


def _vrf(value: object, path: str, names: Names) -> VrfSpec:
    fields = Fields(value, path)
    made = VrfSpec(names.table(fields.required("table"), fields.path("table")), fields.many("links", as_link))
    fields.done()
    if made.table == RT_TABLE_LOCAL:
        raise ConfigError(f"{path}.table: {RT_TABLE_LOCAL} is the kernel's local table; choose the VRF's own")
    return made


def _import_list(value: object, path: str) -> tuple[str, ...]:
    """The VRFs that one VRF imports from; an empty list imports nothing."""
    parent, _dot, name = path.rpartition(".")
    return Fields({name: value}, parent).many(name, as_text)


def _inference(value: object, path: str) -> str:
    return as_choice(value, path, INFERENCES)
