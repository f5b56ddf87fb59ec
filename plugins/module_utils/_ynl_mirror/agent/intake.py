# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the payload of a frame to the Adj-RIB-In: routes in a tight loop, every other message by its kind. Pure.

A message is one of four: a route of IPv4 or IPv6, something else that the mirror takes (a nexthop object, the end of a
replay, an answer of the wire audit, a word on forwarding), something that is not for the mirror, which is passed over
and logged once, or a malformed one: a WireError, which ends the session.
"""

from __future__ import annotations

import logging
from typing import Callable

from ..daemon.logs import about
from ..fpm import audit as wire
from ..fpm.framing import FpmError
from ..model.links import NetConf
from ..model.routes import WIDTH, Path
from ..netlink import netconf_codec, rtnetlink
from ..netlink.route_codec import RouteReader
from .adj_rib_in import AdjRibIn, Run, Touched
from .host_nexthops import MOST_MEMBERS, is_ours

_LOG = logging.getLogger("ynl_mirror.agent.session")
#: Kinds of messages that are passed over and logged in each session: message types, and families of routes.
_LOGGED_KINDS = 8
_FOREIGN = {28: "MPLS", 128: "IPv4 multicast", 129: "IPv6 multicast"}
_DELROUTE = rtnetlink.RTM_DELROUTE
_ROUTES = (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE)
_OBJECTS = (rtnetlink.RTM_NEWNEXTHOP, rtnetlink.RTM_DELNEXTHOP)
_NO_FLAGS = bytes(4)
#: Links of a host whose sysctls are stored.
_MOST_LINKS = 65536

OnAudit = Callable[[wire.Message, Touched], None]


class Intake:
    """Takes the frames of one connection of host *name*. *on_audit* gets the answers of the wire audit; None: none."""

    def __init__(self, name: str, adj: AdjRibIn, on_audit: OnAudit | None = None) -> None:
        self.reader = RouteReader()
        self.ended = False  # the frames taken so far have had an NLMSG_DONE; the session resets it
        self._name = name
        self._adj = adj
        self._on_audit = on_audit
        self._passed_over: set[str] = set()  # kinds of messages that the log has named
        self._told_routes = self._told_objects = False  # the log has named these limits

    def take(self, payload: bytes, now: float, touched: Touched) -> list[int] | None:
        """Record the updates of a frame, and add their prefixes to *touched*.

        Returns where its messages start; None if it has more than plain additions that were stored.
        """
        adj, tables = self._adj, self._adj.tables
        roomy = adj.has_room(len(payload))
        starts: list[int] | None = []
        last: Path | None = None
        run: Run
        for kind, _flags, start, end, key, path in self.reader.scan(payload):
            if path is not last or path is None:  # routes come in runs with one path
                last = path
                if path is None:
                    self._control(kind, payload, start, end, touched)
                    starts = None
                    continue
                if path.table not in tables:
                    starts = last = None
                    continue
                run = adj.run(path, now, roomy)
                routes, named, waiting, kept, simple = run.routes, run.named, run.waiting, run.path, run.simple
                keys = touched.setdefault(path.family, set())
                if payload[start + 24 : start + 28] != _NO_FLAGS:
                    starts = None
            if kind == _DELROUTE:
                starts = None
                keys.add(key)
                adj.withdraw(run, key)
                waiting = run.waiting
            elif simple:
                keys.add(key)
                routes[key] = kept
                if waiting:
                    waiting.discard(key)
                if named is not None:
                    named[key] = kept
                if starts is not None:
                    starts.append(start)
            else:
                known = key in routes
                if adj.announce(run, key):
                    keys.add(key)
                    if starts is not None:
                        starts.append(start)
                else:
                    starts = None
                    if known:
                        keys.add(key)
        return starts

    # -- everything else

    def _control(self, kind: int, payload: bytes, start: int, end: int, touched: Touched) -> None:
        """A message other than a route of ours."""
        if kind == rtnetlink.NLMSG_DONE:
            self.ended = True
        elif kind in _OBJECTS and is_ours(payload, start, end):
            self._adj.nexthops.learn(kind, payload[start:end])
        elif kind in _OBJECTS:
            self._pass_over(f"nexthop objects (address family {_family(payload, start)}), which are not mirrored")
        elif kind in _ROUTES:
            family = _family(payload, start)
            name = _FOREIGN.get(family, "other")
            self._pass_over(f"{name} routes (address family {family}), which are not mirrored")
        elif kind == rtnetlink.RTM_NEWNETCONF:
            self._learn_sysctl(netconf_codec.decode(payload[start:end]))
        elif kind == wire.AUDIT and self._on_audit is not None:
            message = wire.decode(payload, start, end)
            if message is not None:
                self._on_audit(message, touched)
        elif kind != rtnetlink.NLMSG_NOOP:
            self._pass_over(f"netlink messages of unknown type {kind}")

    def _learn_sysctl(self, found: NetConf) -> None:
        if found.forwarding is None or found.family not in WIDTH:
            self._pass_over(f"other sysctls (address family {found.family})")
            return
        if len(self._adj.forwarding) >= _MOST_LINKS:
            raise FpmError(f"sysctls of more than {_MOST_LINKS} links")
        self._adj.set_forwarding(found.family, found.index, found.forwarding)

    def _pass_over(self, what: str) -> None:
        """Log a kind of messages that is not for the mirror, once."""
        seen = self._passed_over
        if what in seen or len(seen) >= _LOGGED_KINDS:
            return
        seen.add(what)
        more = "; further kinds are not logged" if len(seen) == _LOGGED_KINDS else ""
        self._warn(f"ignoring {what}{more}")

    def tell_limits(self) -> None:
        """Log each limit that has been reached, once."""
        adj = self._adj
        if adj.over_limit and not self._told_routes:
            self._told_routes = True
            self._warn(f"route limit reached ({adj.memory}); further routes are ignored; raise `routes` in `hosts`")
        if adj.nexthops.refused and not self._told_objects:
            self._told_objects = True
            self._warn(
                f"limit of nexthop objects reached ({adj.nexthops.most} next hops, {MOST_MEMBERS} in a group); routes "
                "that name further ones stay on the slow path; raise `routes` in `hosts`"
            )

    def _warn(self, text: str) -> None:
        _LOG.warning("%s: %s", self._name, text, extra=about(host=self._name, reason=text))


def _family(payload: bytes, start: int) -> int:
    return payload[start + rtnetlink.NLMSGHDR.size]
