# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration of the two daemons as frozen values: JSON object -> ListenerConfig or AgentConfig, and back.

`from_dict` raises ConfigError, which names the item by its path and the way out. Names of tables and protocols become
numbers here (Names; config_file.py reads the machine's own), so the daemons see numbers only. Pure: no file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import (
    ConfigError,
    Fields,
    IPAddress,
    IPNetwork,
    as_address,
    as_choice,
    as_integer,
    as_link,
    as_network,
    as_text,
    show,
    suggestion,
)
from .host_policy import EVERY_VRF, HostPolicy, PrefixRule, as_route_type, host_entry, hosts_of, vrf_limit
from .routes import PROTO_MANUAL, PROTO_MIRROR, PROTOCOLS, ROUTE_TYPE_NAMES, RT_TABLE_LOCAL, TABLES

FPM_PORT = 2620  # FRR's `fpm address A port 2620`, also SONiC's fpmsyncd
HTTP_PORT = 4321  # the proof of concept's l3-hw-agent
RECEIVE_BUFFER = 128 * 1024 * 1024  # bytes; took a full-speed burst of a million notifications
AUDIT_INTERVAL = 60.0  # seconds
JOURNAL_LIMIT = 1 << 30  # bytes; a million routes, read once and changed once each, are 0.2 GiB
U32 = 2**32 - 1

FAMILIES = ("ipv4", "ipv6")
INFERENCES = ("nexthop", "prefix", "static")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Names:
    """What the machine calls its tables and protocols (name -> number), as iproute2 reads it."""

    tables: Mapping[str, int] = field(default_factory=lambda: TABLES)
    protocols: Mapping[str, int] = field(default_factory=lambda: PROTOCOLS)

    def table(self, value: object, path: str) -> int:
        """A routing table by number (1..2^32-1) or name."""
        return _number(value, path, self.tables, "rt_tables", range(1, U32 + 1))

    def protocol(self, value: object, path: str) -> int:
        """A route protocol by number (0..255) or name."""
        return _number(value, path, self.protocols, "rt_protos", range(256))


@dataclass(frozen=True)
class TlsConfig:
    """Absolute paths of PEM files: who may talk to us, who we are, our key (mode 0600), and who may no longer."""

    ca: str
    certificate: str
    key: str
    crl: str | None = None

    @classmethod
    def from_dict(cls, data: object, path: str = "tls") -> TlsConfig:
        """From {"ca", "certificate", "key", "crl"}."""
        fields = Fields(data, path)
        made = cls(
            ca=fields.file("ca"),
            certificate=fields.file("certificate"),
            key=fields.file("key"),
            crl=fields.file("crl") if fields.has("crl") else fields.take("crl"),
        )
        fields.done()
        return made

    def files(self) -> dict[str, str]:
        """The files by what they are."""
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        return files if self.crl is None else {**files, "crl": self.crl}

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return dict(self.files())


@dataclass(frozen=True)
class HttpConfig:
    """A TCP address for the HTTP interface; changes (POST) are refused there unless allowed."""

    address: str = "127.0.0.1"
    port: int = HTTP_PORT
    allow_changes: bool = False

    @classmethod
    def from_dict(cls, data: object, path: str = "http", *, changes: bool = True) -> HttpConfig:
        """From {"address", "port", "allow_changes"}; CHANGES: whether this daemon knows `allow_changes`."""
        fields = Fields(data, path)
        made = cls(
            address=_loopback(fields.take("address", "127.0.0.1"), fields.path("address")),
            port=fields.integer("port", HTTP_PORT, 0, 65535),
            allow_changes=fields.flag("allow_changes", False) if changes else False,
        )
        fields.done()
        return made

    def to_dict(self, *, changes: bool = True) -> dict[str, Any]:
        """The JSON object."""
        made: dict[str, Any] = {"address": self.address, "port": self.port}
        return {**made, "allow_changes": self.allow_changes} if changes else made


@dataclass(frozen=True)
class JournalConfig:
    """A file that gets all that the daemon hears of the kernel, up to LIMIT bytes, for `ynl-mirror replay`."""

    file: str
    limit: int = JOURNAL_LIMIT

    @classmethod
    def from_dict(cls, data: object, path: str = "journal") -> JournalConfig:
        """From {"file", "limit"}."""
        fields = Fields(data, path)
        made = cls(fields.file("file"), fields.integer("limit", JOURNAL_LIMIT, 1, 2**63 - 1))
        fields.done()
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"file": self.file, "limit": self.limit}


