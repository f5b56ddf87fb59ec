# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener's end of a session with an agent: connect, replay all routes, then send changes; record every answer.

Changes are coalesced per prefix: a session remembers *which* prefixes it has to send, not their routes, and looks the
route up when the connection has room. A slow agent costs no memory, and gets the latest state only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import struct
from collections.abc import Iterator
from time import monotonic as now
from typing import Any, Protocol

from ..config.common import TlsConfig
from ..config.listener import PeerAddress
from ..daemon.lifecycle import Watchers
from ..daemon.logs import about
from ..daemon.tcp import keep_alive
from ..fpm import audit
from ..fpm.framing import Deframer, FpmError, frames
from ..fpm.tls import TlsError, client_context
from ..model.refusal import Refusal
from ..model.routes import Path, Prefix, TableKey
from ..netlink import rtnetlink
from ..netlink.route_codec import RouteWriter
from ..replica.entry import Entry, best_path
from ..replica.filters import Selection
from ..replica.rib import Rib
from .wire_audit import Routes, WireAudit

_LOG = logging.getLogger("ynl_mirror.listener.session")

#: Seconds between attempts to connect: the first is doubled up to the second, each is shortened by up to a half.
_BACKOFF = (0.1, 15.0)
#: Seconds to wait for connection and TLS handshake.
_CONNECT_TIMEOUT = 10.0
#: Routes looked up and sent in one batch.
_BATCH = 2048
#: A replay goes out in this many strides, see spread().
_STRIDES = 1024
_READ = 1 << 18
#: Characters of a reason that are kept; an agent may send 64 KiB for every route.
_LONGEST_REASON = 1000
_OFFLOADED = struct.pack("=I", rtnetlink.RTM_F_OFFLOAD)


class Source(Protocol):
    """Where a session's routes come from: the listener, which follows the host's kernel."""

    rib: Rib
    selection: Selection
    watchers: Watchers

    async def resync(self) -> None:
        """Read the kernel's tables again."""

    def flush(self) -> None:
        """Pass on what has changed in the replica to every session."""


