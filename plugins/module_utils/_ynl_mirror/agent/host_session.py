# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connected producer as the agent sees it: FPM frames in, routes to the mirror, an answer for each.

A producer replays everything when it connects. What the replay does not name any more is stale, but only a replay
that is known to be complete may sweep it: at NLMSG_DONE, or, for a producer that sends none, once nothing has come for
the settle time. Half a frame, or nothing at all, is no replay: whoever leaves it at that is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import struct
from collections.abc import Callable, Iterable
from time import monotonic as now
from typing import Any

from ..daemon.logs import about
from ..fpm import audit
from ..fpm.framing import LONGEST, Deframer, FpmError, frame, frames
from ..model.refusal import Refusal
from ..model.routes import AF_INET, AF_INET6, Path, TableKey, table_name
from ..netlink import rtnetlink
from ..netlink.route_codec import RouteReader, RouteWriter, with_route_flags
from .guard import Guard, Keys
from .installer import Mirror
from .wire_audit import HostAudit

_LOG = logging.getLogger("ynl_mirror.host")
_READ = 1 << 18
#: Seconds for the first frame of a connection, and for the rest of one that has begun.
_PATIENCE = 10.0
#: Kinds of messages that are told of by name, for each connection.
_TOLD = 8
#: Routes answered anew, or looked at, in one go.
_BATCH = 2048
#: Bytes of a message that is too long for an answer with it and words about it.
_LONG = LONGEST - 1024
_NO_FLAGS = bytes(4)
_OFFLOADED = struct.pack("=I", rtnetlink.RTM_F_OFFLOAD)


