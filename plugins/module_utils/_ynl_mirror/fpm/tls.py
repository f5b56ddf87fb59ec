# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS around FPM: contexts for both ends, and the identities of a peer (RFC 8446, RFC 6125).

The contexts read files; if one cannot be used, a TlsError names it.
"""

from __future__ import annotations

import hashlib
import pathlib
import ssl
from typing import Any

from ..config.common import TlsConfig
from ..config.fields import ConfigError
from ..config.files import check_tls


class TlsError(Exception):
    """The TLS files cannot be used; the text names the file and the fix."""


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.3 for the agent: it presents its certificate and requires one of the same CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No resumption: it presents no certificate, so one that was revoked or has expired since would not be noticed.
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
        check_tls(tls)  # again: the files may have changed since the start
    except ConfigError as error:
        raise TlsError(str(error)) from None
    try:
        context.load_verify_locations(tls.ca)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{tls.ca} is not a CA certificate in PEM format: {error}") from None
    if tls.crl is not None:
        _load_crl(context, tls.crl)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"{tls.certificate} and {tls.key} are not a certificate and its key: {error}") from None
    return context


def trust_of(tls: TlsConfig | None) -> tuple[bytes, ...]:
    """The contents of CA and revocation list, to detect a change of trust. TlsError when they cannot be read."""
    if tls is None:
        return ()
    try:
        return tuple(pathlib.Path(path).read_bytes() for path in (tls.ca, tls.crl) if path is not None)
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from None


def crl_digest(trust: tuple[bytes, ...]) -> str | None:
    """A short digest of the revocation list of a `trust_of`, for /status; None if there is none."""
    return hashlib.sha256(trust[1]).hexdigest()[:12] if len(trust) > 1 else None


def _load_crl(context: ssl.SSLContext, path: str) -> None:
    """Check peers against the revocation lists in a file; if no list is in force every peer is refused."""
    before = context.cert_store_stats()["crl"]
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{path} is not a revocation list in PEM format: {error}") from None
    if context.cert_store_stats()["crl"] == before:
        raise TlsError(f"{path} has no revocation list (X509 CRL); create one, for example with openssl ca -gencrl")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _no_password() -> str:
    raise ValueError("the key is encrypted, and a daemon cannot ask for the passphrase; store it unencrypted")


def identities(certificate: dict[str, Any]) -> list[str]:
    """The names a peer's verified certificate gives it: DNS and IP alternative names, then the common names."""
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    for attributes in certificate.get("subject", ()):
        names += [value for kind, value in attributes if kind == "commonName" and value not in names]
    return names
