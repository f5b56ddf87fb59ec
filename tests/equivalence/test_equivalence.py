# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Same packets, same fate: does every packet end with the mirror where it ends without it, and what is cut short?

A case that fails names its seed and features; ``run.py --features F --seed N --cases 1 --minimal`` makes it small, and
leaves it as a script.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import leave
from ansible_collections.ekho.ynl_mirror.tests.equivalence.compare import Tally
from ansible_collections.ekho.ynl_mirror.tests.equivalence.generate import CHANGING, STANDING, TOGETHER, case, mix
from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab
from ansible_collections.ekho.ynl_mirror.tests.equivalence.play import play

#: Percent of the detours with a provable fate that have to be cut short.
GOAL = 95.0
ROWS = ("plain", *STANDING, *CHANGING)


def prove(lab: Lab, cases: Iterable[tuple[int, tuple[str, ...]]]) -> Tally:
    """Play cases: every fate has to be right, and nearly every provable detour short."""
    tally = Tally()
    for seed, features in cases:
        outcome = play(lab, case(seed, features))
        assert outcome.trouble == "", outcome.case.name
        if outcome.differences:
            first = outcome.differences[0]
            script = leave(outcome.case.name, first.script())
            pytest.fail(f"{len(outcome.differences)} fates are wrong, such as\n{first}\n{script} makes it again")
        tally.add(outcome.tally)
    assert 100 * tally.provable_shortened >= GOAL * tally.provable, tally
    return tally


def features_of(row: str) -> tuple[str, ...]:
    return () if row == "plain" else (row,)


def test_plain_detours_are_all_cut_short(lab: Lab) -> None:
    tally = prove(lab, ((seed, ()) for seed in range(3)))
    assert tally.detours
    assert tally.shortened == tally.detours


@pytest.mark.parametrize("feature", STANDING)
def test_every_packet_has_the_same_fate(lab: Lab, feature: str) -> None:
    prove(lab, [(1, (feature,))])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", ROWS)
def test_every_packet_has_the_same_fate_in_more_cases(lab: Lab, row: str) -> None:
    prove(lab, ((seed, features_of(row)) for seed in range(10, 16)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", range(100, 200, 10))
def test_every_packet_has_the_same_fate_whatever_comes_together(lab: Lab, start: int) -> None:
    prove(lab, ((seed, mix(seed)) for seed in range(start, start + 10)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_packet_has_the_same_fate_with_every_feature_at_once(lab: Lab) -> None:
    prove(lab, ((seed, TOGETHER) for seed in range(5)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("change", CHANGING)
def test_every_packet_has_the_same_fate_when_much_changes(lab: Lab, change: str) -> None:
    prove(lab, ((seed, ("dpu_nested", "host_nested", "host_discard", change)) for seed in range(5)))
