# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener's end of a session with an agent: connect, replay all routes, then send changes; record every answer.

Changes are coalesced per prefix: a session remembers *which* prefixes it has to send, not their routes, and looks the
route up in the FIB view when the connection has room. A slow agent costs no memory, and gets the latest state only.

Announcements go out longest prefix first, then withdrawals shortest first, so that no packet takes the way of a shorter
prefix while a longer one is on its way. What is marked meanwhile and is longer overtakes. A withdrawal waits for all
announcements that were marked before it was found.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import struct
from collections.abc import Iterable
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
from ..model.links import NetConf
from ..model.refusal import Refusal
from ..model.routes import RT_TABLE_MAIN, WIDTH, Path, Prefix, TableKey
from ..netlink import netconf_codec, rtnetlink
from ..netlink.route_codec import RouteWriter
from ..replica.rib import Rib
from .fib_view import FibView
from .pending import Pending, replay_order
from .wire_audit import Routes, WireAudit

_LOG = logging.getLogger("ynl_mirror.listener.session")

#: Seconds between attempts to connect: the first is doubled up to the second, each is shortened by up to a half.
_BACKOFF = (0.1, 15.0)
#: Seconds to wait for connection and TLS handshake.
_CONNECT_TIMEOUT = 10.0
#: Routes looked up and sent in one batch.
_BATCH = 2048
_READ = 1 << 18
#: Characters of a reason that are kept; an agent may send 64 KiB for every route.
_LONGEST_REASON = 1000
_OFFLOADED = struct.pack("=I", rtnetlink.RTM_F_OFFLOAD)


