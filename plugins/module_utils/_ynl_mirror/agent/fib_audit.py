# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of the DPU's FIB: the mirrored routes are read back from the agent's own kernel, beside all other work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Callable

from ..daemon.logs import about
from ..daemon.tally import MIRRORED, Tally, words
from ..model.routes import AF_INET, AF_INET6, FAMILY_NAMES, Path, TableKey, table_name
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteReader
from ..replica.audit import Counting, dump, slices
from ..replica.follower import Follower, deletes_ipv6
from .installer import Mirror

_LOG = logging.getLogger("ynl_mirror.audit")


class FibAudit:
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
        installed, counting = self._mirror.installed, Counting()

        def feed(chunk: bytes) -> None:
            for _kind, _flags, _start, _end, key, path in self._reader.scan(chunk):
                if path is not None:
                    counting.add(installed.get((family, path.table), {}), key, path)

        await dump(self._requests, rtnetlink.route_dump_request(family, protocol=self._protocol), feed)
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
            await dump(self._requests, rtnetlink.route_dump_request(family, protocol=self._protocol), feed)
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
        for keys in slices(there, self._mirror.installed.get(scope, {})):
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
