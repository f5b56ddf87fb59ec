# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nexthop objects of a host, and the routes that name them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.host_nexthops import (
    MOST_MEMBERS,
    HostNexthops,
    is_ours,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    RTM_DELNEXTHOP,
    RTM_NEWNEXTHOP,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.messages import group, nexthop, single

SCOPE = (AF_INET, 254)
KEYS = [Prefix.parse(f"10.{number}.0.0/16").key for number in range(6)]


def through(number: int, metric: int = 20) -> Path:
    """A path as the host sends it."""
    return Path(AF_INET, protocol=11, metric=metric, nh_id=number)


def hops(nexthops: HostNexthops, number: int) -> list[tuple[str, int]]:
    found = nexthops.resolve(through(number)).nexthops
    return [(str(hop.gateway), hop.weight) for hop in found]


def learn(nexthops: HostNexthops, *messages: bytes) -> None:
    for message in messages:
        nexthops.learn(RTM_NEWNEXTHOP, message)


def gone(nexthops: HostNexthops, number: int) -> None:
    nexthops.learn(RTM_DELNEXTHOP, nexthop(number, kind=RTM_DELNEXTHOP))


def changed(nexthops: HostNexthops) -> dict[Path, list[int]]:
    return {path: sorted(keys) for path, keys in nexthops.take_changed()}


def test_a_route_has_the_hops_of_its_object_or_group_and_waits_without() -> None:
    nexthops = HostNexthops()
    assert nexthops.resolve(through(3)) == through(3)
    learn(nexthops, group(3, _1=1, _2=5), single(1, "192.0.2.1", 2))
    assert nexthops.resolve(through(3)) == through(3)
    learn(nexthops, single(2, "192.0.2.2", 2))
    assert hops(nexthops, 3) == [("192.0.2.1", 1), ("192.0.2.2", 5)]
    gone(nexthops, 2)
    assert hops(nexthops, 3) == []
    with_hops = Path(AF_INET, nh_id=3, nexthops=(NextHop(Address.parse("192.0.2.9"), 2),))
    assert nexthops.resolve(with_hops) is with_hops


def test_a_change_names_the_routes_of_the_object_and_of_its_groups_only() -> None:
    nexthops = HostNexthops()
    learn(nexthops, single(1, "192.0.2.1", 2), single(2, "192.0.2.2", 2), group(3, _1=1), group(4, _2=1))
    for key, number in zip(KEYS, (1, 2, 3, 4)):
        nexthops.announce(key, through(number))
    nexthops.take_changed()
    learn(nexthops, single(1, "192.0.2.9", 2))
    assert changed(nexthops) == {through(1): [KEYS[0]], through(3): [KEYS[2]]}
    assert changed(nexthops) == {}
    learn(nexthops, single(1, "192.0.2.9", 2))  # nothing new
    assert changed(nexthops) == {}
    learn(nexthops, group(4, _1=1))
    assert changed(nexthops) == {through(4): [KEYS[3]]}
    learn(nexthops, single(1, "192.0.2.1", 2))
    assert set(changed(nexthops)) == {through(1), through(3), through(4)}
    gone(nexthops, 3)
    assert changed(nexthops) == {through(3): [KEYS[2]]}


def test_a_route_that_leaves_its_object_does_not_move_with_it_any_more() -> None:
    nexthops = HostNexthops()
    learn(nexthops, single(1, "192.0.2.1", 2))
    plain = Path(AF_INET, nexthops=(NextHop(Address.parse("192.0.2.1"), 2),))
    for key in KEYS[:4]:
        nexthops.announce(key, through(1))
    nexthops.announce(KEYS[0], plain)
    nexthops.announce(KEYS[1], through(2))
    nexthops.announce(KEYS[2], through(1, metric=30))
    nexthops.drop(SCOPE, KEYS[3])
    nexthops.drop(SCOPE, KEYS[5])  # it never had one
    nexthops.take_changed()
    learn(nexthops, single(1, "192.0.2.9", 2))
    assert changed(nexthops) == {through(1, metric=30): [KEYS[2]]}
    assert nexthops.sent_path(KEYS[2], plain) == through(1, metric=30)
    assert nexthops.sent_path(KEYS[0], plain) is plain


def test_objects_beyond_the_limit_are_refused_and_those_that_go_make_room() -> None:
    nexthops = HostNexthops(most=4)
    learn(nexthops, single(1, "192.0.2.1", 2), group(3, _1=1, _2=1))
    assert (nexthops.spent, nexthops.refused) == (4, 0)
    learn(nexthops, single(2, "192.0.2.2", 2))
    assert nexthops.refused == 1
    assert hops(nexthops, 2) == hops(nexthops, 3) == []
    learn(nexthops, group(3, _1=1), single(2, "192.0.2.2", 2))
    assert (hops(nexthops, 3), hops(nexthops, 2)) == ([("192.0.2.1", 1)], [("192.0.2.2", 1)])
    # One that grows beyond the limit is no longer what it was: its routes wait.
    learn(nexthops, group(3, _1=1, _2=1, _4=1, _5=1))
    assert hops(nexthops, 3) == []


def test_a_group_of_more_members_than_anybody_has_is_refused() -> None:
    nexthops = HostNexthops()
    learn(nexthops, group(3, **{f"_{number}": 1 for number in range(10, 10 + MOST_MEMBERS)}))
    assert (nexthops.refused, nexthops.spent) == (1, 0)


def test_objects_of_other_families_are_not_ours() -> None:
    for message, ours in (
        (single(1, "192.0.2.1", 2), True),
        (single(1, "fd00::1", 2), True),
        (group(3, _1=1), True),
        (nexthop(5, family=28), False),
    ):
        assert is_ours(message, 0, len(message)) is ours


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("hop"), st.integers(1, 3), st.integers(1, 9)),
            st.tuples(st.just("group"), st.integers(4, 6), st.integers(1, 7)),
            st.tuples(st.just("gone"), st.integers(1, 6), st.just(0)),
            st.tuples(st.just("route"), st.integers(0, 5), st.integers(0, 6)),
            st.tuples(st.just("drop"), st.integers(0, 5), st.just(0)),
        ),
        max_size=40,
    )
)
def test_following_changes_is_the_same_as_resolving_everything_again(steps: list[tuple[str, int, int]]) -> None:
    nexthops = HostNexthops(most=12)
    routes: dict[int, Path] = {}  # what is announced, resolved
    plain = Path(AF_INET, nexthops=(NextHop(Address.parse("192.0.2.1"), 2),))
    for what, number, other in steps:
        if what == "hop":
            learn(nexthops, single(number, f"192.0.2.{other}", 2))
        elif what == "group":
            learn(nexthops, group(number, **{f"_{bit + 1}": 1 for bit in range(3) if other >> bit & 1}))
        elif what == "gone":
            gone(nexthops, number)
        elif what == "route":
            path = through(other) if other else plain
            nexthops.announce(KEYS[number], path)
            routes[KEYS[number]] = nexthops.resolve(path)
        else:
            nexthops.drop(SCOPE, KEYS[number])
            routes.pop(KEYS[number], None)
        for path, keys in nexthops.take_changed():
            routes.update(dict.fromkeys(keys, nexthops.resolve(path)))
        known = nexthops._objects.known.values()
        assert nexthops.spent == sum(1 + len(found.members) for found in known) <= 12
        for key, path in routes.items():
            assert path == nexthops.resolve(nexthops.sent_path(key, path))
