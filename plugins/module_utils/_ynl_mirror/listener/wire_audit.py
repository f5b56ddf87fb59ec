# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener's end of the wire audit: digests of what it has sent to an agent, bucket by bucket.

The agent asks, the listener answers in the stream of routes itself: at that place the routes sent are exactly those
that the agent must hold, however much changes meanwhile. It answers only while no update is pending. Peers that never
ask, such as other consumers of FPM, never get a message of the audit.
"""

from __future__ import annotations

import asyncio
from typing import Callable

from ..fpm.audit import BEGIN, CHECK, DIGEST, END, FETCH, OPEN, Buckets, Digester, Message, buckets_for
from ..model.routes import Path, TableKey

Routes = list[tuple[int, Path]]


class WireAudit:
    """Answers one agent, a question at a time.

    *keys* gives the prefixes of a table; *routes* gives, of a list of prefixes, those that are announced, with their
    paths. *wake* is called when :attr:`due` has a question to answer; *send* encodes routes and records them as sent.
    """

    def __init__(
        self,
        keys: Callable[[TableKey], list[int]],
        routes: Callable[[TableKey, list[int]], Routes],
        send: Callable[[TableKey, Routes], list[bytes]],
        wake: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._routes = routes
        self._send = send
        self._wake = wake
        self._has_question = asyncio.Event()
        self._digester = Digester()
        self.forget()

    def forget(self) -> None:
        """A new connection: no question yet."""
        self._asked: Message | None = None
        self._buckets: Buckets | None = None
        self.due: Message | None = None

    def ask(self, message: Message) -> None:
        """Take a question of the agent."""
        if message.what in (OPEN, CHECK, FETCH):
            self._asked, self.due = message, None
            self._has_question.set()

    def touch(self, changed: dict[TableKey, set[int]]) -> None:
        """These prefixes changed."""
        if self._buckets is not None and self._buckets.scope in changed:
            self._buckets.touch(changed[self._buckets.scope])
            if self._buckets.stale:
                self._buckets = None

    async def run(self) -> None:
        """Prepare answers, in slices, until cancelled."""
        while True:
            await self._has_question.wait()
            self._has_question.clear()
            asked, self._asked = self._asked, None
            if asked is None:
                continue
            known = self._buckets
            if asked.what == OPEN or known is None or (known.scope, known.number) != (asked.scope, asked.buckets):
                asked = await self._fill(asked)
            if self._asked is None:
                self.due = asked
                self._wake()

    async def _fill(self, asked: Message) -> Message:
        keys = self._keys(asked.scope)
        if asked.what == OPEN:  # as many buckets as the larger of the two tables needs
            asked = asked._replace(buckets=max(asked.buckets, buckets_for(len(keys))))
        self._buckets = buckets = Buckets(asked.scope, asked.buckets)
        for _slice in buckets.fill(keys):
            await asyncio.sleep(0)
        return asked

    def answer(self) -> list[list[bytes]]:
        """What to write now, in this order, each list in separate frames. To be called while no update is pending."""
        asked, self.due = self.due, None
        buckets = self._buckets
        if asked is None:
            return []
        if buckets is None:  # too many routes have changed since they were prepared
            self.ask(asked)
            return []
        if asked.what == OPEN:
            return [[asked.encode()]]
        routes = self._routes(asked.scope, buckets.keys(asked.bucket))
        if asked.what == FETCH:
            return [[asked.about(BEGIN).encode()], self._send(asked.scope, routes), [asked.about(END).encode()]]
        if asked.bucket == buckets.number - 1:
            self._buckets = None  # the last one
        return [[asked.about(DIGEST, self._digester.of(asked.scope[0], routes)).encode()]]
