# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup by which the roles pass their variables to the modules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import run_tool

pytestmark = pytest.mark.controller

TLS = {"ca": "/x/ca", "certificate": "/x/c", "key": "/x/k", "crl": "/x/crl", "crl_optional": True}
AGENT: dict[str, Any] = {
    "dpu_agent_settle_time": "{{ 1 + 2 }}",
    "dpu_agent_listen": [{"address": "{{ address }}"}],
    "dpu_agent_metric": None,
    "dpu_agent_user": "",
    "dpu_agent_hosts": [],
    "dpu_agent_tls": TLS,
    "dpu_agent_lib_dir": "/y",
    "dpu_agent_wheels_dir": "/no/option/of/the/module",
    "address": "127.0.0.1",
}
LISTENER = {"mirror_listener_plaintext": "yes", "mirror_listener_tls": TLS, "mirror_listener_agents": []}
OPTIONS = {"settle_time": 3, "listen": [{"address": "127.0.0.1"}], "hosts": []}


CALLS = {
    "agent": "lookup('ekho.ynl_mirror.role_options', 'dpu_agent')",
    "preflight": "lookup('ekho.ynl_mirror.role_options', 'dpu_agent', service=false)",
    "listener": "query('ekho.ynl_mirror.role_options', 'mirror_listener')",
    "other": "lookup('ekho.ynl_mirror.role_options', 'mirror_common')",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the lookups return in a play with all these variables; of one that fails, its message."""
    folder = tmp_path_factory.mktemp("play")
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.set_fact": {name: "{{ " + call + " }}"}, "ignore_errors": True, "register": f"{name}_set"}
        for name, call in CALLS.items()
    ]
    names = ", ".join(f"'{name}': {name} | default({name}_set.msg | default(''))" for name in CALLS)
    tasks.append(
        {"ansible.builtin.copy": {"content": "{{ {" + names + "} | to_json }}", "dest": str(folder / "found")}}
    )
    play = {"hosts": "localhost", "gather_facts": False, "vars": {**AGENT, **LISTENER}, "tasks": tasks}
    (folder / "play.json").write_text(json.dumps([play]))
    run_tool("ansible-playbook", str(folder / "play.json"))
    made: dict[str, Any] = json.loads((folder / "found").read_text())
    return made


def test_the_variables_of_a_role_are_the_options_of_its_module(found: dict[str, Any]) -> None:
    assert found["agent"] == {**OPTIONS, "tls": TLS, "lib_dir": "/y"}


def test_a_preflight_check_gets_no_options_of_the_service_and_no_list_that_is_made_later(found: dict[str, Any]) -> None:
    assert found["preflight"] == {**OPTIONS, "tls": {name: TLS[name] for name in ("ca", "certificate", "key")}}


def test_plain_tcp_has_no_certificates(found: dict[str, Any]) -> None:
    assert found["listener"] == [{"plaintext": "yes", "agents": []}]


def test_another_role_is_refused(found: dict[str, Any]) -> None:
    assert "'mirror_common' runs no daemon; give dpu_agent or mirror_listener" in found["other"]
