# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connected producer as the agent sees it: FPM frames in, routes to the mirror, an answer for each.

A producer replays everything when it connects. What the replay does not name any more is stale, but only a replay
that is known to be complete may sweep it: at NLMSG_DONE, or, for a producer that sends none, once nothing has come for
the settle time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from typing import Any

from . import wire
from .daemon import now
from .fpm import Deframer, FpmError, frames
from .mirror import Mirror
from .rib import TableKey
from .routes import AF_INET, AF_INET6, Path, table_name

_LOG = logging.getLogger("ynl_mirror.host")
_READ = 1 << 18


class HostSession:
    """Feeds *mirror* from one connection. *lock* keeps others from writing between reading and answering."""

    def __init__(self, name: str, mirror: Mirror, tables: tuple[int, ...], settle: float, lock: asyncio.Lock) -> None:
        self.name = name
        self.since = now()
        self.received = 0
        self.replayed = False
        self._done = False  # NLMSG_DONE was among what was taken last
        self._mirror = mirror
        self._tables = frozenset(tables)
        self._settle = settle
        self._lock = lock
        self._reader = wire.RouteReader()
        # What this connection has named so far, by table; None for a table that the mirror knew nothing about before,
        # where everything there is has come from this replay.
        self._named: dict[TableKey, dict[int, Path] | None] = {}
        for scope, routes in mirror.host.items():
            self._named[scope] = {} if routes else None
        self._told: set[int] = set()

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the connection until its end. FpmError or WireError when the peer speaks something else."""
        deframer = Deframer()
        while True:
            timeout = None if self.replayed else self._settle
            try:
                data = await asyncio.wait_for(reader.read(_READ), timeout)
            except asyncio.TimeoutError:
                await self._end_of_replay(f"nothing came for {self._settle:g} s")
                continue
            if not data:
                return
            async with self._lock:
                answers = self._take(list(deframer.feed(data)))
            if self._done:
                await self._end_of_replay("NLMSG_DONE")
            writer.writelines(frames(answers))
            await writer.drain()
            await asyncio.sleep(0)

    def _take(self, payloads: list[bytes]) -> list[bytes]:
        """Work off whole frames; the answers."""
        touched: dict[int, dict[int, bytes]] = {}  # family -> prefix key -> the latest message about it
        strange: list[bytes] = []
        for payload in payloads:
            for kind, _flags, start, end in wire.messages(payload):
                if kind in (wire.RTM_NEWROUTE, wire.RTM_DELROUTE):
                    message = payload[start:end]
                    key, path = self._reader.read(payload, start, end)
                    if path.table not in self._tables:
                        strange += self._wrong_table(kind, message, path)
                        continue
                    self._route(kind, key, path)
                    touched.setdefault(path.family, {})[key] = message if kind == wire.RTM_NEWROUTE else b""
                elif kind == wire.NLMSG_DONE:
                    self._done = True
                elif kind not in self._told:
                    self._told.add(kind)
                    _LOG.warning("%s: netlink messages of type %d are not understood and passed over", self.name, kind)
        answers = strange
        for family, messages in touched.items():
            self._mirror.sync(family, messages)
            answers += self._answers(family, messages)
        return answers

    def _route(self, kind: int, key: int, path: Path) -> None:
        self.received += 1
        scope = (path.family, path.table)
        routes = self._mirror.host.get(scope)
        if routes is None:
            routes = self._mirror.host[scope] = {}
        named = self._named.get(scope)
        if kind == wire.RTM_NEWROUTE:
            routes[key] = path
            if named is not None:
                named[key] = path
        else:
            routes.pop(key, None)
            if named is not None:
                named.pop(key, None)

    def _wrong_table(self, kind: int, message: bytes, path: Path) -> list[bytes]:
        if kind != wire.RTM_NEWROUTE:
            return []
        return _refused(
            message, f"unmapped: table {table_name(path.table)} of the host is not among the agent's host_tables"
        )

    def _answers(self, family: int, messages: dict[int, bytes]) -> list[bytes]:
        refused = self._mirror.refused[family]
        answers: list[bytes] = []
        for key, message in messages.items():
            if not message:
                continue
            if key in refused:
                answers += _refused(message, str(refused[key]))
            else:
                answers.append(_flagged(message, wire.RTM_F_OFFLOAD))
        return answers

    async def _end_of_replay(self, why: str) -> None:
        """Sweep what the replay did not name."""
        self._done = False
        if self.replayed:
            return
        self.replayed = True
        stale = 0
        for scope, named in self._named.items():
            if named is not None:
                gone = [key for key in self._mirror.host.get(scope, {}) if key not in named]
                for key in gone:
                    del self._mirror.host[scope][key]
        self._named.clear()
        for family in (AF_INET, AF_INET6):
            keys = self._mirror.stale_keys(family)
            stale += len(keys)
            for start in range(0, len(keys), 2048):
                async with self._lock:
                    self._mirror.sync(family, keys[start : start + 2048])
                await asyncio.sleep(0)
        seconds = now() - self.since
        total = sum(map(len, self._mirror.host.values()))
        _LOG.info(
            "%s: replay complete (%s): %d routes in %.2f s, %d stale ones swept", self.name, why, total, seconds, stale
        )

    def status(self) -> dict[str, Any]:
        """The connection, for /status."""
        return {
            "host": self.name,
            "connected": True,
            "since": round(now() - self.since, 1),
            "received": self.received,
            "replay": "complete" if self.replayed else "under way",
        }


def _flagged(message: bytes, flag: int) -> bytes:
    (old,) = struct.unpack_from("=I", message, 24)
    return wire.with_route_flags(message, old | flag)


def _refused(message: bytes, reason: str) -> list[bytes]:
    """What every producer understands (FRR reads the flag), and why in words for those that ask."""
    failed = _flagged(message, wire.RTM_F_OFFLOAD_FAILED)
    return [failed, wire.encode_error(message, 95, reason)]  # EOPNOTSUPP


async def serve(session: HostSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Run a session to its end, and say how it ended."""
    try:
        await session.run(reader, writer)
        _LOG.info("%s: disconnected; its routes stay", session.name)
    except (FpmError, wire.WireError) as error:
        _LOG.warning("%s: %s; disconnected, its routes stay", session.name, error)
    except OSError as error:
        _LOG.warning("%s: connection lost (%s); its routes stay", session.name, error)
    finally:
        writer.transport.abort()
        with contextlib.suppress(Exception):
            await writer.wait_closed()
