# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action groups: meta/runtime.yml, the fragments and the modules agree, and a group's default reaches its modules."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.ekho.ynl_mirror.plugins.doc_fragments.attributes import ModuleDocFragment
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, run_tool

COLLECTION = "ekho.ynl_mirror"
# A default goes to every module of a group, hence all of them have the options of this fragment.
SHARED = {"daemons": "service", "lab": "topology"}
GROUPS: dict[str, list[str]] = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())["action_groups"]
PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/ekho.ynl_mirror.lab:
      name: grouped
      hosts: [{name: left, interfaces: [{name: eth0}]}, {name: right, interfaces: [{name: eth0}]}]
      links: [[left:eth0, right:eth0]]
  tasks:
    - ekho.ynl_mirror.netns_topology:
"""


def fragments_of_modules() -> dict[str, set[str]]:
    """The documentation fragments of this collection that each module extends."""
    found = {}
    for path in (CHECKOUT / "plugins" / "modules").glob("*.py"):
        (text,) = (
            node.value.value
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "DOCUMENTATION"
            and isinstance(node.value, ast.Constant)
        )
        extended = yaml.safe_load(str(text)).get("extends_documentation_fragment", [])
        extended = [extended] if isinstance(extended, str) else extended
        found[path.stem] = {name.removeprefix(f"{COLLECTION}.") for name in extended}
    return found


def test_every_group_has_a_fragment_and_every_fragment_a_group() -> None:
    fragments = {name for name in vars(ModuleDocFragment) if name.startswith("ACTIONGROUP_")}
    assert fragments == {f"ACTIONGROUP_{group.upper()}" for group in GROUPS}
    assert set(GROUPS) == set(SHARED)


@pytest.mark.parametrize("group", GROUPS)
def test_members_are_the_modules_that_share_the_options_and_say_so(group: str) -> None:
    modules = fragments_of_modules()
    sharing = sorted(name for name, extended in modules.items() if SHARED[group] in extended)
    saying = sorted(name for name, extended in modules.items() if f"attributes.actiongroup_{group}" in extended)
    assert GROUPS[group] == sharing == saying


@pytest.mark.parametrize("group", GROUPS)
def test_documentation_names_the_group(group: str) -> None:
    names = [f"{COLLECTION}.{module}" for module in GROUPS[group]]
    output = json.loads(run_tool("ansible-doc", "--json", "--type", "module", *names))
    for name in names:
        attribute = output[name]["doc"]["attributes"]["action_group"]
        assert attribute["membership"] == [f"{COLLECTION}.{group}"], name
        assert f"C(group/{COLLECTION}.{group})" in attribute["description"], name


@pytest.mark.usefixtures("_root")
def test_a_default_of_the_group_reaches_the_module(tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    local = ("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}")
    output = run_tool("ansible-playbook", "--check", "--diff", *local, str(playbook))
    assert "ip link add eth0 netns grouped-left type veth peer name eth0 netns grouped-right" in output
