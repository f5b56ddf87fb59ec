# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session with a host as a state machine: bytes and time in, actions out. Pure: no socket, no clock, no kernel.

A host that connects announces all its routes: the *replay*. Routes of an earlier connection that the replay does not
name are stale, and swept at its end, but only if it is known to be complete. A listener of ours marks the end with
NLMSG_DONE. Other producers, such as FRR's zebra, mark nothing: silence for the settle time is the end then. A peer that
never completes a frame announces nothing that could be swept, so it must not reach that silence: it gets ten seconds
for its first frame, and for the rest of each frame that it has begun.

After the replay the host announces changes. If it withdraws so much at once that the guard holds the withdrawals, it
has to *confirm* them by a second replay. A producer that marked the end of its first replay is asked for another one;
while it answers, every ten seconds must bring some data. One that cannot be asked, or does not answer, is disconnected,
and the replay of its next connection confirms. If the guard has nothing to confirm any more, because the host has
announced the routes again or the time for it is over, the session goes on as before.

Hence five states, of which the last is the end, and in each of them only these events can come::

    FIRST_FRAME  connected, no whole frame yet
    REPLAYING    the first replay goes on
    SYNCED       it is complete: what the host does not name is not announced
    CONFIRMING   the host has been asked for another replay
    CLOSED       over; the announced routes stay for the next session

:data:`TRANSITIONS` has all of them. An event that is not there is a mistake of the caller, or of this file.

The shell around it (host_session.py) reads from the socket, waits and writes. It calls :meth:`SessionMachine.receive`
with what it has read, writes the prefixes that were touched to the DPU, answers, and then asks for what else is to be
done by :meth:`SessionMachine.advance`; it does so also when :meth:`SessionMachine.alarm` is over. When
:meth:`SessionMachine.patience` is over without any data, it calls :meth:`SessionMachine.silence`. Only time in which
the shell was ready to read counts as silence: data that waits in the socket while the kernel is busy is no end of a
replay.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Union

from ..daemon.logs import about
from ..fpm.audit import Message
from ..fpm.framing import Deframer, FpmError
from ..model.routes import AF_INET, AF_INET6, Path, TableKey
from ..netlink import rtnetlink
from .adj_rib_in import AdjRibIn, Touched
from .answers import Taken
from .intake import Intake

_LOG = logging.getLogger("ynl_mirror.agent.session")
#: Seconds for the first frame of a session, for the rest of a frame, and for the next data of a confirming replay.
TIMEOUT = 10.0


class State(enum.Enum):
    """Where the session is."""

    FIRST_FRAME = "first frame"
    REPLAYING = "replaying"
    SYNCED = "synced"
    CONFIRMING = "confirming"
    CLOSED = "closed"


class Event(enum.Enum):
    """What happens to it."""

    FRAME = "a whole frame"
    END = "the end of a replay, marked"
    QUIET = "no data for the settle time"
    OVERDUE = "no frame, or half a frame, for too long"
    VIOLATION = "the peer does not speak FPM or netlink"
    HELD = "withdrawals are held, and the host can be asked to confirm them"
    HELD_MUTE = "withdrawals are held, and the host cannot be asked"
    SILENT = "no data for too long while it confirms"
    TAKEN_BACK = "nothing is held any more while it confirms"
    ROOM = "there is room for routes that were ignored"
    LEFT = "the connection is over"


class Act(enum.Enum):
    """What the session does then."""

    NOTHING = enum.auto()
    SWEEP = enum.auto()  # withdraw what the replay has not named
    ASK = enum.auto()  # request another replay
    FORGET = enum.auto()  # the other replay does not matter any more
    END = enum.auto()  # disconnect the host


_OVER = {
    Event.OVERDUE: (State.CLOSED, Act.END),
    Event.VIOLATION: (State.CLOSED, Act.NOTHING),
    Event.LEFT: (State.CLOSED, Act.NOTHING),
}
#: The next state, and what is done, by state and event. What is not here cannot happen.
TRANSITIONS: Mapping[State, Mapping[Event, tuple[State, Act]]] = {
    State.FIRST_FRAME: {
        Event.FRAME: (State.REPLAYING, Act.NOTHING),
        **_OVER,
    },
    State.REPLAYING: {
        Event.FRAME: (State.REPLAYING, Act.NOTHING),
        Event.END: (State.SYNCED, Act.SWEEP),
        Event.QUIET: (State.SYNCED, Act.SWEEP),
        **_OVER,
    },
    State.SYNCED: {
        Event.FRAME: (State.SYNCED, Act.NOTHING),
        Event.END: (State.SYNCED, Act.NOTHING),
        Event.HELD: (State.CONFIRMING, Act.ASK),
        Event.HELD_MUTE: (State.CLOSED, Act.END),
        Event.ROOM: (State.CLOSED, Act.END),
        **_OVER,
    },
    State.CONFIRMING: {
        Event.FRAME: (State.CONFIRMING, Act.NOTHING),
        Event.END: (State.SYNCED, Act.SWEEP),
        Event.SILENT: (State.CLOSED, Act.END),
        Event.TAKEN_BACK: (State.SYNCED, Act.FORGET),
        Event.ROOM: (State.CLOSED, Act.END),
        **_OVER,
    },
    State.CLOSED: {Event.LEFT: (State.CLOSED, Act.NOTHING)},
}


