# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Adj-RIB-In, and what the intake puts into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.adj_rib_in import AdjRibIn, Touched
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.guard import Guard
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.intake import Intake
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.limits import HostMemory
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import FpmError
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import ALL_LINKS, NetConf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import netconf_codec, rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.tests.support.build.messages import group, nexthop, single

MAIN, OTHER = (AF_INET, 254), (AF_INET, 100)
KEYS = [Prefix.parse(f"10.{number}.0.0/16").key for number in range(6)]
PUT, DROP = (RouteWriter(kind, 0) for kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE))


def via(number: int, table: int = 254) -> Path:
    return Path(AF_INET, table, protocol=4, nexthops=(NextHop(Address.parse(f"192.0.2.{number}"), 2),))


def through(number: int) -> Path:
    return Path(AF_INET, protocol=11, nh_id=number)


class Host:
    """A host, and what is kept of it."""

    def __init__(self, *, guard: bool = False, memory: int | None = None) -> None:
        self.adj = AdjRibIn((254, 100), Guard(0.5, 1) if guard else None)
        if memory is not None:
            self.adj.memory = HostMemory(memory, self.adj.routes)
        self.adj.connected()
        self.intake = Intake("host", self.adj)

    def send(self, *messages: bytes) -> tuple[Touched, list[int] | None]:
        touched: Touched = {}
        starts = self.intake.take(b"".join(messages), 0.0, touched)
        return touched, starts

    def announce(self, path: Path, *keys: int) -> tuple[Touched, list[int] | None]:
        return self.send(*(PUT.message(key, path) for key in keys))

    def withdraw(self, *keys: int) -> tuple[Touched, list[int] | None]:
        return self.send(*(DROP.message(key, Path(AF_INET, type=0)) for key in keys))


def test_the_first_table_that_has_a_prefix_wins() -> None:
    host = Host()
    host.announce(via(1, 100), *KEYS[:2])
    host.announce(via(2), KEYS[1])
    host.announce(via(3, 77), KEYS[2])
    assert [host.adj.path(AF_INET, key) for key in KEYS[:3]] == [via(1, 100), via(2), None]
    assert sorted(host.adj.keys(AF_INET)) == sorted(KEYS[:2])
    assert host.adj.keys(AF_INET6) == []
    assert host.adj.number == 3
    assert host.adj.as_sent(AF_INET, KEYS) == [(KEYS[1], via(2)), (KEYS[0], via(1, 100)), (KEYS[1], via(1, 100))]


def test_a_frame_of_plain_additions_says_where_they_start_and_any_other_does_not() -> None:
    host = Host()
    touched, starts = host.announce(via(1), *KEYS[:3])
    size = len(PUT.message(KEYS[0], via(1)))
    assert (touched, starts) == ({AF_INET: set(KEYS[:3])}, [0, size, 2 * size])
    assert host.withdraw(KEYS[0]) == ({AF_INET: {KEYS[0]}}, None)
    assert host.send(PUT.message(KEYS[0], via(1)), rtnetlink.encode_done())[1] is None
    assert host.announce(via(1, 77), KEYS[0]) == ({}, None)


def test_without_a_guard_a_withdrawn_route_goes_and_with_one_it_is_held() -> None:
    host = Host()
    host.announce(via(1), *KEYS)
    host.withdraw(*KEYS[:2])
    assert set(host.adj.routes[MAIN]) == set(KEYS[2:])
    host = Host(guard=True)
    host.announce(via(1), *KEYS)
    host.withdraw(*KEYS[:3])
    host.withdraw(Prefix.parse("172.16.0.0/12").key)
    assert set(host.adj.routes[MAIN]) == set(KEYS)
    assert host.adj.guard.waiting == {MAIN: set(KEYS[:3])}
    host.announce(via(2), KEYS[0])
    assert host.adj.guard.waiting == {MAIN: set(KEYS[1:3])}
    assert host.adj.release() == {AF_INET: set(KEYS[1:3])}
    assert set(host.adj.routes[MAIN]) == {KEYS[0], *KEYS[3:]}


def test_what_a_replay_does_not_name_is_stale() -> None:
    host = Host()
    host.announce(via(1), *KEYS[:4])
    host.announce(via(1, 100), *KEYS[:2])
    assert host.adj.end_replay() == {}
    host.adj.connected()
    host.announce(via(1), *KEYS[1:3])
    host.withdraw(KEYS[2])
    assert host.adj.end_replay() == {MAIN: {KEYS[0], KEYS[3]}, OTHER: set(KEYS[:2])}
    assert host.adj.end_replay() == {}


