# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes that the kernel uses, and what happens to them for a while: the work of the module netlink_route_info.

It selects routes as the listener does, without a daemon.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..config.common import RECEIVE_BUFFER
from ..config.filters import Filters
from ..config.options import TABLE, Table, choice, integer, many, number, option, optional, record
from ..model.routes import FAMILIES, RT_TABLE_MAIN, Path, Prefix, Route
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteMessage, RouteReader
from ..replica.filters import Selection
from .items import LinkNames, to_fact
from .target import TaskError

#: How many notifications to take from the socket before looking at the clock.
_BURST = 512
_GROUPS = (sockets.RTNLGRP_IPV4_ROUTE, sockets.RTNLGRP_IPV6_ROUTE)


@dataclass(frozen=True)
class Question(Table):
    """The options of the module, which declare its argument_spec: which routes to return, and for how long to stay."""

    tables: tuple[int, ...] = option(
        many(TABLE, "list at least one table, such as 254 (main)"),
        (RT_TABLE_MAIN,),
        "Routing tables to read, by number or by a name of C(rt_tables).",
    )
    families: tuple[str, ...] = option(
        many(choice(tuple(FAMILIES)), "list ipv4, ipv6 or both"), tuple(FAMILIES), "Address families to read."
    )
    filters: Filters = option(  # noqa: RUF009  # frozen
        record(Filters), Filters(), "Which routes and events to return. What is left out or empty restricts nothing."
    )
    duration: float | None = option(
        optional(number(0.001, 86400)), None, "Seconds to capture route events, 0.001 to 86400."
    )
    max_events: int = option(integer(1, 2**31 - 1), 1000, "Stop the capture after this many events.")
    receive_buffer: int = option(
        integer(4096, 2**31 - 1),
        RECEIVE_BUFFER,
        "Receive buffer of the socket during the capture, in bytes. Events that do not fit are lost.",
    )


def gather(question: Question) -> dict[str, Any]:
    """Read what the question asks for in this network namespace. TaskError when the kernel cannot be read."""
    try:
        if question.duration is None:
            return _read(question)[1]
        # Before the routes are read, so that no event is lost in between.
        monitor = sockets.Monitor(question.receive_buffer, groups=_GROUPS)
        try:
            info, result = _read(question)
            return {**result, **info.events(monitor, question.duration)}
        finally:
            monitor.close()
    except (sockets.KernelError, rtnetlink.WireError, OSError) as error:
        raise TaskError(f"cannot read the kernel: {error}") from None


def _read(question: Question) -> tuple[_RouteInfo, dict[str, Any]]:
    with sockets.Requests() as requests:
        info = _RouteInfo(question, requests)
        return info, {"routes": info.routes(requests)}


class _RouteInfo:
    """What one question selects, with the links' names as they are now."""

    def __init__(self, question: Question, requests: sockets.Requests) -> None:
        self._question = question
        self._families = tuple(FAMILIES[name] for name in question.families)
        links = {link.index: link for link in sockets.read_links(requests)}
        self._names = LinkNames({link.name: index for index, link in links.items()})
        self._selection = Selection(question.filters, links)

    def routes(self, requests: sockets.Requests) -> list[dict[str, Any]]:
        """The best path of each table and prefix."""
        return [
            self._fact(family, key, path)
            for table in self._question.tables
            for family in self._families
            for key, path in _best_paths(requests, family, table).items()
            if self._selection.reason(family, key, path) is None
        ]

    def events(self, monitor: sockets.Monitor, seconds: float) -> dict[str, Any]:
        """The next events, and whether they are complete: neither cut off at *max_events* nor lost by the kernel."""
        events: list[dict[str, Any]] = []
        lost = False
        for event in self._events(monitor, seconds):
            events.append(event)
            lost = lost or event["event"] == "overrun"
            if len(events) >= self._question.max_events:
                return {"events": events, "complete": False}
        return {"events": events, "complete": not lost}

    def _events(self, monitor: sockets.Monitor, seconds: float) -> Iterator[dict[str, Any]]:
        reader = RouteReader()
        started = time.monotonic()
        for buffer in _notifications(monitor, started + seconds):
            now = round(time.monotonic() - started, 6)
            if buffer is None:
                yield {"event": "overrun", "time": now}
                continue
            for message in reader.routes(buffer):
                if self._is_wanted(message):
                    fact = self._fact(message.path.family, message.key, message.path)
                    yield {"event": _event(message), "time": now, **fact}

    def _is_wanted(self, message: RouteMessage) -> bool:
        path = message.path
        if path.table not in self._question.tables or path.family not in self._families:
            return False
        return self._selection.reason(path.family, message.key, path) is None

    def _fact(self, family: int, key: int, path: Path) -> dict[str, Any]:
        return to_fact(Route(Prefix.from_key(family, key), path), self._names)


def _best_paths(requests: sockets.Requests, family: int, table: int) -> dict[int, Path]:
    """The path that the kernel uses for each prefix, by the prefix's key."""
    found: dict[int, Path] = {}
    for route in sockets.read_routes(requests, family, table):
        if not route.path.tos and "dead" not in route.path.extras:
            found.setdefault(route.prefix.key, route.path)
    return found


def _event(message: RouteMessage) -> str:
    """What the kernel reports to have done."""
    if message.type == rtnetlink.RTM_DELROUTE:
        return "deleted"
    if message.nlflags & rtnetlink.NLM_F_REPLACE:
        return "replaced"
    return "appended" if message.nlflags & rtnetlink.NLM_F_APPEND else "added"


def _notifications(monitor: sockets.Monitor, deadline: float) -> Iterator[bytes | None]:
    """Notifications until the deadline; None where the kernel has dropped some."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([monitor], [], [], left)[0]:
            return
        try:
            yield from monitor.receive(_BURST)
        except sockets.Overrun:
            yield None