class HostSession:
    """Feeds *mirror* from one connection. *lock* keeps others from writing between reading and answering.

    *synced* is called after every change of the mirror. *compared* compares what was taken with what was sent.
    *guard* outlives the connection, and may hold what the host withdraws until it has confirmed that.
    """

    def __init__(
        self,
        name: str,
        mirror: Mirror,
        tables: tuple[int, ...],
        settle: float,
        lock: asyncio.Lock,
        synced: Callable[[], None] = lambda: None,
        compared: HostAudit | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.name = name
        self.since = now()
        self.received = 0
        self.forgotten = 0  # messages about prefixes beyond what is remembered of a host
        self.replayed = False
        self._frames = 0
        self._done = False  # NLMSG_DONE was among what was taken last
        self._mirror = mirror
        self._tables = frozenset(tables)
        self._settle = settle
        self._lock = lock
        self._synced = synced
        self._audit = compared
        self._guard = guard or Guard()
        self._second = self._guard.held is not None  # the next complete replay confirms what is held
        self._withdrawn = asyncio.Event()  # the guard collects, or holds
        self._confirming = False  # a second dump is under way
        self._confirmed = asyncio.Event()
        self._heard = now()
        self._marked = asyncio.Event()  # the producer marked the end of its replay, so it may be one of ours
        self._reader = RouteReader()
        # What this connection has named so far, by table; None for a table that the mirror knew nothing about before,
        # where everything there is has come from this replay.
        self._named: dict[TableKey, dict[int, Path] | None] = {}
        for scope, routes in mirror.host.items():
            self._named[scope] = {} if routes else None
        self._told: set[int] = set()
        # Prefixes whose state moved without a word from the host, and what tells the host about them.
        self._moved: dict[int, set[int]] = {}
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._put = RouteWriter(
            rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
        )

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the connection until its end. FpmError or WireError when the peer speaks something else, or nothing."""
        helpers = [asyncio.ensure_future(self._tell(writer)), asyncio.ensure_future(self._compare(writer))]
        helpers.append(asyncio.ensure_future(self._mind(writer)))
        try:
            await self._listen(reader, writer)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if self._guard.held is None and self._guard.number:  # what was said counts; nobody waits for the rest now
                await self._carry_out(self._guard.release())

    async def _mind(self, writer: asyncio.StreamWriter) -> None:
        """See to what the guard keeps back: carry it out when its time has come, or have the host confirm it."""
        while True:
            await self._withdrawn.wait()
            self._withdrawn.clear()
            while (due := self._guard.due(now())) is not None:
                await asyncio.sleep(due)
                await self._carry_out(self._look())
            if self._guard.held is not None and self.replayed:
                await self._confirm(writer)

    async def _confirm(self, writer: asyncio.StreamWriter) -> None:
        """Ask for all routes once more; a producer that cannot be asked has to connect anew, which has it replay."""
        if self._marked.is_set():
            self._confirming = self._second = True
            self._named = {scope: {} for scope in self._mirror.host}
            request = rtnetlink.RTMSG.pack(0, *[0] * 8)  # of both families
            dump = rtnetlink.request(rtnetlink.RTM_GETROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP, request)
            self._heard = now()
            await self._write(writer, [frame(dump)])
            self._confirmed.clear()
            while self._confirming and (left := self._heard + _PATIENCE - now()) > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._confirmed.wait(), left)
            self._confirming = False
        if self._guard.held is not None:
            text = "cannot be asked for a second dump, so the connection is ended: the next one brings it"
            _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))
            writer.transport.abort()

    def _look(self) -> Keys:
        """What the guard lets go of now; a word when it began to hold, or does no longer."""
        held = self._guard.held
        released = self._guard.look(self._mirror.installed, now())
        if self._guard.held is not held:
            self._tell_held()
        if self._guard.number:
            self._withdrawn.set()
        return released

    def _take_out(self, released: Keys) -> dict[int, set[int]]:
        """The host does not have these any more; the prefixes by family."""
        touched: dict[int, set[int]] = {}
        for scope, keys in released.items():
            routes = self._mirror.host.get(scope, {})
            for key in keys:
                routes.pop(key, None)
            touched.setdefault(scope[0], set()).update(keys)
        return touched

    async def _carry_out(self, released: Keys) -> None:
        await self._sync_all(self._take_out(released))

    async def _sync_all(self, touched: dict[int, set[int]]) -> None:
        """Look at these prefixes, by family, so many at a time."""
        for family, keys in touched.items():
            waiting = list(keys)
            for start in range(0, len(waiting), _BATCH):
                async with self._lock:
                    self._mirror.sync(family, waiting[start : start + _BATCH])
                self._synced()
                await asyncio.sleep(0)

    def _tell_held(self) -> None:
        held = self._guard.held
        if held is None:
            _LOG.info("%s: what was held is back with the host", self.name, extra=about(host=self.name))
            return
        text = f"{held.words(self._mirror.vrf_name(held.scope[1]))}; held until the host confirms it by a second dump"
        _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))

    async def _compare(self, writer: asyncio.StreamWriter) -> None:
        if self._audit is not None:
            await self._marked.wait()
            await self._audit.run(lambda message: self._write(writer, [frame(message)]))

    def moved(self, family: int, keys: Iterable[int]) -> None:
        """The state of these prefixes is another now, by something that happened on the DPU: answer them anew."""
        self._moved.setdefault(family, set()).update(keys)
        self._news.set()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._moved:
                family, waiting = next(iter(self._moved.items()))
                keys = [waiting.pop() for _count in range(min(_BATCH, len(waiting)))]
                if not waiting:
                    del self._moved[family]
                await self._write(writer, list(frames(self._answers(self._as_sent(family, keys)))))

    def _as_sent(self, family: int, keys: Iterable[int]) -> bytes:
        """The host's routes to these prefixes, as messages."""
        tables = [self._mirror.host.get((family, table), {}) for table in self._tables]
        routes = [(key, routes[key]) for routes in tables for key in keys if key in routes]
        # A route of thousands of next hops may be longer than it came, and than a frame: it is not answered anew.
        return b"".join(message for message in self._put.batch(routes) if len(message) <= LONGEST)

    async def _write(self, writer: asyncio.StreamWriter, answers: list[bytes]) -> None:
        async with self._writing:  # two tasks write, and StreamWriter.drain() is for one at a time before Python 3.12
            writer.writelines(answers)
            await writer.drain()
        await asyncio.sleep(0)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deframer = Deframer()
        due: float | None = now() + _PATIENCE  # when a frame has to be whole; None: none is under way
        while True:
            timeout = None if self.replayed else self._settle
            try:
                data = await asyncio.wait_for(reader.read(_READ), timeout if due is None else max(0.0, due - now()))
            except asyncio.TimeoutError as error:
                if getattr(error, "errno", None) is not None:
                    raise  # the connection has timed out (ETIMEDOUT), which is the same class since Python 3.11
                if due is not None:
                    raise FpmError(_overdue(deframer.waiting)) from None
                await self._end_of_replay(f"nothing came for {self._settle:g} s")
                continue
            if not data:
                return
            self._heard = now()
            frames_before = self._frames
            async with self._lock:
                try:
                    answers = self._take(deframer.feed(data))
                finally:
                    self._synced()
            if not deframer.waiting:
                due = None
            elif due is None or self._frames > frames_before:
                due = now() + _PATIENCE
            if self._done:
                self._marked.set()
                await self._end_of_replay("NLMSG_DONE")
            self._recall()
            await self._write(writer, answers)

    def _take(self, payloads: Iterable[bytes]) -> list[bytes]:
        """Work off whole frames; the frames that answer them. What comes before a fault counts, and is installed."""
        touched: dict[int, set[int]] = {}  # family -> prefix keys
        taken: list[tuple[bytes, list[int] | None]] = []
        try:
            for payload in payloads:
                self._frames += 1
                taken.append((payload, self._take_frame(payload, touched)))
        finally:
            if self._audit is not None:
                self._audit.touch(touched)
            if self._guard.waiting:
                for family, gone in self._take_out(self._look()).items():
                    touched.setdefault(family, set()).update(gone)
            for family, keys in touched.items():
                self.received += len(keys)
                self._mirror.sync(family, keys)
        refused = self._mirror.refused
        all_installed = all(refused[family].keys().isdisjoint(keys) for family, keys in touched.items())
        answers: list[bytes] = []
        for payload, starts in taken:
            if all_installed and starts is not None:
                answers.append(_answer_in_place(payload, starts))
            else:
                answers += frames(self._answers(payload))
        return answers

    def _take_frame(self, payload: bytes, touched: dict[int, set[int]]) -> list[int] | None:
        """Note what a frame says; where its messages start, None when it holds more than plain additions."""
        starts: list[int] | None = []
        last: Path | None = None
        routes: dict[int, Path] = {}
        named: dict[int, Path] | None = None
        waiting: set[int] | None = None
        keys: set[int] = set()
        memory = self._mirror.memory
        room, fits = None if memory is None else memory.room(len(payload)), True
        for kind, _flags, start, end, key, path in self._reader.scan(payload):
            if path is None:
                self._heed(payload, start, end, kind, touched)
                last = starts = None  # the tables are to be looked up again
                continue
            if path.table not in self._tables:
                starts = None
                continue
            if path is not last:  # routes come in runs with one path
                last = path
                routes, named, waiting = self._tables_of(path)
                keys = touched.setdefault(path.family, set())
                fits = memory is None or memory.fits(path, now())
                if payload[start + 24 : start + 28] != _NO_FLAGS:
                    starts = None
            if (room is not None or not fits) and kind == rtnetlink.RTM_NEWROUTE:
                new = key not in routes
                if not fits or (new and not room):
                    starts = None
                    self._pass_over()
                    if not new:
                        _forget(key, keys, routes, named, waiting)
                    continue
                if room is not None:
                    room -= new
            keys.add(key)
            if kind == rtnetlink.RTM_NEWROUTE:
                routes[key] = path
                if waiting:
                    waiting.discard(key)
                if named is not None:
                    named[key] = path
                if starts is not None:
                    starts.append(start)
                continue
            starts = None
            if named is not None:
                named.pop(key, None)
            waiting = self._gone(key, path, routes)
        return starts

    def _gone(self, key: int, path: Path, routes: dict[int, Path]) -> set[int] | None:
        """The host has withdrawn a route; what the guard keeps back of its table."""
        scope = (path.family, path.table)
        if not self._guard.enabled:
            routes.pop(key, None)
        elif key in routes:
            self._guard.waiting.setdefault(scope, set()).add(key)
        return self._guard.waiting.get(scope)

    def _heed(self, payload: bytes, start: int, end: int, kind: int, touched: dict[int, set[int]]) -> None:
        """Take in a message that is about no route."""
        if kind != audit.AUDIT or self._audit is None:
            self._control(kind)
            return
        told = audit.decode(payload, start, end)
        if told is not None:
            self._audit.partial = bool(self.forgotten)
            self._audit.take(told, self._named, touched)

    def _pass_over(self) -> None:
        """A route is refused unseen, for there is no room to remember it."""
        if not self.forgotten:
            text = f"names more than is remembered of it, {self._mirror.memory}; the rest is refused"
            _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))
        self.forgotten += 1

    def _recall(self) -> None:
        """Have the host tell all once more, when there is room for what was not remembered."""
        if not self.forgotten or not self.replayed:
            return
        admission, memory = self._mirror.admission, self._mirror.memory
        if (admission is None or admission.may_have_room()) and (memory is None or memory.may_have_room(now())):
            raise FpmError("there is room again for routes that were refused unseen: the host has to tell them again")

    def _control(self, kind: int) -> None:
        if kind == rtnetlink.NLMSG_DONE:
            self._done = True
        elif kind != rtnetlink.NLMSG_NOOP and kind not in self._told and len(self._told) < _TOLD:
            self._told.add(kind)
            more = ", and so are others" if len(self._told) == _TOLD else ""
            text = f"netlink messages of type {kind} are not understood and passed over{more}"
            _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))

    def _tables_of(self, path: Path) -> tuple[dict[int, Path], dict[int, Path] | None, set[int] | None]:
        """The host's table that a path belongs to, what the replay named of it, and what the guard keeps back of it."""
        scope = (path.family, path.table)
        return self._mirror.host.setdefault(scope, {}), self._named.get(scope), self._guard.waiting.get(scope)

    def _answers(self, payload: bytes) -> list[bytes]:
        """The answer to each addition in a payload, with the reason where there is one."""
        answers: list[bytes] = []
        for kind, _flags, start, end, key, path in self._reader.scan(payload):
            if kind != rtnetlink.RTM_NEWROUTE or path is None:
                continue
            message = payload[start:end] + bytes(start - end & 3)  # the next one has to start at a multiple of four
            refusal = self._mirror.refused[path.family].get(key)
            if path.table not in self._tables:
                refusal = Refusal("slow_path", f"table {table_name(path.table)} is not among the agent's host_tables")
            elif self.forgotten and key not in self._mirror.host.get((path.family, path.table), ()):
                refusal = Refusal("failed", f"over what the agent remembers of {self.name}: {self._mirror.memory}")
            if refusal is None:
                answers.append(_flagged(message, rtnetlink.RTM_F_OFFLOAD))
            else:
                # What every producer understands (FRR reads the flag), and why in words for those that ask.
                answers.append(_flagged(message, rtnetlink.RTM_F_OFFLOAD_FAILED))
                # What is refused names the whole route, unless that would be too long for a frame.
                subject = message if len(message) < _LONG else self._put.message(key, Path(path.family, path.table))
                answers.append(rtnetlink.encode_error(subject, errno.EOPNOTSUPP, str(refusal)))
        return answers

    async def _end_of_replay(self, why: str) -> None:
        """The replay is complete: what it did not name is stale."""
        self._done = False
        if self.replayed and not self._confirming:
            return
        self.replayed = True
        self._confirming = False
        self._confirmed.set()
        gone = self._sweep()
        stale = sum(map(len, gone.values()))
        await self._sync_all(gone)
        seconds = now() - self.since
        total = sum(map(len, self._mirror.host.values()))
        _LOG.info(
            "%s: replay complete (%s): %d routes in %.2f s, %d stale ones swept",
            *(self.name, why, total, seconds, stale),
            extra=about(host=self.name),
        )

    def _sweep(self) -> dict[int, set[int]]:
        """Take out what the replay did not name, if the guard lets it go; the prefixes to look at, by family."""
        guard, host = self._guard, self._mirror.host
        named, self._named = self._named, {}
        unnamed = {scope: host.get(scope, {}).keys() - keys.keys() for scope, keys in named.items() if keys is not None}
        for scope, waiting in guard.waiting.items():
            unnamed[scope] = unnamed.get(scope, set()) | waiting
        gone = {family: set(self._mirror.stale_keys(family)) for family in (AF_INET, AF_INET6)}
        for (family, _table), keys in unnamed.items():
            # Those that were never installed as well: the reason why they were not has to go.
            gone[family] |= keys
        if guard.held is not None and self._second:
            _LOG.info("%s: a second dump has come, and is followed", self.name, extra=about(host=self.name))
        elif not guard.sweep(self._mirror.installed, gone, now()):
            guard.waiting = unnamed
            self._tell_held()
            self._withdrawn.set()
            return {}
        guard.release()
        self._take_out(unnamed)
        return gone

    def status(self) -> dict[str, Any]:
        """The connection, for /status."""
        return {
            "host": self.name,
            "connected": True,
            "since": round(now() - self.since, 1),
            "received": self.received,
            **({"forgotten": self.forgotten} if self.forgotten else {}),
            "replay": "complete" if self.replayed else "under way",
            "audited": "no" if self._audit is None else self._audit.status(),
        }


