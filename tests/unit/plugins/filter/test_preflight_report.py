# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter preflight_report: the results of machines, or their absence, become one report."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.controller

FINE = {"check": "kernel", "level": "ok", "found": "Linux 6.1.0", "fix": ""}
ODD = {"check": "rp_filter", "level": "warning", "found": "strict on eth1", "fix": "sysctl ..."}
BAD = {"check": "listen", "level": "problem", "found": ":: port 2620 is in use by nc (pid 7)", "fix": "stop it"}
AUTHORITY = {"check": "authority", "level": "ok", "found": "none yet", "fix": ""}


def report(hostvars: dict[str, Any], agents: list[str], listeners: list[str]) -> dict[str, Any]:
    from ansible_collections.ekho.ynl_mirror.plugins.filter.preflight_report import FilterModule

    made: dict[str, Any] = FilterModule().filters()["preflight_report"](hostvars, agents, listeners)
    return made


def of(agent: list[dict[str, str]] | None = None, listener: list[dict[str, str]] | None = None) -> dict[str, Any]:
    found = {"mirror_certificates_authority": {"findings": [AUTHORITY]}}
    if agent is not None:
        found["dpu_agent_preflight"] = {"findings": agent}
    if listener is not None:
        found["mirror_listener_preflight"] = {"findings": listener}
    return found


def test_problems_and_warnings_of_all_machines_are_counted_and_listed() -> None:
    made = report({"dpu1": of([FINE, ODD, BAD]), "host1": of(listener=[FINE, BAD])}, ["dpu1"], ["host1"])
    assert (made["problems"], made["warnings"]) == (2, 1)
    assert made["summary"] == "2 problems on dpu1, host1, 1 warning"
    assert [(m["machine"], m["role"], m["problems"], m["warnings"]) for m in made["machines"]] == [
        ("controller", "authority", 0, 0),
        ("dpu1", "agent", 1, 1),
        ("host1", "listener", 1, 0),
    ]
    assert made["text"] == [
        "== controller, authority: ok",
        "ok       authority            none yet",
        "== dpu1, agent: 1 problem, 1 warning",
        "ok       kernel               Linux 6.1.0",
        "warning  rp_filter            strict on eth1",
        "                              -> sysctl ...",
        "problem  listen               :: port 2620 is in use by nc (pid 7)",
        "                              -> stop it",
        "== host1, listener: 1 problem",
        "ok       kernel               Linux 6.1.0",
        "problem  listen               :: port 2620 is in use by nc (pid 7)",
        "                              -> stop it",
        "== 2 problems on dpu1, host1, 1 warning",
    ]


def test_without_problems_the_summary_says_so() -> None:
    assert report({"dpu1": of([FINE])}, ["dpu1"], [])["summary"] == "no problems"
    assert report({"dpu1": of([FINE, ODD])}, ["dpu1"], [])["summary"] == "no problems, 1 warning"


def test_a_machine_that_is_both_has_one_section_per_role() -> None:
    made = report({"one": of([FINE], [BAD])}, ["one"], ["one"])
    assert [machine["role"] for machine in made["machines"]] == ["authority", "agent", "listener"]
    assert made["summary"] == "1 problem on one"


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"unreachable": True, "msg": "Connection timed out\n"}, "Connection timed out"),
        ({"failed": True, "msg": "MODULE FAILURE: no python3"}, "MODULE FAILURE: no python3"),
        ({}, "not checked"),
        (None, "not checked"),
    ],
)
def test_a_machine_without_a_result_is_a_problem(result: dict[str, Any] | None, found: str) -> None:
    hostvars = {"dpu1": {"dpu_agent_preflight": result} if result is not None else {}, "dpu2": of([FINE])}
    made = report(hostvars, ["dpu1", "dpu2"], [])
    assert made["problems"] == 1
    machine = made["machines"][1]
    assert (machine["machine"], machine["findings"][0]["check"]) == ("dpu1", "connection")
    assert machine["findings"][0]["found"] == found
    assert made["machines"][0]["role"] == "authority"  # another machine has registered it
