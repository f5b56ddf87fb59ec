# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory for real machines: Ansible reads it, and every variable in it is one of a role."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.agent import AgentConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import ListenerConfig
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, run_tool

pytestmark = pytest.mark.controller

EXAMPLE = CHECKOUT / "docs" / "examples" / "hardware.yml"
ROLES = {"dpu_agents": "dpu_agent", "mirror_listeners": "mirror_listener"}


def inventory() -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(run_tool("ansible-inventory", "-i", str(EXAMPLE), "--list", "--export"))
    return listed


def options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((CHECKOUT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    made: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return made


def test_ansible_finds_the_machines_in_their_groups() -> None:
    listed = inventory()
    assert listed["dpu_agents"]["hosts"] == ["dpu1"]
    assert listed["mirror_listeners"]["hosts"] == ["host1"]


def test_every_variable_is_an_option_of_its_role() -> None:
    known = {name for role in ROLES.values() for name in options(role)}
    # What is commented out counts, too: it is there to be used.
    named = set(re.findall(r"\b(?:dpu_agent|mirror_listener)_\w+", EXAMPLE.read_text())) - {"dpu_agents"}
    assert named <= known
    assert {"dpu_agent_vrfs", "dpu_agent_host_links", "mirror_listener_agents"} <= named


def test_the_daemons_take_the_values_and_expect_each_other() -> None:
    listed = inventory()
    agent = AgentConfig.from_dict({"plaintext": True, "hosts": listed["dpu_agents"]["vars"]["dpu_agent_hosts"]})
    variables = listed["mirror_listeners"]["vars"]
    listener = ListenerConfig.from_dict(
        {
            "plaintext": True,
            "agents": variables["mirror_listener_agents"],
            "filters": variables["mirror_listener_filters"],
        }
    )
    assert list(agent.host_names) == listed["mirror_listeners"]["hosts"]
    assert [peer.server_name for peer in listener.agents] == listed["dpu_agents"]["hosts"]


def test_what_is_commented_out_is_yaml_that_the_agent_takes() -> None:
    lines = EXAMPLE.read_text().splitlines()
    shown = "\n".join(line.replace("    # ", "", 1) for line in lines if re.match(r"    # (dpu_agent_|  \w)", line))
    values = {name.removeprefix("dpu_agent_"): value for name, value in yaml.safe_load(shown).items()}
    assert set(values) == {"vrfs", "imports", "host_links"}
    config = AgentConfig.from_dict({"plaintext": True, **values})
    assert list(config.vrfs) == ["a", "b"]
