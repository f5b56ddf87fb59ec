# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life cycle of both daemons: signals, the HTTP interface, readiness, watchers, errors without a traceback."""

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
#: Events that a watcher may lag behind before it loses them all (and gets an event with their number).
_WATCH_BACKLOG = 10000
#: Seconds after which a cancelled task that is still running is cancelled again.
_AGAIN = 1.0


class Stop(Exception):
    """The daemon cannot continue; the text has the reason and the fix."""


class Watchers:
    """Distributes events to the clients of /watch; costs nothing while there are none."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def __bool__(self) -> bool:
        return bool(self._queues)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        """A queue of events while the block lasts."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WATCH_BACKLOG)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def publish(self, event: dict[str, Any]) -> None:
        """Send an event to all watchers; one that is too slow gets the number of lost events first."""
        for queue in self._queues:
            if queue.full():
                lost = 0
                while not queue.empty():
                    queue.get_nowait()
                    lost += 1
                queue.put_nowait({"event": "lost", "events": lost})
            queue.put_nowait(event)


class Program(api.Daemon, Protocol):
    """A daemon as this file runs it. *started* is set when it is ready."""

    started: asyncio.Event

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The tasks that make up the daemon; the end of any of them ends it."""

    def reload(self) -> None:
        """SIGHUP."""


def run(make: Callable[[], Program], control_socket: str, http: HttpConfig | None) -> int:
    """Run a daemon until SIGTERM or SIGINT; returns the exit code (0 stopped by signal, 1 failed)."""
    # New directories and sockets are private to our user.
    os.umask(0o077)
    note = backoff.note_of(control_socket)
    if notify.manager_listens() and not _pause(note):
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


def _pause(note: str) -> bool:
    """Wait if the previous runs have failed; False when SIGTERM or SIGINT ends the wait."""
    pause = backoff.due_pause(note)
    if pause:
        text = f"the previous run failed; starting in {pause:.1f} s"
        _LOG.warning("%s", text)
        notify.notify(notify.status(text))
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
        tasks += [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(_notify(program))]
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            notify.notify(notify.STOPPING)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _notify(program: Program) -> None:
    """Notify the service manager when the daemon is ready, then send it watchdog messages."""
    await program.started.wait()
    notify.notify(notify.READY, notify.status(f"{program.name} is ready"))
    _LOG.info("%s is ready", program.name)
    while True:
        await asyncio.sleep(notify.watchdog_seconds() or 3600.0)
        notify.notify(notify.WATCHDOG)


def monitor(receive_buffer: int, deaf_to: int | None = None) -> Monitor:
    """The socket for the kernel's notifications; logs when its buffer is smaller than configured."""
    opened = Monitor(receive_buffer, deaf_to)
    if opened.granted < receive_buffer:
        _LOG.warning(
            "receive buffer limited to %d of %d bytes: run with CAP_NET_ADMIN, or raise net.core.rmem_max",
            *(opened.granted, receive_buffer),
        )
    return opened


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended: its await may swallow a cancellation (python/cpython issue 86296)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN)
