# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a capture through the replica again: the same bytes in the same order, and so the same changes. Opens no socket.

A capture is a pcapng file (pcapng.py). Each start of a daemon is a section, whose comment has the settings that a
replica depends on, and which has two interfaces: what the kernel told by itself, and requests with their answers. What
is no datagram is said in netlink's own control messages: NLMSG_OVERRUN for lost notifications, NLMSG_DONE behind an
answer that is whole, and NLMSG_NOOP where the follower told its daemon what has changed, or, among the requests, had
taken in all that was told meanwhile.

The capture decides what happens when, not the follower: code that asks for other re-reads than the one that recorded
can be tried on it too, and the summary tells the difference.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ..mapping.view import discover_vrfs
from ..model.routes import AF_INET6, FAMILIES, FAMILY_NAMES, table_name
from ..model.version import VERSION
from ..netlink import rtnetlink, sockets
from ..replica.describe import events
from ..replica.replica import Replica
from ..replica.rib import Reading, Reread, Rib
from .pcapng import Packet, Section, section

#: Where a section's comment has the settings; the number is the version of all that is told above.
_KEY, _FORMAT = "ynl_mirror_capture", 1
NOTIFICATIONS, REQUESTS = range(2)
OVERRUN = rtnetlink.request(4, 0)  # NLMSG_OVERRUN: data lost; the kernel itself says ENOBUFS
TOLD = CAUGHT_UP = rtnetlink.request(rtnetlink.NLMSG_NOOP, 0)
DONE = rtnetlink.encode_done()
#: Behind it when what was heard since says that the dump may have missed routes.
TORN = rtnetlink.request(rtnetlink.NLMSG_DONE, rtnetlink.NLM_F_DUMP_INTR, bytes(4))

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1)


class NotACapture(ValueError):
    """A capture that is no capture, or one of another version."""


class Fault(Exception):
    """The replica fails at a record: what the capture was kept for."""


def header(settings: Mapping[str, Any], system: str) -> bytes:
    """The start of a section. *settings*: see :func:`_rib`."""
    comment = json.dumps({_KEY: _FORMAT, **settings})
    return section(Section(f"ynl-mirror {VERSION}", system, comment), ("notifications", "requests"))


