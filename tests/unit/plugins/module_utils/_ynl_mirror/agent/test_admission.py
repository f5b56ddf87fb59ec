# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may fill: its policy, its limits and those of VRFs, and that room which comes back is used."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.admission import Admission
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.host_policy import (
    HostPolicy,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.prefix_rules import PrefixRule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    Address,
    NextHop,
    Path,
    Prefix,
)

VRFS = (Vrf("a", 10), Vrf("b", 20))
BOTH = {10: Path(AF_INET, 10, nexthops=(NextHop(None, 3),)), 20: Path(AF_INET, 20, nexthops=(NextHop(None, 3),))}
ONLY_A = {10: BOTH[10]}
HOST = Path(AF_INET, nexthops=(NextHop(Address.parse("192.0.2.1"), 2),))
TWO_HOPS = Path(AF_INET, nexthops=(NextHop(Address.parse("192.0.2.1"), 2), NextHop(Address.parse("192.0.2.2"), 2)))


class Desk:
    """An admission and what it lets be installed, as the mirror keeps both."""

    def __init__(self, vrf_limits: dict[str, int] | None = None, **policy: Any) -> None:
        self.admission = Admission("host1", HostPolicy.from_dict(policy), vrf_limits or {})
        self.installed: dict[tuple[int, int], dict[int, Path]] = {(f, t): {} for f in (2, 10) for t in (10, 20)}

    def put(
        self, prefix: str, path: Path = HOST, targets: dict[int, Path] | None = None
    ) -> tuple[list[int], str | None]:
        """The host names a route: the tables that it gets into, and why not all."""
        value = Prefix.parse(prefix)
        self.admission.open(VRFS, self.installed)
        got, reason = self.admission.admit(value.family, value.key, path, targets or BOTH)
        for table in (10, 20):
            self.installed[value.family, table].pop(value.key, None)
            if table in got:
                self.installed[value.family, table][value.key] = got[table]
        return sorted(got), reason

    def drop(self, prefix: str) -> None:
        """The host withdraws it."""
        value = Prefix.parse(prefix)
        self.admission.leave(value.family, value.key)
        for table in (10, 20):
            self.installed[value.family, table].pop(value.key, None)

    def with_room(self) -> list[str]:
        """The prefixes whose turn it is."""
        found = self.admission.with_room()
        return [str(Prefix.from_key(family, key)) for family, keys in found.items() for key in keys]


def test_without_a_policy_nobody_has_to_ask() -> None:
    assert not Desk().admission.needed
    assert not Desk(withdraw_after=5).admission.needed
    assert Desk({"*": 5}).admission.needed
    assert Desk(nexthops=1).admission.needed


def test_a_route_goes_only_into_the_vrfs_that_its_host_may_fill() -> None:
    desk = Desk(vrfs=["b"])
    assert desk.put("10.0.0.0/24") == ([20], None)
    assert desk.put("10.0.1.0/24", targets=ONLY_A) == ([], "policy: host1 may not install routes in VRF a")
    assert list(desk.admission.notes()) == ["policy: host1 may install routes in VRF b only"]


def test_prefixes_and_their_exceptions_decide_as_in_the_listeners_filters() -> None:
    desk = Desk(prefixes=["10.0.0.0/8", "exact 0.0.0.0/0"], exclude_prefixes=["10.9.0.0/16"])
    assert desk.put("10.1.0.0/16") == desk.put("0.0.0.0/0") == ([10, 20], None)
    assert desk.put("10.9.1.0/24") == (
        [],
        "policy: host1 may not install this prefix: `exclude_prefixes` has 10.9.0.0/16",
    )
    for other in ("11.0.0.0/8", "0.0.0.0/1", "fd00::/64"):
        reason = "policy: host1 may not install this prefix: not covered by `prefixes`"
        assert desk.put(other) == ([], reason)


def test_types_and_next_hops_are_limited_for_the_hosts_route_and_for_what_comes_of_it() -> None:
    desk = Desk(types=["unicast"], nexthops=1)
    assert desk.put("10.0.0.0/24") == ([10, 20], None)
    blackhole = Path(AF_INET, type=RTN_BLACKHOLE)
    assert desk.put("10.0.0.0/24", blackhole) == ([], "policy: host1 may not install blackhole routes")
    too_many = ([], "over the limit of 1 next hops: the route has 2")
    assert desk.put("10.0.0.0/24", TWO_HOPS) == too_many
    assert desk.put("10.0.0.0/24", targets={10: TWO_HOPS}) == too_many


