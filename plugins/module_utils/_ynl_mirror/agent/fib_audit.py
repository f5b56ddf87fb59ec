# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The FIB audit: compares the routes that the agent believes it installed with those in the DPU's kernel.

It runs in the background. Routes that are written, or changed by others, during the dump are left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Callable

from ..daemon.logs import about
from ..daemon.tally import FIB, Tally, words
from ..model.routes import AF_INET, AF_INET6, FAMILY_NAMES, Path, TableKey, table_name
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteReader
from ..replica.audit import Counting, dump, slices
from ..replica.follower import Follower, deletes_ipv6
from .installer import Installer

_LOG = logging.getLogger("ynl_mirror.agent.audit")


class FibAudit:
    """Audits the mirrored routes. *resyncs* counts how often the agent has read all of them back for another reason.

    *repair* is called with the family and the prefixes to map again.
    """

    def __init__(
        self,
        installer: Installer,
        follower: Follower,
        requests: sockets.Requests,
        reader: RouteReader,
        protocol: int,
        resyncs: Callable[[], int],
        repair: Callable[[int, set[int]], None],
        tally: Tally,
    ) -> None:
        self._installer = installer
        self._follower = follower
        self._reader = reader
        self._requests = requests
        self._protocol = protocol
        self._resyncs = resyncs
        self._repair = repair
        self._tally = tally

    async def round(self) -> None:
        """Compare both families."""
        for family in (AF_INET, AF_INET6):
            if not await self._unchanged(family):
                await self._family(family)
        self._tally.rounds[FIB] += 1

    async def _unchanged(self, family: int) -> bool:
        """A quick comparison of a whole family. False may also mean that routes changed during the dump."""
        installed, counting = self._installer.installed, Counting()

        def feed(chunk: bytes) -> None:
            for _kind, _flags, _start, _end, key, path in self._reader.scan(chunk):
                if path is not None:
                    counting.add(installed.get((family, path.table), {}), key, path)

        await dump(self._requests, rtnetlink.route_dump_request(family, protocol=self._protocol), feed)
        return all(counting.all_of(scope, routes) for scope, routes in installed.items() if scope[0] == family)

    async def _family(self, family: int) -> None:
        installer = self._installer
        touched: set[int] = set()
        installer.touched = touched
        deletions: list[bytes] = []
        self._follower.overhear = lambda batch: deletions.extend(filter(deletes_ipv6, batch))
        before = self._resyncs()
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
            scopes = {*found, *(scope for scope in installer.installed if scope[0] == family)}
            wrong = {scope: await self._compare(scope, found.get(scope, {})) for scope in sorted(scopes)}
            if any(wrong.values()):
                await self._follower.caught_up()
        finally:
            installer.touched = self._follower.overhear = None
        if family == AF_INET6 and (touched or deletions):
            return  # the dump may have skipped routes
        if self._resyncs() == before:
            for scope, keys in wrong.items():
                self._correct(scope, {key: what for key, what in keys.items() if key not in touched}, found)

    async def _compare(self, scope: TableKey, found: dict[int, Path]) -> dict[int, str]:
        wrong: dict[int, str] = {}
        for keys in slices(found, self._installer.installed.get(scope, {})):
            believed = self._installer.installed.get(scope, {})
            for key in keys:
                old, new = found.get(key), believed.get(key)
                if old is not new and old != new:
                    wrong[key] = "missing" if old is None else "stale" if new is None else "different"
            await asyncio.sleep(0)
        return wrong

    def _correct(self, scope: TableKey, wrong: Mapping[int, str], found: Mapping[TableKey, dict[int, Path]]) -> None:
        if not wrong:
            return
        family, table = scope
        for key in wrong:
            path = found.get(scope, {}).get(key)
            believed = self._installer.installed.get(scope, {}).get(key)
            if path is None and believed is not None:
                self._installer.lost(scope, key, believed)
            elif path is not None:
                self._installer.appeared(scope, key, path)
        text = (
            f"FIB audit: {len(wrong)} mirrored {FAMILY_NAMES[family]} routes of table {table_name(table)} "
            f"do not match the kernel's, repairing: {words(family, wrong)}"
        )
        self._tally.found(FIB, len(wrong), text)
        _LOG.warning("%s", text, extra=about(reason=text))
        self._repair(family, set(wrong))
