# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix of noxfile.py is what the collection says it runs on, and what its workflow runs."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, run_tool

pytestmark = pytest.mark.controller


def test_it_begins_with_the_oldest_core_that_is_allowed_and_its_workflow_runs_all_of_it() -> None:
    sessions = json.loads(run_tool("nox", "--list", "--json"))
    cores = {tag for session in sessions for tag in session["tags"]}
    assert all(session["tags"] for session in sessions)
    oldest = min(cores, key=lambda core: [int(number) for number in core.split(".")])
    allowed = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert allowed == f">={oldest}.0"
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "matrix.yml").read_text())
    runs = workflow["jobs"]["matrix"]["strategy"]["matrix"]
    assert set(runs["core"]) == cores
    assert set(runs["session"]) == {session["name"] for session in sessions}
