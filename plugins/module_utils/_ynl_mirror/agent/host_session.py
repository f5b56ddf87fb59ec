# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of a session with a host: FPM frames in, announced routes to the installer, an answer for each.

A host replays all its routes when it connects. Routes that the replay does not announce are stale, but they are swept
only when the replay is known to be complete: at NLMSG_DONE, or, for a producer that sends none, when nothing has been
received for the settle time. A peer that sends no frame, or only part of one, is disconnected.
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
from ..fpm import audit as wire
from ..fpm.framing import LONGEST, Deframer, FpmError, frame, frames
from ..model.refusal import Refusal
from ..model.routes import AF_INET, AF_INET6, Path, TableKey, table_name
from ..netlink import rtnetlink
from ..netlink.route_codec import RouteReader, RouteWriter, with_route_flags
from .guard import Guard, Keys
from .host_nexthops import HostNexthops, is_ours
from .installer import Installer
from .wire_audit import WireAudit

_LOG = logging.getLogger("ynl_mirror.agent.session")
_READ = 1 << 18
#: Seconds for the first frame of a session, for the rest of a frame, and for the next data of a confirming replay.
_TIMEOUT = 10.0
#: Kinds of messages that are passed over and logged in each session: message types, and families of routes.
_LOGGED_KINDS = 8
_FOREIGN = {28: "MPLS", 128: "IPv4 multicast", 129: "IPv6 multicast"}
_ROUTES = (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE)
_OBJECTS = (rtnetlink.RTM_NEWNEXTHOP, rtnetlink.RTM_DELNEXTHOP)
#: Routes answered, or mapped, in one batch.
_BATCH = 2048
#: Bytes from which a message is too long for an answer that holds both the message and a reason.
_LONG = LONGEST - 1024
_NO_FLAGS = bytes(4)
#: What FRR's bgpd takes for an install failure is only what was tried and refused, not what was decided.
_NOT_OFFLOADED = {"slow_path": rtnetlink.RTM_F_TRAP, "failed": rtnetlink.RTM_F_OFFLOAD_FAILED}
_OFFLOADED = struct.pack("=I", rtnetlink.RTM_F_OFFLOAD)


