# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of a real kernel, the same ones each time; run.py tries others for as long as you like."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.tests.following.history import History, replay

#: Without making failures small, which takes minutes: run.py does.
LIMITS = settings(
    max_examples=12,
    stateful_step_count=20,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.usefixtures("_root")
def test_a_follower_is_right_after_each_step_of_any_history() -> None:
    run_state_machine_as_test(History, settings=LIMITS)


class Deaf(Replica):
    """Does not know that a link that goes down takes routes along."""

    def _link(self, exists: bool, message: bytes) -> None:
        before = dict(self.rib.rereads)
        super()._link(exists, message)
        self.rib.rereads = before


@pytest.mark.usefixtures("_root")
def test_a_history_that_ends_wrong_leaves_a_script_that_does_it_again() -> None:
    class Broken(History):
        make = Deaf

    with pytest.raises(AssertionError) as failure:
        run_state_machine_as_test(Broken, settings=LIMITS)
    told = "\n".join([*getattr(failure.value, "__notes__", ()), str(failure.value)])
    found = re.search(r"to do it again: (\S+)", told)
    assert found, told
    script = Path(found[1])
    name = f"ynlh-{os.getpid()}-again"
    try:
        wrong = replay(script, name, Deaf)
        assert wrong
        assert wrong[0] in told  # the very same route
        assert replay(script, name) == []
    finally:
        script.unlink()
