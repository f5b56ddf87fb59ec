# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays a capture through the replica: the same bytes in the same order, hence the same changes. Opens no socket.

A capture is a pcapng file (pcapng.py). Each start of a daemon is a section. The comment of a section has the settings
that the replica depends on, and it has two interfaces: notifications, and requests with their answers. What is not a
datagram of the kernel is marked by netlink control messages: NLMSG_OVERRUN where notifications were lost, NLMSG_DONE
after a complete answer, NLMSG_NOOP among the notifications where the follower reported its changes to the daemon, and
NLMSG_NOOP among the requests where all notifications since the last dumps were applied.

The capture decides what happens when, not the follower. A version of the code that requests other re-reads than the one
that recorded can replay it as well; the summary shows the difference.
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

#: The key that marks the comment of a section, and the version of the format described above.
_KEY, _FORMAT = "ynl_mirror_capture", 1
NOTIFICATIONS, REQUESTS = range(2)
OVERRUN = rtnetlink.request(4, 0)  # NLMSG_OVERRUN; the kernel itself reports ENOBUFS
REPORTED = CAUGHT_UP = rtnetlink.request(rtnetlink.NLMSG_NOOP, 0)
DONE = rtnetlink.encode_done()
#: After DONE, if a notification has shown since that the dump may have skipped routes.
TORN = rtnetlink.request(rtnetlink.NLMSG_DONE, rtnetlink.NLM_F_DUMP_INTR, bytes(4))

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1)


class NotACapture(ValueError):
    """Not a capture, or a capture of another version."""


class Fault(Exception):
    """The replica fails on a record, which is what captures are kept for."""


def header(settings: Mapping[str, Any], system: str) -> bytes:
    """The start of a section. *settings*: see :func:`_rib`."""
    comment = json.dumps({_KEY: _FORMAT, **settings})
    return section(Section(f"ynl-mirror {VERSION}", system, comment), ("notifications", "requests"))