class Sync(NamedTuple):
    """Bring these prefixes up to date on the DPU, and answer those whose state changes."""

    touched: Touched


class Replayed(NamedTuple):
    """A replay is complete, and its stale routes are swept."""

    why: str
    stale: int


class Send(NamedTuple):
    """Send this message to the host."""

    message: bytes


class End(NamedTuple):
    """Disconnect the host."""

    reason: str


Action = Union[Sync, Replayed, Send, End]


@dataclass
class Received:
    """What data has brought: prefixes to write to the DPU, frames to answer then, and why the session is over."""

    touched: Touched = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    error: ValueError | None = None  # an FpmError or a WireError


class Dpu(Protocol):
    """What the machine reads of the installed routes."""

    @property
    def installed(self) -> Mapping[TableKey, Mapping[int, Path]]:
        """The mirrored routes, by family and table of the DPU."""

    def stale_keys(self, family: int) -> list[int]:
        """Prefixes that are installed but not announced."""

    def vrf_name(self, table: int) -> str:
        """The name of a table."""

    def may_have_room(self) -> bool:
        """Whether one more prefix of the host may be admitted."""


class Audit(Protocol):
    """What the machine tells the wire audit."""

    suspended: bool

    def touch(self, touched: Touched) -> None:
        """The host has announced or withdrawn these prefixes."""

    def take(self, message: Message, touched: Touched) -> None:
        """The host has answered."""


