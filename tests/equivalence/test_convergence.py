# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""While routes move: is there a moment at which a packet ends neither where it did before, nor where it will?"""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import leave
from ansible_collections.ekho.ynl_mirror.tests.equivalence.generate import CHANGING, case
from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab
from ansible_collections.ekho.ynl_mirror.tests.equivalence.play import sample


def watch(lab: Lab, seed: int, *features: str) -> None:
    made = case(seed, features)
    found = sample(lab, made)
    assert found.walks
    if found.glimpses:
        text = "\n".join(str(one) for one in found.glimpses[:3])
        script = leave(made.name, made.script())
        pytest.fail(
            f"{len(found.glimpses)} of {found.walks} fates are neither, such as\n{text}\n{script} makes it again"
        )


@pytest.mark.parametrize("change", ["mutate_host", "mutate_dpu", "restart"])
def test_no_packet_has_a_third_fate(lab: Lab, change: str) -> None:
    watch(lab, 1, change)


@pytest.mark.slow
@pytest.mark.timeout(600)
# The DPU's kernel does not wait for the mirror: where own routes nest with mirrored ones, a change of an own route may
# give packets to a mirrored one for the moment that the agent needs to hear of it.
@pytest.mark.parametrize("change", [change for change in CHANGING if change != "mutate_dpu"])
def test_no_packet_has_a_third_fate_where_prefixes_nest(lab: Lab, change: str) -> None:
    watch(lab, 1, change)
    for seed in range(10):
        watch(lab, seed, "host_nested", "host_discard", "dpu_nested", "dpu_discard", change)