class HostSession:
    """Feeds *installer* from one connection. *lock* keeps others from writing between reading and answering.

    *on_sync* is called each time the installer has written. *audit* is the wire audit of this session. *guard* outlives
    the session, and may hold withdrawals until the host confirms them.
    """

    def __init__(
        self,
        name: str,
        installer: Installer,
        tables: tuple[int, ...],
        settle: float,
        lock: asyncio.Lock,
        on_sync: Callable[[], None] = lambda: None,
        audit: WireAudit | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.name = name
        self.since = now()
        self.updates_received = 0
        self.over_limit = 0  # announcements that were ignored because the route limit was reached
        self.replayed = False
        self._frames = 0
        self._done = False  # the data received last had NLMSG_DONE
        self._installer = installer
        self._tables = frozenset(tables)
        self._settle = settle
        self._lock = lock
        self._on_sync = on_sync
        self._audit = audit
        self._guard = guard or Guard()
        self._confirms = self._guard.held is not None  # the next complete replay confirms the held withdrawals
        self._guard_busy = asyncio.Event()  # the guard collects or holds withdrawals
        self._confirming = False  # a confirming replay has been requested and is not complete
        self._confirmed = asyncio.Event()
        self._last_data = now()
        self._marked = asyncio.Event()  # the producer ended its replay with NLMSG_DONE, so it may be our listener
        self._reader = RouteReader()
        # What this replay has announced so far, by table; None for a table of which nothing was known before, where
        # every route is from this replay.
        self._named: dict[TableKey, dict[int, Path] | None] = {}
        for scope, routes in installer.announced.items():
            self._named[scope] = {} if routes else None
        self._passed_over: set[str] = set()  # kinds of messages that the log has named
        self._nexthops = HostNexthops(None if installer.memory is None else installer.memory.object_hops)
        self._moved: dict[int, set[int]] = {}  # prefixes whose nexthop objects have changed, to be synced
        # Prefixes whose state was changed by something other than an update from the host.
        self._changed: dict[int, set[int]] = {}
        self._has_changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._put = RouteWriter(
            rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
        )

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the connection until its end. FpmError or WireError if the peer is silent or violates the protocol."""
        helpers = [asyncio.ensure_future(self._report_changes(writer)), asyncio.ensure_future(self._run_audit(writer))]
        helpers.append(asyncio.ensure_future(self._run_guard(writer)))
        try:
            await self._listen(reader, writer)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._sync_moved()
            if self._guard.held is None and self._guard.number:  # collected, and no more of them will follow now
                await self._apply_withdrawals(self._guard.release())

    async def _run_guard(self, writer: asyncio.StreamWriter) -> None:
        """Apply the withdrawals that the guard has collected when it is time, or have the host confirm them."""
        while True:
            await self._guard_busy.wait()
            self._guard_busy.clear()
            while (due := self._guard.due(now())) is not None:
                await asyncio.sleep(due)
                await self._apply_withdrawals(self._ask_guard())
            if self._guard.held is not None and self.replayed:
                await self._confirm(writer)

    async def _confirm(self, writer: asyncio.StreamWriter) -> None:
        """Request a replay; a producer that cannot be asked is disconnected, and replays when it connects again."""
        if self._marked.is_set():
            self._confirming = self._confirms = True
            self._named = {scope: {} for scope in self._installer.announced}
            request = rtnetlink.RTMSG.pack(0, *[0] * 8)  # of both families
            dump = rtnetlink.request(rtnetlink.RTM_GETROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP, request)
            self._last_data = now()
            await self._write(writer, [frame(dump)])
            self._confirmed.clear()
            while self._confirming and (left := self._last_data + _TIMEOUT - now()) > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._confirmed.wait(), left)
            self._confirming = False
        if self._guard.held is not None:
            text = "does not answer requests for a replay; disconnecting it, the replay of its next connection confirms"
            _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))
            writer.transport.abort()

    def _ask_guard(self) -> Keys:
        """The withdrawals that the guard releases now; logs when it begins or ceases to hold."""
        held = self._guard.held
        released = self._guard.look(self._installer.installed, now())
        if self._guard.held is not held:
            self._log_held()
        if self._guard.number:
            self._guard_busy.set()
        return released

    def _withdraw(self, released: Keys) -> dict[int, set[int]]:
        """Take these prefixes out of the announced routes; returns them by family."""
        touched: dict[int, set[int]] = {}
        for scope, keys in released.items():
            routes = self._installer.announced.get(scope, {})
            for key in keys:
                routes.pop(key, None)
                self._nexthops.drop(scope, key)
            touched.setdefault(scope[0], set()).update(keys)
        return touched

    def _move(self) -> None:
        """Give the routes whose nexthop objects have changed the next hops that these have now."""
        for sent, keys in self._nexthops.take_changed():
            path = self._nexthops.resolve(sent)
            scope = (path.family, path.table)
            routes, named, waiting = self._tables_of(path)
            fits = self._installer.memory is None or self._installer.memory.fits(path, now())
            moved = self._moved.setdefault(path.family, set())
            for key in keys:
                if key not in routes:
                    self._nexthops.drop(scope, key)
                elif waiting and key in waiting:
                    continue  # it stays as it is until its withdrawal is applied or taken back
                elif fits:
                    moved.add(key)
                    routes[key] = path
                    if named is not None and key in named:
                        named[key] = path
                else:
                    self._no_room(key, path, moved)

    async def _sync_moved(self) -> None:
        moved, self._moved = self._moved, {}
        await self._sync_all(moved)

    async def _apply_withdrawals(self, released: Keys) -> None:
        await self._sync_all(self._withdraw(released))

    async def _sync_all(self, touched: dict[int, set[int]]) -> None:
        """Bring these prefixes, by family, up to date on the DPU, in batches, and answer those whose state changes."""
        for family, keys in touched.items():
            waiting, refused = list(keys), self._installer.refused[family]
            for start in range(0, len(waiting), _BATCH):
                part = waiting[start : start + _BATCH]
                async with self._lock:
                    before = [refused.get(key) for key in part]
                    self._installer.sync(family, part)
                    changed = [key for key, old in zip(part, before) if refused.get(key) != old]
                if changed:
                    self.state_changed(family, changed)
                self._on_sync()
                await asyncio.sleep(0)

    def _log_held(self) -> None:
        held = self._guard.held
        if held is None:
            text = "held withdrawals cancelled: the host announced the routes again"
            _LOG.info("%s: %s", self.name, text, extra=about(host=self.name))
            return
        text = f"withdrawals held until the host confirms them: {held.words(self._installer.vrf_name(held.scope[1]))}"
        _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))

    async def _run_audit(self, writer: asyncio.StreamWriter) -> None:
        if self._audit is not None:
            await self._marked.wait()
            await self._audit.run(lambda message: self._write(writer, [frame(message)]))

    def state_changed(self, family: int, keys: Iterable[int]) -> None:
        """Something on the DPU changed the state of these prefixes: answer them again."""
        self._changed.setdefault(family, set()).update(keys)
        self._has_changed.set()

    async def _report_changes(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            while self._changed:
                family, waiting = next(iter(self._changed.items()))
                keys = [waiting.pop() for _count in range(min(_BATCH, len(waiting)))]
                if not waiting:
                    del self._changed[family]
                await self._write(writer, list(frames(self._answers(self._as_sent(family, keys)))))

    def _as_sent(self, family: int, keys: Iterable[int]) -> bytes:
        """The announced routes of these prefixes, as messages."""
        tables = [self._installer.announced.get((family, table), {}) for table in self._tables]
        routes = [(key, routes[key]) for routes in tables for key in keys if key in routes]
        if self._nexthops.sent:
            routes = [(key, self._nexthops.sent_path(key, path)) for key, path in routes]
        # Encoded again, a route with thousands of next hops may not fit into a frame: its new state is not sent.
        return b"".join(message for message in self._put.batch(routes) if len(message) <= LONGEST)

    async def _write(self, writer: asyncio.StreamWriter, answers: list[bytes]) -> None:
        async with self._writing:  # several tasks write; before Python 3.12 only one may call StreamWriter.drain()
            writer.writelines(answers)
            await writer.drain()
        await asyncio.sleep(0)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deframer = Deframer()
        due: float | None = now() + _TIMEOUT  # deadline of the current frame; None: no frame has begun
        while True:
            timeout = None if self.replayed else self._settle
            try:
                data = await asyncio.wait_for(reader.read(_READ), timeout if due is None else max(0.0, due - now()))
            except asyncio.TimeoutError as error:
                if getattr(error, "errno", None) is not None:
                    raise  # the connection has timed out (ETIMEDOUT), which is the same class since Python 3.11
                if due is not None:
                    raise FpmError(_overdue(deframer.waiting)) from None
                await self._end_of_replay(f"no data for {self._settle:g} s")
                continue
            if not data:
                return
            self._last_data = now()
            frames_before = self._frames
            async with self._lock:
                try:
                    answers = self._take(deframer.feed(data))
                finally:
                    self._on_sync()
            if not deframer.waiting:
                due = None
            elif due is None or self._frames > frames_before:
                due = now() + _TIMEOUT
            if self._done:
                self._marked.set()
                await self._end_of_replay("NLMSG_DONE")
            self._check_room()
            await self._write(writer, answers)
            await self._sync_moved()

    def _take(self, payloads: Iterable[bytes]) -> list[bytes]:
        """Process whole frames; returns the answers. Routes before a malformed message are installed."""
        touched: dict[int, set[int]] = {}  # family -> prefix keys
        taken: list[tuple[bytes, list[int] | None]] = []
        try:
            for payload in payloads:
                self._frames += 1
                taken.append((payload, self._take_frame(payload, touched)))
        finally:
            self._move()
            if self._audit is not None:
                self._audit.touch(touched)
            if self._guard.waiting:
                for family, gone in self._withdraw(self._ask_guard()).items():
                    touched.setdefault(family, set()).update(gone)
            for family, keys in touched.items():
                self.updates_received += len(keys)
                self._installer.sync(family, keys)
        refused = self._installer.refused
        all_installed = all(refused[family].keys().isdisjoint(keys) for family, keys in touched.items())
        answers: list[bytes] = []
        for payload, starts in taken:
            if all_installed and starts is not None:
                answers.append(_answer_in_place(payload, starts))
            else:
                answers += frames(self._answers(payload))
        return answers

    def _take_frame(self, payload: bytes, touched: dict[int, set[int]]) -> list[int] | None:
        """Record the updates of a frame; returns where its messages start, None if it has more than plain additions."""
        starts: list[int] | None = []
        last: Path | None = None
        kept: Path  # the same, with the next hops of its nexthop object if it names one
        objects = bool(self._nexthops.sent)  # whether routes name nexthop objects
        routes: dict[int, Path] = {}
        named: dict[int, Path] | None = None
        waiting: set[int] | None = None
        keys: set[int] = set()
        memory = self._installer.memory
        room, fits = None if memory is None else memory.room(len(payload)), True
        for kind, _flags, start, end, key, path in self._reader.scan(payload):
            if path is None:
                self._take_control(payload, start, end, kind, touched)
                last = starts = None  # look the tables up again
                continue
            if path.table not in self._tables:
                starts = None
                continue
            if path is not last:  # routes come in runs with one path
                last = path
                routes, named, waiting = self._tables_of(path)
                keys = touched.setdefault(path.family, set())
                kept = path if path.nh_id is None else self._nexthops.resolve(path)
                objects = objects or path.nh_id is not None
                fits = memory is None or memory.fits(kept, now())
                if payload[start + 24 : start + 28] != _NO_FLAGS:
                    starts = None
            if (room is not None or not fits) and kind == rtnetlink.RTM_NEWROUTE:
                new = key not in routes
                if not fits or (new and not room):
                    starts = None
                    self._no_room(key, path, keys)
                    continue
                if room is not None:
                    room -= new
            keys.add(key)
            if kind == rtnetlink.RTM_NEWROUTE:
                routes[key] = kept
                if objects:
                    self._nexthops.announce(key, path)
                if waiting:
                    waiting.discard(key)
                if named is not None:
                    named[key] = kept
                if starts is not None:
                    starts.append(start)
                continue
            starts = None
            waiting = self._withdrawn(key, path, routes, named)
        return starts

    def _withdrawn(
        self, key: int, path: Path, routes: dict[int, Path], named: dict[int, Path] | None
    ) -> set[int] | None:
        """The host has withdrawn a route; returns the withdrawals of its table that the guard has."""
        scope = (path.family, path.table)
        if named is not None:
            named.pop(key, None)
        if not self._guard.enabled:
            routes.pop(key, None)
            self._nexthops.drop(scope, key)
        elif key in routes:
            self._guard.waiting.setdefault(scope, set()).add(key)
        return self._guard.waiting.get(scope)

    def _take_control(self, payload: bytes, start: int, end: int, kind: int, touched: dict[int, set[int]]) -> None:
        """Process a message other than a route of ours."""
        if kind in _OBJECTS and is_ours(payload, start, end):
            self._learn_object(kind, payload[start:end])
            return
        if kind in _ROUTES or kind in _OBJECTS:
            family = payload[start + rtnetlink.NLMSGHDR.size]
            what = "nexthop objects" if kind in _OBJECTS else f"{_FOREIGN.get(family, 'other')} routes"
            self._pass_over(f"{what} (address family {family}), which are not mirrored")
            return
        if kind != wire.AUDIT or self._audit is None:
            self._control(kind)
            return
        message = wire.decode(payload, start, end)
        if message is not None:
            self._audit.suspended = bool(self.over_limit)
            self._audit.take(message, self._named, touched)

    def _no_room(self, key: int, path: Path, touched: set[int]) -> None:
        """There is no room to store a route. One of the same prefix that it replaces is forgotten."""
        routes, named, waiting = self._tables_of(path)
        if key in routes:
            _forget(key, touched, routes, named, waiting)
            self._nexthops.drop((path.family, path.table), key)
        if not self.over_limit:
            text = (
                f"route limit reached ({self._installer.memory}); further routes are ignored; raise `routes` in `hosts`"
            )
            _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))
        self.over_limit += 1

    def _check_room(self) -> None:
        """Have the host replay its routes when there is room for those that were ignored."""
        if not self.over_limit or not self.replayed:
            return
        admission, memory = self._installer.admission, self._installer.memory
        if (admission is None or admission.may_have_room()) and (memory is None or memory.may_have_room(now())):
            raise FpmError("below the route limit again: the host has to replay the routes that were ignored")

    def _control(self, kind: int) -> None:
        if kind == rtnetlink.NLMSG_DONE:
            self._done = True
        elif kind != rtnetlink.NLMSG_NOOP:
            self._pass_over(f"netlink messages of unknown type {kind}")

    def _pass_over(self, what: str) -> None:
        """Log a kind of messages that is not for the mirror, once."""
        seen = self._passed_over
        if what in seen or len(seen) >= _LOGGED_KINDS:
            return
        seen.add(what)
        more = "; further kinds are not logged" if len(seen) == _LOGGED_KINDS else ""
        text = f"ignoring {what}{more}"
        _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))

    def _learn_object(self, kind: int, message: bytes) -> None:
        refused = self._nexthops.refused
        self._nexthops.learn(kind, message)
        if self._nexthops.refused and not refused:
            text = (
                f"limit of nexthop objects reached ({self._nexthops.most} next hops); routes that name further ones "
                "stay on the slow path; raise `routes` in `hosts`"
            )
            _LOG.warning("%s: %s", self.name, text, extra=about(host=self.name, reason=text))

    def _tables_of(self, path: Path) -> tuple[dict[int, Path], dict[int, Path] | None, set[int] | None]:
        """Of a path's table: the announced routes, those of this replay, and the withdrawals that the guard has."""
        scope = (path.family, path.table)
        return self._installer.announced.setdefault(scope, {}), self._named.get(scope), self._guard.waiting.get(scope)

    def _answers(self, payload: bytes) -> list[bytes]:
        """The answer to each addition in a payload, with the reason where there is one."""
        answers: list[bytes] = []
        for kind, _flags, start, end, key, path in self._reader.scan(payload):
            if kind != rtnetlink.RTM_NEWROUTE or path is None:
                continue
            message = payload[start:end] + bytes(start - end & 3)  # the next one has to start at a multiple of four
            refusal = self._installer.refused[path.family].get(key)
            if path.table not in self._tables:
                refusal = Refusal("slow_path", f"the agent's host_tables do not include table {table_name(path.table)}")
            elif self.over_limit and key not in self._installer.announced.get((path.family, path.table), ()):
                limit = f"over the agent's route limit for {self.name} ({self._installer.memory})"
                refusal = Refusal("failed", f"{limit}; raise `routes` in its `hosts`")
            if refusal is None:
                answers.append(_flagged(message, rtnetlink.RTM_F_OFFLOAD))
            else:
                # The flag is for every producer, the error with the reason for our listener.
                answers.append(_flagged(message, _NOT_OFFLOADED.get(refusal.state, rtnetlink.RTM_F_OFFLOAD_FAILED)))
                # The error echoes the whole route, or its prefix where that would be too long for a frame.
                subject = message if len(message) < _LONG else self._put.message(key, Path(path.family, path.table))
                answers.append(rtnetlink.encode_error(subject, errno.EOPNOTSUPP, str(refusal)))
        return answers

    async def _end_of_replay(self, why: str) -> None:
        """The replay is complete: sweep the stale routes."""
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
        total = sum(map(len, self._installer.announced.values()))
        _LOG.info(
            "%s: replay complete (%s): %d routes in %.2f s, %d stale routes swept",
            *(self.name, why, total, seconds, stale),
            extra=about(host=self.name),
        )

    def _sweep(self) -> dict[int, set[int]]:
        """Withdraw the stale routes, unless the guard holds them; returns the prefixes to sync, by family."""
        guard, announced = self._guard, self._installer.announced
        named, self._named = self._named, {}
        stale = {
            scope: announced.get(scope, {}).keys() - keys.keys() for scope, keys in named.items() if keys is not None
        }
        for scope, waiting in guard.waiting.items():
            stale[scope] = stale.get(scope, set()) | waiting
        gone = {family: set(self._installer.stale_keys(family)) for family in (AF_INET, AF_INET6)}
        for (family, _table), keys in stale.items():
            # Those that were never installed as well, so that the reasons for that are dropped.
            gone[family] |= keys
        if guard.held is not None and self._confirms:
            text = "host confirmed the held withdrawals; applying them"
            _LOG.info("%s: %s", self.name, text, extra=about(host=self.name))
        elif not guard.sweep(self._installer.installed, gone, now()):
            guard.waiting = stale
            self._log_held()
            self._guard_busy.set()
            return {}
        guard.release()
        self._withdraw(stale)
        return gone

    def status(self) -> dict[str, Any]:
        """The session, for /status."""
        return {
            "host": self.name,
            "connected": True,
            "uptime": round(now() - self.since, 1),
            "updates_received": self.updates_received,
            **({"routes_over_limit": self.over_limit} if self.over_limit else {}),
            "replay": "complete" if self.replayed else "in progress",
            "wire_audit": "off" if self._audit is None else self._audit.status(),
        }


def _forget(
    key: int, touched: set[int], routes: dict[int, Path], named: dict[int, Path] | None, waiting: set[int] | None
) -> None:
    """Forget an announced route: it was replaced by one that there is no room to store."""
    touched.add(key)
    del routes[key]
    if named is not None:
        named.pop(key, None)
    if waiting:
        waiting.discard(key)


def _overdue(waiting: int) -> str:
    if waiting:
        return f"incomplete frame ({waiting} bytes) after {_TIMEOUT:g} s"
    return f"no frame within {_TIMEOUT:g} s after connecting"


def _flagged(message: bytes, flag: int) -> bytes:
    (old,) = struct.unpack_from("=I", message, 24)
    return with_route_flags(message, old | flag)


def _answer_in_place(payload: bytes, starts: list[int]) -> bytes:
    """The usual answer: a copy of the frame with every route flagged as offloaded."""
    answer = bytearray(payload)
    for start in starts:
        answer[start + 24 : start + 28] = _OFFLOADED
    return frame(bytes(answer)) if answer else b""


async def serve(session: HostSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Run a session to its end, and log how it ended."""
    try:
        await session.run(reader, writer)
        _LOG.info("%s: disconnected; its routes stay", session.name, extra=about(host=session.name))
    except (FpmError, rtnetlink.WireError) as error:
        fields = about(host=session.name, reason=error)
        _LOG.warning("%s: %s; disconnected, its routes stay", session.name, error, extra=fields)
    except OSError as error:
        fields = about(host=session.name, reason=error)
        _LOG.warning("%s: connection lost (%s); its routes stay", session.name, error, extra=fields)
    finally:
        writer.transport.abort()
        with contextlib.suppress(Exception):
            await writer.wait_closed()
