# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes changes of the mirrored routes to the kernel, in an order in which no packet goes wrong on the way.

Additions and replacements first, the longest prefix first, then removals, the shortest first: a trap route stands
before the offload that it protects, and goes after it. Only routes of the mirror's protocol number are ever changed:
new ones are added with NLM_F_EXCL, which leaves a route of another owner in place; replaced ones are known to be ours;
deletes name the protocol, which keeps the kernel to our routes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

from ..model.routes import WIDTH, Path
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteWriter

_LOG = logging.getLogger("ynl_mirror.agent.writer")

_FRONT = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE
_CREATE = _FRONT | rtnetlink.NLM_F_EXCL
# CREATE as well: somebody may have deleted ours a moment ago.
_REPLACE = _FRONT | rtnetlink.NLM_F_REPLACE
Item = tuple[int, Path]  # (prefix key, path)


class Change:
    """The pending writes to one table of the DPU. *installed* is the record of what it has."""

    def __init__(self, table: int, installed: dict[int, Path]) -> None:
        self.table = table
        self.installed = installed
        self.fronts: list[Item] = []  # additions in front of a route of another owner, which leads to the host
        self.adds: list[Item] = []
        self.replacements: list[Item] = []
        self.replaced: dict[int, Path] = {}  # the old paths of the replacements
        self.removals: list[Item] = []
        self.put_back: set[int] = set()  # removals whose prefix gets another route, which cannot replace the old one

    def sort(self, family: int) -> None:
        """Bring the writes into their order."""
        width = WIDTH[family]
        for items, sign in ((self.fronts, -1), (self.adds, -1), (self.replacements, -1), (self.removals, 1)):
            if len({key >> width for key, _path in items}) > 1:
                items.sort(key=lambda item: sign * (item[0] >> width))

    def additions(self, family: int) -> Iterator[tuple[str, list[Item]]]:
        """The sorted additions of both kinds, so that the longest prefix comes first whatever its kind."""
        width = WIDTH[family]
        start = 0
        for length, run in groupby(self.fronts, key=lambda item: item[0] >> width):
            stop = start
            while stop < len(self.adds) and self.adds[stop][0] >> width > length:
                stop += 1
            if stop > start:
                yield "adds", self.adds[start:stop]
            yield "fronts", list(run)
            start = stop
        if start < len(self.adds):
            yield "adds", self.adds[start:] if start else self.adds


class Refused:
    """A write that the kernel refused."""

    __slots__ = ("change", "failure", "item", "kind")

    def __init__(self, change: Change, kind: str, item: Item, failure: sockets.Failure) -> None:
        self.change = change
        self.kind = kind
        self.item = item
        self.failure = failure


class Kernel(Protocol):
    """What takes the messages: netlink/sockets.py."""

    def write(self, messages: Sequence[bytes]) -> list[sockets.Failure]:
        """Send messages in order; returns those that were refused."""


class Writer:
    """Writes changes, and counts what it has written. :attr:`in_doubt` is set when answers of the kernel were lost."""

    def __init__(self, requests: Kernel) -> None:
        self.in_doubt = False
        self.added = self.replaced = self.deleted = 0
        self._requests = requests
        self._put_front = RouteWriter(rtnetlink.RTM_NEWROUTE, _FRONT)
        self._add = RouteWriter(rtnetlink.RTM_NEWROUTE, _CREATE)
        self._replace = RouteWriter(rtnetlink.RTM_NEWROUTE, _REPLACE)
        self._delete = RouteWriter(rtnetlink.RTM_DELROUTE, rtnetlink.NLM_F_REQUEST)

    def write(self, family: int, changes: list[Change]) -> tuple[list[int], list[Refused]]:
        """Write all changes and record them as installed; the prefixes written, and what the kernel refused."""
        messages: list[bytes] = []
        sent: list[tuple[Change, str, list[Item]]] = []
        for change in changes:
            change.sort(family)
        # Additions, then replacements, of all tables before any removal: traffic always has a route.
        for change in changes:
            for kind, items in change.additions(family):
                messages += (self._put_front if kind == "fronts" else self._add).batch(items)
                sent.append((change, kind, items))
        for kind, writer in (("replacements", self._replace), ("removals", self._delete)):
            for change in changes:
                items = getattr(change, kind)
                if items:
                    messages += writer.batch(items)
                    sent.append((change, kind, items))
        if not messages:
            return [], []
        failures = self._carry_out(messages)
        for change, kind, items in reversed(sent):
            if kind == "removals":
                for key, _path in items:
                    del change.installed[key]
            else:
                change.installed.update(items)
            self._count(kind, len(items))
        refused = [self._place(sent, failure) for failure in failures]
        return [key for _change, _kind, items in sent for key, _path in items], refused

    def remove(self, items: Iterable[Item]) -> dict[int, sockets.Failure]:
        """Remove routes that no record has; the failures, by their place in ITEMS."""
        items = list(items)
        failures = {failure.index: failure for failure in self._carry_out(self._delete.batch(items))}
        self.deleted += len(items) - len(failures)
        return failures

    def _place(self, sent: list[tuple[Change, str, list[Item]]], failure: sockets.Failure) -> Refused:
        index = failure.index
        for change, kind, items in sent:
            if index < len(items):
                return Refused(change, kind, items[index], failure)
            index -= len(items)
        raise IndexError(f"the kernel refused message {failure.index} of {failure.index - index}")

    def _carry_out(self, messages: list[bytes]) -> list[sockets.Failure]:
        try:
            return self._requests.write(messages)
        except sockets.LostAnswers as error:
            _LOG.warning("%s; reading the installed routes back", error)
            self.in_doubt = True
            return error.failures

    def _count(self, kind: str, number: int) -> None:
        if kind == "removals":
            self.deleted += number
        elif kind == "replacements":
            self.replaced += number
        else:
            self.added += number
