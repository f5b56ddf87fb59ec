# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audits against a daemon's own kernel: what it believes is read back, beside all other work.

The follower goes on while a dump is under way. What it hears of meanwhile, or what is written, says nothing about the
belief before, so it is left out; what is left and differs was missed for good, and is put right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Callable, Protocol

from ..agent.installer import Mirror
from ..daemon.logs import about
from ..fpm.audit import MIRRORED, REPLICA, Tally, words
from ..model.routes import AF_INET, AF_INET6, FAMILY_NAMES, Path, table_name
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteReader
from .entry import Entry, paths_of, winner
from .follower import Follower, deletes_ipv6
from .rib import Reread, Rib, TableKey

_LOG = logging.getLogger("ynl_mirror.audit")
#: Dump chunks (of about 600 routes) taken in, and seconds of rest after them: an audit has time.
_CHUNKS = 2
_REST = 0.001
#: Routes compared before others get a turn.
_SLICE = 8192


class Audit(Protocol):
    """One comparison."""

    async def round(self) -> None:
        """Compare everything once."""


async def run(interval: float, *audits: Audit) -> None:
    """Run the audits every *interval* seconds until cancelled."""
    while True:
        await asyncio.sleep(interval)
        for audit in audits:
            try:
                await audit.round()
            except (sockets.KernelError, OSError) as error:
                _LOG.warning("the audit was given up, and comes again in %g s: %s", interval, error)


class _Counting:
    """Compares a dump with a table as it comes, and keeps nothing of it: the usual case costs no memory.

    *alike* is False when something differs - or changed meanwhile, which only the long way tells apart.
    """

    def __init__(self) -> None:
        self.alike = True
        self._number: dict[TableKey, int] = {}
        self._known: tuple[object, Path] | None = None  # a pair that proved equal: routes come in runs

    def add(self, table: Mapping[int, Entry], key: int, path: Path) -> None:
        """A route of the dump."""
        entry = table.get(key)
        if self._known is None or entry is not self._known[0] or path is not self._known[1]:
            first, *others = paths_of(entry) or (None,)
            if first != path:
                self.alike = self.alike and path in others
                return
            self._known = entry, path
        scope = (path.family, path.table)
        self._number[scope] = self._number.get(scope, 0) + 1

    def all_of(self, scope: TableKey, table: Mapping[int, Entry]) -> bool:
        """Whether the dump had the whole table, and nothing else."""
        return self.alike and self._number.get(scope, 0) == len(table)


async def _dump(requests: sockets.Requests, request: bytes, feed: Callable[[bytes], None]) -> None:
    for number, chunk in enumerate(requests.dump(request)):
        feed(chunk)
        if number % _CHUNKS == 0:
            await asyncio.sleep(_REST)


def _slices(one: Mapping[int, object], other: Mapping[int, object]) -> Iterator[list[int]]:
    """The keys of two tables, each once, so many at a time."""
    for table, known in ((one, {}), (other, one)):
        keys = list(table)
        for start in range(0, len(keys), _SLICE):
            yield [key for key in keys[start : start + _SLICE] if key not in known]


class ReplicaAudit:
    """Compares a replica's routes with the kernel's, table by table; one that differs is read again by the follower."""

    def __init__(self, rib: Rib, follower: Follower, requests: sockets.Requests, tally: Tally) -> None:
        self._rib = rib
        self._follower = follower
        self._requests = requests
        self._tally = tally

    async def round(self) -> None:
        """Compare all tables."""
        for scope in list(self._rib.tables):
            wrong = {} if await self._unchanged(scope) else await self._table(scope)
            if wrong:
                self._tell(scope, wrong)
                self._rib.rereads[Reread(*scope)] = None
                self._follower.look()
        self._tally.rounds[REPLICA] += 1

    async def _unchanged(self, scope: TableKey) -> bool:
        """Whether the kernel's table is the replica's, by the short way; False may mean that it is changing."""
        rib, counting = self._rib, _Counting()

        def feed(chunk: bytes) -> None:
            table = rib.tables.get(scope, {})
            for _kind, _flags, _start, _end, key, path in rib.reader.scan(chunk):
                if path is not None and path.table == scope[1] and rib.takes(path):
                    counting.add(table, key, path)

        await _dump(self._requests, rtnetlink.route_dump_request(*scope), feed)
        return counting.all_of(scope, rib.tables.get(scope, {}))

    async def _table(self, scope: TableKey) -> dict[int, str]:
        """What the replica has otherwise than the kernel, by prefix."""
        follower = self._follower
        heard: set[int] = set()
        deletions: list[bytes] = []
        before = self._read_again()

        def overhear(batch: list[bytes]) -> None:
            heard.update(self._keys(batch, scope))
            deletions.extend(filter(deletes_ipv6, batch))

        follower.overhear = overhear
        try:
            reading = self._rib.reading(Reread(*scope))
            await _dump(self._requests, rtnetlink.route_dump_request(*scope), reading.feed)
            wrong: dict[int, str] = {}
            for keys in _slices(reading.found, self._rib.tables.get(scope, {})):
                known = self._rib.tables.get(scope, {})
                for key in keys:
                    old, new = known.get(key), reading.found.get(key)
                    if old is not new and key not in heard and winner(old) != winner(new):
                        wrong[key] = "missing" if old is None else "stale" if new is None else "different"
                await asyncio.sleep(0)
            if wrong:
                await follower.caught_up()
        finally:
            follower.overhear = None
        # A table that the follower has read as a whole meanwhile, or is about to, is as it should be.
        if self._read_again() != before or self._rib.rereads:
            return {}
        if scope[0] == AF_INET6 and deletions:
            return {}  # the dump may have skipped routes
        return {key: what for key, what in wrong.items() if key not in heard}

    def _read_again(self) -> tuple[int, int]:
        return self._follower.rereads, self._follower.overruns

    def _keys(self, batch: list[bytes], scope: TableKey) -> Iterator[int]:
        """The prefixes of a table that notifications speak of."""
        for buffer in batch:
            with contextlib.suppress(rtnetlink.WireError):  # the follower has read everything again
                for _kind, _flags, _start, _end, key, path in self._rib.reader.scan(buffer):
                    if path is not None and (path.family, path.table) == scope:
                        yield key

    def _tell(self, scope: TableKey, wrong: Mapping[int, str]) -> None:
        text = (
            f"the audit found {len(wrong)} {FAMILY_NAMES[scope[0]]} routes of table {table_name(scope[1])} that the "
            f"kernel has otherwise, and reads the table again: {words(scope[0], wrong)}"
        )
        self._tally.found(REPLICA, len(wrong), text)
        _LOG.warning("%s", text, extra=about(reason=text))


