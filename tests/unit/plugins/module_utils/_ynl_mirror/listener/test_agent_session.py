# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a listener sends to an agent, in which order, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.filters import Filters
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import PeerAddress
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.agent_session import (
    AgentSession,
    spread,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
)
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


class Host:
    """A listener's tables and the session to its one agent, without the sockets between."""

    def __init__(self, **filters: Any) -> None:
        self.rib = Rib([254])
        self.rib.recording = True
        self.rib.tables[SCOPE] = {}
        self.watchers: list[object] = []
        self.selection = Selection(Filters.from_dict(filters), {}, self.rib.reader)
        self.session = AgentSession(self, PeerAddress("192.0.2.1", 2620, "dpu"), None)  # type: ignore[arg-type]
        self.session.connected = True

    def kernel(self, kind: int, key: int, path: Path, nlflags: int = NLM_F_CREATE | NLM_F_EXCL) -> None:
        """The kernel reports a change."""
        self.rib.apply(RouteWriter(kind, nlflags).message(key, path))
        self.session.mark(self.rib.take_changed())

    def send(self) -> list[tuple[int, int, Path]]:
        """What the session sends now: (type, prefix key, path)."""
        sent = []
        for scope, keys in list(self.session._pending.items()):
            del self.session._pending[scope]
            for message in self.session._messages(scope, sorted(keys)):
                (found,) = RouteReader().routes(message)
                sent.append((found.type, found.key, found.path))
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


@given(st.integers(0, 5000))
def test_a_replay_in_strides_names_every_route_once_and_neighbours_apart(count: int) -> None:
    strides = list(spread(list(range(count))))
    assert sorted(key for stride in strides for key in stride) == list(range(count))
    assert all(strides)
    for stride in strides:
        assert all(after - before == 1024 for before, after in zip(stride, stride[1:]))
    if count >= 1024:
        assert [stride[0] for stride in strides[:5]] == [0, 512, 256, 768, 128]


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
    host.session.mark(host.rib.take_changed())
    ((_kind, _key, path),) = host.send()
    assert path.nexthops == (NextHop(Address.parse("192.0.2.1"), 3),)
    host.answer(ONE, path)
    assert host.state(ONE) == ("offloaded", None)


def test_what_the_filters_keep_is_withdrawn_and_counted(host: Host) -> None:
    filtered = Host(exclude_prefixes=["10.2.0.0/16"], exclude_protocols=["zebra"])
    filtered.kernel(RTM_NEWROUTE, ONE, via("192.0.2.1"))
    filtered.kernel(RTM_NEWROUTE, TWO, via("192.0.2.1"))
    filtered.kernel(RTM_NEWROUTE, THREE, Path(AF_INET, protocol=11, nexthops=via("192.0.2.1").nexthops))
    sent = [(kind, key) for kind, key, _path in filtered.send()]
    assert sorted(sent) == sorted([(RTM_NEWROUTE, ONE), (RTM_DELROUTE, TWO), (RTM_DELROUTE, THREE)])
    filtered.answer(ONE, via("192.0.2.1"))
    status = filtered.session.status()
    assert (status["excluded"], status["offloaded"], status["pending"]) == (2, 1, 0)
    filtered.kernel(RTM_DELROUTE, TWO, via("192.0.2.1"))
    filtered.send()
    assert filtered.session.status()["excluded"] == 1


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
