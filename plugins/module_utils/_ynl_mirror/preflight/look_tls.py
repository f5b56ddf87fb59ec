# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the facts of TLS files by using them as the daemons do: a handshake of a machine with itself, in memory.

OpenSSL judges key, chain and purpose, and nothing but Python is needed. The handshake ignores dates, which are judged
apart: an expired certificate still has a chain and names.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import ssl
from typing import Any

from ..config.common import TlsConfig
from ..fpm.tls import TlsError, client_context, identities, server_context
from .facts import Tls

#: X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, for which Python has no name.
_NO_CHECK_TIME = 0x200000
#: Each side has finished its part of a TLS 1.3 handshake after two turns.
_FLIGHTS = 4


def look_at_tls(tls: TlsConfig) -> Tls:
    """The files of a daemon."""
    absent = _absent(tuple(tls.files().values()))
    if absent:
        return Tls(absent=absent)
    try:
        server, client = server_context(tls), client_context(tls, check_hostname=False)
    except TlsError as error:
        return Tls(error=str(error))
    for context in (server, client):
        context.verify_flags |= _NO_CHECK_TIME
    certificate, chain = shake_hands(server, client)
    return Tls(
        chain=chain,
        start=_time(certificate, "notBefore"),
        end=_time(certificate, "notAfter"),
        ca_end=_authority_end(client),
        names=tuple(identities(certificate)),
        ca_sha256=_sha256(tls.ca),
        owner=_owner(tls.key),
    )


def look_at_authority(folder: str) -> Tls:
    """ca.crt and ca.key of the controller's authority."""
    certificate, key = os.path.join(folder, "ca.crt"), os.path.join(folder, "ca.key")
    absent = _absent((certificate, key))
    if absent:
        return Tls(absent=absent)
    try:
        context = server_context(TlsConfig(certificate, certificate, key))  # checks that key and certificate match
    except TlsError as error:
        return Tls(error=str(error))
    return Tls(ca_end=_authority_end(context), ca_sha256=_sha256(certificate))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[dict[str, Any], str]:
    """A handshake in memory: the certificate that the server presented, and why either side rejected the other's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = {
        "client": client.wrap_bio(to_client, to_server),
        "server": server.wrap_bio(to_server, to_client, server_side=True),
    }
    waiting = dict(sides)
    for _flight in range(_FLIGHTS):
        for name, side in list(waiting.items()):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return {}, str(getattr(error, "verify_message", "") or error)
            del waiting[name]
    return sides["client"].getpeercert() or {}, ""


def _absent(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.basename(path) for path in paths if not os.path.exists(path))


def _time(certificate: dict[str, Any], name: str) -> float | None:
    return float(ssl.cert_time_to_seconds(certificate[name])) if name in certificate else None


def _authority_end(context: ssl.SSLContext) -> float | None:
    """When the first of the authorities' certificates expires."""
    ends = [_time(dict(certificate), "notAfter") for certificate in context.get_ca_certs()]
    return min((end for end in ends if end is not None), default=None)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _owner(path: str) -> str:
    uid = os.stat(path).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