def _forget(
    key: int, touched: set[int], routes: dict[int, Path], named: dict[int, Path] | None, waiting: set[int] | None
) -> None:
    """Its route is another one now, for which there is no room."""
    touched.add(key)
    del routes[key]
    if named is not None:
        named.pop(key, None)
    if waiting:
        waiting.discard(key)


def _overdue(waiting: int) -> str:
    if waiting:
        return f"half a frame ({waiting} bytes), and not the rest of it within {_PATIENCE:g} s"
    return f"connected, and no frame within {_PATIENCE:g} s"


def _flagged(message: bytes, flag: int) -> bytes:
    (old,) = struct.unpack_from("=I", message, 24)
    return with_route_flags(message, old | flag)


def _answer_in_place(payload: bytes, starts: list[int]) -> bytes:
    """The usual answer: the same frame again, with every route flagged as offloaded."""
    answer = bytearray(payload)
    for start in starts:
        answer[start + 24 : start + 28] = _OFFLOADED
    return frame(bytes(answer)) if answer else b""


async def serve(session: HostSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Run a session to its end, and say how it ended."""
    try:
        await session.run(reader, writer)
        _LOG.info("%s: disconnected; its routes stay", session.name, extra=about(host=session.name))
    except (FpmError, rtnetlink.WireError) as error:
        told = about(host=session.name, reason=error)
        _LOG.warning("%s: %s; disconnected, its routes stay", session.name, error, extra=told)
    except OSError as error:
        told = about(host=session.name, reason=error)
        _LOG.warning("%s: connection lost (%s); its routes stay", session.name, error, extra=told)
    finally:
        writer.transport.abort()
        with contextlib.suppress(Exception):
            await writer.wait_closed()