class SessionMachine:
    """One session of host *name*, from time *now* on. *settle* is the silence that ends a replay without a mark."""

    def __init__(
        self, name: str, adj: AdjRibIn, dpu: Dpu, settle: float, now: float, audit: Audit | None = None
    ) -> None:
        self.state = State.FIRST_FRAME
        self.replayed = False  # a replay has been complete
        self.marked = False  # the host marks the end of a replay, so it may be a listener of ours
        self.intake = Intake(name, adj, None if audit is None else self._on_audit)
        self._name = name
        self._adj = adj
        self._dpu = dpu
        self._settle = settle
        self._audit = audit
        self._deframer = Deframer()
        self._due: float | None = now + TIMEOUT  # deadline of the current frame; None: no frame has begun
        self._last_data = now
        self._confirms = adj.guard.held is not None  # the next complete replay confirms what is held
        self._moved: Touched = {}  # prefixes whose nexthop objects have changed
        adj.connected()

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self.state is State.CLOSED

    # -- bytes

    def receive(self, data: bytes, now: float) -> Received:
        """Take data. What came before a malformed message counts."""
        self._last_data = now
        received = Received()
        try:
            for payload in self._deframer.feed(data):
                received.taken.append((payload, None))
                received.taken[-1] = (payload, self.intake.take(payload, now, received.touched))
        except (FpmError, rtnetlink.WireError) as error:
            received.error = error
        self._update(received.touched, now)
        if received.taken:
            self._on(Event.FRAME, now)
        if not self._deframer.waiting:
            self._due = None
        elif self._due is None or received.taken:
            self._due = now + TIMEOUT
        if received.error is not None:
            self._on(Event.VIOLATION, now)
        return received

    def _update(self, touched: Touched, now: float) -> None:
        """After the routes of some frames: what else changes by them."""
        for family, keys in self._adj.move(now).items():
            self._moved.setdefault(family, set()).update(keys)
        if self._audit is not None:
            self._audit.touch(touched)
        if self._adj.guard.waiting:
            _merge(touched, self._look(now))
        self.intake.tell_limits()

    def _on_audit(self, message: Message, touched: Touched) -> None:
        if self._audit is not None:
            self._audit.suspended = bool(self._adj.over_limit)
            self._audit.take(message, touched)

    # -- time

    def patience(self, now: float) -> float | None:
        """Seconds to wait for data, from now on; None: as long as it takes."""
        if self._due is not None:
            return max(0.0, self._due - now)
        return None if self.replayed else self._settle

    def silence(self, now: float) -> list[Action]:
        """The patience is over, and no data has come."""
        if self._due is not None:
            return self._on(Event.OVERDUE, now, _overdue(self._deframer.waiting))
        return self._on(Event.QUIET, now, f"no data for {self._settle:g} s")

    def alarm(self, now: float) -> float | None:
        """Seconds until `advance` has something to do even if nothing is received; None: nothing is waited for."""
        if self.state is State.CONFIRMING:
            return max(0.0, self._last_data + TIMEOUT - now)
        if self.state is State.SYNCED and self._adj.guard.held is not None:
            return 0.0
        return None if self.closed else self._adj.guard.due(now)

    def advance(self, now: float) -> list[Action]:
        """What is to be done now, after what was received has been written and answered."""
        actions: list[Action] = []
        if self.intake.ended:
            self.intake.ended = False
            self.marked = True
            if not self.closed:
                actions += self._on(Event.END, now, "NLMSG_DONE")
        if self._moved:
            actions.append(Sync(self._moved))
            self._moved = {}
        if self._adj.guard.due(now) == 0:
            actions.append(Sync(self._look(now)))
        return actions + self._pursue(now)

    def _pursue(self, now: float) -> list[Action]:
        """See whether the host has to confirm, or has done so, or has to replay what there was no room for."""
        held = self._adj.guard.held
        if self.state is State.SYNCED and held is not None:
            text = "does not answer requests for a replay; the replay of its next connection confirms"
            return self._on(Event.HELD if self.marked else Event.HELD_MUTE, now, text)
        if self.state is State.CONFIRMING and now >= self._last_data + TIMEOUT:
            text = "does not answer the request for a replay; the replay of its next connection confirms"
            return self._on(Event.TAKEN_BACK if held is None else Event.SILENT, now, text)
        if self.state in (State.SYNCED, State.CONFIRMING) and self._has_room_again(now):
            text = "below the route limit again: the host has to replay the routes that were ignored"
            return self._on(Event.ROOM, now, text)
        return []

    def _has_room_again(self, now: float) -> bool:
        adj = self._adj
        if not adj.over_limit or not self._dpu.may_have_room():
            return False
        return adj.memory is None or adj.memory.may_have_room(now)

    def left(self, now: float) -> list[Action]:
        """The connection is over."""
        self._on(Event.LEFT, now)
        moved, self._moved = self._moved, {}
        actions: list[Action] = [Sync(moved)]
        if self._adj.guard.held is None and self._adj.guard.number:
            actions.append(Sync(self._adj.release()))  # collected, and no more of them will follow now
        return actions

    # -- transitions

    def _on(self, event: Event, now: float, text: str = "") -> list[Action]:
        """Go to the next state; *text* says why."""
        try:
            self.state, act = TRANSITIONS[self.state][event]
        except KeyError:
            raise AssertionError(f"{event} in {self.state}") from None
        if act is Act.SWEEP:
            self.replayed = True
            return self._sweep(text, now)
        if act is Act.ASK:
            return [self._ask(now)]
        if act is Act.FORGET:
            self._adj.forget_replay()
        return [End(text)] if act is Act.END else []

    def _ask(self, now: float) -> Action:
        self._confirms = True
        self._adj.begin_replay()
        self._last_data = now
        flags = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP
        of_both_families = rtnetlink.RTMSG.pack(0, *[0] * 8)
        return Send(rtnetlink.request(rtnetlink.RTM_GETROUTE, flags, of_both_families))

    def _sweep(self, why: str, now: float) -> list[Action]:
        """Withdraw the stale routes, unless the guard holds them."""
        guard, stale = self._adj.guard, self._adj.end_replay()
        gone = {family: set(self._dpu.stale_keys(family)) for family in (AF_INET, AF_INET6)}
        for (family, _table), keys in stale.items():
            # Those that were never installed as well, so that the reasons for that are dropped.
            gone[family] |= keys
        if guard.held is not None and self._confirms:
            text = "host confirmed the held withdrawals; applying them"
            _LOG.info("%s: %s", self._name, text, extra=about(host=self._name))
        elif not guard.sweep(self._dpu.installed, gone, now):
            self._adj.hold(stale)
            self._log_held()
            return [Replayed(why, 0)]
        guard.release()
        self._adj.remove(stale)
        return [Sync(gone), Replayed(why, sum(map(len, gone.values())))]

    def _look(self, now: float) -> Touched:
        """Remove what the guard releases now; logs when it begins or ceases to hold."""
        held = self._adj.guard.held
        released = self._adj.look(self._dpu.installed, now)
        if self._adj.guard.held is not held:
            self._log_held()
        return released

    def _log_held(self) -> None:
        held = self._adj.guard.held
        if held is None:
            text = "held withdrawals cancelled: the host announced the routes again"
            _LOG.info("%s: %s", self._name, text, extra=about(host=self._name))
            return
        text = f"withdrawals held until the host confirms them: {held.words(self._dpu.vrf_name(held.scope[1]))}"
        _LOG.warning("%s: %s", self._name, text, extra=about(host=self._name, reason=text))


def _merge(touched: Touched, more: Touched) -> None:
    for family, keys in more.items():
        touched.setdefault(family, set()).update(keys)


def _overdue(waiting: int) -> str:
    if waiting:
        return f"incomplete frame ({waiting} bytes) after {TIMEOUT:g} s"
    return f"no frame within {TIMEOUT:g} s after connecting"
