# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accepts connections as asyncio's streams do, but logs every failed TLS handshake with the peer and the reason.

asyncio.start_server() drops these silently, which leaves nothing to find a wrong certificate by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Iterator
from typing import Callable

from .logs import about

_LOG = logging.getLogger("ynl_mirror.daemon")

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]

#: Seconds that a peer has for its TLS handshake.
_HANDSHAKE = 10.0
#: Concurrent handshakes. Beyond that the oldest of the address with the most is closed.
_HANDSHAKES = 64
#: Seconds to wait when a connection cannot be accepted (out of descriptors, out of memory).
_PAUSE = 1.0
_LIMIT = 1 << 18


def listening_socket(address: str, port: int, ipv4_too: bool) -> socket.socket:
    """A listening TCP socket; *ipv4_too*: the address is ``::`` and includes IPv4. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.create_server((address, port), family=family, backlog=100, dualstack_ipv6=ipv4_too)
    sock.setblocking(False)
    return sock


async def accept(sock: socket.socket, context: Callable[[], ssl.SSLContext | None], connected: Connected) -> None:
    """Call *connected* for each connection, until cancelled; then close the socket and all connections.

    *context* is called for each connection, since the certificates may change.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Future[None]] = set()
    waiting = _Waiting()
    try:
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                _LOG.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            # An IPv4 peer of an IPv6 socket has an address like ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2).
            peer = address[0][7:] if address[0].startswith("::ffff:") else address[0]
            task: asyncio.Future[None] = asyncio.ensure_future(_serve(connection, peer, context(), connected, waiting))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        sock.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Evicted(Exception):
    """The connection was closed to make room, which has been logged."""


class _Waiting:
    """The connections in their handshake: bounded, and a flood from one address does not affect the others."""

    def __init__(self) -> None:
        self._connections: dict[socket.socket, str] = {}  # socket -> peer, oldest first
        self._logged = 0.0

    @contextlib.contextmanager
    def handshake(self, connection: socket.socket, peer: str) -> Iterator[None]:
        """Count a connection while the block lasts; another one may be closed for it."""
        self._connections[connection] = peer
        if len(self._connections) > _HANDSHAKES:
            self._evict()
        try:
            yield
        except OSError as error:
            if connection not in self._connections:
                raise _Evicted from error
            raise
        finally:
            self._connections.pop(connection, None)

    def _evict(self) -> None:
        peers = list(self._connections.values())
        busiest = max(peers, key=peers.count)
        oldest = next(connection for connection, peer in self._connections.items() if peer == busiest)
        del self._connections[oldest]
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)  # its handshake ends as if the peer had closed the connection
        if time.monotonic() - self._logged > _HANDSHAKE:
            self._logged = time.monotonic()
            text = f"more than {_HANDSHAKES} connections with an unfinished TLS handshake"
            _LOG.warning("%s: %s; closing the oldest", busiest, text, extra=about(peer=busiest, reason=text))


async def _serve(
    connection: socket.socket, peer: str, context: ssl.SSLContext | None, connected: Connected, waiting: _Waiting
) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        with waiting.handshake(connection, peer):
            transport, _protocol = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=_HANDSHAKE if context else None
            )
    except _Evicted:
        connection.close()
        return
    except OSError as error:  # ssl.SSLError is one
        connection.close()
        text = str(error) or "the peer closed the connection"
        _LOG.warning("%s: refused: TLS handshake failed: %s", peer, text, extra=about(peer=peer, reason=text))
        return
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        await connected(reader, writer, peer)
    except OSError as error:
        _LOG.warning("%s: connection lost: %s", peer, error, extra=about(peer=peer, reason=error))
    finally:
        transport.abort()


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let the kernel notice within half a minute that the peer has vanished (tcp(7))."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
