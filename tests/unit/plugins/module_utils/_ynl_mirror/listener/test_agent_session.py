# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a listener sends to an agent, in which order, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.filters import Filters
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import PeerAddress
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import Deframer
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener import agent_session
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.agent_session import AgentSession
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.fib_view import FibView
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.layers import Machine, layers_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import NetConf, Rule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import netconf_codec
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    RouteReader,
    RouteWriter,
    with_route_flags,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELROUTE,
    RTM_F_OFFLOAD,
    RTM_F_OFFLOAD_FAILED,
    RTM_F_TRAP,
    RTM_NEWROUTE,
    encode_done,
    encode_error,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.filters import Selection
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib

SCOPE = (AF_INET, 254)
ONE, TWO, THREE = (Prefix.parse(f"10.{number}.0.0/16").key for number in (1, 2, 3))


def via(gateway: str, **fields: Any) -> Path:
    return Path(AF_INET, protocol=4, nexthops=(NextHop(Address.parse(gateway), 3),), **fields)


class Wire:
    """In place of the connection: what was written, in order."""

    def __init__(self) -> None:
        self.written = b""

    def writelines(self, frames: Iterable[bytes]) -> None:
        self.written += b"".join(frames)

    async def drain(self) -> None:
        pass


class Host:
    """A listener's tables and the session to its one agent, without the sockets between."""

    def __init__(self, **filters: Any) -> None:
        self.rib = Rib([254])
        self.rib.recording = True
        self.rib.tables[SCOPE] = {}
        self.watchers: list[object] = []
        self.view = FibView(self.rib)
        layers = {AF_INET: layers_of(AF_INET, [Rule(AF_INET, 32766, 254)], Machine({}))}
        self.view.compile(layers, Selection(Filters.from_dict(filters), {}), (254,))
        self.session = AgentSession(self, PeerAddress("192.0.2.1", 2620, "dpu"), None)  # type: ignore[arg-type]
        self.session.connected = True
        self.conf = [NetConf(AF_INET, 3, True)]
        self.before_flush: list[Callable[[], None]] = []

    def sysctls(self) -> list[NetConf]:
        return self.conf

    def flush(self) -> None:
        if self.before_flush:
            self.before_flush.pop(0)()
        self.session.mark(self.view.changed(self.rib.take_changed()))

    def kernel(self, kind: int, key: int, path: Path, nlflags: int = NLM_F_CREATE | NLM_F_EXCL) -> None:
        """The kernel reports a change."""
        self.rib.apply(RouteWriter(kind, nlflags).message(key, path))
        self.flush()

    def send(self) -> list[tuple[int, int, Path]]:
        """What the session sends now: (type, prefix key, path)."""
        return self._sent(self.session._send_pending)

    def replay(self) -> list[tuple[int, int, Path]]:
        """What it sends in a replay."""
        return self._sent(self.session._replay)

    def _sent(self, send: Callable[[Any], Coroutine[Any, Any, None]]) -> list[tuple[int, int, Path]]:
        wire = Wire()
        asyncio.get_event_loop_policy().get_event_loop().run_until_complete(send(wire))
        self.others = []
        sent = []
        for payload in Deframer().feed(wire.written):
            for kind, _flags, start, end, key, path in RouteReader().scan(payload):
                if path is None:
                    self.others.append(payload[start:end])
                else:
                    sent.append((kind, key, path))
        return sent

    def answer(self, key: int, path: Path, rtflags: int = RTM_F_OFFLOAD, reason: str | None = None) -> None:
        message = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE).message(key, path)
        answers = with_route_flags(message, rtflags)
        if reason is not None:
            answers += encode_error(message, 95, reason)
        self.session._answers(answers)

    def state(self, key: int) -> tuple[str, str | None]:
        return self.session.state_of(SCOPE, key)


@pytest.fixture
def host() -> Iterator[Host]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Python 3.9 ties an asyncio.Event to it
    yield Host()
    asyncio.set_event_loop(None)
    loop.close()