def test_a_replay_that_does_not_matter_any_more_makes_nothing_stale() -> None:
    host = Host(guard=True)
    host.announce(via(1), *KEYS)
    host.adj.end_replay()
    host.adj.begin_replay()
    host.announce(via(1), KEYS[0])
    host.adj.forget_replay()
    assert host.adj.end_replay() == {}


def test_a_part_that_is_sent_again_inside_a_replay_takes_nothing_from_it() -> None:
    host = Host()
    host.announce(via(1), *KEYS)
    host.adj.end_replay()
    host.adj.begin_part(MAIN)
    host.announce(via(2), KEYS[1])
    assert host.adj.end_part(MAIN) == {KEYS[1]: via(2)}
    assert host.adj.end_part(MAIN) is None
    host.adj.begin_replay()
    host.announce(via(1), KEYS[0])
    host.adj.begin_part(MAIN)
    host.announce(via(1), KEYS[1])
    host.adj.end_part(MAIN)
    host.announce(via(1), KEYS[2])
    host.adj.begin_part(MAIN)  # the end of the replay comes before that of the part
    host.announce(via(1), KEYS[3])
    assert host.adj.end_replay() == {MAIN: set(KEYS[4:])}
    assert host.adj.end_part(MAIN) is None


def test_the_part_of_a_table_that_is_not_there_is_empty() -> None:
    host = Host()
    host.adj.end_replay()
    host.adj.begin_part(OTHER)
    assert host.adj.end_replay() == {}
    host.adj.begin_part(OTHER)
    assert host.adj.end_part(OTHER) == {}


def test_where_there_is_no_room_a_route_is_ignored_and_the_one_that_it_replaces_forgotten() -> None:
    host = Host(memory=3)
    assert host.announce(via(1), *KEYS[:4])[1] is None
    assert set(host.adj.routes[MAIN]) == set(KEYS[:3])
    assert host.adj.over_limit == 1
    wide = Path(AF_INET, nexthops=tuple(NextHop(Address(AF_INET, number), 2) for number in range(70000)))
    run = host.adj.run(wide, 0.0, roomy=True)
    assert not host.adj.announce(run, KEYS[0])
    assert set(host.adj.routes[MAIN]) == set(KEYS[1:3])
    host.adj.connected()
    assert host.adj.over_limit == 0


def test_all_goes_with_the_lease() -> None:
    host = Host(guard=True)
    host.announce(via(1), *KEYS[:3])
    host.announce(via(1, 100), KEYS[3])
    host.withdraw(KEYS[0])
    assert host.adj.clear() == {AF_INET: set(KEYS[:4])}
    assert (host.adj.number, host.adj.guard.number) == (0, 0)


# -- nexthop objects


def test_routes_follow_their_object_but_for_those_that_are_held() -> None:
    host = Host(guard=True)
    host.send(single(1, "192.0.2.1", 2), PUT.message(KEYS[0], through(1)), PUT.message(KEYS[1], through(1)))
    host.send(PUT.message(KEYS[2], via(9)))
    host.withdraw(KEYS[1])
    host.adj.move(0.0)
    host.send(single(1, "192.0.2.7", 2))
    assert host.adj.move(0.0) == {AF_INET: {KEYS[0]}}
    gateways = {key: str(path.nexthops[0].gateway) for key, path in host.adj.routes[MAIN].items()}
    assert gateways == {KEYS[0]: "192.0.2.7", KEYS[1]: "192.0.2.1", KEYS[2]: "192.0.2.9"}
    assert host.adj.as_sent(AF_INET, KEYS[:1]) == [(KEYS[0], through(1))]
    host.send(nexthop(1, kind=rtnetlink.RTM_DELNEXTHOP))
    assert host.adj.move(0.0) == {AF_INET: {KEYS[0]}}
    assert host.adj.routes[MAIN][KEYS[0]] == through(1)


def test_a_replay_names_a_route_that_moves_meanwhile() -> None:
    host = Host()
    host.announce(via(1), *KEYS[:2])
    host.adj.connected()
    host.send(single(1, "192.0.2.1", 2), PUT.message(KEYS[0], through(1)), single(1, "192.0.2.2", 2))
    host.adj.move(0.0)
    assert host.adj.end_replay() == {MAIN: {KEYS[1]}}
    assert str(host.adj.routes[MAIN][KEYS[0]].nexthops[0].gateway) == "192.0.2.2"


