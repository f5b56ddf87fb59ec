# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which prefixes depend on shorter ones, and what blocks an offload; the routes themselves are in test_placement.py."""

from __future__ import annotations

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Outcome
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.wanted import Wanted, longest_first
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    RTN_BLACKHOLE,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    A,
    B,
    Own,
    hops_of,
    host,
    lab_mapper,
    view,
)

BY_B = "192.168.102.1@9"
BEHIND_B = (B, "10.0.0.0/8", "192.168.12.9@4")
TRAP = "192.168.101.2@1!"


def key(text: str) -> int:
    return Prefix.parse(text).key


def drop(text: str) -> tuple[int, Path]:
    return host(text, "", type=RTN_BLACKHOLE)


class Announced:
    """What a host has announced, and the mirrored routes that it needs."""

    def __init__(self, *routes: tuple[int, Path], more: tuple[Own, ...] = ()) -> None:
        self.paths = dict(routes)
        self.wanted = Wanted(lab_mapper(view(BEHIND_B, *more)), lambda _family, key: self.paths.get(key))
        self.wanted.everything(AF_INET, self.paths)

    def inner(self) -> set[str]:
        return {str(Prefix.from_key(AF_INET, key)) for key in self.wanted.inner[AF_INET]}

    def affected(self, *prefixes: str) -> list[str]:
        keys = self.wanted.with_inner(AF_INET, [key(text) for text in prefixes])
        return [str(Prefix.from_key(AF_INET, key)) for key in keys]

    def above(self, text: str) -> str | None:
        outcome = self.wanted.outcome(AF_INET, key(text))
        found = self.wanted.above(AF_INET, key(text), A, outcome.ways[A])
        return None if found is None else str(Prefix.from_key(AF_INET, found[0]))

    def paths_of(self, text: str) -> dict[int, str]:
        outcome: Outcome = self.wanted.outcome(AF_INET, key(text))
        ours = self.wanted.paths(AF_INET, key(text), outcome.targets, outcome.ways, key(text) in self.paths)
        return {table: hops_of(path) for table, path in ours.items()}


def test_prefixes_that_stay_slow_and_parts_depend_on_shorter_ones() -> None:
    part = (B, "10.2.0.0/16", "192.168.12.8@4")
    routes = [host("10.0.0.0/8", BY_B), host("10.3.0.0/16", BY_B), drop("10.1.0.0/16"), host("192.168.12.0/24", BY_B)]
    assert Announced(*routes, more=(part,)).inner() == {"10.1.0.0/16", "10.2.0.0/16"}


def test_a_slow_prefix_is_noted_though_no_vrf_is_known_to_lead_to_the_host() -> None:
    """The way of one may be found out with the next announcement."""
    routes = [host("10.0.0.0/8", BY_B), drop("10.1.0.0/16")]
    more = ((A, "10.0.0.0/8", "@3"), (B, "10.1.0.0/16", "192.168.12.8@4"))
    assert Announced(*routes, more=more).inner() == {"10.0.0.0/8", "10.1.0.0/16"}


def test_a_change_takes_along_what_depends_on_it() -> None:
    """The longest first, so that a trap route stands before what it protects from."""
    announced = Announced(host("10.0.0.0/8", BY_B), drop("10.1.0.0/16"), drop("10.1.1.0/24"), drop("172.16.0.0/12"))
    assert announced.affected("10.0.0.0/8") == ["10.1.1.0/24", "10.1.0.0/16", "10.0.0.0/8"]
    assert announced.affected("10.1.0.0/16") == ["10.1.1.0/24", "10.1.0.0/16"]
    assert announced.affected("10.1.1.0/24") == ["10.1.1.0/24"]
    assert announced.affected("10.2.0.0/16", "10.1.0.0/16") == ["10.1.1.0/24", "10.2.0.0/16", "10.1.0.0/16"]
    assert announced.affected("0.0.0.0/0")[-1] == "0.0.0.0/0"
    assert announced.affected() == []


def test_above_is_the_nearest_offload_unless_something_slow_is_nearer() -> None:
    routes = [host("10.0.0.0/8", BY_B), host("10.0.0.0/9", BY_B), drop("10.1.0.0/16"), drop("10.1.1.0/24")]
    announced = Announced(*routes)
    assert announced.above("10.1.0.0/16") == "10.0.0.0/9"
    assert announced.above("10.1.1.0/24") is None
    assert announced.paths_of("10.1.0.0/16") == {A: TRAP}
    assert announced.paths_of("10.1.1.0/24") == {}


def test_nothing_is_above_beyond_the_vrfs_own_route() -> None:
    announced = Announced(
        *(host("10.0.0.0/8", BY_B), drop("10.1.2.0/24")),
        more=((A, "10.1.0.0/16", "192.168.101.2@1"), (B, "10.1.0.0/16", "192.168.102.2@2")),
    )
    assert announced.above("10.1.2.0/24") is None


def test_a_blocked_offload_is_not_there() -> None:
    announced = Announced(host("10.0.0.0/8", BY_B), host("10.0.0.0/9", BY_B), drop("10.1.0.0/16"))
    announced.wanted.blocked[AF_INET, A] = {key("10.0.0.0/9"): "a reason"}
    assert announced.above("10.1.0.0/16") is None  # it stays slow itself, by a trap route
    announced.wanted.blocked[AF_INET, A] = {key("10.0.0.0/8"): "a reason"}
    assert announced.above("10.1.0.0/16") == "10.0.0.0/9"


def test_a_part_needs_an_announced_prefix_around_it() -> None:
    announced = Announced(host("10.0.0.0/8", BY_B), more=((B, "10.2.0.0/16", "192.168.12.8@4"),))
    assert announced.paths_of("10.2.0.0/16") == {A: "192.168.12.8@4!"}
    del announced.paths[key("10.0.0.0/8")]
    assert announced.wanted.outcome(AF_INET, key("10.2.0.0/16")) == Outcome({})
    assert announced.wanted.outcome(AF_INET, key("10.3.0.0/16")) == Outcome({})  # is no own route


def test_the_longest_come_first_and_others_keep_their_order() -> None:
    keys = [key(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.0.0.0/16", "0.0.0.0/0")]
    assert longest_first(AF_INET, keys) == [keys[2], keys[1], keys[3], keys[0], keys[4]]
