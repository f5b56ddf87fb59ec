# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session with a host as a state machine: its table, its times, and random streams in random cuts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.adj_rib_in import AdjRibIn
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.guard import Guard
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.limits import HostMemory
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.session_machine import (
    TIMEOUT,
    TRANSITIONS,
    Action,
    End,
    Event,
    Replayed,
    Send,
    SessionMachine,
    State,
    Sync,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import frame
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
    TableKey,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.tests.support.peers import fpm as peer

SCOPE, VRF = (AF_INET, 254), (AF_INET, 20)
PREFIXES = [f"10.{number}.0.0/16" for number in range(200)]
SETTLE = 5.0
PUT, DROP = (RouteWriter(kind, 0) for kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE))


def key_of(prefix: str) -> int:
    return Prefix.parse(prefix).key


def via(number: int) -> Path:
    return Path(AF_INET, protocol=4, nexthops=(NextHop(Address.parse(f"192.0.2.{number}"), 2),))


def announce(*prefixes: str, by: int = 1) -> bytes:
    return b"".join(PUT.message(key_of(prefix), via(by)) for prefix in prefixes)


def withdraw(*prefixes: str) -> bytes:
    return b"".join(DROP.message(key_of(prefix), Path(AF_INET, type=0)) for prefix in prefixes)


DONE = rtnetlink.encode_done()


class Dpu:
    """Installs whatever is announced into one VRF."""

    def __init__(self, adj: AdjRibIn) -> None:
        self.adj = adj
        self.installed: Mapping[TableKey, dict[int, Path]] = {VRF: {}}

    def stale_keys(self, family: int) -> list[int]:
        return [key for key in self.installed[VRF] if family == AF_INET and self.adj.path(family, key) is None]

    def vrf_name(self, table: int) -> str:
        return f"vrf{table}"

    def may_have_room(self) -> bool:
        return True

    def sync(self, touched: dict[int, set[int]]) -> None:
        for key in touched.get(AF_INET, ()):
            path = self.adj.path(AF_INET, key)
            if path is None:
                self.installed[VRF].pop(key, None)
            else:
                self.installed[VRF][key] = path