def test_routes_that_move_to_more_next_hops_than_fit_are_forgotten() -> None:
    host = Host(memory=100)
    host.send(single(1, "192.0.2.1", 2), group(9, _1=1))
    keys = [Prefix(AF_INET, metric << 16, 16).key for metric in range(100)]
    for metric, key in enumerate(keys):
        host.announce(Path(AF_INET, metric=metric, nh_id=9), key)
    assert host.adj.number == 100
    for number in range(10, 1010):
        host.send(single(number, "192.0.2.1", 2))
    host.send(group(9, **{f"_{number}": 1 for number in range(10, 1010)}))
    assert host.adj.move(0.0) == {AF_INET: set(keys)}
    assert host.adj.number == 65  # 65,560 next hops of paths, in 1,001 each
    assert host.adj.over_limit == 35
    assert {len(path.nexthops) for path in host.adj.routes[MAIN].values()} == {1000}


# -- whether the host forwards


def conf(family: int, index: int, forwarding: bool | None) -> bytes:
    return netconf_codec.encode(NetConf(family, index, forwarding))


def test_a_hosts_word_on_forwarding_is_kept_and_its_changes_are_reported() -> None:
    host = Host()
    told: list[dict[tuple[int, int], bool]] = []
    host.adj.on_forwarding = lambda: told.append(dict(host.adj.forwarding))
    host.send(conf(AF_INET, ALL_LINKS, forwarding=False))
    host.send(conf(AF_INET, ALL_LINKS, forwarding=False), conf(AF_INET6, 7, forwarding=True))
    host.send(conf(AF_INET, ALL_LINKS, forwarding=True), conf(AF_INET, 7, None), conf(28, 7, forwarding=True))
    assert [*told[-1].items()] == [((AF_INET, ALL_LINKS), True), ((AF_INET6, 7), True)]
    assert len(told) == 3
    host.adj.end_replay()
    # The next connection counts from the end of its replay on, if it says something else.
    host.adj.connected()
    host.send(conf(AF_INET, ALL_LINKS, forwarding=True))
    assert len(host.adj.forwarding) == 2
    host.adj.end_replay()
    assert host.adj.forwarding == told[-1] == {(AF_INET, ALL_LINKS): True}
    host.adj.begin_replay()
    host.adj.end_replay()
    assert len(told) == 4


def test_sysctls_of_too_many_links_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    host.adj.forwarding = dict.fromkeys(((AF_INET, index) for index in range(65536)), True)
    with pytest.raises(FpmError, match="sysctls of more than 65536 links"):
        host.send(conf(AF_INET, 70000, forwarding=True))


# -- what there is no room for

NESTED = [Prefix(AF_INET, 10 << 24, length).key for length in range(8, 16)]
NESTED += [Prefix(AF_INET, 10 << 24 | 1 << 16, length).key for length in range(16, 20)]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(NESTED)), max_size=40), st.integers(1, 5))
def test_what_is_around_an_ignored_prefix_is_shadowed_whatever_comes_and_goes(
    steps: list[tuple[bool, int]], room: int
) -> None:
    """Nobody knows that prefix, and its packets follow the next shorter one: it must not be offloaded."""
    host = Host(memory=room)
    announced: set[int] = set()
    for announces, key in steps:
        if announces:
            host.announce(via(1), key)
            announced.add(key)
        else:
            host.withdraw(key)
            announced.discard(key)
        stored = set(host.adj.keys(AF_INET))
        for ignored in announced - stored:
            prefix = Prefix.from_key(AF_INET, ignored)
            around = [key for key in stored if Prefix.from_key(AF_INET, key).covers(prefix)]
            assert not around or max(around) in host.adj.shadowed[AF_INET], (prefix, steps)


def test_another_connection_begins_without_shadows() -> None:
    host = Host(memory=1)
    host.announce(via(1), NESTED[0])
    host.announce(via(1), NESTED[1])
    assert host.adj.take_shadowed(AF_INET) == {NESTED[0]}
    assert host.adj.take_shadowed(AF_INET) == set()
    host.adj.connected()
    assert not host.adj.shadowed
