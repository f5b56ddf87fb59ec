# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the kernel without a daemon: the routes now, or the route events of a while, selected as by the listener."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Any

from ..config.listener import Filters
from ..model.routes import FAMILIES, FAMILY_NAMES, Path, Prefix, Route, protocol_name
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteMessage, RouteReader
from ..replica.filters import Selection
from .items import LinkNames, to_item

NLM_F_REPLACE, NLM_F_APPEND = 0x100, 0x800  # linux/netlink.h
BURST = 512


class Look:
    """What to look at: TABLES by number, FAMILIES by name, FILTERS as those of the listener."""

    def __init__(self, tables: tuple[int, ...], families: tuple[str, ...], filters: Filters) -> None:
        self._tables = tables
        self._families = tuple(FAMILIES[name] for name in families)
        self._filters = filters

    def snapshot(self) -> list[dict[str, Any]]:
        """The one route per table and prefix that the kernel uses, as an item of vrf_route with table and protocol."""
        with sockets.Requests() as requests:
            teller = _Teller(requests, self._filters)
            found: list[dict[str, Any]] = []
            for table in self._tables:
                for family in self._families:
                    best_paths: dict[int, Path] = {}
                    for route in sockets.read_routes(requests, family, table):
                        if not route.path.tos and "dead" not in route.path.extras:
                            best_paths.setdefault(route.prefix.key, route.path)
                    found += [
                        teller.item(family, key, path)
                        for key, path in best_paths.items()
                        if teller.selection.reason(family, key, path) is None
                    ]
        return found

    def events(self, seconds: float, most: int, receive_buffer: int) -> Iterator[dict[str, Any]]:
        """Route events of the next SECONDS, MOST of them at most; {"event": "overrun"} where some were lost."""
        monitor = sockets.Monitor(receive_buffer)
        try:
            with sockets.Requests() as requests:
                teller = _Teller(requests, self._filters)
            reader = RouteReader()
            started = time.monotonic()
            count = 0
            for buffer in _notifications(monitor, started + seconds):
                now = round(time.monotonic() - started, 6)
                if buffer is None:
                    yield {"event": "overrun", "time": now}
                    continue
                for message in reader.routes(buffer):
                    if not self._wants(message, teller):
                        continue
                    yield {"event": _event(message), "time": now, **teller.message(message)}
                    count += 1
                    if count >= most:
                        return
        finally:
            monitor.close()

    def _wants(self, message: RouteMessage, teller: _Teller) -> bool:
        path = message.path
        if path.table not in self._tables or path.family not in self._families:
            return False
        return teller.selection.reason(path.family, message.key, path) is None


class _Teller:
    """Puts routes into words, with the names that links have now."""

    def __init__(self, requests: sockets.Requests, filters: Filters) -> None:
        links = {link.index: link for link in sockets.read_links(requests)}
        self._names = LinkNames({link.name: index for index, link in links.items()})
        self.selection = Selection(filters, links, RouteReader())

    def item(self, family: int, key: int, path: Path) -> dict[str, Any]:
        """A route as an item."""
        item = to_item(Route(Prefix.from_key(family, key), path), self._names)
        return {
            **item,
            "table": path.table,
            "family": FAMILY_NAMES[family],
            "protocol": path.protocol,
            "protocol_name": protocol_name(path.protocol),
        }

    def message(self, message: RouteMessage) -> dict[str, Any]:
        """The route of an event."""
        return self.item(message.path.family, message.key, message.path)


def _event(message: RouteMessage) -> str:
    """What the kernel says it did."""
    if message.type == rtnetlink.RTM_DELROUTE:
        return "deleted"
    if message.nlflags & NLM_F_REPLACE:
        return "replaced"
    return "appended" if message.nlflags & NLM_F_APPEND else "added"


def _notifications(monitor: sockets.Monitor, deadline: float) -> Iterator[bytes | None]:
    """Notifications until the deadline; None where some were lost."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([monitor], [], [], left)[0]:
            return
        try:
            yield from monitor.receive(BURST)
        except sockets.Overrun:
            yield None
