# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accept connections as asyncio's streams do, but tell of every one whose TLS handshake fails: who, and why.

asyncio.start_server() drops these without a word, and whoever set up the certificates would look in vain.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable
from typing import Callable

from .journal import about

_LOG = logging.getLogger("ynl_mirror.acceptor")

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]

#: Seconds that a peer has for its TLS handshake.
_HANDSHAKE = 10.0
#: Seconds to wait when the machine cannot take a connection (out of descriptors, out of memory).
_PAUSE = 1.0
_LIMIT = 1 << 18


def listening_socket(address: str, port: int, ipv4_too: bool) -> socket.socket:
    """A TCP socket that listens; *ipv4_too*: the address is ``::`` and means those of IPv4 as well. OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.create_server((address, port), family=family, backlog=100, dualstack_ipv6=ipv4_too)
    sock.setblocking(False)
    return sock


async def accept(sock: socket.socket, context: ssl.SSLContext | None, connected: Connected) -> None:
    """Call *connected* for each connection, until cancelled; socket and connections end with this."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Future[None]] = set()
    try:
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                _LOG.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            # An IPv4 peer of an IPv6 socket has an address like ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2).
            peer = address[0][7:] if address[0].startswith("::ffff:") else address[0]
            task: asyncio.Future[None] = asyncio.ensure_future(_serve(connection, peer, context, connected))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        sock.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(connection: socket.socket, peer: str, context: ssl.SSLContext | None, connected: Connected) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _protocol = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=context, ssl_handshake_timeout=_HANDSHAKE if context else None
        )
    except OSError as error:  # ssl.SSLError is one
        connection.close()
        text = str(error) or "the peer left during the handshake"
        _LOG.warning("%s: refused: no TLS connection: %s", peer, text, extra=about(peer=peer, reason=text))
        return
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        await connected(reader, writer, peer)
    except OSError as error:
        _LOG.warning("%s: connection lost: %s", peer, error, extra=about(peer=peer, reason=error))
    finally:
        transport.abort()