class AgentSession:
    """Keeps one agent up to date. *refused* holds every route that the agent did not install."""

    def __init__(self, source: Source, agent: PeerAddress, tls: TlsConfig | None) -> None:
        self._source = source
        self._agent = agent
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self.name = agent.server_name or f"{agent.address}:{agent.port}"
        self.connected = False
        self.replays = 0
        self.updates_sent = 0
        self._error: str | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._put = RouteWriter(
            rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
        )
        self._drop = RouteWriter(rtnetlink.RTM_DELROUTE, rtnetlink.NLM_F_REQUEST)
        self._audit = WireAudit(self._prefixes, self._announced, self._announce_again, self._wake.set)
        self._forget()

    def _forget(self) -> None:
        self._pending: dict[TableKey, set[int]] = {}
        self._replaying: dict[TableKey, int] = {}
        self._unanswered: dict[TableKey, dict[int, Path]] = {}
        self._excluded: dict[TableKey, set[int]] = {}
        self.refused: dict[TableKey, dict[int, Refusal]] = {}
        self.answers = False
        self._replay_requested = False
        self._audit.forget()

    # -- for the listener

    def mark(self, changed: dict[TableKey, set[int]]) -> None:
        """These prefixes have to be sent. Nothing is recorded while disconnected: the agent will get a replay."""
        if self.connected:
            for scope, keys in changed.items():
                self._pending.setdefault(scope, set()).update(keys)
            self._audit.touch(changed)
            self._wake.set()

    def restart(self, tls: TlsConfig | None) -> None:
        """Reconnect, with these TLS files."""
        self._tls = tls
        if self._task is not None:
            self._task.cancel()

    def state_of(self, scope: TableKey, key: int) -> tuple[str, str | None]:
        """(state, reason) of a route that the filters permit."""
        if not self.connected:
            return "pending", f"not connected to {self.name}" + (f": {self._error}" if self._error else "")
        if scope in self._replaying:
            return "pending", "replay in progress"
        if key in self._pending.get(scope, ()):
            return "pending", "not sent yet"
        if key in self._unanswered.get(scope, ()):
            return "pending", "no answer from the agent yet" if self.answers else "sent; the consumer does not answer"
        return self.refused.get(scope, {}).get(key, ("offloaded", None))

    def status(self) -> dict[str, Any]:
        """Connection and counts of routes by state."""
        total = sum(len(table) for table in self._source.rib.tables.values())
        refused = [refusal.state for routes in self.refused.values() for refusal in routes.values()]
        unanswered = sum(map(len, self._unanswered.values()))
        excluded = sum(map(len, self._excluded.values()))
        waiting = sum(map(len, self._pending.values())) + sum(self._replaying.values())
        pending = min(total - excluded, unanswered + waiting) if self.connected else total
        return {
            "agent": self.name,
            "address": self._agent.address,
            "port": self._agent.port,
            "connected": self.connected,
            "error": self._error,
            "replays": self.replays,
            "updates_sent": self.updates_sent,
            "pending": pending,
            "failed": refused.count("failed"),
            "slow_path": refused.count("slow_path"),
            "excluded": excluded,
            "offloaded": max(0, total - excluded - pending - len(refused)) if self.connected else 0,
        }

    # -- the connection

    async def run(self) -> None:
        """Stay connected until cancelled."""
        delay = _BACKOFF[0]
        while True:
            self.answers = False
            started = now()
            self._task = asyncio.ensure_future(self._connect_once())
            try:
                await asyncio.shield(self._task)
            except asyncio.CancelledError:
                if not self._task.cancelled():  # the session has to end, not just this connection
                    self._task.cancel()
                    await asyncio.gather(self._task, return_exceptions=True)
                    raise
                self._error = None
                continue
            # Back off from an agent that accepts connections and closes them at once, such as for our certificate.
            lasted = self.answers or now() - started > _CONNECT_TIMEOUT
            delay = _BACKOFF[0] if lasted else min(_BACKOFF[1], delay * 2)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    async def _connect_once(self) -> None:
        try:
            reader, writer = await asyncio.wait_for(self._connect(), _CONNECT_TIMEOUT)
        except (OSError, TlsError, asyncio.TimeoutError) as error:
            self._fail(str(error) or "connection timed out")
            return
        self._forget()
        self.connected = True
        self._error = None
        address, port = self._agent.address, self._agent.port
        _LOG.info("connected to %s (%s port %d)", self.name, address, port, extra=about(agent=self.name))
        tasks = [asyncio.ensure_future(self._send(writer)), asyncio.ensure_future(self._receive(reader))]
        tasks.append(asyncio.ensure_future(self._audit.run()))
        try:
            await asyncio.gather(*tasks)
        except (OSError, FpmError, rtnetlink.WireError, EOFError) as error:
            # In TLS 1.3 a client learns that its certificate is refused only after the handshake, if at all.
            hint = "" if self.answers else " before it answered; if it refused this listener, its log has the reason"
            self._fail((str(error) or type(error).__name__) + hint)
        finally:
            self.connected = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    def _fail(self, text: str) -> None:
        if text != self._error:
            address, port = self._agent.address, self._agent.port
            fields = about(agent=self.name, reason=text)
            _LOG.warning("%s (%s port %d): %s; retrying", self.name, address, port, text, extra=fields)
        self._error = text

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self._tls_context()
        name = (self._agent.server_name or self._agent.address) if context else None
        reader, writer = await asyncio.open_connection(
            self._agent.address, self._agent.port, ssl=context, server_hostname=name, limit=_READ
        )
        keep_alive(writer)
        return reader, writer

    def _tls_context(self) -> ssl.SSLContext | None:
        """The TLS files as they are now; while they cannot be used, as they were for the previous connection."""
        if self._tls is None:
            return None
        try:
            self._context = client_context(self._tls, check_hostname=True)
        except TlsError as error:
            if self._context is None:
                raise
            _LOG.warning("%s: %s; using the TLS files as read before", self.name, error, extra=about(reason=error))
        return self._context

    async def _replay(self, writer: asyncio.StreamWriter) -> None:
        """Send all routes, then NLMSG_DONE."""
        tables = self._source.rib.tables
        self._replaying = {scope: len(table) for scope, table in tables.items()}
        for scope in list(tables):
            for keys in spread(list(tables[scope])):
                await self._write(writer, self._messages(scope, keys, replay=True))
                self._replaying[scope] -= len(keys)
            del self._replaying[scope]
        await self._write(writer, [rtnetlink.encode_done()])
        self.replays += 1
        _LOG.info("%s: replay complete, %d updates sent", self.name, self.updates_sent, extra=about(agent=self.name))

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        await self._replay(writer)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                scope, waiting = next(iter(self._pending.items()))
                if len(waiting) <= _BATCH:
                    keys = list(self._pending.pop(scope))
                else:
                    keys = [waiting.pop() for _count in range(_BATCH)]
                await self._write(writer, self._messages(scope, keys))
            if self._audit.due is not None:
                await self._answer_audit(writer)
            if self._replay_requested:
                self._replay_requested = False
                await self._source.resync()
                await self._replay(writer)

    async def _answer_audit(self, writer: asyncio.StreamWriter) -> None:
        """Answer the agent's audit: what it must hold at this place of the stream."""
        self._source.flush()  # the replica may have changes that were not passed on yet
        if self._pending:
            self._wake.set()
            return
        for messages in self._audit.answer():
            await self._write(writer, messages)

    def _prefixes(self, scope: TableKey) -> list[int]:
        return list(self._source.rib.tables.get(scope, {}))

    def _announced(self, scope: TableKey, keys: list[int]) -> Routes:
        return self._classify(scope, keys)[0]

    def _announce_again(self, scope: TableKey, routes: Routes) -> list[bytes]:
        self._record(scope, routes, [], [])
        return self._put.batch(routes)

    async def _write(self, writer: asyncio.StreamWriter, messages: list[bytes]) -> None:
        writer.writelines(frames(messages))
        await writer.drain()
        # drain() does not yield while the buffer has room; answers and notifications need their turn.
        await asyncio.sleep(0)

    def _messages(self, scope: TableKey, keys: list[int], replay: bool = False) -> list[bytes]:
        """The messages that bring the agent up to date about these prefixes; a replay has no withdrawals."""
        puts, drops, excluded = self._classify(scope, keys)
        self._record(scope, puts, drops, excluded)
        return self._put.batch(puts) + ([] if replay else self._drop.batch(drops))

    def _classify(self, scope: TableKey, keys: list[int]) -> tuple[Routes, Routes, list[int]]:
        """Which of these prefixes to announce, which to withdraw, and which of the latter the filters exclude."""
        family, table = scope
        entries = self._source.rib.tables.get(scope, {})
        selection = self._source.selection
        puts: Routes = []
        drops: Routes = []
        excluded: list[int] = []
        nothing = Path(family, table, type=0)
        last: Entry | None = None
        last_out: Path | None = None
        for key in keys:
            entry = entries.get(key)
            if entry is not last or last_out is None:  # routes come in runs with one path
                last = entry
                best = best_path(entry)
                last_out = None if best is None else selection.path(best)
                if last_out is None:
                    drops.append((key, nothing))
                    if best is not None:
                        excluded.append(key)
                    continue
            if selection.by_prefix and not selection.has_prefix(family, key):
                drops.append((key, nothing))
                excluded.append(key)
            else:
                puts.append((key, last_out))
        return puts, drops, excluded

    def _record(self, scope: TableKey, puts: Routes, drops: Routes, excluded: list[int]) -> None:
        unanswered = self._unanswered.setdefault(scope, {})
        unanswered.update(puts)
        refused = self.refused.setdefault(scope, {})
        for key, _path in drops:
            unanswered.pop(key, None)
            if refused:
                refused.pop(key, None)
        kept = self._excluded.setdefault(scope, set())
        if kept:
            kept.difference_update(key for key, _path in (*puts, *drops))
        kept.update(excluded)
        self.updates_sent += len(puts)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        deframer = Deframer()
        while True:
            data = await reader.read(_READ)
            if not data:
                raise EOFError("the agent closed the connection")
            for payload in deframer.feed(data):
                self._answers(payload)

    def _answers(self, payload: bytes) -> None:
        reader = self._source.rib.reader
        last: Path | None = None
        unanswered: dict[int, Path] = {}
        refused: dict[int, Refusal] = {}
        watched = bool(self._source.watchers)
        for kind, flags, start, end, key, path in reader.scan(payload):
            if kind == rtnetlink.RTM_NEWROUTE and path is not None:
                if path is not last:  # answers come in runs with one path
                    last, scope = path, (path.family, path.table)
                    unanswered = self._unanswered.get(scope, {})  # an agent may name tables of which nothing was sent
                    refused = self.refused.get(scope, {})
                sent = unanswered.get(key)
                if sent is path and not refused and not watched and payload[start + 24 : start + 28] == _OFFLOADED:
                    del unanswered[key]
                elif sent is path or sent == path:
                    del unanswered[key]
                    self._answer((path.family, path.table), key, struct.unpack_from("=I", payload, start + 24)[0])
                elif sent is None and self._is_current(key, path):  # something happened on the DPU
                    self._answer((path.family, path.table), key, struct.unpack_from("=I", payload, start + 24)[0])
                # Otherwise it answers an older version of the route; the answer to the latest will follow.
                self.answers = True
            elif kind == rtnetlink.NLMSG_ERROR:
                self._reason(rtnetlink.parse_acknowledgement(payload, start, end))
            elif kind == rtnetlink.RTM_GETROUTE and flags & rtnetlink.NLM_F_DUMP == rtnetlink.NLM_F_DUMP:
                _LOG.info("%s requests a replay", self.name, extra=about(agent=self.name))
                self._replay_requested = True
                self._wake.set()
            elif kind == audit.AUDIT:
                asked = audit.decode(payload, start, end)
                if asked is not None:
                    self._audit.ask(asked)

    def _is_current(self, key: int, path: Path) -> bool:
        best = best_path(self._source.rib.tables.get((path.family, path.table), {}).get(key))
        return best is not None and self._source.selection.path(best) == path

    def _answer(self, scope: TableKey, key: int, rtflags: int) -> None:
        refused = self.refused.setdefault(scope, {})
        if rtflags & rtnetlink.RTM_F_OFFLOAD_FAILED:
            refused[key] = Refusal("failed", "the agent gave no reason")
        elif rtflags & rtnetlink.RTM_F_TRAP:
            refused[key] = Refusal("slow_path", "the agent gave no reason")
        else:
            refused.pop(key, None)
            self._publish(scope, key)

    def _reason(self, error: rtnetlink.Acknowledgement) -> None:
        """The reason why the route of the previous answer was refused."""
        request = error.request
        if rtnetlink.LENGTH_TYPE_FLAGS.unpack_from(request)[1] not in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
            return  # a consumer refuses another message of ours
        key, path = self._source.rib.reader.read(request, 0, len(request))
        scope = (path.family, path.table)
        known = self.refused.get(scope, {}).get(key)
        if known is not None:
            text = (error.text or f"error {error.errno}")[:_LONGEST_REASON]
            self.refused[scope][key] = Refusal.parse(text, otherwise=known.state)
            self._publish(scope, key)

    def _publish(self, scope: TableKey, key: int) -> None:
        if self._source.watchers:
            state, reason = self.state_of(scope, key)
            event = {"event": "state", "prefix": str(Prefix.from_key(scope[0], key)), "agent": self.name}
            self._source.watchers.publish({**event, "state": state, "reason": reason})


def spread(keys: list[int]) -> Iterator[list[int]]:
    """The keys in strides, far ones first: offsets 0, 1/2, 1/4, 3/4, 1/8 ... of a stride.

    A dump is in ascending order. Inserting routes into a table in that order makes the kernel's trie rebalance over and
    over; in this order it inserts them about 1.5 times as fast, and choosing it costs nothing.
    """
    bits = _STRIDES.bit_length() - 1
    for number in range(_STRIDES):
        start = int(format(number, f"0{bits}b")[::-1], 2)
        part = keys[start::_STRIDES]
        if part:
            yield part
