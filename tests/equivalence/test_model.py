# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the model say what kernels do? Without a mirror it knows every fate, or it is no judge."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.tests.equivalence.compare import check_model, packets
from ansible_collections.ekho.ynl_mirror.tests.equivalence.generate import CHANGING, FEATURES, STANDING, case
from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab
from ansible_collections.ekho.ynl_mirror.tests.equivalence.play import play


def told(differences: list[object]) -> str:
    return "\n".join(str(one) for one in differences[:3])


@pytest.mark.parametrize("feature", ["plain", *STANDING])
def test_the_model_knows_every_fate_of_the_feature(lab: Lab, feature: str) -> None:
    for seed in range(1, 3):
        outcome = play(lab, case(seed, () if feature == "plain" else (feature,)), mirror=False)
        assert not outcome.trouble
        assert outcome.tally.fates
        assert outcome.differences == [], told([*outcome.differences])


@settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), features=st.sets(st.sampled_from(STANDING), max_size=12))
def test_the_model_knows_every_fate_of_features_together(lab: Lab, seed: int, features: set[str]) -> None:
    outcome = play(lab, case(seed, features), mirror=False)
    assert not outcome.trouble
    assert outcome.differences == [], told([*outcome.differences])


@pytest.mark.parametrize("feature", [name for name in CHANGING if name != "restart"])
def test_the_model_follows_what_happens(lab: Lab, feature: str) -> None:
    for seed in range(2):
        made = case(seed, (feature,))
        lab.load(made)
        for change in made.changes:
            lab.apply(change)
            world = lab.world(False)
            differences = check_model(lab, world, packets(world, made, seed))
            assert differences == [], told([*differences])


def test_a_seed_makes_the_same_case_again() -> None:
    for feature in FEATURES:
        assert case(5, (feature,)) == case(5, (feature,))
        assert case(5, (feature,)).script() == case(5, (feature,)).script()
