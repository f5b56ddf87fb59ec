# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Input that is wrong, a minute of it: every target of targets.py under hypothesis. `run.py` goes on for hours."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from ansible_collections.ekho.ynl_mirror.tests.fuzz.mutate import inputs
from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS

#: Examples for each target, such that they take some seconds each on a quiet machine.
EXAMPLES = {"route": 300, "producer": 500, "notifications": 500, "answers": 500}


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_taken(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES.get(name, 1000), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(inputs(target.seeds))
    def fuzz(data: bytes) -> None:
        target.run(data)

    fuzz()
