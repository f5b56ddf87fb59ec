# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a replica equal to the kernel: subscribe, dump, apply the queued notifications, re-read where requested.

The order matters, and is all in here. A notification that is queued during a dump may be older or newer than any part
of the dump. Applied in order after the dump, they still lead to the right state, because the last notification of each
route is the latest one. The order of several paths of one prefix depends on more than their last notifications, so such
a table is re-read if one of them is notified before the socket has been found empty after the dump. After an overrun
none of this holds, since the queued notifications are older than the lost ones: the queue is discarded before the dump.
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

_LOG = logging.getLogger("ynl_mirror.follower")

#: Notifications applied before the event loop gets a turn.
_BURST = 512
#: Dump chunks (of about 600 routes) read before the event loop gets a turn.
_CHUNKS = 4
#: Up to this many nexthop objects are fetched one by one; beyond it, all are dumped.
_OBJECTS = 64
#: Seconds between attempts at an IPv6 dump that may have skipped routes, and after the last of them.
_TORN = (0.02, 0.05, 0.1, 0.2, 0.4)
_TORN_LATER = 5.0
#: Attempts to fetch a group that keeps losing members meanwhile.
_TRIES = 4
#: A request for link 1, which waits for the kernel's RTNL lock: the kernel notifies that a link is down or an address
#: gone before it removes the routes (__dev_notify_flags, __inet_del_ifa), and a dump of routes takes no lock.
_WAIT = rtnetlink.request(
    rtnetlink.RTM_GETLINK, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK, struct.pack("=BBHiII", 0, 0, 0, 1, 0, 0)
)
#: Events that request re-reads come in bursts (a link that goes down): wait this many seconds for the rest.
_SETTLE = 0.02
#: A doubted table is re-read after this many times the duration of the last re-reads: routes that change all the time
#: must not keep the follower busy with nothing else.
_REST = 3
#: Seconds after which the notification of a change that a dump has shown is queued.
_LATE = 0.1


