# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Forwarding Plane Manager's wire format, and TLS around it.

A stream of frames, each a four-byte header - version 1, message type 1 (netlink), length in network order *including
the header* - around whole netlink messages (FRR ``fpm/fpm.h``). Framing is pure; the TLS contexts read files.
"""

from __future__ import annotations

import hashlib
import pathlib
import ssl
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from ..config.common import TlsConfig
from ..config.fields import ConfigError
from ..config.files import check_tls
from ..netlink.rtnetlink import chunks

_HEADER = struct.Struct(">BBH")
_VERSION = 1
_NETLINK = 1
#: Netlink bytes in one frame at most, by its length field.
LONGEST = 65531
#: Netlink bytes in one frame of ours, unless a single message is longer.
_PAYLOAD = 32768


class FpmError(ValueError):
    """The peer does not speak FPM."""


def frames(messages: Sequence[bytes]) -> Iterator[bytes]:
    """Pack whole netlink messages (each padded to four bytes) into as few frames as reasonable."""
    for start, stop in chunks(messages, _PAYLOAD):
        yield frame(b"".join(messages[start:stop]))


def frame(payload: bytes) -> bytes:
    """One frame around whole messages of at most LONGEST bytes."""
    return _HEADER.pack(_VERSION, _NETLINK, len(payload) + _HEADER.size) + payload


class Deframer:
    """Bytes of the stream in, payloads of whole frames out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payload of every frame that is complete now. FpmError when the stream is something else."""
        buffer = self._rest + data if self._rest else data
        start, size = 0, len(buffer)
        while size - start >= _HEADER.size:
            version, kind, length = _HEADER.unpack_from(buffer, start)
            if version != _VERSION or kind != _NETLINK or length < _HEADER.size:
                self._rest = b""
                raise FpmError(f"not an FPM frame: version {version}, type {kind}, length {length}")
            if size - start < length:
                break
            # Set before the yield: the caller may stop in between.
            self._rest = b""
            yield buffer[start + _HEADER.size : start + length]
            start += length
        self._rest = buffer[start:]

    @property
    def waiting(self) -> int:
        """Bytes of a frame whose end has not come yet."""
        return len(self._rest)


class TlsError(Exception):
    """The TLS files cannot be used; the text names the file and the way out."""


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.3 for the agent: it shows its certificate and demands one of the same CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A session that is resumed shows no certificate again, which may have been revoked or have expired meanwhile.
    context.num_tickets = 0
    return _load(context, tls)


def client_context(tls: TlsConfig, check_hostname: bool) -> ssl.SSLContext:
    """TLS 1.3 for the listener; *check_hostname* when the agent's identity is configured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    return _load(context, tls)


def _load(context: ssl.SSLContext, tls: TlsConfig) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        check_tls(tls)  # again: what was right at the start may be another file by now
    except ConfigError as error:
        raise TlsError(str(error)) from None
    try:
        context.load_verify_locations(tls.ca)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{tls.ca} is no CA certificate in PEM form: {error}") from None
    if tls.crl is not None:
        _load_crl(context, tls.crl)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"{tls.certificate} and {tls.key} are no certificate and its key: {error}") from None
    return context


def trust_of(tls: TlsConfig | None) -> tuple[bytes, ...]:
    """What decides whom we trust: the contents of CA and revocation list. TlsError when they cannot be read."""
    if tls is None:
        return ()
    try:
        return tuple(pathlib.Path(path).read_bytes() for path in (tls.ca, tls.crl) if path is not None)
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from None


def crl_digest(trust: tuple[bytes, ...]) -> str | None:
    """What tells the revocation list of a `trust_of` from any other, for /status; None where there is none."""
    return hashlib.sha256(trust[1]).hexdigest()[:12] if len(trust) > 1 else None


def _load_crl(context: ssl.SSLContext, path: str) -> None:
    """Check peers against the revocation lists in a file; without a list that is in force nobody passes."""
    before = context.cert_store_stats()["crl"]
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{path} is no revocation list in PEM form: {error}") from None
    if context.cert_store_stats()["crl"] == before:
        raise TlsError(f"{path} holds no revocation list (X509 CRL); make one, such as by openssl ca -gencrl")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _no_password() -> str:
    raise ValueError("the key is encrypted, and a daemon has nobody to ask for the passphrase")


def identities(certificate: dict[str, Any]) -> list[str]:
    """The names a peer's verified certificate gives it: DNS and IP alternative names, then the common names."""
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    for attributes in certificate.get("subject", ()):
        names += [value for kind, value in attributes if kind == "commonName" and value not in names]
    return names
