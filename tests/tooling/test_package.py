# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as users get it: built, installed in another place, documented there, and showing the demo there."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files, run_tool

# galaxy.yml becomes MANIFEST.json, and the others are of no use without the repository; files or folders at the top.
NOT_PACKED = {
    ".editorconfig",
    ".git-blame-ignore-revs",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    "galaxy.yml",
    "noxfile.py",
}
# Made by the build.
MADE = {"MANIFEST.json", "FILES.json"}
PLUGINS = sorted(
    (folder, path.stem)
    for folder in ("modules", "filter", "lookup", "connection", "callback")
    for pattern in ("*.py", "*.yml")
    for path in (CHECKOUT / "plugins" / folder).glob(pattern)
)
ROLES = sorted(path.name for path in (CHECKOUT / "roles").glob("*"))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout, built as the README says."""
    target = tmp_path_factory.mktemp("built")
    run_tool("ansible-galaxy", "collection", "build", "--output-path", str(target))
    (built,) = target.glob("ekho-ynl_mirror-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def elsewhere(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder away from the checkout, with the collection installed in its ``collections``."""
    folder = tmp_path_factory.mktemp("elsewhere")
    path = str(folder / "collections")
    # --offline: the one dependency must be satisfied by what requirements.txt installs.
    env = {"ANSIBLE_COLLECTIONS_PATH": path}
    run_tool("ansible-galaxy", "collection", "install", "--offline", "-p", path, str(tarball), cwd=folder, env=env)
    return folder


def _run_there(elsewhere: Path, *command: str, seconds: float = 60.0) -> str:
    env = {"ANSIBLE_COLLECTIONS_PATH": str(elsewhere / "collections")}
    return run_tool(*command, cwd=elsewhere, env=env, seconds=seconds)


def test_tarball_holds_the_project_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        packed = {member.name for member in archive if not member.isdir()}
    assert packed - MADE == {str(path) for path in checkout_files() if path.parts[0] not in NOT_PACKED}


@pytest.fixture(scope="module")
def documents(elsewhere: Path) -> Callable[[str], dict[str, Any]]:
    """The documentation of all plugins of a kind, or of the roles, by full name."""

    @cache
    def read(kind: str) -> dict[str, Any]:
        names = ROLES if kind == "role" else [name for folder, name in PLUGINS if folder.removesuffix("s") == kind]
        full = [f"ekho.ynl_mirror.{name}" for name in names]
        output = _run_there(elsewhere, "ansible-doc", "--json", "--type", kind, *full)
        found: dict[str, Any] = json.loads(output[output.index("{") :])
        return found

    return read


@pytest.mark.parametrize(("folder", "name"), PLUGINS, ids=map("/".join, PLUGINS))
def test_plugin_is_documented(
    documents: Callable[[str], dict[str, Any]], elsewhere: Path, folder: str, name: str
) -> None:
    kind = folder.removesuffix("s")
    documented = documents(kind)[f"ekho.ynl_mirror.{name}"]
    assert documented["doc"]["short_description"]
    assert documented["doc"]["filename"].startswith(str(elsewhere))
    if kind in ("module", "filter"):
        assert documented["examples"]
        assert documented["return"]


@pytest.mark.parametrize("name", ROLES)
def test_role_is_documented(documents: Callable[[str], dict[str, Any]], name: str) -> None:
    entry = documents("role")[f"ekho.ynl_mirror.{name}"]["entry_points"]["main"]
    assert entry["short_description"]
    assert entry["options"]


def test_execution_environment_gets_ranges_and_no_development_pins(elsewhere: Path) -> None:
    """What ansible-builder would put into an image for this collection; its other half is community.crypto's."""
    output = _run_there(elsewhere, "ansible-builder", "introspect", "collections")
    found = yaml.safe_load(output)
    assert found == {"python": ["cryptography >= 3.3  # from collection ekho.ynl_mirror"], "system": []}


@pytest.mark.timeout(240)
def test_demo_runs_from_the_installed_collection(elsewhere: Path) -> None:
    """The README's way for users who have no checkout; it names a lab of its own, so that one that is up stays so."""
    lab = "ekho-packaged"
    output = _run_there(
        elsewhere, "ansible-playbook", "ekho.ynl_mirror.demo", "-e", f"ekho_lab_name={lab}", seconds=200
    )
    assert str(CHECKOUT) not in output
    assert "failed=0" in output
    assert not list(Path("/run/netns").glob(f"{lab}-*"))
    # What is left of it: a report, and a picture in the folder from which it was started.
    paths = json.loads((elsewhere / "ynl-mirror-demo" / "report.json").read_text())["paths"]
    kinds = sorted((path["kind"], path["hop_count"]) for path in paths)
    assert kinds == [("fast_path", 2)] * 4 + [("slow_path", 4)] * 4
    assert ET.parse(elsewhere / "ynl-mirror-demo" / "lab.svg").getroot().get("role") == "img"
