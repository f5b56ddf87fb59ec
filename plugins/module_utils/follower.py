# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a replica equal to the kernel: subscribe first, then dump, then apply what queued up; re-read where asked.

Order matters and is all in here. Notifications that wait in the socket while a dump runs are older or newer than
any part of it, and applying them afterwards in order ends in the right state, because the last word about every
route comes last. After an overrun that no longer holds - what is queued is older than what was lost - so the
queue is thrown away before the dump.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from . import kernel, wire, wire_links
from .replica import Replica
from .rib import Reread

_LOG = logging.getLogger(__name__)

#: Notifications taken in before others get a turn on the event loop.
_BURST = 512
#: Dump chunks (of about 600 routes) taken in before others get a turn.
_CHUNKS = 4
#: Events that ask for re-reads come in flocks (a link that goes down): wait this many seconds for the rest.
_SETTLE = 0.02
#: Seconds after which the kernel has told what a dump has shown before.
_LATE = 0.1


class Follower:
    """Follows the kernel on *monitor* and reads it on *requests*; calls *on_change* whenever the replica moved."""

    def __init__(
        self,
        replica: Replica,
        monitor: kernel.Notifications,
        requests: kernel.Dumps,
        on_change: Callable[[], None],
    ) -> None:
        self._replica = replica
        self._monitor = monitor
        self._requests = requests
        self._on_change = on_change
        self.overruns = 0
        self.rereads = 0
        self.notifications = 0
        self.emptied = 0  # times that the socket was found empty
        self.overhear: Callable[[list[bytes]], None] | None = None  # gets what is heard as well
        self._readable: asyncio.Event | None = None

    async def load(self) -> None:
        """Read everything. The monitor's socket must be subscribed already."""
        self._read_view()
        self._on_change()  # which tables to read may depend on it
        self._replica.rib.ask()
        await self._reread()

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        readable = self._readable = asyncio.Event()
        loop.add_reader(self._monitor.fileno(), readable.set)
        try:
            while True:
                await readable.wait()
                if await self._turn():
                    self.emptied += 1
                    readable.clear()
        finally:
            loop.remove_reader(self._monitor.fileno())

    def look(self) -> None:
        """Take a turn though the kernel said nothing: the replica was asked to read something again."""
        if self._readable is not None:
            self._readable.set()

    async def caught_up(self) -> None:
        """Return once all that the kernel has changed by now is taken in."""
        await asyncio.sleep(_LATE)
        seen = self.emptied
        while self.emptied == seen:
            self.look()
            await asyncio.sleep(_SETTLE)

    async def _turn(self) -> bool:
        """One turn; whether the socket was found empty."""
        try:
            batch = self._monitor.receive(_BURST)
        except kernel.Overrun:
            await self._recover()
            return False
        self._apply(batch)
        if batch:
            self._on_change()
        if len(batch) == _BURST:
            await asyncio.sleep(0)
            return False
        while self._replica.rib.rereads:
            await asyncio.sleep(_SETTLE)
            await self._catch_up()
            await self._reread()
            self._on_change()  # which asks for more when a VRF has come that is not read yet
        return True

    async def _catch_up(self) -> None:
        """Apply what arrived while the flock settled, so that one re-read covers it."""
        try:
            self._apply(self._monitor.receive(_BURST))
        except kernel.Overrun:
            await self._recover()

    def _apply(self, batch: list[bytes]) -> None:
        self.notifications += len(batch)
        if self.overhear is not None:
            self.overhear(batch)
        apply = self._replica.apply
        for buffer in batch:
            try:
                apply(buffer)
            except wire.WireError as error:
                _LOG.warning("a notification that cannot be read, so all routes are read again: %s", error)
                self._replica.rib.ask()

    async def _recover(self) -> None:
        self.overruns += 1
        lost = self._monitor.drain()
        _LOG.warning("the receive buffer overran: %d queued notifications dropped, everything is read again", lost)
        await self.load()
        self._on_change()

    def _read_view(self) -> None:
        self._replica.load(
            kernel.read_links(self._requests, wire_links.decode_link),
            kernel.read_addresses(self._requests, wire_links.decode_address),
            kernel.read_rules(self._requests, wire_links.decode_rule),
        )

    async def _reread(self) -> None:
        rib = self._replica.rib
        while rib.rereads:
            for scope in rib.take_rereads():
                self.rereads += 1
                await self._read(scope)

    async def _read(self, scope: Reread) -> None:
        reading = self._replica.rib.reading(scope)
        message = wire.route_dump_request(scope.family, scope.table, oif=scope.oif)
        for number, chunk in enumerate(self._requests.dump(message)):
            reading.feed(chunk)
            if number % _CHUNKS == 0:
                await asyncio.sleep(0)
        reading.finish()
