# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both daemons share: signals, the HTTP interface, readiness, watchers, and an end without a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, Callable, Protocol

from ..config.common import HttpConfig
from ..fpm.tls import TlsError
from ..netlink.sockets import KernelError, Monitor
from . import api, backoff, notify

_LOG = logging.getLogger("ynl_mirror")
#: Changes a watcher may lag behind before it loses the oldest ones (and is told how many).
_WATCH_BACKLOG = 10000
#: Seconds after which a task that was cancelled and goes on is cancelled again.
_AGAIN = 1.0


class Stop(Exception):
    """The daemon cannot go on; the text says why and what to do."""


class Watchers:
    """Hands changes to whoever watches; costs nothing while nobody does."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def __bool__(self) -> bool:
        return bool(self._queues)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        """A queue of events for as long as the block lasts."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WATCH_BACKLOG)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def publish(self, event: dict[str, Any]) -> None:
        """Tell all watchers; one that is too slow finds an event that says so instead."""
        for queue in self._queues:
            if queue.full():
                lost = 0
                while not queue.empty():
                    queue.get_nowait()
                    lost += 1
                queue.put_nowait({"event": "lost", "events": lost})
            queue.put_nowait(event)


class Program(api.Daemon, Protocol):
    """A daemon as this file runs it. *started* is set once it does its work."""

    started: asyncio.Event

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The tasks that make up the daemon; the end of any of them ends it."""

    def reload(self) -> None:
        """SIGHUP."""


def run(make: Callable[[], Program], control_socket: str, http: HttpConfig | None) -> int:
    """Run a daemon until SIGTERM or SIGINT; its exit code (0 asked to stop, 1 could not go on)."""
    # A new directory or socket of ours is nobody else's.
    os.umask(0o077)
    note = backoff.note_of(control_socket)
    if notify.manager_listens() and not _held_back(note):
        return 0
    try:
        asyncio.run(_main(make, control_socket, http))
    except (Stop, TlsError, KernelError) as error:
        _LOG.error("%s", error)
        return 1
    except OSError as error:
        _LOG.error("%s", error if error.filename is None else f"{error.filename}: {error.strerror}")
        return 1
    backoff.forget(note)
    return 0


def _held_back(note: str) -> bool:
    """Wait, when runs before this one have failed; False when we are asked to stop meanwhile."""
    pause = backoff.due_pause(note)
    if pause:
        told = f"the run before failed; waiting {pause:.1f} s"
        _LOG.warning("%s", told)
        notify.notify(notify.status(told))
    if pause and not backoff.sleep(pause):
        backoff.forget(note)
        return False
    return True


async def _main(make: Callable[[], Program], control_socket: str, http: HttpConfig | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    program = make()
    loop.add_signal_handler(signal.SIGHUP, program.reload)
    async with api.serve(program, control_socket, http) as addresses:
        for address, port in addresses:
            _LOG.info("HTTP on %s port %d", address, port)
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(work) for work in program.work()]
        tasks += [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(_tell(program))]
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            notify.notify(notify.STOPPING)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(program: Program) -> None:
    """Tell the service manager when the daemon is ready, and from then on that it lives."""
    await program.started.wait()
    notify.notify(notify.READY, notify.status(f"{program.name} is ready"))
    _LOG.info("%s is ready", program.name)
    while True:
        await asyncio.sleep(notify.watchdog_seconds() or 3600.0)
        notify.notify(notify.WATCHDOG)


def monitor(receive_buffer: int, deaf_to: int | None = None) -> Monitor:
    """The socket that hears the kernel; a word in the log when its buffer is not what was asked for."""
    opened = Monitor(receive_buffer, deaf_to)
    if opened.granted < receive_buffer:
        _LOG.warning(
            "the receive buffer is clamped to %d of %d bytes: run with CAP_NET_ADMIN, or raise net.core.rmem_max",
            *(opened.granted, receive_buffer),
        )
    return opened


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended: what it waits for may swallow a cancellation (python/cpython issue 86296)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN)
