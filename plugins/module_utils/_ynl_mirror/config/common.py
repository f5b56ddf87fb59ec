# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the configurations of both daemons have in common, as frozen values: JSON object -> TlsConfig ..., and back.

ListenerConfig is in listener.py, AgentConfig in agent.py. `from_dict` raises ConfigError, which names the
item by its path and the way out. Names of tables and protocols become numbers here (Names; files.py reads the
machine's own), so the daemons see numbers only. Pure: no file is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import (
    ConfigError,
    Fields,
    as_local_address,
    show,
)

FPM_PORT = 2620  # FRR's `fpm address A port 2620`, also SONiC's fpmsyncd
HTTP_PORT = 4321  # the proof of concept's l3-hw-agent
RECEIVE_BUFFER = 128 * 1024 * 1024  # bytes; took a full-speed burst of a million notifications
AUDIT_INTERVAL = 60.0  # seconds
CAPTURE_LIMIT = 1 << 30  # bytes; a million routes, read once and changed once each, are 0.2 GiB

LOG_LEVELS = ("debug", "info", "warning", "error")


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
class CaptureConfig:
    """A file that gets all that the daemon hears of the kernel, up to LIMIT bytes, for `ynl-mirror replay`."""

    file: str
    limit: int = CAPTURE_LIMIT

    @classmethod
    def from_dict(cls, data: object, path: str = "capture") -> CaptureConfig:
        """From {"file", "limit"}."""
        fields = Fields(data, path)
        made = cls(fields.file("file"), fields.integer("limit", CAPTURE_LIMIT, 1, 2**63 - 1))
        fields.done()
        return made

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"file": self.file, "limit": self.limit}


def transport_of(fields: Fields) -> tuple[TlsConfig | None, bool]:
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
    address = as_local_address(value, path)
    if not address.is_loopback:
        raise ConfigError(
            f"{path}: {address} is no loopback address, and HTTP goes unencrypted and asks nobody who he is; write "
            "127.0.0.1 or ::1, and come by SSH (ssh -L 4321:127.0.0.1:4321) or by a proxy with TLS"
        )
    return str(address)


def http_of(fields: Fields, *, changes: bool) -> HttpConfig | None:
    """The HTTP interface, None where there is none; CHANGES: whether this daemon knows `allow_changes`."""
    value = fields.take("http")
    return None if value is None else HttpConfig.from_dict(value, "http", changes=changes)


def capture_of(fields: Fields) -> CaptureConfig | None:
    """The capture, None where none is kept."""
    value = fields.take("capture")
    return None if value is None else CaptureConfig.from_dict(value)


def socket_path(fields: Fields, default: str) -> str:
    """An absolute path that fits sun_path (108 bytes with its end)."""
    value = fields.file("control_socket", default)
    if len(value.encode()) > 107:
        raise ConfigError(f"control_socket: {show(value)} has {len(value.encode())} bytes; a socket path takes 107")
    return value


def check_not_empty(items: tuple[object, ...], path: str, way_out: str) -> None:
    """Refuse a list that must name something."""
    if not items:
        raise ConfigError(f"{path}: empty; {way_out}")