class Shell:
    """What host_session.py does, without sockets, tasks and a clock."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.adj = AdjRibIn((254,), guard)
        self.dpu = Dpu(self.adj)
        self.now = 1000.0
        self.connect()

    def connect(self) -> None:
        self.machine = SessionMachine("host", self.adj, self.dpu, SETTLE, self.now)
        self.log: list[Action] = []
        self.read()

    def send(self, *payloads: bytes) -> None:
        """The host sends frames with these payloads."""
        self.bytes(b"".join(map(frame, payloads)))

    def bytes(self, data: bytes) -> None:
        received = self.machine.receive(data, self.now)
        self.dpu.sync(received.touched)
        self.error = received.error
        self.advance()
        self.read()

    def advance(self) -> None:
        while not self.machine.closed:
            actions = self.machine.advance(self.now)
            if not actions:
                break
            self.carry_out(actions)

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Sync):
                self.dpu.sync(action.touched)
            else:
                self.log.append(action)

    def wait(self, seconds: float) -> None:
        """So much time passes without any data."""
        end = self.now + seconds
        while not self.machine.closed:
            alarm = self.machine.alarm(self.now)
            times = [self.quiet, None if alarm is None else self.now + alarm]
            due = [time for time in times if time is not None and time <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            if self.quiet is not None and self.now >= self.quiet:
                self.carry_out(self.machine.silence(self.now))
                self.read()
            self.advance()
        self.now = end

    def read(self) -> None:
        """Begin to wait for data."""
        patience = self.machine.patience(self.now)
        self.quiet = None if patience is None else self.now + patience

    def leave(self) -> None:
        self.carry_out(self.machine.left(self.now))

    @property
    def mirrored(self) -> set[str]:
        return {str(Prefix.from_key(AF_INET, key)) for key in self.dpu.installed[VRF]}

    def ended(self) -> str | None:
        return next((action.reason for action in self.log if isinstance(action, End)), None)


# -- the table


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_event_is_in_the_table_or_refused(state: State, event: Event) -> None:
    shell = Shell()
    shell.machine.state = state
    if event in TRANSITIONS[state]:
        shell.machine._on(event, shell.now)
        assert shell.machine.state is TRANSITIONS[state][event][0]
    else:
        with pytest.raises(AssertionError, match=f"{event} in {state}"):
            shell.machine._on(event, shell.now)
        assert shell.machine.state is state


def test_every_state_is_reached_from_the_first_and_reaches_the_last() -> None:
    assert set(TRANSITIONS) == set(State)
    reached: dict[State, set[State]] = {}
    for start in State:
        found, todo = {start}, [start]
        while todo:
            new = {target for target, _act in TRANSITIONS[todo.pop()].values()} - found
            found |= new
            todo += new
        reached[start] = found
    assert reached[State.FIRST_FRAME] == set(State)
    assert all(State.CLOSED in found for found in reached.values())
    assert reached[State.CLOSED] == {State.CLOSED}


def test_every_event_happens_somewhere() -> None:
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


# -- replays


def test_a_marked_end_sweeps_what_the_replay_has_not_named() -> None:
    shell = Shell()
    shell.send(announce(*PREFIXES[:3]), DONE)
    assert shell.machine.state is State.SYNCED
    shell.leave()
    shell.connect()
    shell.send(announce(*PREFIXES[1:2]))
    assert (shell.machine.state, shell.mirrored) == (State.REPLAYING, set(PREFIXES[:3]))
    shell.send(announce(PREFIXES[4]), DONE)
    assert shell.mirrored == {PREFIXES[1], PREFIXES[4]}
    assert shell.log == [Replayed("NLMSG_DONE", 2)]
    shell.send(DONE)  # once more, unasked
    assert shell.mirrored == {PREFIXES[1], PREFIXES[4]}


def test_silence_ends_a_replay_without_a_mark_and_data_puts_it_off() -> None:
    shell = Shell()
    shell.dpu.installed[VRF][key_of("10.99.0.0/16")] = via(1)  # an earlier agent's
    shell.send(announce(PREFIXES[0]))
    shell.wait(SETTLE - 1)
    shell.send(announce(PREFIXES[1]))
    shell.wait(SETTLE - 1)
    assert not shell.machine.replayed
    shell.wait(1.5)
    assert (shell.machine.state, shell.mirrored) == (State.SYNCED, set(PREFIXES[:2]))
    assert shell.log == [Replayed("no data for 5 s", 1)]
    shell.wait(1000)
    assert shell.machine.state is State.SYNCED


def test_who_says_nothing_is_disconnected_and_nothing_is_swept() -> None:
    shell = Shell()
    shell.dpu.installed[VRF][key_of(PREFIXES[0])] = via(1)
    shell.wait(TIMEOUT + 1)
    assert (shell.machine.state, shell.mirrored) == (State.CLOSED, {PREFIXES[0]})
    assert shell.ended() == "no frame within 10 s after connecting"


@pytest.mark.parametrize("before", [b"", frame(announce(PREFIXES[1]))])
def test_half_a_frame_is_waited_for_ten_seconds_however_slowly_it_comes(before: bytes) -> None:
    shell = Shell()
    shell.dpu.installed[VRF][key_of(PREFIXES[0])] = via(1)
    data = frame(announce(PREFIXES[2]))
    shell.bytes(before + data[:20])
    for at in range(20, 29):
        shell.wait(1)
        shell.bytes(data[at : at + 1])
    assert not shell.machine.closed
    shell.wait(1)
    assert (shell.machine.state, shell.ended()) == (State.CLOSED, "incomplete frame (29 bytes) after 10 s")
    assert PREFIXES[0] in shell.mirrored
    assert not shell.machine.replayed


def test_what_came_before_something_malformed_counts() -> None:
    shell = Shell()
    shell.bytes(frame(announce(PREFIXES[0])) + b"GET / HTTP/1.1\r\n\r\n")
    assert (shell.machine.state, shell.mirrored) == (State.CLOSED, {PREFIXES[0]})
    assert "not an FPM frame" in str(shell.error)


# -- confirmations


def guarded(*, marked: bool = True) -> Shell:
    """A session that is synced, with a guard that holds more than half of 100 routes."""
    shell = Shell(Guard(0.5, 10))
    shell.send(announce(*PREFIXES[:100]), *([DONE] if marked else []))
    shell.wait(SETTLE + 1)
    assert shell.machine.state is State.SYNCED
    shell.log.clear()
    return shell


def test_a_host_is_asked_to_confirm_and_its_replay_is_obeyed() -> None:
    shell = guarded()
    shell.send(withdraw(*PREFIXES[:80]))
    assert (shell.machine.state, len(shell.mirrored)) == (State.CONFIRMING, 100)
    (asked,) = shell.log
    assert isinstance(asked, Send)
    assert next(rtnetlink.messages(asked.message))[0] == rtnetlink.RTM_GETROUTE
    shell.send(announce(*PREFIXES[70:90]), DONE)
    assert (shell.machine.state, shell.mirrored) == (State.SYNCED, set(PREFIXES[70:90]))
    assert shell.adj.guard.held is None


def test_a_host_that_cannot_be_asked_is_disconnected_and_confirms_when_it_is_back() -> None:
    shell = guarded(marked=False)
    shell.send(withdraw(*PREFIXES[:80]))
    assert (shell.machine.state, len(shell.mirrored)) == (State.CLOSED, 100)
    assert str(shell.ended()).startswith("does not answer requests for a replay")
    shell.leave()
    shell.connect()
    shell.send(announce(*PREFIXES[90:]))
    shell.wait(SETTLE + 1)
    assert shell.mirrored == set(PREFIXES[90:])


def test_a_host_that_stops_confirming_is_disconnected() -> None:
    shell = guarded()
    shell.send(withdraw(*PREFIXES[:80]))
    for _second in range(12):  # as long as something comes it is waited for
        shell.wait(TIMEOUT - 1)
        shell.send(announce(PREFIXES[0]))
    assert shell.machine.state is State.CONFIRMING
    shell.wait(TIMEOUT + 1)
    assert (shell.machine.state, len(shell.mirrored)) == (State.CLOSED, 100)


def test_a_host_that_announces_everything_again_has_nothing_to_confirm() -> None:
    shell = guarded()
    shell.send(withdraw(*PREFIXES[:80]))
    shell.send(announce(*PREFIXES[:80]))
    assert (shell.machine.state, shell.adj.guard.held) == (State.CONFIRMING, None)
    shell.wait(TIMEOUT + 1)
    assert (shell.machine.state, len(shell.mirrored)) == (State.SYNCED, 100)
    shell.send(announce(PREFIXES[0]), DONE)  # the end of the replay that nobody waits for any more
    assert len(shell.mirrored) == 100


def test_some_withdrawals_are_collected_and_go_with_the_connection_at_the_latest() -> None:
    for leave in (False, True):
        shell = guarded()
        shell.send(withdraw(*PREFIXES[:20]))
        assert len(shell.mirrored) == 100
        if leave:
            shell.leave()
        else:
            shell.wait(1)
        assert len(shell.mirrored) == 80


# -- limits


def test_room_again_means_a_new_replay() -> None:
    shell = Shell()
    shell.adj.memory = HostMemory(16, shell.adj.routes)
    shell.connect()
    shell.send(announce(*PREFIXES[:20]), DONE)
    assert (shell.machine.state, len(shell.mirrored), shell.adj.over_limit) == (State.SYNCED, 16, 4)
    shell.send(withdraw(PREFIXES[0]))
    assert shell.machine.state is State.SYNCED  # an eighth has to be free
    shell.send(withdraw(PREFIXES[1]))
    assert shell.machine.state is State.CLOSED
    assert str(shell.ended()).startswith("below the route limit again")


# -- everything, in any order


class Sessions(RuleBasedStateMachine):
    """Random frames, cut anywhere, from one connection after the other; a dictionary knows what has to come out."""

    @initialize()
    def start(self) -> None:
        self.shell = Shell()
        self.announced: dict[str, int] = {}
        self.named: set[str] | None = set()  # in this replay; None when it is over
        self.stream = b""
        self.old: set[str] = set()

    def cut(self, data: bytes, cuts: list[int]) -> None:
        """Send it in pieces; the last one may wait."""
        data, start = self.stream + data, 0
        for at in sorted({cut % (len(data) + 1) for cut in cuts}):
            if at > start:
                self.shell.bytes(data[start:at])
                start = at
        self.shell.bytes(data[start:])
        self.stream = b""

    @precondition(lambda self: not self.shell.machine.closed)
    @rule(
        steps=st.lists(
            st.tuples(st.sampled_from(("add", "drop", "done", "noop", "label")), st.integers(0, 9), st.integers(1, 3)),
            min_size=1,
            max_size=8,
        ),
        together=st.booleans(),
        cuts=st.lists(st.integers(0, 4096), max_size=5),
    )
    def send(self, steps: list[tuple[str, int, int]], together: bool, cuts: list[int]) -> None:
        payloads = []
        for what, number, other in steps:
            prefix = PREFIXES[number]
            if what == "add":
                payloads.append(announce(prefix, by=other))
                self.announced[prefix] = other
                if self.named is not None:
                    self.named.add(prefix)
            elif what == "drop":
                payloads.append(withdraw(prefix))
                self.announced.pop(prefix, None)
                if self.named is not None:
                    self.named.discard(prefix)
            elif what == "label":
                payloads.append(peer.label_route(number + 16, "192.0.2.1"))
            elif what == "noop":
                payloads.append(rtnetlink.request(rtnetlink.NLMSG_NOOP, 0))
        self.cut(frame(b"".join(payloads)) if together else b"".join(map(frame, payloads)) or frame(b""), cuts)
        if any(what == "done" for what, _number, _other in steps):
            self.shell.send(DONE)
            self.complete()

    def complete(self) -> None:
        if self.named is not None:
            self.announced = {prefix: by for prefix, by in self.announced.items() if prefix in self.named}
            self.named = None

    @precondition(lambda self: not self.shell.machine.closed)
    @rule(seconds=st.sampled_from((0.1, 1.0, SETTLE + 1, TIMEOUT + 1)))
    def wait(self, seconds: float) -> None:
        first = self.shell.machine.state is State.FIRST_FRAME
        self.shell.wait(seconds)
        if first:
            assert self.shell.machine.closed == (self.shell.ended() is not None)
        elif seconds > SETTLE:
            self.complete()

    @rule(garbage=st.booleans())
    def reconnect(self, garbage: bool) -> None:
        if garbage and not self.shell.machine.closed:
            self.shell.bytes(frame(announce(PREFIXES[0], by=1))[:-3] + b"\xff" * 8)
            self.shell.bytes(b"\xff" * 8) if not self.shell.machine.closed else None
            assert self.shell.machine.closed
        self.shell.leave()
        self.shell.connect()
        self.named = set()
        if garbage:  # whether the last route counted depends on where it was cut off
            self.announced = {
                str(Prefix.from_key(AF_INET, key)): int(str(path.nexthops[0].gateway).rpartition(".")[2])
                for key, path in self.shell.adj.routes.get(SCOPE, {}).items()
            }

    @invariant()
    def what_is_announced_is_installed(self) -> None:
        routes = self.shell.adj.routes.get(SCOPE, {})
        assert routes == {key_of(prefix): via(by) for prefix, by in self.announced.items()}
        assert self.shell.dpu.installed[VRF] == routes
        assert (self.named is None) == self.shell.machine.replayed


TestSessions = settings(max_examples=60, stateful_step_count=20, deadline=None)(Sessions).TestCase


def test_the_answer_to_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session without an audit passes its messages over, like others that it does not know."""
    shell = Shell()
    seen: list[Any] = []
    monkeypatch.setattr(shell.machine.intake, "_warn", seen.append)
    unknown = rtnetlink.request(0x7901, 0, bytes(32))
    shell.send(unknown + unknown + announce(PREFIXES[0]))
    assert seen == ["ignoring netlink messages of unknown type 30977"]
    assert shell.mirrored == {PREFIXES[0]}