def settings_of(found: Section) -> dict[str, Any]:
    """The settings in the header of a section; NotACapture when there are none that are understood here."""
    try:
        settings = dict(json.loads(found.comment))
        version = settings[_KEY]
        if version == _FORMAT:
            _rib(settings)
            _vrfs(settings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotACapture("it is no capture of ynl-mirror") from None
    if version != _FORMAT:
        raise NotACapture(f"it is a capture of version {version}, by {found.application}; this one reads {_FORMAT}")
    return settings


class Replay:
    """Feed it what a capture has, piece by piece; it answers with changes as `ynl-mirror watch` shows them."""

    def __init__(self) -> None:
        self.replica = Replica(Rib(()))
        self.counts = dict.fromkeys(("starts", "notifications", "unreadable", "overruns", "rereads", "changes"), 0)
        self._settings: dict[str, Any] = {}
        self._times: list[int] = []  # of the first record and the last
        self._records = 0
        self._view: dict[tuple[int, int], list[bytes]] = {}  # (request's type, family): answer
        self._answer: list[bytes] | None = None  # that part of it which is on its way
        self._reading: Reading | None = None
        self._asking: Reread | None = None  # what it answers
        self._objects = False  # an answer about nexthop objects is on its way
        self._loading = 0  # times that the daemon is told of changes before it has read everything
        self._ended: Reading | None = None  # all of it is here, and maybe it is torn
        self._held: list[bytes] = []  # what was heard since
        self._ask = False
        self._asked: dict[Reread, None] = {}  # re-reads that are asked for and not in the capture, so far
        self._unasked: dict[Reread, None] = {}  # and those that are in there and nobody has asked for

    def feed(self, item: Section | Packet) -> list[dict[str, Any]]:
        """The changes that were told at this place. NotACapture, and Fault when the replica cannot take it in."""
        if isinstance(item, Section):
            told = self.finish()
            self._start(settings_of(item))
            return told
        self._records += 1
        self._times = [*self._times[:1], item.time]
        try:
            if item.interface == NOTIFICATIONS:
                return self._hear(item.data)
            self._read(item.data)
        except Exception as error:  # whatever it is: finding that is what the capture is for
            text = f"{type(error).__name__}: {error}"
            raise Fault(f"record {self._records}, {show_time(item.time)}: {text}") from error
        return []

    def finish(self) -> list[dict[str, Any]]:
        """The changes that were not told yet when the capture ended."""
        self._settle()
        return self._tell()

    def summary(self) -> dict[str, Any]:
        """What was in it, what it led to, and what this code would have read else."""
        self._take_asked()
        return {
            "event": "summary",
            "from": show_time(self._times[0]) if self._times else None,
            "to": show_time(self._times[-1]) if self._times else None,
            **self.counts,
            "routes": sum(map(len, self.replica.rib.tables.values())),
            "links": len(self.replica.links),
            "asked_but_not_recorded": [self._words(scope) for scope in self._asked],
            "recorded_but_not_asked": [self._words(scope) for scope in self._unasked],
        }

    def _start(self, settings: dict[str, Any]) -> None:
        """A daemon starts: it knows nothing."""
        self._settings = settings
        self.replica = Replica(_rib(settings))
        self.counts["starts"] += 1
        self._loading = 2  # links and addresses, then routes
        self._view, self._answer, self._reading, self._ended, self._held, self._asked = {}, None, None, None, [], {}
        self._objects = False

    # -- what the kernel told by itself

    def _hear(self, data: bytes) -> list[dict[str, Any]]:
        if data == TOLD:
            self._settle()
            told = self._tell()
            self._loading = max(0, self._loading - 1)
            self.replica.rib.recording = not self._loading
            return told
        if self._ended is not None:
            self._held.append(data)
            return []
        self._take_asked()
        if not self._asked:
            self._loading, self.replica.rib.recording = 0, True  # everything has been read
        self._apply(data)
        return []

    def _apply(self, data: bytes) -> None:
        rib = self.replica.rib
        if data == OVERRUN:
            self.counts["overruns"] += 1
            return
        self.counts["notifications"] += 1
        try:
            self.replica.apply(data)
        except rtnetlink.WireError:
            self.counts["unreadable"] += 1
            rib.ask()

    def _tell(self) -> list[dict[str, Any]]:
        replica = self.replica
        told = list(events(replica.rib, replica.rib.take_changed(), replica.links))
        self.counts["changes"] += len(told)
        if replica.view_changed and "vrfs" in self._settings:
            replica.rib.follow(vrf.table for vrf in discover_vrfs(replica.links, replica.rules, _vrfs(self._settings)))
        replica.view_changed = False
        if self._ask:
            self._ask = False
            replica.rib.ask()
        for event in told:
            event["time"] = show_time(self._times[-1])
        return told

    # -- requests and their answers

    def _read(self, data: bytes) -> None:
        self._settle(whole=data != TORN)
        if data == TORN:
            return
        if data == CAUGHT_UP:
            self.replica.rib.caught_up()
            self.replica.rib.ask_doubted()
            return
        kind, flags = struct.unpack_from("=HH", data, 4)
        if kind == rtnetlink.RTM_GETROUTE:
            self._asking = self._scope(data)
            self._reading = self.replica.rib.reading(self._asking)
        elif kind == rtnetlink.RTM_GETNEXTHOP and flags & rtnetlink.NLM_F_REQUEST:
            self._objects = True
        elif flags & rtnetlink.NLM_F_DUMP == rtnetlink.NLM_F_DUMP and flags & rtnetlink.NLM_F_REQUEST:
            self._answer = self._view[kind, rtnetlink.family_of(data)] = []
        elif data == DONE:
            self._end_of_answer()
        elif self._objects:
            self.replica.rib.objects.learn(data)
        elif self._reading is not None:
            self._reading.feed(data)
        elif self._answer is not None:
            self._answer.append(data)

    def _end_of_answer(self) -> None:
        if self._objects:  # routes that name them have been read
            self._objects = False
            self.replica.rib.resolve()
            return
        reading, self._reading = self._reading, None
        if reading is not None:
            self.counts["rereads"] += 1
            self._ended = reading
        elif (rtnetlink.RTM_GETRULE, AF_INET6) in self._view:  # the last of them
            answers = _Answers(self._view)
            self.replica.load(
                sockets.read_links(answers),
                sockets.read_addresses(answers),
                sockets.read_rules(answers),
            )
            self._view, self._ask = {}, True
        self._answer = None

    def _settle(self, whole: bool = True) -> None:
        """Take in a dump that has ended, and then what was heard since: only that says if it is whole."""
        reading, self._ended = self._ended, None
        if reading is None:
            return
        reading.finish(whole)
        if not whole and self._asking is not None and self._asking.oif is None:
            self._asked[self._asking] = None  # it is asked for again
        held, self._held = self._held, []
        for data in held:
            self._apply(data)

    def _scope(self, request: bytes) -> Reread:
        """What a dump request asks for; takes it off the list of what is to be read."""
        found = dict(rtnetlink.attributes(request, rtnetlink.NLMSGHDR.size + rtnetlink.RTMSG.size, len(request)))
        table, oif = (found.get(kind) for kind in (rtnetlink.RTA_TABLE, rtnetlink.RTA_OIF))
        scope = Reread(rtnetlink.family_of(request), _number(table) or 0, _number(oif))
        self._take_asked()
        narrower = [s for s in self._asked if s[:2] == scope[:2] and scope.oif in (None, s.oif)]
        for answered in narrower:
            del self._asked[answered]
        if not narrower:
            self._unasked[scope] = None
        return scope

    def _take_asked(self) -> None:
        self._asked.update(dict.fromkeys(self.replica.rib.take_rereads()))

    def _words(self, scope: Reread) -> str:
        link = self.replica.links.get(scope.oif or 0)
        leaving = "" if scope.oif is None else f" dev {link.name if link else f'if{scope.oif}'}"
        return f"{FAMILY_NAMES.get(scope.family, scope.family)} table {table_name(scope.table)}{leaving}"


class _Answers:
    """Stands where the socket was, and answers out of the capture."""

    def __init__(self, answers: Mapping[tuple[int, int], list[bytes]]) -> None:
        self._answers = answers

    def dump_whole(self, message: bytes) -> list[bytes]:
        (kind,) = struct.unpack_from("=H", message, 4)
        return self._answers[kind, rtnetlink.family_of(message)]


def _rib(settings: Mapping[str, Any]) -> Rib:
    """A listener's, by {"tables", "families"}, or an agent's, by {"protocol", "vrfs": {name: {"table", "links"}}}."""
    if "vrfs" in settings:
        return Rib((), accept=lambda path: path.protocol != settings["protocol"])
    families = {FAMILIES[name] for name in settings["families"]}
    return Rib(settings["tables"], accept=lambda path: path.family in families)


def _vrfs(settings: Mapping[str, Any]) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {name: (vrf["table"], tuple(vrf["links"])) for name, vrf in settings.get("vrfs", {}).items()}


def _number(payload: bytes | None) -> int | None:
    return None if payload is None else int(struct.unpack("=I", payload)[0])


def show_time(time: int) -> str:
    """Microseconds since 1970, as `2026-11-23T09:00:00.000000Z`."""
    return (_EPOCH + timedelta(microseconds=min(time, _LATEST))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """The reverse, of any time of ISO 8601, the machine's zone where it names none; ValueError."""
    found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text).astimezone(timezone.utc)
    return (found - _EPOCH) // timedelta(microseconds=1)