def test_a_route_goes_from_pending_to_offloaded(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    assert host.state(ONE) == ("pending", "not sent yet")
    assert host.send() == [(RTM_NEWROUTE, ONE, via("192.0.2.1"))]
    assert host.state(ONE) == ("pending", "sent; the consumer does not answer")
    host.kernel(RTM_NEWROUTE, TWO, via("192.0.2.1"))
    host.send()
    host.answer(TWO, via("192.0.2.1"))
    assert host.state(ONE) == ("pending", "no answer from the agent yet")
    host.answer(ONE, via("192.0.2.1"))
    assert host.state(ONE) == ("offloaded", None)
    status = host.session.status()
    assert (status["offloaded"], status["pending"], status["failed"], status["slow_path"]) == (2, 0, 0, 0)


def test_only_the_latest_of_many_changes_is_sent(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    for number in range(2, 9):
        host.kernel(RTM_NEWROUTE, ONE, via(f"192.0.2.{number}"), NLM_F_REPLACE)
    assert host.send() == [(RTM_NEWROUTE, ONE, via("192.0.2.8"))]
    host.kernel(RTM_DELROUTE, ONE, via("192.0.2.8"))
    ((kind, key, _path),) = host.send()
    assert (kind, key) == (RTM_DELROUTE, ONE)


def test_an_answer_about_an_older_version_of_a_route_says_nothing_about_the_latest(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.2"), NLM_F_REPLACE)
    host.send()
    host.answer(ONE, via("192.0.2.1"), RTM_F_OFFLOAD_FAILED, "slow path: no")
    assert host.state(ONE) == ("pending", "no answer from the agent yet")
    host.answer(ONE, via("192.0.2.2"))
    assert host.state(ONE) == ("offloaded", None)


def test_a_route_that_stays_slow_by_decision_is_so_answered(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.answer(ONE, via("192.0.2.1"), RTM_F_TRAP)
    assert host.state(ONE) == ("slow_path", "the agent gave no reason")
    host.answer(ONE, via("192.0.2.1"), RTM_F_TRAP, "slow path: no egress")
    assert host.state(ONE) == ("slow_path", "no egress")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("slow path: vrf b has no route", ("slow_path", "vrf b has no route")),
        ("failed: vrf a: no", ("failed", "vrf a: no")),
        ("table full", ("failed", "table full")),
        (None, ("failed", "the agent gave no reason")),
    ],
)
def test_a_refusal_keeps_its_reason_until_the_route_changes(
    host: Host, text: str | None, state: tuple[str, str]
) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.answer(ONE, via("192.0.2.1"), RTM_F_OFFLOAD_FAILED, text)
    assert host.state(ONE) == state
    assert host.session.status()[state[0]] == 1
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.2"), NLM_F_REPLACE)
    host.send()
    host.answer(ONE, via("192.0.2.2"))
    assert host.state(ONE) == ("offloaded", None)
    host.kernel(RTM_NEWROUTE, TWO, via("192.0.2.1"))
    host.send()
    host.answer(TWO, via("192.0.2.1"), RTM_F_OFFLOAD_FAILED, text)
    host.kernel(RTM_DELROUTE, TWO, via("192.0.2.1"))
    host.send()
    assert host.session.status()[state[0]] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [("slow path: no egress", "no egress"), ("punted", "punted"), (None, "the agent gave no reason")],
)
def test_a_trap_is_a_decision_and_no_failure(host: Host, text: str | None, reason: str) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.answer(ONE, via("192.0.2.1"), RTM_F_TRAP, text)
    assert host.state(ONE) == ("slow_path", reason)
    assert (host.session.status()["slow_path"], host.session.status()["failed"]) == (1, 0)
    host.answer(ONE, via("192.0.2.1"))
    assert host.state(ONE) == ("offloaded", None)


def test_a_refusal_of_another_message_changes_nothing(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.session._answers(encode_error(encode_done(), 95, "what is that?"))
    assert host.state(ONE)[0] == "pending"


def test_a_route_that_lost_all_hops_but_one_is_recognised_in_its_answer(host: Host) -> None:
    # A lone hop has no weight on the wire: the answer must be equal to what was sent all the same.
    hops = (NextHop(Address.parse("192.0.2.1"), 3, 7), NextHop(Address.parse("192.0.2.2"), 4))
    message = bytearray(RouteWriter(RTM_NEWROUTE, NLM_F_CREATE).message(ONE, Path(AF_INET, protocol=4, nexthops=hops)))
    message[message.index(Address.parse("192.0.2.2").packed) - 10] |= 1  # RTNH_F_DEAD
    host.rib.apply(bytes(message))
    host.flush()
    ((_kind, _key, path),) = host.send()
    assert path.nexthops == (NextHop(Address.parse("192.0.2.1"), 3),)
    host.answer(ONE, path)
    assert host.state(ONE) == ("offloaded", None)


def test_what_the_filters_exclude_is_announced_with_the_reason(host: Host) -> None:
    filtered = Host(exclude_prefixes=["10.2.0.0/16"], exclude_protocols=["zebra"])
    filtered.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    filtered.kernel(RTM_NEWROUTE, TWO, via("192.0.2.1"))
    filtered.kernel(RTM_NEWROUTE, THREE, Path(AF_INET, protocol=11, nexthops=via("192.0.2.1").nexthops))
    sent = {key: (kind, path.type, path.reason) for kind, key, path in filtered.send()}
    assert sent == {
        ONE: (RTM_NEWROUTE, 1, None),
        TWO: (RTM_NEWROUTE, 11, "filtered: the prefix matches filters.exclude_prefixes (10.2.0.0/16)"),
        THREE: (RTM_NEWROUTE, 11, "filtered: protocol zebra is in filters.exclude_protocols"),
    }
    filtered.answer(ONE, via("192.0.2.1"))
    status = filtered.session.status()
    assert (status["offloaded"], status["pending"]) == (1, 2)
    filtered.kernel(RTM_DELROUTE, THREE, Path(AF_INET, protocol=11, nexthops=via("192.0.2.1").nexthops))
    assert [(kind, key) for kind, key, _path in filtered.send()] == [(RTM_DELROUTE, THREE)]
    assert filtered.session.status()["pending"] == 1


def nested(count: int = 3, first: int = 8) -> list[int]:
    """Prefixes inside each other, the longest first."""
    return [Prefix.parse(f"10.0.0.0/{length}").key for length in range(first + count - 1, first - 1, -1)]


def test_announcements_go_out_longest_first_and_withdrawals_shortest_first_at_the_end(host: Host) -> None:
    gone, new = nested(8, 16), nested(8)
    for key in gone:
        host.kernel(RTM_NEWROUTE, key, via("192.0.2.1"))
    host.send()
    for key in reversed(gone):
        host.kernel(RTM_DELROUTE, key, via("192.0.2.1"))
    for key in reversed(new):
        host.kernel(RTM_NEWROUTE, key, via("192.0.2.1"))
    sent = [(kind, key) for kind, key, _path in host.send()]
    assert sent == [*((RTM_NEWROUTE, key) for key in new), *((RTM_DELROUTE, key) for key in reversed(gone))]


def test_longer_prefixes_that_are_marked_meanwhile_overtake(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_session, "_BATCH", 1)
    longer, middle, short = nested()
    host.kernel(RTM_NEWROUTE, middle, via("192.0.2.1"))
    host.kernel(RTM_NEWROUTE, short, via("192.0.2.1"))
    put = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    host.before_flush.append(lambda: host.rib.apply(put.message(longer, via("192.0.2.2"))))
    assert [key for _kind, key, _path in host.send()] == [middle, longer, short]
    host.before_flush = [lambda: None, lambda: host.rib.apply(put.message(nested(4)[0], via("192.0.2.2")))]
    assert [key for _kind, key, _path in host.replay()] == [longer, middle, nested(4)[0], short]


def test_a_withdrawal_waits_for_what_was_marked_before_it_was_found(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.kernel(RTM_DELROUTE, ONE, via("192.0.2.1"))
    put = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    shorter = Prefix.parse("10.0.0.0/8").key
    host.before_flush.append(lambda: host.rib.apply(put.message(shorter, via("192.0.2.2"))))
    assert [(kind, key) for kind, key, _path in host.send()] == [(RTM_NEWROUTE, shorter), (RTM_DELROUTE, ONE)]


def test_a_prefix_that_is_back_before_its_withdrawal_is_sent_stays(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.send()
    host.kernel(RTM_DELROUTE, ONE, via("192.0.2.1"))
    put = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    host.before_flush = [lambda: None, lambda: host.rib.apply(put.message(ONE, via("192.0.2.2")))]
    assert [(kind, key) for kind, key, _path in host.send()] == [(RTM_NEWROUTE, ONE)]
    assert host.state(ONE)[0] == "pending"


def test_sysctls_open_the_replay_and_follow_when_they_change(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    host.replay()
    assert [message[4] for message in host.others] == [80, 3]
    assert netconf_codec.decode(host.others[0]) == NetConf(AF_INET, 3, True)
    host.session.mark_sysctls({(AF_INET, 3): NetConf(AF_INET, 3, False)})
    host.send()
    assert [netconf_codec.decode(message) for message in host.others] == [NetConf(AF_INET, 3, False)]


def test_nothing_is_noted_while_no_agent_is_there(host: Host) -> None:
    host.session.connected = False
    host.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    assert host.send() == []
    assert host.state(ONE) == ("pending", "not connected to dpu")
    assert host.session.status()["pending"] == 1


def test_an_agent_that_names_ever_new_tables_or_sends_endless_reasons_fills_no_memory(host: Host) -> None:
    host.kernel(RTM_NEWROUTE, ONE, via("192.168.101.1"))
    host.send()
    for table in range(1000, 1100):
        host.answer(ONE, via("192.168.101.1", table=table), RTM_F_OFFLOAD_FAILED, "no")
    assert set(host.session._unanswered) | set(host.session.refused) == {SCOPE}
    assert host.state(ONE) == ("pending", "no answer from the agent yet")
    host.answer(ONE, via("192.168.101.1"), RTM_F_OFFLOAD_FAILED, "failed: " + "x" * 5000)
    state, reason = host.state(ONE)
    assert state == "failed"
    assert reason is not None
    assert len(reason) <= 1000


def test_watchers_get_each_outcome_with_its_reason(host: Host) -> None:
    events: list[dict[str, Any]] = []
    host.watchers = SimpleNamespace(publish=events.append)  # type: ignore[assignment]
    for key in (ONE, TWO):
        host.kernel(RTM_NEWROUTE, key, via("192.0.2.1"))
    host.send()
    host.answer(ONE, via("192.0.2.1"))
    host.answer(TWO, via("192.0.2.1"), RTM_F_OFFLOAD_FAILED, "slow path: no egress")
    assert [(event["state"], event["prefix"], event["reason"]) for event in events] == [
        ("offloaded", "10.1.0.0/16", None),
        ("slow_path", "10.2.0.0/16", "no egress"),
    ]