def settings_of(found: Section) -> dict[str, Any]:
    """The settings in the header of a section; NotACapture if there are none, or if their version is unknown."""
    try:
        settings = dict(json.loads(found.comment))
        version = settings[_KEY]
        if version == _FORMAT:
            _rib(settings)
            _vrfs(settings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotACapture("not a capture of ynl-mirror") from None
    if version != _FORMAT:
        raise NotACapture(f"capture of format {version}, by {found.application}; this version reads format {_FORMAT}")
    return settings


class Replay:
    """Feed it the records of a capture; it returns the changes, in the form of `ynl-mirror watch`."""

    def __init__(self) -> None:
        self.replica = Replica(Rib(()))
        self.counts = dict.fromkeys(("starts", "notifications", "malformed", "overruns", "rereads", "changes"), 0)
        self._settings: dict[str, Any] = {}
        self._times: list[int] = []  # of the first record and the last
        self._records = 0
        self._view: dict[tuple[int, int], list[bytes]] = {}  # (request's type, family): answer
        self._answer: list[bytes] | None = None  # the answer that is being read, if it is part of the view
        self._reading: Reading | None = None  # the same, if it is a dump of routes
        self._asking: Reread | None = None  # the scope of that dump
        self._objects = False  # the answer that is being read is about nexthop objects
        self._loading = 0  # reports of changes left until the full sync is complete
        self._ended: Reading | None = None  # a dump that has ended, and may prove to be torn
        self._held: list[bytes] = []  # notifications since then
        self._ask = False
        self._asked: dict[Reread, None] = {}  # re-reads requested by this code that the capture does not have so far
        self._unasked: dict[Reread, None] = {}  # re-reads of the capture that this code has not requested

    def feed(self, item: Section | Packet) -> list[dict[str, Any]]:
        """The changes that were reported at this place. NotACapture, or Fault if the replica fails on the record."""
        if isinstance(item, Section):
            changes = self.finish()
            self._start(settings_of(item))
            return changes
        self._records += 1
        self._times = [*self._times[:1], item.time]
        try:
            if item.interface == NOTIFICATIONS:
                return self._notified(item.data)
            self._read(item.data)
        except Exception as error:  # of any kind: captures are kept to find them
            text = f"{type(error).__name__}: {error}"
            raise Fault(f"record {self._records}, {show_time(item.time)}: {text}") from error
        return []

    def finish(self) -> list[dict[str, Any]]:
        """The changes that were not reported yet at the end of the capture."""
        self._settle()
        return self._report()

    def summary(self) -> dict[str, Any]:
        """Counts, the final state, and how the re-reads of this code differ from those in the capture."""
        self._take_asked()
        return {
            "event": "summary",
            "from": show_time(self._times[0]) if self._times else None,
            "to": show_time(self._times[-1]) if self._times else None,
            **self.counts,
            "routes": sum(map(len, self.replica.rib.tables.values())),
            "links": len(self.replica.links),
            "rereads_only_in_replay": [self._words(scope) for scope in self._asked],
            "rereads_only_in_capture": [self._words(scope) for scope in self._unasked],
        }

    def _start(self, settings: dict[str, Any]) -> None:
        """Start over with an empty replica, as a daemon does."""
        self._settings = settings
        self.replica = Replica(_rib(settings))
        self.counts["starts"] += 1
        self._loading = 2  # links and addresses, then routes
        self._view, self._answer, self._reading, self._ended, self._held, self._asked = {}, None, None, None, [], {}
        self._objects = False

    # -- notifications

    def _notified(self, data: bytes) -> list[dict[str, Any]]:
        if data == REPORTED:
            self._settle()
            changes = self._report()
            self._loading = max(0, self._loading - 1)
            self.replica.rib.recording = not self._loading
            return changes
        if self._ended is not None:
            self._held.append(data)
            return []
        self._take_asked()
        if not self._asked:
            self._loading, self.replica.rib.recording = 0, True  # the full sync is complete
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
            self.counts["malformed"] += 1
            rib.ask()

    def _report(self) -> list[dict[str, Any]]:
        replica = self.replica
        changed = replica.rib.take_changed()
        if "ignore_rules" in self._settings:  # a listener, which follows other tables for their rules only
            changed = {scope: keys for scope, keys in changed.items() if scope[1] in self._settings["tables"]}
        changes = list(events(replica.rib, changed, replica.links))
        self.counts["changes"] += len(changes)
        if replica.view_changed and "vrfs" in self._settings:
            replica.rib.follow(vrf.table for vrf in discover_vrfs(replica.links, replica.rules, _vrfs(self._settings)))
        elif replica.view_changed and "ignore_rules" in self._settings:
            replica.rib.follow(replica.ruled_tables(self._settings["ignore_rules"]))
        replica.view_changed = False
        if self._ask:
            self._ask = False
            replica.rib.ask()
        for event in changes:
            event["time"] = show_time(self._times[-1])
        return changes

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
        if self._objects:  # the routes that use them have been read before
            self._objects = False
            self.replica.rib.resolve()
            return
        reading, self._reading = self._reading, None
        if reading is not None:
            self.counts["rereads"] += 1
            self._ended = reading
        elif (rtnetlink.RTM_GETRULE, AF_INET6) in self._view:  # the last dump of the view
            answers = _Answers(self._view)
            self.replica.load(
                sockets.read_links(answers),
                sockets.read_addresses(answers),
                sockets.read_rules(answers),
                sockets.read_netconf(answers),
            )
            self._view, self._ask = {}, True
        self._answer = None

    def _settle(self, whole: bool = True) -> None:
        """Apply a dump that has ended, then the notifications since, which have shown whether it is complete."""
        reading, self._ended = self._ended, None
        if reading is None:
            return
        reading.finish(whole)
        if not whole and self._asking is not None and self._asking.oif is None:
            self._asked[self._asking] = None  # requested again
        held, self._held = self._held, []
        for data in held:
            self._apply(data)

    def _scope(self, request: bytes) -> Reread:
        """The scope of a dump request, which is taken off the list of requested re-reads."""
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
    """In place of the socket: answers from the capture."""

    def __init__(self, answers: Mapping[tuple[int, int], list[bytes]]) -> None:
        self._answers = answers

    def dump_whole(self, message: bytes) -> list[bytes]:
        (kind,) = struct.unpack_from("=H", message, 4)
        if kind == rtnetlink.RTM_GETNETCONF:
            return self._answers.get((kind, rtnetlink.family_of(message)), [])  # older captures have none
        return self._answers[kind, rtnetlink.family_of(message)]


def _rib(settings: Mapping[str, Any]) -> Rib:
    """A listener's by {"tables", "families", "ignore_rules"}, an agent's by {"protocol", "vrfs": {name: {...}}}.

    A VRF has {"table", "links"}. Older captures of listeners have no "ignore_rules": those followed "tables" only.
    """
    if "vrfs" in settings:
        return Rib((), accept=lambda path: path.protocol != settings["protocol"])
    families = {FAMILIES[name] for name in settings["families"]}
    tables = () if "ignore_rules" in settings else settings["tables"]
    return Rib(tables, accept=lambda path: path.family in families)


def _vrfs(settings: Mapping[str, Any]) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {name: (vrf["table"], tuple(vrf["links"])) for name, vrf in settings.get("vrfs", {}).items()}


def _number(payload: bytes | None) -> int | None:
    return None if payload is None else int(struct.unpack("=I", payload)[0])


def show_time(time: int) -> str:
    """Microseconds since 1970, as `2026-11-23T09:00:00.000000Z`."""
    return (_EPOCH + timedelta(microseconds=min(time, _LATEST))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time, local time if it names no zone; ValueError if it is none."""
    found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text).astimezone(timezone.utc)
    return (found - _EPOCH) // timedelta(microseconds=1)