@dataclass(frozen=True)
class PeerAddress:
    """Where a listener finds an agent; SERVER_NAME is the identity that its certificate must show (TLS only)."""

    address: str
    port: int = FPM_PORT
    server_name: str | None = None

    @classmethod
    def from_dict(cls, data: object, path: str) -> PeerAddress:
        """From {"address", "port", "server_name"}; the address may be a host name."""
        fields = Fields(data, path)
        made = cls(
            fields.text("address"), fields.integer("port", FPM_PORT, 1, 65535), fields.optional_text("server_name")
        )
        fields.done()
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"address": self.address, "port": self.port, "server_name": self.server_name}


@dataclass(frozen=True)
class ListenAddress:
    """Where an agent accepts FPM connections; port 0 lets the kernel choose."""

    address: str = "::"
    port: int = FPM_PORT

    @classmethod
    def from_dict(cls, data: object, path: str) -> ListenAddress:
        """From {"address", "port"}."""
        fields = Fields(data, path)
        made = cls(str(as_address(fields.required("address"), fields.path("address"))),
                   fields.integer("port", FPM_PORT, 0, 65535))  # fmt: skip
        fields.done()
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"address": self.address, "port": self.port}


@dataclass(frozen=True)
class Filters:
    """Which of the host's routes are mirrored; an empty tuple restricts nothing.

    PROTOCOLS and EXCLUDE_PROTOCOLS hold RTPROT_ numbers, TYPES RTN_ numbers, INTERFACES link names (any hop).
    """

    protocols: tuple[int, ...] = ()
    exclude_protocols: tuple[int, ...] = ()
    prefixes: tuple[PrefixRule, ...] = ()
    exclude_prefixes: tuple[PrefixRule, ...] = ()
    types: tuple[int, ...] = ()
    interfaces: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: object, path: str = "filters", names: Names | None = None) -> Filters:
        """From the object of the listener's `filters`."""
        names = names or Names()
        fields = Fields(data, path)
        made = cls(
            protocols=fields.many("protocols", names.protocol),
            exclude_protocols=fields.many("exclude_protocols", names.protocol),
            prefixes=fields.many("prefixes", PrefixRule.from_text),
            exclude_prefixes=fields.many("exclude_prefixes", PrefixRule.from_text),
            types=fields.many("types", as_route_type),
            interfaces=fields.many("interfaces", as_link),
        )
        fields.done()
        both = set(made.protocols) & set(made.exclude_protocols)
        if both:
            raise ConfigError(f"{path}: protocol {min(both)} is both in protocols and exclude_protocols; remove one")
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object; protocols as numbers, types as names."""
        return {
            "protocols": list(self.protocols),
            "exclude_protocols": list(self.exclude_protocols),
            "prefixes": [str(rule) for rule in self.prefixes],
            "exclude_prefixes": [str(rule) for rule in self.exclude_prefixes],
            "types": [ROUTE_TYPE_NAMES[number] for number in self.types],
            "interfaces": list(self.interfaces),
        }


@dataclass(frozen=True)
class ListenerConfig:
    """What the listener follows and whom it tells."""

    agents: tuple[PeerAddress, ...]
    tls: TlsConfig | None
    plaintext: bool = False
    tables: tuple[int, ...] = (254,)
    families: tuple[str, ...] = FAMILIES
    filters: Filters = Filters()
    receive_buffer: int = RECEIVE_BUFFER
    control_socket: str = "/run/ynl-mirror/listener.sock"
    http: HttpConfig | None = None
    log_level: str = "info"
    journal: JournalConfig | None = None
    audit_interval: float = AUDIT_INTERVAL

    @classmethod
    def from_dict(cls, data: object, names: Names | None = None) -> ListenerConfig:
        """From the JSON object; ConfigError names what is wrong."""
        names = names or Names()
        fields = Fields(data)
        tls, plaintext = _transport(fields)
        made = cls(
            agents=fields.many("agents", PeerAddress.from_dict),
            tls=tls,
            plaintext=plaintext,
            tables=fields.many("tables", names.table, ["main"]),
            families=fields.many("families", _family, FAMILIES),
            filters=Filters.from_dict(fields.take("filters", {}), "filters", names),
            receive_buffer=fields.integer("receive_buffer", RECEIVE_BUFFER, 4096, 2**31 - 1),
            control_socket=_socket_path(fields, "/run/ynl-mirror/listener.sock"),
            http=_http(fields, changes=False),
            log_level=fields.choice("log_level", "info", LOG_LEVELS),
            journal=_journal(fields),
            audit_interval=fields.number("audit_interval", AUDIT_INTERVAL, 0, 86400),
        )
        fields.done()
        _not_empty(made.tables, "tables", "list at least one table, such as 254 (main)")
        _not_empty(made.families, "families", "list ipv4, ipv6 or both")
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object; `from_dict` of it gives an equal value."""
        return {
            "tables": list(self.tables),
            "families": list(self.families),
            "filters": self.filters.to_dict(),
            "agents": [agent.to_dict() for agent in self.agents],
            "tls": self.tls.to_dict() if self.tls else None,
            "plaintext": self.plaintext,
            "receive_buffer": self.receive_buffer,
            "control_socket": self.control_socket,
            "http": self.http.to_dict(changes=False) if self.http else None,
            "log_level": self.log_level,
            "journal": self.journal.to_dict() if self.journal else None,
            "audit_interval": self.audit_interval,
        }


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
    """The user's own mapping: host routes to PREFIX, or through GATEWAY (one of both), leave by DEV in VRF."""

    vrf: str
    dev: str
    prefix: IPNetwork | None = None
    gateway: IPAddress | None = None
    via: IPAddress | None = None

    @classmethod
    def from_dict(cls, data: object, path: str) -> StaticRule:
        """From {"prefix" or "gateway", "vrf", "dev", "via"}."""
        fields = Fields(data, path)
        prefix, gateway, via = fields.take("prefix"), fields.take("gateway"), fields.take("via")
        made = cls(
            vrf=fields.text("vrf"),
            dev=as_link(fields.required("dev"), fields.path("dev")),
            prefix=None if prefix is None else as_network(prefix, fields.path("prefix")),
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
    journal: JournalConfig | None = None
    audit_interval: float = AUDIT_INTERVAL

    @classmethod
    def from_dict(cls, data: object, names: Names | None = None) -> AgentConfig:
        """From the JSON object; ConfigError names what is wrong."""
        names = names or Names()
        fields = Fields(data)
        tls, plaintext = _transport(fields)
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
            control_socket=_socket_path(fields, "/run/ynl-mirror/agent.sock"),
            http=_http(fields, changes=True),
            log_level=fields.choice("log_level", "info", LOG_LEVELS),
            journal=_journal(fields),
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
            "journal": self.journal.to_dict() if self.journal else None,
            "audit_interval": self.audit_interval,
        }


