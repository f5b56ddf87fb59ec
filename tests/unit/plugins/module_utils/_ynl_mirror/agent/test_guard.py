# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which withdrawals are carried out at once, which are collected for a moment, and which the host has to confirm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.guard import LONGEST, QUIET, Guard
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6, Path

HOST = (AF_INET, 254)
VRF = (AF_INET, 20)
PATH = Path(AF_INET)


class Table:
    """A VRF's mirrored routes, and a host that withdraws some of them through a guard."""

    def __init__(self, count: int, share: float = 0.5, routes: int = 100) -> None:
        self.installed = {VRF: dict.fromkeys(range(1, count + 1), PATH), (AF_INET, 10): {}}
        self.guard = Guard(share, routes)

    def withdraw(self, keys: range, now: float) -> int:
        """The host withdraws these; how many are carried out by now."""
        self.guard.waiting.setdefault(HOST, set()).update(keys)
        return self.look(now)

    def look(self, now: float) -> int:
        released = self.guard.look(self.installed, now)
        for key in released.get(HOST, ()):
            self.installed[VRF].pop(key, None)
        return sum(map(len, released.values()))


@pytest.mark.parametrize(
    ("total", "going", "held"), [(150, 100, False), (150, 101, True), (400, 200, False), (400, 201, True)]
)
def test_more_than_the_share_and_more_than_the_number_is_held(total: int, going: int, held: bool) -> None:
    table = Table(total)
    table.withdraw(range(1, going + 1), 0.0)
    assert (table.guard.held is not None) == held
    table.look(QUIET + 0.01)
    assert len(table.installed[VRF]) == (total if held else total - going)
    assert table.guard.number == (going if held else 0)


def test_a_few_go_without_delay() -> None:
    table = Table(10000)
    assert table.withdraw(range(1, 101), 0.0) == 100
    assert table.guard.due(0.0) is None


def test_what_lies_between_is_collected_until_no_more_comes() -> None:
    table = Table(1000)
    assert table.withdraw(range(1, 301), 0.0) == 0
    assert table.guard.due(0.05) == pytest.approx(QUIET - 0.05)
    assert table.look(QUIET / 2) == 0
    assert table.look(QUIET + 0.01) == 300


def test_a_flood_that_comes_in_parts_is_held_as_a_whole() -> None:
    table = Table(10000)
    gone = sum(table.withdraw(range(part * 400 + 1, part * 400 + 401), part * 0.01) for part in range(25))
    assert gone <= 500  # a tenth of what would be held went before it showed what it is
    assert table.guard.held is not None
    assert table.guard.held.scope == VRF
    assert len(table.installed[VRF]) == 10000 - gone


def test_a_flood_that_does_not_end_is_judged_all_the_same() -> None:
    table = Table(100000)
    now, gone = 0.0, 0
    while now <= LONGEST + QUIET:
        first = int(now * 1000) * 5 + 1
        gone += table.withdraw(range(first, first + 500), now)
        now += QUIET / 2
    assert gone > 9000


def test_withdrawals_with_time_between_them_are_not_at_once() -> None:
    table = Table(150)
    for part in range(3):
        assert table.withdraw(range(part * 50 + 1, part * 50 + 51), part * 10.0) == 50
    assert table.guard.held is None


def test_routes_that_are_back_were_never_away() -> None:
    table = Table(300)
    table.withdraw(range(1, 301), 0.0)
    assert table.guard.held is not None
    assert table.guard.held.words("b") == "VRF b would lose 300 of 300 mirrored ipv4 routes at once"
    table.guard.waiting[HOST].clear()
    assert table.look(0.1) == 0
    assert table.guard.held is None
    assert len(table.installed[VRF]) == 300


def test_additions_meanwhile_make_up_for_losses() -> None:
    table = Table(300)
    table.withdraw(range(1, 101), 0.0)
    table.installed[VRF].update(dict.fromkeys(range(1000, 1100), PATH))
    table.withdraw(range(101, 201), 0.05)
    assert table.guard.held is None


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_default_route_is_held_alone_and_of_its_family_only(family: int) -> None:
    table = Table(1000)
    table.installed[VRF][0] = PATH
    table.guard.waiting[family, 254] = {0}
    released = table.guard.look(table.installed, 0.0)
    assert (table.guard.held is not None) == (family == AF_INET)
    assert bool(released) == (family == AF_INET6)
    if table.guard.held is not None:
        assert "the default route, 1 of 1001" in table.guard.held.words("b")


def test_what_is_mirrored_nowhere_is_no_loss() -> None:
    table = Table(10)
    assert table.withdraw(range(5000, 6000), 0.0) == 1000


def test_a_confirmed_withdrawal_goes_through_and_the_next_is_judged_again() -> None:
    table = Table(300)
    table.withdraw(range(1, 251), 0.0)
    assert table.guard.held is not None
    assert table.withdraw(range(251, 261), 5.0) == 0  # more of it is held as well
    assert {len(keys) for keys in table.guard.release().values()} == {260}
    assert (table.guard.held, table.guard.number, table.guard.due(5.0)) == (None, 0, None)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_all_turns_the_guard_off(share: float) -> None:
    assert not Guard(share, 0).enabled
    assert Guard(share, 0).sweep({VRF: dict.fromkeys(range(1000), PATH)}, {AF_INET: set(range(1000))}, 0.0)


def test_a_sweep_stays_held_though_nothing_is_left_that_could_come_back() -> None:
    installed = {VRF: dict.fromkeys(range(1, 301), PATH)}
    guard = Guard(0.5, 100)
    assert not guard.sweep(installed, {AF_INET: set(range(1, 301))}, 0.0)
    guard.waiting = {HOST: set()}
    assert guard.look(installed, 1.0) == {}
    assert guard.held is not None
    guard.release()
    guard.look(installed, 2.0)
    assert guard.held is None


def test_a_sweep_is_judged_at_once() -> None:
    installed = {VRF: dict.fromkeys(range(1, 301), PATH)}
    assert Guard(0.5, 100).sweep(installed, {AF_INET: set(range(1, 151))}, 0.0)
    guard = Guard(0.5, 100)
    assert not guard.sweep(installed, {AF_INET: set(range(1, 152)), AF_INET6: set()}, 0.0)
    assert guard.held is not None


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 200), st.floats(0, 3)), max_size=20))
def test_whatever_comes_what_is_not_held_is_carried_out_not_for_ever_kept(steps: list[tuple[int, int, float]]) -> None:
    table = Table(400)
    now = 0.0
    for first, count, pause in steps:
        table.withdraw(range(first, first + count), now)
        now += pause
    table.look(now)
    table.look(now + QUIET + 0.01)
    assert table.guard.held is not None or table.guard.number == 0
