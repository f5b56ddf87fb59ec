# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter preflight_report: the findings of all machines -> one report, as data and as lines of text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_report
short_description: Combine the preflight findings of all machines into one report
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
description:
  - Combines the results of M(ekho.ynl_mirror.mirror_preflight_info) from all machines. The playbook
    C(ekho.ynl_mirror.preflight) uses it.
  - A machine without a result, such as one that is unreachable, counts as a problem.
positional: agents, listeners
options:
  _input:
    description:
      - The variable C(hostvars), in which the roles have registered C(dpu_agent_preflight),
        C(mirror_listener_preflight) and C(mirror_certificates_authority).
    type: dict
    required: true
  agents:
    description: The machines that agents are deployed on.
    type: list
    elements: str
    required: true
  listeners:
    description: The machines that listeners are deployed on.
    type: list
    elements: str
    required: true
seealso:
  - module: ekho.ynl_mirror.mirror_preflight_info
"""

EXAMPLES = r"""
- name: Print the report
  ansible.builtin.debug:
    msg: "{{ (hostvars | ekho.ynl_mirror.preflight_report(groups.dpu_agents, groups.mirror_listeners)).text }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    machines:
      description:
        - Each with C(machine), C(role) (V(agent), V(listener) or V(authority)), and C(findings), C(problems) and
          C(warnings) as M(ekho.ynl_mirror.mirror_preflight_info) returns them.
      type: list
      elements: dict
    problems:
      description: Number of problems of all machines.
      type: int
    warnings:
      description: Number of warnings of all machines.
      type: int
    summary:
      description: The outcome in one line.
      type: str
    text:
      description: The report as lines of text.
      type: list
      elements: str
"""

from collections.abc import Iterator, Mapping
from typing import Any

ROLES = {"agent": "dpu_agent_preflight", "listener": "mirror_listener_preflight"}
AUTHORITY = "mirror_certificates_authority"


def preflight_report(hostvars: Any, agents: list[str], listeners: list[str]) -> dict[str, Any]:
    """The report; see DOCUMENTATION."""
    machines = [*_authority(hostvars, [*agents, *listeners])]
    for role, names in (("agent", agents), ("listener", listeners)):
        machines += [_machine(name, role, hostvars[name].get(ROLES[role])) for name in names]
    problems = sum(machine["problems"] for machine in machines)
    warnings = sum(machine["warnings"] for machine in machines)
    concerned = dict.fromkeys(machine["machine"] for machine in machines if machine["problems"])
    summary = f"{_count(problems, 'problem')} on {', '.join(concerned)}" if problems else "no problems"
    summary += f", {_count(warnings, 'warning')}" if warnings else ""
    return {
        "machines": machines,
        "problems": problems,
        "warnings": warnings,
        "summary": summary,
        "text": [*_text(machines), f"== {summary}"],
    }


def _authority(hostvars: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    """The controller's authority: one result, which every machine that was reached has registered."""
    results = [hostvars[name].get(AUTHORITY) for name in names]
    for result in [result for result in results if result][:1]:
        yield _machine("controller", "authority", result)


def _machine(name: str, role: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if result is None or "findings" not in result:
        why = str((result or {}).get("msg") or "not checked").strip()
        findings = [
            {
                "check": "connection",
                "level": "problem",
                "found": why,
                "fix": "make sure that Ansible can reach the machine",
            }
        ]
    else:
        findings = [dict(finding) for finding in result["findings"]]
    levels = [finding["level"] for finding in findings]
    return {
        "machine": name,
        "role": role,
        "findings": findings,
        "problems": levels.count("problem"),
        "warnings": levels.count("warning"),
    }


def _text(machines: list[dict[str, Any]]) -> Iterator[str]:
    for machine in machines:
        counts = [_count(machine[f"{level}s"], level) for level in ("problem", "warning") if machine[f"{level}s"]]
        yield f"== {machine['machine']}, {machine['role']}: {', '.join(counts) or 'ok'}"
        for finding in machine["findings"]:
            yield f"{finding['level']:8} {finding['check']:20} {finding['found']}"
            if finding["fix"]:
                yield f"{'':29} -> {finding['fix']}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function."""
        return {"preflight_report": preflight_report}
