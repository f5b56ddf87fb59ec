# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every Molecule scenario: roles, modules and the whole offload, played twice for idempotence, then verified."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.tools import CHECKOUT, run_tool

SECONDS = 900


@pytest.mark.timeout(SECONDS + 60)
def test_molecule_all_scenarios() -> None:
    scenarios = sorted(path.parent.name for path in (CHECKOUT / "extensions" / "molecule").glob("*/molecule.yml"))
    output = run_tool("molecule", "test", "--all", seconds=SECONDS)
    missing = [name for name in scenarios if name not in output]
    assert not missing, f"molecule never spoke of {missing}\n{output}"
