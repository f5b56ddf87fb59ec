# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A minute of input that is wrong, other input each time. `run.py` goes on for hours."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, run_tool


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_input_breaks_no_promise() -> None:
    told = run_tool(sys.executable, str(CHECKOUT / "tests" / "fuzz" / "run.py"), "--seconds", "60", seconds=240)
    print(told)
    assert f"{len(TARGETS)} of {len(TARGETS)} targets kept their promises" in told
