# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of a session with a host: the sockets and the tasks around the state machine.

What a session does and when is in `session_machine`. Here is what takes time: reading, writing to the DPU and to the
host, waiting. Four tasks share a session: one reads, one waits for the machine's alarm, one answers routes whose state
has changed on the DPU, and one runs the wire audit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic as now
from typing import Any

from ..daemon.logs import about
from ..fpm.framing import FpmError, frame
from ..model.routes import Path, TableKey
from ..netlink import rtnetlink
from .adj_rib_in import Touched
from .answers import Answers
from .installer import Installer
from .session_machine import Action, End, Replayed, Send, SessionMachine, Sync
from .wire_audit import WireAudit

_LOG = logging.getLogger("ynl_mirror.agent.session")
_READ = 1 << 18
#: Routes answered, or mapped, in one batch.
_BATCH = 2048


class _Dpu:
    """What the machine reads of an installer."""

    def __init__(self, installer: Installer) -> None:
        self._installer = installer
        self.stale_keys = installer.stale_keys
        self.vrf_name = installer.vrf_name

    @property
    def installed(self) -> Mapping[TableKey, Mapping[int, Path]]:
        return self._installer.installed

    def may_have_room(self) -> bool:
        return self._installer.admission is None or self._installer.admission.may_have_room()


class HostSession:
    """Feeds *installer* from one connection. *lock* keeps others from writing between reading and answering.

    *on_sync* is called each time the installer has written. *audit* is the wire audit of this session. *sync* brings
    many prefixes of a family up to date, in an order that does no harm, and answers those whose state changes.
    """

    def __init__(
        self,
        name: str,
        installer: Installer,
        settle: float,
        lock: asyncio.Lock,
        on_sync: Callable[[], None] = lambda: None,
        audit: WireAudit | None = None,
        sync: Callable[[int, list[int]], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.since = now()
        self.updates_received = 0
        self.machine = SessionMachine(name, installer.adj, _Dpu(installer), settle, self.since, audit)
        self._installer = installer
        self._adj = installer.adj
        self._answers = Answers(name, installer.adj, installer.refused, self.machine.intake.reader)
        self._lock = lock
        self._on_sync = on_sync
        self._audit = audit
        self._sync = sync or self._sync_in_batches
        self._ended: FpmError | None = None  # why we have disconnected the host
        self._alarmed = asyncio.Event()  # the machine's alarm may have changed
        self._marked = asyncio.Event()  # the host may be a listener of ours, so the wire audit may ask
        # Prefixes whose state was changed by something other than an update from the host.
        self._changed: Touched = {}
        self._has_changed = asyncio.Event()
        self._writing = asyncio.Lock()

    @property
    def replayed(self) -> bool:
        """Whether a replay has been complete."""
        return self.machine.replayed

    @property
    def over_limit(self) -> int:
        """Announcements that were ignored because the route limit was reached."""
        return self._adj.over_limit

    # -- tasks

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the connection until its end. FpmError or WireError if the peer is silent or violates the protocol."""
        work = (self._wait_for_alarms(writer), self._report_changes(writer), self._run_audit(writer))
        helpers = [asyncio.ensure_future(coroutine) for coroutine in work]
        try:
            await self._listen(reader, writer)
        except OSError:
            if self._ended is None:
                raise
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._carry_out(self.machine.left(now()), writer)
        if self._ended is not None:
            raise self._ended

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.machine.closed:
            try:
                data = await asyncio.wait_for(reader.read(_READ), self.machine.patience(now()))
            except asyncio.TimeoutError as error:
                if getattr(error, "errno", None) is not None:
                    raise  # the connection has timed out (ETIMEDOUT), which is the same class since Python 3.11
                data = None
            if data == b"" or self.machine.closed:  # we may have disconnected it meanwhile
                return
            if data is None:
                await self._carry_out(self.machine.silence(now()), writer)
            else:
                await self._take(data, writer)
            await self._advance(writer)

    async def _wait_for_alarms(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._alarmed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._alarmed.wait(), self.machine.alarm(now()))
                continue
            await self._advance(writer)

    async def _report_changes(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            while self._changed:
                family, waiting = next(iter(self._changed.items()))
                keys = [waiting.pop() for _count in range(min(_BATCH, len(waiting)))]
                if not waiting:
                    del self._changed[family]
                await self._write(writer, self._answers.again(family, keys))

    async def _run_audit(self, writer: asyncio.StreamWriter) -> None:
        if self._audit is not None:
            await self._marked.wait()
            await self._audit.run(lambda message: self._write(writer, [frame(message)]))

    # -- what they do

    async def _take(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Take data: write the routes to the DPU, and answer them."""
        async with self._lock:
            received = self.machine.receive(data, now())
            try:
                for family, keys in received.touched.items():
                    self.updates_received += len(keys)
                    self._installer.sync(family, keys)
                answers = self._answers.to(received.taken, received.touched) if received.error is None else []
            finally:
                self._on_sync()
        if received.error is not None:
            raise received.error
        await self._write(writer, answers)

    async def _advance(self, writer: asyncio.StreamWriter) -> None:
        """Do all that the machine wants done by now."""
        while not self.machine.closed:
            actions = self.machine.advance(now())
            if self.machine.marked:
                self._marked.set()
            if not actions:
                break
            await self._carry_out(actions, writer)
        if self.machine.alarm(now()) is not None:
            self._alarmed.set()

    async def _carry_out(self, actions: list[Action], writer: asyncio.StreamWriter) -> None:
        for action in actions:
            if isinstance(action, Sync):
                for family, keys in action.touched.items():
                    await self._sync(family, list(keys))
            elif isinstance(action, Send):
                await self._write(writer, [frame(action.message)])
            elif isinstance(action, End):
                self._ended = FpmError(action.reason)
                writer.transport.abort()
            elif isinstance(action, Replayed):
                self._log_replay(action)
                self._on_sync()

    async def _sync_in_batches(self, family: int, keys: list[int]) -> None:
        refused = self._installer.refused[family]
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            async with self._lock:
                before = [refused.get(key) for key in part]
                self._installer.sync(family, part)
                changed = [key for key, old in zip(part, before) if refused.get(key) != old]
            if changed:
                self.state_changed(family, changed)
            self._on_sync()
            await asyncio.sleep(0)

    def _log_replay(self, replayed: Replayed) -> None:
        _LOG.info(
            "%s: replay complete (%s): %d routes in %.2f s, %d stale routes swept",
            *(self.name, replayed.why, self._adj.number, now() - self.since, replayed.stale),
            extra=about(host=self.name),
        )

    async def _write(self, writer: asyncio.StreamWriter, answers: list[bytes]) -> None:
        async with self._writing:  # several tasks write; before Python 3.12 only one may call StreamWriter.drain()
            writer.writelines(answers)
            await writer.drain()
        await asyncio.sleep(0)

    # -- for the agent

    def state_changed(self, family: int, keys: Iterable[int]) -> None:
        """Something on the DPU changed the state of these prefixes: answer them again."""
        self._changed.setdefault(family, set()).update(keys)
        self._has_changed.set()

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