class Source(Protocol):
    """Where a session's routes come from: the listener, which follows the host's kernel."""

    rib: Rib
    view: FibView
    watchers: Watchers

    def sysctls(self) -> Iterable[NetConf]:
        """The sysctls of forwarding."""

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
        self._pending = Pending()
        self._turn = Pending()  # those of them that are being sent
        self._replaying: dict[int, int] = {}  # family -> routes to come
        self._sysctls: dict[tuple[int, int], NetConf] = {}  # changes to send
        self._unanswered: dict[TableKey, dict[int, Path]] = {}
        self._hidden: dict[int, set[int]] = {}  # prefixes among those of the view that it has no path for
        self.refused: dict[TableKey, dict[int, Refusal]] = {}
        self.answers = False
        self._replay_requested = False
        self._audit.forget()

    # -- for the listener

    def mark(self, changed: dict[int, set[int]]) -> None:
        """These prefixes, by family, have to be sent. While disconnected there is no need: a replay will follow."""
        if self.connected:
            for family, keys in changed.items():
                self._pending.add(family, keys)
            self._audit.touch({(family, RT_TABLE_MAIN): keys for family, keys in changed.items()})
            self._wake.set()

    def mark_sysctls(self, changed: dict[tuple[int, int], NetConf]) -> None:
        """These sysctls have to be sent."""
        if self.connected:
            self._sysctls.update(changed)
            self._wake.set()

    def restart(self, tls: TlsConfig | None) -> None:
        """Reconnect, with these TLS files."""
        self._tls = tls
        if self._task is not None:
            self._task.cancel()

    def state_of(self, scope: TableKey, key: int) -> tuple[str, str | None]:
        """(state, reason) of a route of the view."""
        if not self.connected:
            return "pending", f"not connected to {self.name}" + (f": {self._error}" if self._error else "")
        if scope[0] in self._replaying:
            return "pending", "replay in progress"
        if self._pending.has(scope[0], key) or self._turn.has(scope[0], key):
            return "pending", "not sent yet"
        if key in self._unanswered.get(scope, ()):
            return "pending", "no answer from the agent yet" if self.answers else "sent; the consumer does not answer"
        return self.refused.get(scope, {}).get(key, ("offloaded", None))

    def status(self) -> dict[str, Any]:
        """Connection and counts of routes by state."""
        view = self._source.view
        total = sum(view.size(family) for family in view.steps) - sum(map(len, self._hidden.values()))
        refused = [refusal.state for routes in self.refused.values() for refusal in routes.values()]
        unanswered = sum(map(len, self._unanswered.values()))
        waiting = len(self._pending) + len(self._turn) + sum(self._replaying.values())
        pending = min(total, unanswered + waiting) if self.connected else total
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
            "offloaded": max(0, total - pending - len(refused)) if self.connected else 0,
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
        """Send the sysctls of forwarding and all routes, then NLMSG_DONE."""
        self._sysctls = {(conf.family, conf.index): conf for conf in self._source.sysctls()}
        await self._write(writer, self._sysctl_messages())
        view = self._source.view
        every = {family: view.keys(family) for family in view.steps}
        self._replaying = {family: len(keys) for family, keys in every.items()}
        gone: list[tuple[int, int]] = []
        for family in list(every):
            for keys in replay_order(family, every.pop(family), _BATCH):
                shortest = keys[-1] >> WIDTH[family]
                if self._pending.longest > shortest:  # it has to go before some of these
                    self._pending.add(family, keys)
                    while self._pending.longest >= shortest:
                        gone += await self._announce(writer, *self._pending.take(_BATCH))
                else:
                    await self._announce(writer, family, keys)
                self._replaying[family] -= len(keys)
            del self._replaying[family]
        for family, key in gone:
            self._pending.add(family, (key,))
        await self._write(writer, [rtnetlink.encode_done()])
        self.replays += 1
        _LOG.info("%s: replay complete, %d updates sent", self.name, self.updates_sent, extra=about(agent=self.name))

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        await self._replay(writer)
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write(writer, self._sysctl_messages())
            await self._send_pending(writer)
            if self._audit.due is not None:
                await self._answer_audit(writer)
            if self._replay_requested:
                self._replay_requested = False
                await self._source.resync()
                await self._replay(writer)

    async def _send_pending(self, writer: asyncio.StreamWriter) -> None:
        """Send what is pending, and what becomes pending meanwhile."""
        waiting: list[tuple[int, int]] = []  # withdrawals found in the turn before
        while self._pending or waiting:
            turn, self._pending = self._pending, Pending()
            self._turn, found = turn, []
            while turn:
                pending = self._pending if self._pending.longest > turn.longest else turn
                found += await self._announce(writer, *pending.take(_BATCH))
            await self._withdraw(writer, waiting)
            waiting = found

    async def _announce(self, writer: asyncio.StreamWriter, family: int, keys: list[int]) -> list[tuple[int, int]]:
        """Announce the routes of these prefixes; returns those that the view no longer has."""
        self._source.flush()  # the replica may have changes that were not passed on yet
        puts, drops, hidden = self._source.view.look_up(family, keys)
        self._record(family, puts, drops, hidden)
        await self._write(writer, self._sysctl_messages() + self._put.batch(puts))
        return [(family, key) for key in drops]

    async def _withdraw(self, writer: asyncio.StreamWriter, gone: list[tuple[int, int]]) -> None:
        """Withdraw these prefixes, but for those that the view has again."""
        for family in dict.fromkeys(family for family, _key in gone):
            ordered = sorted(key for other, key in gone if other == family)
            nothing = Path(family, RT_TABLE_MAIN, type=0)
            for start in range(0, len(ordered), _BATCH):
                self._source.flush()
                _puts, drops, _hidden = self._source.view.look_up(family, ordered[start : start + _BATCH])
                await self._write(writer, self._drop.batch([(key, nothing) for key in drops]))

    def _sysctl_messages(self) -> list[bytes]:
        """What is to be sent of the sysctls."""
        due, self._sysctls = self._sysctls, {}
        return [netconf_codec.encode(conf) for conf in due.values()]

    async def _answer_audit(self, writer: asyncio.StreamWriter) -> None:
        """Answer the agent's audit: what it must hold at this place of the stream."""
        self._source.flush()  # the replica may have changes that were not passed on yet
        if self._pending:
            self._wake.set()
            return
        for messages in self._audit.answer():
            await self._write(writer, messages)

    def _prefixes(self, scope: TableKey) -> list[int]:
        return self._source.view.keys(scope[0]) if scope[1] == RT_TABLE_MAIN else []

    def _announced(self, scope: TableKey, keys: list[int]) -> Routes:
        return self._source.view.look_up(scope[0], keys)[0]

    def _announce_again(self, scope: TableKey, routes: Routes) -> list[bytes]:
        self._record(scope[0], routes, [], [])
        return self._put.batch(routes)

    async def _write(self, writer: asyncio.StreamWriter, messages: list[bytes]) -> None:
        if not messages:
            return
        writer.writelines(frames(messages))
        await writer.drain()
        # drain() does not yield while the buffer has room; answers and notifications need their turn.
        await asyncio.sleep(0)

    def _record(self, family: int, puts: Routes, drops: list[int], hidden: list[int]) -> None:
        scope = (family, RT_TABLE_MAIN)
        unanswered = self._unanswered.setdefault(scope, {})
        unanswered.update(puts)
        refused = self.refused.setdefault(scope, {})
        for key in drops:
            unanswered.pop(key, None)
            if refused:
                refused.pop(key, None)
        kept = self._hidden.setdefault(family, set())
        if kept:
            kept.difference_update(key for key, _path in puts)
            kept.difference_update(drops)
        kept.update(hidden)
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
        return path.table == RT_TABLE_MAIN and self._source.view.path_of(path.family, key) == path

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
        key, path = self._source.rib.reader.read(error.request, 0, len(error.request))
        scope = (path.family, path.table)
        if key in self.refused.get(scope, {}):
            self.refused[scope][key] = Refusal.parse((error.text or f"error {error.errno}")[:_LONGEST_REASON])
            self._publish(scope, key)

    def _publish(self, scope: TableKey, key: int) -> None:
        if self._source.watchers:
            state, reason = self.state_of(scope, key)
            event = {"event": "state", "prefix": str(Prefix.from_key(scope[0], key)), "agent": self.name}
            self._source.watchers.publish({**event, "state": state, "reason": reason})
