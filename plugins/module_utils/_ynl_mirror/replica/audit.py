# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica audit: compares a replica with dumps of the kernel's tables, in the background.

The follower goes on during the dump. Prefixes that are notified meanwhile are left out of the comparison. Of what still
differs, the event was missed for good: the table is re-read.
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

_LOG = logging.getLogger("ynl_mirror.replica.audit")
#: Dump chunks (of about 600 routes) per step, and seconds of rest after it: an audit is not urgent.
_CHUNKS = 2
_REST = 0.001
#: Routes compared before the event loop gets a turn.
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
                _LOG.warning("audit aborted, next run in %g s: %s", interval, error)


class Counting:
    """Compares a dump with a table while it arrives, and keeps nothing of it: the usual case costs no memory.

    *alike* is False if something differs, or has changed meanwhile; only the full comparison can tell which.
    """

    def __init__(self) -> None:
        self.alike = True
        self._number: dict[TableKey, int] = {}
        self._known: tuple[object, Path] | None = None  # a pair that is equal; the next route often has the same

    def add(self, table: Mapping[int, Entry], key: int, path: Path) -> None:
        """Compare one route of the dump."""
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
        """Whether the dump had exactly this table."""
        return self.alike and self._number.get(scope, 0) == len(table)


async def dump(requests: sockets.Requests, request: bytes, feed: Callable[[bytes], None]) -> None:
    """Feed the chunks of a dump, with pauses in between."""
    for number, chunk in enumerate(requests.dump(request)):
        feed(chunk)
        if number % _CHUNKS == 0:
            await asyncio.sleep(_REST)


def slices(one: Mapping[int, object], other: Mapping[int, object]) -> Iterator[list[int]]:
    """The keys of two tables, each once, in slices."""
    for table, known in ((one, {}), (other, one)):
        keys = list(table)
        for start in range(0, len(keys), _SLICE):
            yield [key for key in keys[start : start + _SLICE] if key not in known]


class ReplicaAudit:
    """Compares a replica with the kernel, table by table; the follower re-reads a table that differs."""

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
                self._report(scope, wrong)
                self._rib.rereads[Reread(*scope)] = None
                self._follower.look()
        self._tally.rounds[REPLICA] += 1

    async def _unchanged(self, scope: TableKey) -> bool:
        """Whether a quick comparison finds the kernel's table equal; False also if it is changing."""
        rib, counting = self._rib, Counting()

        def feed(chunk: bytes) -> None:
            table = rib.tables.get(scope, {})
            for _kind, _flags, _start, _end, key, path in rib.reader.scan(chunk):
                if path is not None and path.table == scope[1] and rib.keeps(path):
                    counting.add(table, key, path)

        await dump(self._requests, rtnetlink.route_dump_request(*scope), feed)
        return counting.all_of(scope, rib.tables.get(scope, {}))

    async def _table(self, scope: TableKey) -> dict[int, str]:
        """The prefixes at which the replica differs from the kernel: missing, stale or different."""
        follower = self._follower
        notified: set[int] = set()
        deletions: list[bytes] = []
        before = self._resyncs()

        def overhear(batch: list[bytes]) -> None:
            notified.update(self._keys(batch, scope))
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
                    if old is not new and key not in notified and best_path(old) != best_path(new):
                        wrong[key] = "missing" if old is None else "stale" if new is None else "different"
                await asyncio.sleep(0)
            if wrong:
                await follower.caught_up()
        finally:
            follower.overhear = None
        # A table that the follower has re-read meanwhile, or is about to, is right.
        if self._resyncs() != before or self._rib.rereads:
            return {}
        if scope[0] == AF_INET6 and deletions:
            return {}  # the dump may have skipped routes
        return {key: what for key, what in wrong.items() if key not in notified}

    def _resyncs(self) -> tuple[int, int]:
        return self._follower.rereads, self._follower.overruns

    def _keys(self, batch: list[bytes], scope: TableKey) -> Iterator[int]:
        """The prefixes of a table in notifications."""
        for buffer in batch:
            with contextlib.suppress(rtnetlink.WireError):  # the follower does a full resync
                for _kind, _flags, _start, _end, key, path in self._rib.reader.scan(buffer):
                    if path is not None and (path.family, path.table) == scope:
                        yield key

    def _report(self, scope: TableKey, wrong: Mapping[int, str]) -> None:
        text = (
            f"replica audit: {len(wrong)} {FAMILY_NAMES[scope[0]]} routes of table {table_name(scope[1])} do not match "
            f"the kernel's, re-reading the table: {words(scope[0], wrong)}"
        )
        self._tally.found(REPLICA, len(wrong), text)
        _LOG.warning("%s", text, extra=about(reason=text))
