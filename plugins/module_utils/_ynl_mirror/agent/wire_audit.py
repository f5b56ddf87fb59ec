# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's part in the audit of the wire: is what it holds of the host what the listener has sent?

It asks the listener for the digest of one bucket after the other, spread over time, and has those transferred that
differ. Only a peer that ended its replay with NLMSG_DONE is asked, and one that does not answer is asked once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..daemon.logs import about
from ..daemon.tally import WIRE, Tally, differing, words
from ..fpm.audit import BEGIN, CHECK, DIGEST, END, FETCH, OPEN, Buckets, Digester, Message, buckets_for
from ..model.routes import AF_INET, AF_INET6, FAMILY_NAMES, Path, TableKey, table_name
from .guard import Guard

_LOG = logging.getLogger("ynl_mirror.audit")
#: Seconds between two buckets at most, so that a small table is through at once and a large one takes its time.
_PAUSE = 0.1
Tables = dict[TableKey, dict[int, Path]]


class HostAudit:
    """Audits one connection. *host* is the mirror's: the host's routes by (family, table).

    What *guard* keeps back stands in there still, though the host has withdrawn it: it is no part of the comparison.
    """

    def __init__(
        self,
        name: str,
        host: Tables,
        tables: tuple[int, ...],
        interval: float,
        tally: Tally,
        guard: Guard | None = None,
    ) -> None:
        self._name = name
        self._host = host
        self._scopes = [(family, table) for family in (AF_INET, AF_INET6) for table in tables]
        self._interval = interval
        self._tally = tally
        self._guard = guard or Guard()
        self._digester = Digester()
        self._buckets: Buckets | None = None
        self._asked: Message | None = None
        self._answered: asyncio.Future[Message] | None = None
        self._before: dict[int, Path] | None = None  # the bucket that is being transferred, as it was
        self._understood = False
        self.partial = False  # some of the host's routes are refused unseen, so that nothing can be compared

    def status(self) -> str:
        """Whether the listener takes part."""
        if self._understood:
            return "not while routes are refused unseen" if self.partial else "yes"
        return "not yet" if self._asked is None else "the listener does not answer"

    # -- asking

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Compare everything, time and again. Start it when a replay has ended with NLMSG_DONE."""
        while True:
            await asyncio.sleep(self._interval)
            for scope in self._scopes:
                await self._compare(scope, write)
            self._tally.rounds[WIRE] += 1

    async def _compare(self, scope: TableKey, write: Callable[[bytes], Awaitable[None]]) -> None:
        message = Message(OPEN, scope, buckets_for(len(self._host.get(scope, {}))))
        opened = await self._ask(message, write)
        self._buckets = buckets = Buckets(scope, opened.buckets)
        await self._fill(buckets)
        pause = min(_PAUSE, self._interval / len(self._scopes) / opened.buckets)
        for bucket in range(opened.buckets):
            if buckets.stale:
                await self._fill(buckets)
            asked = Message(CHECK, scope, opened.buckets, bucket)
            told = await self._ask(asked, write)
            self._tally.compared += 1
            if told.what == FETCH:
                self._tally.transferred += 1
                await self._ask(asked.about(FETCH), write)
            await asyncio.sleep(pause)
        self._buckets = None

    async def _fill(self, buckets: Buckets) -> None:
        for _slice in buckets.fill(list(self._host.get(buckets.scope, {}))):
            await asyncio.sleep(0)

    async def _ask(self, message: Message, write: Callable[[bytes], Awaitable[None]]) -> Message:
        self._asked = message
        self._answered = asyncio.get_running_loop().create_future()
        await write(message.encode())
        return await self._answered

    def _answer(self, message: Message) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(message)

    # -- what comes back, in the order of the stream

    def touch(self, touched: dict[int, set[int]]) -> None:
        """The host spoke of these prefixes, by family."""
        if self._buckets is not None:
            self._buckets.touch(touched.get(self._buckets.scope[0], ()))
            self._buckets.forget_gone(self._host.get(self._buckets.scope, {}))

    def take(self, told: Message, named: dict[TableKey, Any], touched: dict[int, set[int]]) -> None:
        """Take in an answer at its place in the stream.

        *touched* are the prefixes that the stream spoke of just before; those to be looked at are added. *named* gets
        a dictionary for as long as a bucket is transferred, in which the caller puts all that it names.
        """
        asked = self._asked
        if asked is None or told.scope != asked.scope:
            return
        if told.what == OPEN and asked.what == OPEN and told.buckets >= asked.buckets:
            self._understood = True
            self._answer(told)
            return
        buckets = self._buckets
        if (told.buckets, told.bucket) != (asked.buckets, asked.bucket) or buckets is None:
            return
        self.touch(touched)
        family = told.scope[0]
        if told.what == DIGEST and asked.what == CHECK:
            same = self.partial or self._digester.of(family, self._routes(buckets, told)) == told.digest
            self._answer(told if same else told.about(FETCH))
        elif told.what == BEGIN and asked.what == FETCH:
            self._before = dict(self._routes(buckets, told))
            named[told.scope] = {}
        elif told.what == END and self._before is not None:
            here = named.pop(told.scope, None)
            before, self._before = self._before, None
            if here is not None:  # else a replay ended in between, and knew better
                self._drop(told.scope, {key for key in before if key not in here}, touched)
                self._tell(told.scope, differing(before, dict(self._routes(buckets, told))))
            self._answer(told)

    def _routes(self, buckets: Buckets, told: Message) -> list[tuple[int, Path]]:
        routes = buckets.routes(told.bucket, self._host.get(told.scope, {}))
        waiting = self._guard.waiting.get(told.scope)
        return [route for route in routes if route[0] not in waiting] if waiting else routes

    def _drop(self, scope: TableKey, keys: set[int], touched: dict[int, set[int]]) -> None:
        """The host does not have these."""
        if self._guard.enabled and keys:
            self._guard.waiting.setdefault(scope, set()).update(keys)
            return
        for key in keys:
            self._host[scope].pop(key, None)
        touched.setdefault(scope[0], set()).update(keys)

    def _tell(self, scope: TableKey, found: dict[int, str]) -> None:
        if not found:
            return
        family, table = scope
        text = (
            f"the audit found {len(found)} {FAMILY_NAMES[family]} routes of the host's table {table_name(table)} that "
            f"were not as the host has them: {words(family, found)}"
        )
        self._tally.found(WIRE, len(found), text)
        _LOG.warning("%s: %s", self._name, text, extra=about(host=self._name, reason=text))