class Follower:
    """Follows the kernel by *monitor* and *requests*, and calls *on_change* after each change of the replica."""

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
        self._overran = self._malformed = False  # a full resync is due
        self._readable: asyncio.Event | None = None
        self.overruns = 0
        self.recoveries = 0  # full resyncs
        self.rereads = 0
        self.notifications = 0
        self.emptied = 0  # how often the socket was found empty
        self._read_until = self._read_for = 0.0  # the end and the duration of the last re-reads
        self._later: asyncio.TimerHandle | None = None
        self.overhear: Callable[[list[bytes]], None] | None = None  # for an audit: gets each batch of notifications

    async def load(self) -> None:
        """Full sync. The monitor's socket must be subscribed already."""
        self._read_view()
        self._on_change()  # may decide which tables to read
        self._replica.rib.ask()
        while self._replica.rib.rereads:
            await self._reread()
            self._on_change()

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        readable = self._readable = asyncio.Event()
        readable.set()  # for the notifications since the full sync
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
        """Take a turn without a notification: a re-read was requested from outside."""
        if self._readable is not None:
            self._readable.set()

    async def caught_up(self) -> None:
        """Return when all changes that the kernel has made by now are applied."""
        await asyncio.sleep(_LATE)
        seen = self.emptied
        while self.emptied == seen:
            self.look()
            await asyncio.sleep(_SETTLE)

    async def _turn(self) -> bool:
        """One turn; whether the socket was found empty."""
        if self._overran or self._malformed:
            await self._recover()
            return False
        try:
            batch = self._monitor.receive(_BURST)
        except sockets.Overrun:
            self._note_overrun()
            return False
        self._apply(batch)
        if batch:
            self._on_change()
        if len(batch) == _BURST:
            await asyncio.sleep(0)
            return False
        self._caught_up()
        empty = not self._overran and not self._malformed
        while self._replica.rib.rereads or self._replica.rib.objects.missing:
            empty = False  # there may be notifications since
            await asyncio.sleep(_SETTLE)
            await self._catch_up()
            await self._reread()
            self._on_change()  # may request the table of a new VRF
        return empty

    def _caught_up(self) -> None:
        """All that was queued during the last dumps is applied. Re-read doubted tables, but not all the time."""
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
        """Apply the rest of the burst, so that one re-read covers it."""
        try:
            batch = self._monitor.receive(_BURST)
            self._apply(batch)
            if len(batch) < _BURST:
                self._caught_up()
        except sockets.Overrun:
            self._note_overrun()
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
                _LOG.warning("malformed notification, full resync: %s", error)
                self._malformed = True

    def _note_overrun(self) -> None:
        self.overruns += 1
        self._overran = True

    async def _recover(self) -> None:
        """Full resync."""
        self.recoveries += 1
        queued = self._monitor.drain()
        if self._overran:  # how many notifications the kernel has dropped in addition is unknown
            _LOG.warning("receive buffer overrun (ENOBUFS), at least %d notifications lost, full resync", queued)
        self._overran = self._malformed = False
        await self.load()
        self._on_change()

    def _read_view(self) -> None:
        # A capture ends this with the rules: they are read last.
        netconf = sockets.read_netconf(self._requests)
        links, addresses = sockets.read_links(self._requests), sockets.read_addresses(self._requests)
        self._replica.load(links, addresses, sockets.read_rules(self._requests), netconf)

    async def _reread(self) -> None:
        rib, loop = self._replica.rib, asyncio.get_running_loop()
        started = loop.time()
        while rib.rereads:
            await sockets.repeated(self._wait)
            for scope in rib.take_rereads():
                self.rereads += 1
                await sockets.repeated(partial(self._read, scope))
            await sockets.repeated(self._wait)  # a change may be in the dump before it is notified
        await sockets.repeated(self._fetch_objects)
        self._read_until = loop.time()
        self._read_for = self._read_until - started

    async def _wait(self) -> None:
        for _answer in self._requests.dump(_WAIT):
            pass

    async def _fetch_objects(self) -> None:
        """Fetch the missing nexthop objects, and the members of the groups among them."""
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
        rib.objects.missing.clear()  # the kernel does not have them; it will notify them if they are created

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
            if await self._read_ipv6(scope) or self._overran:  # an overrun leads to a full resync
                return
            await asyncio.sleep(pause)
        if not await self._read_ipv6(scope) and not self._overran:
            asyncio.get_running_loop().call_later(_TORN_LATER, self._ask_again, scope)

    async def _read_ipv6(self, scope: Reread) -> bool:
        """Dump IPv6 routes; False if the dump may have skipped some, of which there is no event.

        The kernel resumes a dump at a count of routes (fib6_dump_table), so that a deletion before that point makes it
        skip a route. NLM_F_DUMP_INTR is not set for that, but the deletion itself is notified.
        """
        self._apply(self._receive_all())  # from before this dump
        asked = self._replica.rib.rereads
        for covered in [s for s in asked if s[:2] == scope[:2] and scope.oif in (None, s.oif)]:
            del asked[covered]  # by this dump
        reading = self._replica.rib.reading(scope)
        chunks = list(self._requests.dump(_request(scope)))  # in one go: this process writes nothing meanwhile
        notified = self._receive_all() if len(chunks) > 1 else []
        for number, chunk in enumerate(chunks):
            reading.feed(chunk)
            if number % _CHUNKS == 0:
                await asyncio.sleep(0)
        whole = not self._overran and not any(map(deletes_ipv6, notified))
        if not whole:
            self._requests.torn()
        reading.finish(whole)
        self._apply(notified)
        return whole or scope.oif is not None  # for a link, finish() has requested the whole table instead

    def _receive_all(self) -> list[bytes]:
        """All queued notifications."""
        notified: list[bytes] = []
        try:
            while True:
                batch = self._monitor.receive(_BURST)
                notified += batch
                if len(batch) < _BURST:
                    return notified
        except sockets.Overrun:
            self._note_overrun()
            return notified

    def _ask_again(self, scope: Reread) -> None:
        self._replica.rib.rereads[scope] = None
        self.look()


def _request(scope: Reread) -> bytes:
    return rtnetlink.route_dump_request(scope.family, scope.table, oif=scope.oif)


def deletes_ipv6(notification: bytes) -> bool:
    """Whether a notification deletes an IPv6 route, so that a dump meanwhile may have skipped others."""
    (kind,) = struct.unpack_from("=H", notification, 4)
    return kind == rtnetlink.RTM_DELROUTE and rtnetlink.family_of(notification) == AF_INET6
