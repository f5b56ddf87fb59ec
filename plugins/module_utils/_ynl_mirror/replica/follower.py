# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a replica equal to the kernel: subscribe first, then dump, then apply what queued up; re-read where asked.

Order matters and is all in here. Notifications that wait in the socket while a dump runs are older or newer than
any part of it, and applying them afterwards in order ends in the right state, because the last word about every
route comes last. Where the order of paths hangs on more than the last word on each, the table is read again when
such a notification turns up before the socket was found empty after the dump. After an overrun all that no longer
holds - what is queued is older than what was lost - so the queue is thrown away before the dump.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from functools import partial

from ..model.routes import AF_INET6
from ..netlink import rtnetlink, sockets
from . import nexthops
from .replica import Replica
from .rib import Reread

_LOG = logging.getLogger(__name__)

#: Notifications taken in before others get a turn on the event loop.
_BURST = 512
#: Dump chunks (of about 600 routes) taken in before others get a turn.
_CHUNKS = 4
#: Nexthop objects that are fetched one by one; of more, all.
_OBJECTS = 64
#: Seconds between attempts at an IPv6 dump that may have missed routes; after the last one it has time.
_TORN = (0.02, 0.05, 0.1, 0.2, 0.4)
_TORN_LATER = 5.0
#: How often a group is fetched again that loses members meanwhile.
_TRIES = 4
#: Asks for link 1, and so waits for whoever holds the kernel's RTNL: that a link is down or an address gone is told
#: before the routes are taken away (__dev_notify_flags, __inet_del_ifa), and a dump of routes waits for nobody.
_WAIT = rtnetlink.request(
    rtnetlink.RTM_GETLINK, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK, struct.pack("=BBHiII", 0, 0, 0, 1, 0, 0)
)
#: Events that ask for re-reads come in flocks (a link that goes down): wait this many seconds for the rest.
_SETTLE = 0.02
#: A table in doubt is read again after so many times the duration of the last re-reads: routes that never come to rest
#: must not make the follower do nothing else.
_REST = 3
#: Seconds after which the kernel has told what a dump has shown before.
_LATE = 0.1