def test_over_its_limit_a_host_waits_and_gets_in_when_it_withdraws_something() -> None:
    desk = Desk(routes=2)
    over = ([], "over the limit of 2 routes from host1")
    assert desk.put("10.0.0.0/24") == desk.put("fd00::/64") == ([10, 20], None)
    assert desk.put("10.0.2.0/24") == desk.put("10.0.3.0/24") == over
    assert desk.put("10.0.0.0/24") == ([10, 20], None)  # who is in may change
    assert desk.admission.status() == {"routes_limit": 2, "routes_waiting": 2}
    assert desk.with_room() == []
    desk.drop("fd00::/64")
    assert desk.with_room() == ["10.0.2.0/24"]  # who came first
    assert desk.put("10.0.2.0/24") == ([10, 20], None)
    assert desk.with_room() == []
    desk.drop("10.0.3.0/24")
    desk.drop("10.0.0.0/24")
    assert desk.admission.status()["routes_waiting"] == 0


def test_a_route_that_the_policy_refuses_gives_its_place_back() -> None:
    desk = Desk(routes=1, nexthops=1)
    assert desk.put("10.0.0.0/24")[0]
    assert not desk.put("10.0.1.0/24")[0]
    assert not desk.put("10.0.0.0/24", TWO_HOPS)[0]
    assert desk.with_room() == ["10.0.1.0/24"]


def test_a_full_vrf_refuses_and_the_others_take_the_route_all_the_same() -> None:
    desk = Desk({"a": 1, "*": 2})
    over_a, over_b = (f"VRF {name}: over the limit of {limit} routes" for name, limit in (("a", 1), ("b", 2)))
    assert desk.put("10.0.0.0/24") == ([10, 20], None)
    assert desk.put("10.0.1.0/24") == ([20], over_a)
    assert desk.put("10.0.2.0/24") == ([], over_b)
    assert desk.put("10.0.0.0/24") == ([10, 20], None)
    desk.drop("10.0.0.0/24")
    assert sorted(set(desk.with_room())) == ["10.0.1.0/24", "10.0.2.0/24"]
    assert desk.put("10.0.1.0/24") == ([10, 20], None)
    assert desk.put("10.0.2.0/24") == ([20], over_a)


def test_what_is_installed_when_an_agent_starts_keeps_its_place() -> None:
    desk = Desk(routes=2)
    keys = [Prefix.parse(prefix).key for prefix in ("10.0.5.0/24", "10.0.6.0/24", "10.0.7.0/24")]
    desk.admission.reserve(AF_INET, keys)
    assert desk.put("10.0.0.0/24")[0] == []
    assert desk.put("10.0.5.0/24")[0] == [10, 20]
    desk.admission.leave(AF_INET, keys[1])  # the replay did not name it
    assert desk.with_room() == ["10.0.0.0/24"]


def test_a_lower_limit_of_a_vrf_removes_what_is_too_much() -> None:
    desk = Desk({"a": 3})
    for number in range(3):
        assert desk.put(f"10.0.{number}.0/24")[1] is None
    desk.admission = Admission("host1", HostPolicy(), {"a": 1})
    for number in range(3):
        desk.put(f"10.0.{number}.0/24")
    assert len(desk.installed[AF_INET, 10]) == 1
    assert len(desk.installed[AF_INET, 20]) == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_once_all_that_may_get_in_was_tried_no_place_is_free_while_somebody_waits(
    events: list[tuple[bool, int]], routes: int, vrf: int
) -> None:
    """And no limit is ever exceeded, whatever the host says in which order."""
    desk = Desk({"a": vrf}, routes=routes)
    named: set[str] = set()
    for put, number in events:
        prefix = f"10.0.{number}.0/24" if number % 2 else f"fd00:{number}::/64"
        if put:
            named.add(prefix)
            desk.put(prefix, targets=ONLY_A)
        else:
            named.discard(prefix)
            desk.drop(prefix)
        assert _in_a(desk) <= min(routes, vrf)
        for _turn in range(100):
            waiting = desk.with_room()
            if not waiting:
                break
            for prefix in waiting:
                desk.put(prefix, targets=ONLY_A)
        assert not desk.with_room()
        assert _in_a(desk) == min(routes, vrf, len(named))


def _in_a(desk: Desk) -> int:
    return sum(len(desk.installed[family, 10]) for family in (AF_INET, AF_INET6))


@given(
    rule=st.sampled_from(["10.0.0.0/8", "exact 10.0.0.0/8", "0.0.0.0/0", "exact ::/0", "fd00::/16", "10.1.2.3/32"]),
    prefix=st.sampled_from(
        ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "fd00::/16", "fd00::1/128", "10.1.2.3/32"]
    ),
)
def test_prefixes_mean_what_they_mean_in_the_listeners_filters(rule: str, prefix: str) -> None:
    meant = PrefixRule.from_text(rule, "rule").matches(Prefix.parse(prefix))
    assert bool(Desk(prefixes=[rule]).put(prefix)[0]) is meant
    assert bool(Desk(exclude_prefixes=[rule]).put(prefix)[0]) is not meant
