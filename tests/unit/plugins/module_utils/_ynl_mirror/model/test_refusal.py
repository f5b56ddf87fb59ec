# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state and reason of a refusal survive their text form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.refusal import Refusal


@given(st.sampled_from(("failed", "slow_path")), st.text())
def test_a_refusal_survives_its_text(state: str, reason: str) -> None:
    assert Refusal.parse(str(Refusal(state, reason))) == Refusal(state, reason)


@pytest.mark.parametrize("text", ["No route to host", "offloaded: yes", "failed", "slow path:", "", "x: failed: y"])
def test_the_text_of_another_consumer_is_a_failure_with_that_text(text: str) -> None:
    assert Refusal.parse(text) == Refusal("failed", text)
