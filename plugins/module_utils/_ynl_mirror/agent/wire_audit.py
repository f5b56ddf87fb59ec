# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of the wire audit: are the announced routes that it holds those that the listener sent?

It requests the digest of one bucket after the other, spread over time, and the routes of the buckets that differ. Only
a peer that ended its replay with NLMSG_DONE is asked; one that does not answer is asked once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..daemon.logs import about
from ..daemon.tally import WIRE, Tally, differing, words
from ..fpm.audit import BEGIN, CHECK, DIGEST, END, FETCH, OPEN, Buckets, Digester, Message, buckets_for
from ..model.routes import AF_INET, AF_INET6, FAMILY_NAMES, Path, TableKey, table_name
from .adj_rib_in import AdjRibIn, Touched

_LOG = logging.getLogger("ynl_mirror.agent.audit")
#: Seconds between two buckets at most: a small table is compared at once, a large one slowly.
_PAUSE = 0.1


class WireAudit:
    """Audits one session of host *name*. Of what it has announced the withdrawals that are held are not compared."""

    def __init__(self, name: str, adj: AdjRibIn, interval: float, tally: Tally) -> None:
        self._name = name
        self._adj = adj
        self._scopes = [(family, table) for family in (AF_INET, AF_INET6) for table in adj.tables]
        self._interval = interval
        self._tally = tally
        self._digester = Digester()
        self._buckets: Buckets | None = None
        self._asked: Message | None = None
        self._answered: asyncio.Future[Message] | None = None
        self._before: dict[int, Path] | None = None  # the bucket that is being transferred, as it was
        self._understood = False
        self.suspended = False  # the route limit is reached, so the announced routes are incomplete

    def status(self) -> str:
        """Whether the audit is running, and if not why."""
        if self._understood:
            return "suspended: route limit reached" if self.suspended else "running"
        return "not started" if self._asked is None else "the listener does not answer"

    # -- asking

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Compare everything, round after round. Start it when a replay has ended with NLMSG_DONE."""
        while True:
            await asyncio.sleep(self._interval)
            for scope in self._scopes:
                await self._compare(scope, write)
            self._tally.rounds[WIRE] += 1

    async def _compare(self, scope: TableKey, write: Callable[[bytes], Awaitable[None]]) -> None:
        message = Message(OPEN, scope, buckets_for(len(self._adj.routes.get(scope, {}))))
        opened = await self._ask(message, write)
        self._buckets = buckets = Buckets(scope, opened.buckets)
        await self._fill(buckets)
        pause = min(_PAUSE, self._interval / len(self._scopes) / opened.buckets)
        for bucket in range(opened.buckets):
            if buckets.stale:
                await self._fill(buckets)
            asked = Message(CHECK, scope, opened.buckets, bucket)
            answer = await self._ask(asked, write)
            self._tally.compared += 1
            if answer.what == FETCH:
                self._tally.transferred += 1
                await self._ask(asked.about(FETCH), write)
            await asyncio.sleep(pause)
        self._buckets = None

    async def _fill(self, buckets: Buckets) -> None:
        for _slice in buckets.fill(list(self._adj.routes.get(buckets.scope, {}))):
            await asyncio.sleep(0)

    async def _ask(self, message: Message, write: Callable[[bytes], Awaitable[None]]) -> Message:
        self._asked = message
        self._answered = asyncio.get_running_loop().create_future()
        await write(message.encode())
        return await self._answered

    def _answer(self, message: Message) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(message)

    # -- answers, in the order of the stream

    def touch(self, touched: Touched) -> None:
        """The host announced or withdrew these prefixes, by family."""
        if self._buckets is not None:
            self._buckets.touch(touched.get(self._buckets.scope[0], ()))
            self._buckets.forget_gone(self._adj.routes.get(self._buckets.scope, {}))

    def take(self, message: Message, touched: Touched) -> None:
        """Process an answer at its place in the stream.

        *touched* are the prefixes that the stream announced or withdrew just before; those to map again are added.
        """
        asked = self._asked
        if asked is None or message.scope != asked.scope:
            return
        if message.what == OPEN and asked.what == OPEN and message.buckets >= asked.buckets:
            self._understood = True
            self._answer(message)
            return
        buckets = self._buckets
        if (message.buckets, message.bucket) != (asked.buckets, asked.bucket) or buckets is None:
            return
        self.touch(touched)
        if message.what == DIGEST and asked.what == CHECK:
            same = (
                self.suspended or self._digester.of(message.scope[0], self._routes(buckets, message)) == message.digest
            )
            self._answer(message if same else message.about(FETCH))
        elif message.what == BEGIN and asked.what == FETCH:
            self._adj.begin_part(message.scope)
            self._before = dict(self._routes(buckets, message))
        elif message.what == END and self._before is not None:
            here = self._adj.end_part(message.scope)
            before, self._before = self._before, None
            if here is not None:  # otherwise a replay has begun or ended in between, which is more recent
                gone = self._adj.withdraw_all(message.scope, {key for key in before if key not in here})
                for family, keys in gone.items():
                    touched.setdefault(family, set()).update(keys)
                self._report(message.scope, differing(before, dict(self._routes(buckets, message))))
            self._answer(message)

    def _routes(self, buckets: Buckets, message: Message) -> list[tuple[int, Path]]:
        routes = buckets.routes(message.bucket, self._adj.routes.get(message.scope, {}))
        waiting = self._adj.guard.waiting.get(message.scope)
        return [route for route in routes if route[0] not in waiting] if waiting else routes

    def _report(self, scope: TableKey, found: dict[int, str]) -> None:
        if not found:
            return
        family, table = scope
        text = (
            f"wire audit: {len(found)} announced {FAMILY_NAMES[family]} routes of the host's table "
            f"{table_name(table)} did not match the listener's, repaired: {words(family, found)}"
        )
        self._tally.found(WIRE, len(found), text)
        _LOG.warning("%s: %s", self._name, text, extra=about(host=self._name, reason=text))
