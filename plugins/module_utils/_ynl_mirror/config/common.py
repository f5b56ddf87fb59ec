# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that both daemons have. The tables of each are in agent.py and listener.py. Pure.

Names of routing tables and protocols become numbers as the options are read (Names; files.py takes the machine's own),
so the daemons see numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass

from .fields import ConfigError, as_file, as_local_address, show
from .options import FILE, FLAG, Kind, Table, choice, integer, number, option, optional, record, required

FPM_PORT = 2620  # FRR's `fpm address A port 2620`, also SONiC's fpmsyncd
HTTP_PORT = 4321  # the proof of concept's l3-hw-agent
RECEIVE_BUFFER = 128 * 1024 * 1024  # bytes; took a full-speed burst of a million notifications
AUDIT_INTERVAL = 60.0  # seconds
CAPTURE_LIMIT = 1 << 30  # bytes; a million routes, read once and changed once each, are 0.2 GiB

LOG_LEVELS = ("debug", "info", "warning", "error")


def _loopback(value: object, path: str) -> str:
    """An address that only this machine reaches: HTTP has no TLS and no authentication here."""
    address = as_local_address(value, path)
    if not address.is_loopback:
        raise ConfigError(
            f"{path}: {address} is not a loopback address, and HTTP is neither encrypted nor authenticated; write "
            "127.0.0.1 or ::1, and connect through SSH (ssh -L 4321:127.0.0.1:4321) or a proxy with TLS"
        )
    return str(address)


def _socket_path(value: object, path: str) -> str:
    """An absolute path that fits sun_path (108 bytes with its end)."""
    file = as_file(value, path)
    if len(file.encode()) > 107:
        raise ConfigError(f"{path}: {show(file)} has {len(file.encode())} bytes; a socket path takes at most 107")
    return file


LOOPBACK = Kind({"type": "str"}, lambda value, path, _names: _loopback(value, path), str)
SOCKET = Kind({"type": "path"}, lambda value, path, _names: _socket_path(value, path), str)


@dataclass(frozen=True)
class TlsConfig(Table):
    """PEM files: who may talk to us, who we are, our key (mode 0600), and who may no longer."""

    ca: str = required(FILE, "Certificates of the authorities whose peers are accepted, PEM.")
    certificate: str = required(FILE, "Certificate of this machine, PEM.")
    key: str = required(FILE, "Private key of this machine, PEM, mode 0600.")
    crl: str | None = option(optional(FILE), None, "Revoked certificates, PEM, one list (CRL) for each authority.")

    def files(self) -> dict[str, str]:
        """The files by what they are."""
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        return files if self.crl is None else {**files, "crl": self.crl}


@dataclass(frozen=True)
class HttpConfig(Table):
    """A TCP address for the HTTP interface; changes (POST) are refused there unless allowed."""

    address: str = option(
        LOOPBACK, "127.0.0.1", "Loopback address to serve on. There is neither encryption nor authentication."
    )
    port: int = option(integer(0, 65535), HTTP_PORT, "TCP port.")
    allow_changes: bool = option(
        FLAG,
        False,
        "Whether C(POST /route/add) and C(POST /route/del) are accepted here. The control socket always accepts them.",
    )


@dataclass(frozen=True)
class CaptureConfig(Table):
    """A file that gets all that the daemon receives from the kernel, for `ynl-mirror replay`."""

    file: str = required(FILE, "The capture.")
    limit: int = option(integer(1, 2**63 - 1), CAPTURE_LIMIT, "Bytes after which the capture ends.")


@dataclass(frozen=True)
class DaemonConfig(Table):
    """What both daemons have."""

    tls: TlsConfig | None = option(optional(record(TlsConfig)), None, "Files for mutual TLS 1.3.", reloadable=True)
    plaintext: bool = option(
        FLAG, False, "Plain TCP instead of TLS, for a trusted network or for FRR's zebra, which has no TLS."
    )
    receive_buffer: int = option(
        integer(4096, 2**31 - 1), RECEIVE_BUFFER, "Receive buffer of the netlink socket, in bytes."
    )
    audit_interval: float = option(
        number(0, 86400),
        AUDIT_INTERVAL,
        "Seconds between two audits, which find and repair missed changes. V(0) turns them off.",
    )
    log_level: str = option(choice(LOG_LEVELS), "info", "Log level of the daemon.", reloadable=True)
    capture: CaptureConfig | None = option(
        optional(record(CaptureConfig)),
        None,
        "Capture of what the kernel sends to the daemon.",
        in_modules=False,
    )

    def check(self, path: str) -> None:
        """TLS files or plain TCP: exactly one of both."""
        super().check(path)
        if self.tls is None and not self.plaintext:
            raise ConfigError(
                "tls: missing; give ca, certificate and key, or set plaintext to true for a trusted network"
            )
        if self.tls is not None and self.plaintext:
            raise ConfigError("plaintext: true and tls are both given; remove one")