class Follower:
    """Follows the kernel on *monitor* and reads it on *requests*; calls *on_change* whenever the replica moved."""

    def __init__(
        self,
        replica: Replica,
        monitor: sockets.Notifications,
        requests: sockets.Dumps,
        on_change: Callable[[], None],
    ) -> None:
        self._replica = replica
        self._monitor = monitor
        self._requests = requests
        self._on_change = on_change
        self._overran = False  # heard of while reading, and not yet seen to
        self._readable: asyncio.Event | None = None
        self.overruns = 0
        self.recoveries = 0  # times that everything was read again for it
        self.rereads = 0
        self.notifications = 0
        self.emptied = 0  # times that the socket was found empty
        self._read_until = self._read_for = 0.0  # the end and the duration of the last re-reads
        self._later: asyncio.TimerHandle | None = None
        self.overhear: Callable[[list[bytes]], None] | None = None  # gets what is heard as well

    async def load(self) -> None:
        """Read everything. The monitor's socket must be subscribed already."""
        self._read_view()
        self._on_change()  # which tables to read may depend on it
        self._replica.rib.ask()
        while self._replica.rib.rereads:
            await self._reread()
            self._on_change()

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        readable = self._readable = asyncio.Event()
        readable.set()  # for what was told while everything was read
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
        if self._overran:
            await self._recover()
            return False
        try:
            batch = self._monitor.receive(_BURST)
        except sockets.Overrun:
            self.overruns += 1
            await self._recover()
            return False
        self._apply(batch)
        if batch:
            self._on_change()
        if len(batch) == _BURST:
            await asyncio.sleep(0)
            return False
        self._caught_up()
        empty = not self._overran
        while self._replica.rib.rereads or self._replica.rib.objects.missing:
            empty = False  # once read, look what was told meanwhile
            await asyncio.sleep(_SETTLE)
            await self._catch_up()
            await self._reread()
            self._on_change()  # which asks for more when a VRF has come that is not read yet
        return empty

    def _caught_up(self) -> None:
        """What was queued while tables were read is taken in. Those in doubt are asked for, but not all the time."""
        rib, loop = self._replica.rib, asyncio.get_running_loop()
        rib.caught_up()
        self._requests.caught_up()
        if not rib.doubted:
            return
        pause = self._read_until + _REST * self._read_for - loop.time()
        if pause <= 0:
            rib.ask_doubted()
        elif self._later is None or self._later.when() <= loop.time():
            self._later = loop.call_later(pause, self.look)

    async def _catch_up(self) -> None:
        """Apply what arrived while the flock settled, so that one re-read covers it."""
        try:
            batch = self._monitor.receive(_BURST)
            self._apply(batch)
            if len(batch) < _BURST:
                self._caught_up()
        except sockets.Overrun:
            self.overruns += 1
            await self._recover()

    def _apply(self, batch: list[bytes]) -> None:
        self.notifications += len(batch)
        if self.overhear is not None:
            self.overhear(batch)
        apply = self._replica.apply
        for buffer in batch:
            try:
                apply(buffer)
            except rtnetlink.WireError as error:
                _LOG.warning("a notification that cannot be read, so all routes are read again: %s", error)
                self._replica.rib.ask()

    async def _recover(self) -> None:
        self.recoveries += 1
        self._overran = False
        lost = self._monitor.drain()
        _LOG.warning("the receive buffer overran: %d queued notifications dropped, everything is read again", lost)
        await self.load()
        self._on_change()

    def _read_view(self) -> None:
        self._replica.load(
            sockets.read_links(self._requests),
            sockets.read_addresses(self._requests),
            sockets.read_rules(self._requests),
        )

    async def _reread(self) -> None:
        rib, loop = self._replica.rib, asyncio.get_running_loop()
        started = loop.time()
        while rib.rereads:
            await sockets.repeated(self._wait)
            for scope in rib.take_rereads():
                self.rereads += 1
                await sockets.repeated(partial(self._read, scope))
            await sockets.repeated(self._wait)  # what a dump has shown may be told a moment later
        await sockets.repeated(self._fetch_objects)
        self._read_until = loop.time()
        self._read_for = self._read_until - started

    async def _wait(self) -> None:
        for _answer in self._requests.dump(_WAIT):
            pass

    async def _fetch_objects(self) -> None:
        """Fetch the nexthop objects that routes name and nobody has told of, and the members of groups among them."""
        rib = self._replica.rib
        for _try in range(_TRIES):
            asked: set[int] = set()
            while wanted := [number for number in rib.objects.missing if number not in asked]:
                asked.update(wanted)
                if len(wanted) > _OBJECTS:
                    chunks = self._requests.dump_whole(nexthops.request())
                else:
                    chunks = [chunk for number in wanted for chunk in self._requests.dump(nexthops.request(number))]
                for chunk in chunks:
                    rib.objects.learn(chunk)
                rib.resolve()
            if not rib.objects.forget_torn():
                break
            rib.resolve()
        rib.objects.missing.clear()  # the kernel has none of these; when it does, it will say so

    async def _read(self, scope: Reread) -> None:
        if scope.family != AF_INET6:
            reading = self._replica.rib.reading(scope)
            for number, chunk in enumerate(self._requests.dump(_request(scope))):
                reading.feed(chunk)
                if number % _CHUNKS == 0:
                    await asyncio.sleep(0)
            reading.finish()
            return
        for pause in _TORN:
            if await self._read_ipv6(scope) or self._overran:  # after which everything is read again
                return
            await asyncio.sleep(pause)
        if not await self._read_ipv6(scope) and not self._overran:
            asyncio.get_running_loop().call_later(_TORN_LATER, self._ask_again, scope)

    async def _read_ipv6(self, scope: Reread) -> bool:
        """Read routes of IPv6; False when the dump may have missed some that nobody has touched, and nobody tells of.

        The kernel goes on with a dump by counting how far it was (fib6_dump_table), so that a deletion before that
        point makes it skip a route. No NLM_F_DUMP_INTR says so, but the deletion itself is heard.
        """
        self._apply(self._hear())  # of before: not about this dump
        asked = self._replica.rib.rereads
        for covered in [s for s in asked if s[:2] == scope[:2] and scope.oif in (None, s.oif)]:
            del asked[covered]  # by what is read now
        reading = self._replica.rib.reading(scope)
        chunks = list(self._requests.dump(_request(scope)))  # in one go: nobody of this process writes meanwhile
        heard = self._hear() if len(chunks) > 1 else []
        for number, chunk in enumerate(chunks):
            reading.feed(chunk)
            if number % _CHUNKS == 0:
                await asyncio.sleep(0)
        whole = not self._overran and not any(map(deletes_ipv6, heard))
        if not whole:
            self._requests.torn()
        reading.finish(whole)
        self._apply(heard)
        return whole or scope.oif is not None  # instead of whose routes the whole table is asked for

    def _hear(self) -> list[bytes]:
        """All notifications that are queued."""
        heard: list[bytes] = []
        try:
            while True:
                batch = self._monitor.receive(_BURST)
                heard += batch
                if len(batch) < _BURST:
                    return heard
        except sockets.Overrun:
            self.overruns += 1
            self._overran = True
            return heard

    def _ask_again(self, scope: Reread) -> None:
        self._replica.rib.rereads[scope] = None
        self.look()


def _request(scope: Reread) -> bytes:
    return rtnetlink.route_dump_request(scope.family, scope.table, oif=scope.oif)


def deletes_ipv6(notification: bytes) -> bool:
    """Whether a notification is of an IPv6 route that is gone, so that a dump meanwhile may have skipped others."""
    (kind,) = struct.unpack_from("=H", notification, 4)
    return kind == rtnetlink.RTM_DELROUTE and rtnetlink.family_of(notification) == AF_INET6
