# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every Molecule scenario in namespaces: roles, modules, the whole offload, played twice, then verified.

The one with virtual machines is played step by step in tests/lab.
"""

from __future__ import annotations

import re

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, run_tool

SECONDS = 900
ELSEWHERE = "qemu"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_molecule_all_scenarios() -> None:
    names = {path.parent.name for path in (CHECKOUT / "extensions" / "molecule").glob("*/molecule.yml")} - {ELSEWHERE}
    run_tool("molecule", "reset")  # where a run before was killed, Molecule takes the lab for made
    output = COLOUR.sub("", run_tool("molecule", "test", "--all", "--exclude", ELSEWHERE, seconds=SECONDS))
    print(output[output.rindex("DETAILS") :])
    converged = set(re.findall(r"^(\S+) \S+ converge: Executed: Successful$", output, re.MULTILINE))
    assert names
    assert converged == names, output