class MirrorAudit:
    """Compares the mirrored routes with the kernel's. *audits* counts the times that they were all read back anyway.

    *put_right* is called with the family and the prefixes that are to be mapped again.
    """

    def __init__(
        self,
        mirror: Mirror,
        follower: Follower,
        requests: sockets.Requests,
        reader: RouteReader,
        protocol: int,
        audits: Callable[[], int],
        put_right: Callable[[int, set[int]], None],
        tally: Tally,
    ) -> None:
        self._mirror = mirror
        self._follower = follower
        self._reader = reader
        self._requests = requests
        self._protocol = protocol
        self._audits = audits
        self._put_right = put_right
        self._tally = tally

    async def round(self) -> None:
        """Compare both families."""
        for family in (AF_INET, AF_INET6):
            if not await self._unchanged(family):
                await self._family(family)
        self._tally.rounds[MIRRORED] += 1

    async def _unchanged(self, family: int) -> bool:
        """Whether all is as it is believed to be, by the short way; False may mean that it is changing."""
        installed, counting = self._mirror.installed, _Counting()

        def feed(chunk: bytes) -> None:
            for _kind, _flags, _start, _end, key, path in self._reader.scan(chunk):
                if path is not None:
                    counting.add(installed.get((family, path.table), {}), key, path)

        await _dump(self._requests, rtnetlink.route_dump_request(family, protocol=self._protocol), feed)
        return all(counting.all_of(scope, routes) for scope, routes in installed.items() if scope[0] == family)

    async def _family(self, family: int) -> None:
        mirror = self._mirror
        noted: set[int] = set()
        mirror.noted = noted
        deletions: list[bytes] = []
        self._follower.overhear = lambda batch: deletions.extend(filter(deletes_ipv6, batch))
        before = self._audits()
        found: dict[TableKey, dict[int, Path]] = {}

        def feed(chunk: bytes) -> None:
            last: Path | None = None
            home: dict[int, Path] = {}
            for _kind, _flags, _start, _end, key, path in self._reader.scan(chunk):
                if path is not None:
                    if path is not last:  # routes come in runs with one path
                        last, home = path, found.setdefault((family, path.table), {})
                    home[key] = path

        try:
            await _dump(self._requests, rtnetlink.route_dump_request(family, protocol=self._protocol), feed)
            scopes = {*found, *(scope for scope in mirror.installed if scope[0] == family)}
            wrong = {scope: await self._compare(scope, found.get(scope, {})) for scope in sorted(scopes)}
            if any(wrong.values()):
                await self._follower.caught_up()
        finally:
            mirror.noted = self._follower.overhear = None
        if family == AF_INET6 and (noted or deletions):
            return  # the dump may have skipped routes
        if self._audits() == before:
            for scope, keys in wrong.items():
                self._repair(scope, {key: what for key, what in keys.items() if key not in noted}, found)

    async def _compare(self, scope: TableKey, there: dict[int, Path]) -> dict[int, str]:
        wrong: dict[int, str] = {}
        for keys in _slices(there, self._mirror.installed.get(scope, {})):
            believed = self._mirror.installed.get(scope, {})
            for key in keys:
                old, new = there.get(key), believed.get(key)
                if old is not new and old != new:
                    wrong[key] = "missing" if old is None else "stale" if new is None else "different"
            await asyncio.sleep(0)
        return wrong

    def _repair(self, scope: TableKey, wrong: Mapping[int, str], found: Mapping[TableKey, dict[int, Path]]) -> None:
        if not wrong:
            return
        family, table = scope
        for key in wrong:
            path = found.get(scope, {}).get(key)
            believed = self._mirror.installed.get(scope, {}).get(key)
            if path is None and believed is not None:
                self._mirror.lost(scope, key, believed)
            elif path is not None:
                self._mirror.appeared(scope, key, path)
        text = (
            f"the audit found {len(wrong)} mirrored {FAMILY_NAMES[family]} routes of table {table_name(table)} that "
            f"the kernel has otherwise: {words(family, wrong)}"
        )
        self._tally.found(MIRRORED, len(wrong), text)
        _LOG.warning("%s", text, extra=about(reason=text))
        self._put_right(family, set(wrong))
