# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves an ASGI application on a given socket, on the event loop of the daemon, with uvicorn.

uvicorn would take over SIGTERM and SIGINT, which the daemon handles. Its signal handling is therefore switched off, for
all its versions from 0.17 of Debian 12 on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from typing import Any

SOCKET_MODE = 0o660
STOP_SECONDS = 2.0  # for open requests to finish when the daemon stops


class SocketInUse(OSError):
    """The address is in use; the text names it and the fix."""


@contextlib.contextmanager
def unix_socket(path: str) -> Iterator[socket.socket]:
    """A bound unix socket of mode 0660 at PATH; replaces a stale one, raises SocketInUse for a live one.

    The file is removed at the end, unless another process has replaced it.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            sock.bind(path)
        except OSError as error:
            raise OSError(error.errno, f"control socket {path}: {error.strerror}; create its directory") from None
        finally:
            os.umask(mask)
        sock.setblocking(False)
        ours = os.stat(path).st_ino
        try:
            yield sock
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == ours:
                    os.unlink(path)
    finally:
        sock.close()


def tcp_socket(address: str, port: int) -> socket.socket:
    """A bound TCP socket of an IPv4 or IPv6 address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"http {address} port {port}: {error.strerror}; choose another in `http`") from None
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Unlink a socket that nobody listens on; refuse to touch anything else."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketInUse(f"control socket {path}: exists and is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError:
            pass  # its backlog is full, or we may not connect: somebody is listening
    raise SocketInUse(f"control socket {path}: in use by another daemon; stop it or choose another path")


@contextlib.asynccontextmanager
async def serve_asgi(app: Any, sock: socket.socket) -> AsyncIterator[None]:
    """Serve APP on SOCK (bound, not yet listening) while the block lasts; then open requests get STOP_SECONDS."""
    server = _make_server(app)
    task = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110  # uvicorn offers nothing to wait for
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
            raise RuntimeError("uvicorn ended at its start without an error")
        yield
    finally:
        server.should_exit = True
        if (await asyncio.wait({task}, timeout=STOP_SECONDS))[1]:
            server.force_exit = True
            await asyncio.wait({task}, timeout=STOP_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _make_server(app: Any) -> Any:
    """A uvicorn server that leaves signals and logging to the daemon."""
    import uvicorn

    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # not its messages about start and stop

    class Server(uvicorn.Server):
        def install_signal_handlers(self) -> None:
            """Nothing: the hook of uvicorn before 0.29."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Nothing: the hook of uvicorn since 0.29."""
            yield

    config = uvicorn.Config(
        app,
        http="h11",  # always available
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    return Server(config)
