# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of a replica against its own kernel: what it holds is read back, beside all other work.

The follower goes on while a dump is under way. What it hears of meanwhile, or what is written, says nothing about the
belief before, so it is left out; what is left and differs was missed for good, and is put right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Callable, Protocol

from ..daemon.logs import about
from ..daemon.tally import REPLICA, Tally, words
from ..model.routes import AF_INET6, FAMILY_NAMES, Path, TableKey, table_name
from ..netlink import rtnetlink, sockets
from .entry import Entry, best_path, paths_of
from .follower import Follower, deletes_ipv6
from .rib import Reread, Rib

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


class Counting:
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


async def dump(requests: sockets.Requests, request: bytes, feed: Callable[[bytes], None]) -> None:
    """Feed the chunks of a dump, with rests in between."""
    for number, chunk in enumerate(requests.dump(request)):
        feed(chunk)
        if number % _CHUNKS == 0:
            await asyncio.sleep(_REST)


def slices(one: Mapping[int, object], other: Mapping[int, object]) -> Iterator[list[int]]:
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
        rib, counting = self._rib, Counting()

        def feed(chunk: bytes) -> None:
            table = rib.tables.get(scope, {})
            for _kind, _flags, _start, _end, key, path in rib.reader.scan(chunk):
                if path is not None and path.table == scope[1] and rib.takes(path):
                    counting.add(table, key, path)

        await dump(self._requests, rtnetlink.route_dump_request(*scope), feed)
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
            await dump(self._requests, rtnetlink.route_dump_request(*scope), reading.feed)
            wrong: dict[int, str] = {}
            for keys in slices(reading.found, self._rib.tables.get(scope, {})):
                known = self._rib.tables.get(scope, {})
                for key in keys:
                    old, new = known.get(key), reading.found.get(key)
                    if old is not new and key not in heard and best_path(old) != best_path(new):
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