def _check_agent(config: AgentConfig) -> None:
    """What no single field can know: references between fields, and numbers with a meaning of their own."""
    _not_empty(config.listen, "listen", "list at least one address")
    _not_empty(config.host_tables, "host_tables", "list at least one table, such as 254 (main)")
    _not_empty(config.inference, "inference", "list at least one of " + ", ".join(INFERENCES))
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


def _transport(fields: Fields) -> tuple[TlsConfig | None, bool]:
    """TLS files or None, and whether plain TCP was asked for: exactly one of both."""
    tls = fields.take("tls")
    plaintext = fields.flag("plaintext", False)
    if tls is None and not plaintext:
        raise ConfigError("tls: missing; give ca, certificate and key, or set plaintext to true for a trusted network")
    if tls is not None and plaintext:
        raise ConfigError("plaintext: true and tls are both given; remove one")
    return (None if tls is None else TlsConfig.from_dict(tls, "tls")), plaintext


def _loopback(value: object, path: str) -> str:
    """An address that only this machine reaches: HTTP has no TLS here, and asks nobody who he is."""
    address = as_address(value, path)
    if not address.is_loopback:
        raise ConfigError(
            f"{path}: {address} is no loopback address, and HTTP goes unencrypted and asks nobody who he is; write "
            "127.0.0.1 or ::1, and come by SSH (ssh -L 4321:127.0.0.1:4321) or by a proxy with TLS"
        )
    return str(address)


def _http(fields: Fields, *, changes: bool) -> HttpConfig | None:
    value = fields.take("http")
    return None if value is None else HttpConfig.from_dict(value, "http", changes=changes)


def _journal(fields: Fields) -> JournalConfig | None:
    value = fields.take("journal")
    return None if value is None else JournalConfig.from_dict(value)


def _socket_path(fields: Fields, default: str) -> str:
    """An absolute path that fits sun_path (108 bytes with its end)."""
    value = fields.file("control_socket", default)
    if len(value.encode()) > 107:
        raise ConfigError(f"control_socket: {show(value)} has {len(value.encode())} bytes; a socket path takes 107")
    return value


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


def _family(value: object, path: str) -> str:
    return as_choice(value, path, FAMILIES)


def _inference(value: object, path: str) -> str:
    return as_choice(value, path, INFERENCES)


def _not_empty(items: tuple[object, ...], path: str, way_out: str) -> None:
    if not items:
        raise ConfigError(f"{path}: empty; {way_out}")


def _number(value: object, path: str, known: Mapping[str, int], file: str, allowed: range) -> int:
    """A number, or a name that KNOWN (iproute2's FILE) has a number for."""
    if isinstance(value, str) and not value.isdigit():
        if value not in known:
            raise ConfigError(f"{path}: no number for {value!r} in {file}; {suggestion(value, tuple(known))}")
        return known[value]
    return as_integer(int(value) if isinstance(value, str) else value, path, allowed[0], allowed[-1])
