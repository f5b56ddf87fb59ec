# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener's configuration as a frozen value: JSON object -> ListenerConfig, and back (see common.py). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..model.routes import ROUTE_TYPE_NAMES
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
from .fields import ConfigError, Fields, as_choice, as_link
from .host_policy import as_route_type
from .names import Names
from .prefix_rules import PrefixRule

FAMILIES = ("ipv4", "ipv6")


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
    capture: CaptureConfig | None = None
    audit_interval: float = AUDIT_INTERVAL

    @classmethod
    def from_dict(cls, data: object, names: Names | None = None) -> ListenerConfig:
        """From the JSON object; ConfigError names what is wrong."""
        names = names or Names()
        fields = Fields(data)
        tls, plaintext = transport_of(fields)
        made = cls(
            agents=fields.many("agents", PeerAddress.from_dict),
            tls=tls,
            plaintext=plaintext,
            tables=fields.many("tables", names.table, ["main"]),
            families=fields.many("families", _family, FAMILIES),
            filters=Filters.from_dict(fields.take("filters", {}), "filters", names),
            receive_buffer=fields.integer("receive_buffer", RECEIVE_BUFFER, 4096, 2**31 - 1),
            control_socket=socket_path(fields, "/run/ynl-mirror/listener.sock"),
            http=http_of(fields, changes=False),
            log_level=fields.choice("log_level", "info", LOG_LEVELS),
            capture=capture_of(fields),
            audit_interval=fields.number("audit_interval", AUDIT_INTERVAL, 0, 86400),
        )
        fields.done()
        check_not_empty(made.tables, "tables", "list at least one table, such as 254 (main)")
        check_not_empty(made.families, "families", "list ipv4, ipv6 or both")
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
            "capture": self.capture.to_dict() if self.capture else None,
            "audit_interval": self.audit_interval,
        }


def _family(value: object, path: str) -> str:
    return as_choice(value, path, FAMILIES)
