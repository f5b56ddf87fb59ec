# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new developer meets first: CONTRIBUTING.md names what exists, and workflows and templates are in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, run_tool

CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PRIVATE = "plugins/module_utils/_ynl_mirror"
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))


def load(path: Path) -> dict[Any, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def test_contributing_lists_the_packages_in_the_order_of_imports() -> None:
    rows = CONTRIBUTING.partition(f"| `{PRIVATE}/` |")[2].partition("| `plugins/plugin_utils/")[0]
    listed = re.findall(r"^\| `(\w+)/` \|", rows, re.MULTILINE)
    table = (CHECKOUT / "docs" / "architecture.md").read_text().partition(f"| package in `{PRIVATE}/`")[2]
    assert listed == re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)


def test_contributing_names_files_and_folders_that_exist() -> None:
    named = set(re.findall(r"`([\w./-]+/[\w./-]*)`", CONTRIBUTING)) - {"changelogs/fragments/TOPIC.yml"}
    places = ("", "plugins", PRIVATE, "plugins/plugin_utils/_ynl_mirror", "roles/dpu_agent")
    assert "tests/fuzz/targets.py" in named
    assert [path for path in sorted(named) if not any((CHECKOUT / place / path).exists() for place in places)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_may_only_read_and_pins_its_actions(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"] == "${{ github.workflow }}-${{ github.ref }}"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert "permissions" not in job
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/none@v0"))
            # What others may write, such as the title of a pull request, never gets into a command.
            assert set(re.findall(r"\$\{\{ *(\w+)", step.get("run", ""))) <= {"matrix"}


def test_matrix_begins_with_the_oldest_ansible_core_that_the_collection_supports() -> None:
    cores = load(CHECKOUT / ".github" / "workflows" / "matrix.yml")["jobs"]["matrix"]["strategy"]["matrix"]["core"]
    assert load(CHECKOUT / "meta" / "runtime.yml")["requires_ansible"] == f">={cores[0]}.0"
    assert cores == [f"2.{minor}" for minor in range(int(cores[0].removeprefix("2.")), 22)]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_form_has_what_a_form_needs(path: Path) -> None:
    form = load(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_bug_report_asks_for_versions_status_and_capture() -> None:
    fields = {field.get("id"): field for field in load(FORMS[0])["body"]}
    assert {"versions", "status", "capture"} <= set(fields)
    assert "`ynl-mirror status --json`" in fields["status"]["attributes"]["description"]


def test_pre_commit_downloads_nothing() -> None:
    run_tool("pre-commit", "validate-config")
    config = load(CHECKOUT / ".pre-commit-config.yaml")
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert {hook["entry"].split()[0] for hook in hooks} == {
        f".venv/bin/{name}" for name in ("ruff", "mypy", "codespell")
    }
