# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module mirror_preflight_info: check a machine before the mirror is deployed on it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from ..config.agent import AgentConfig
from ..config.common import TlsConfig
from ..config.fields import ConfigError
from ..config.listener import ListenerConfig, PeerAddress
from ..config.names import read_names
from .facts import PROBLEM, WARNING, Finding, Task
from .judge import judge, judge_authority, judge_machine
from .look import look, look_at_machine
from .look_tls import look_at_authority

_FILES = 3  # authority, certificate, key


def check(params: dict[str, Any]) -> dict[str, Any]:
    """The module's result for its parameters. OSError when the machine cannot be inspected."""
    if params["authority_dir"]:
        found = look_at_authority(params["authority_dir"])
        findings = judge_authority(found, params["authority_dir"], time.time(), params["renew_days"])
        return {**_result(findings), "authority_sha256": found.ca_sha256}
    try:
        task = _task(params)
    except ConfigError as error:
        variable = "dpu_agent" if params["agent"] is not None else "mirror_listener"
        trouble = Finding("variables", PROBLEM, str(error), f"correct {variable}_* in the inventory, and check again")
        bare = Task(packages_from=params["python_packages_from"], lib_dir=params["lib_dir"])
        return _result([trouble, *judge_machine(look_at_machine(bare), bare)])
    facts = look(task)
    made = facts.tls is not None and len(facts.tls.absent) < _FILES
    if made and not task.authority_sha256:  # nothing replaces them: the controller has no authority
        task = replace(task, own_certificates=True)
    return _result(judge(facts, task))


def _task(params: dict[str, Any]) -> Task:
    """The task of the parameters; ConfigError names an invalid option."""
    names = read_names()
    agent = None if params["agent"] is None else AgentConfig.from_dict(params["agent"], names)
    listener = None if params["listener"] is None else ListenerConfig.from_dict(params["listener"], names)
    config = agent or listener
    return Task(
        agent=agent,
        listener=listener,
        names=tuple(params["names"]),
        expected=tuple(PeerAddress.from_dict(item, path=f"expected[{i}]") for i, item in enumerate(params["expected"])),
        accepted=tuple(params["accepted"]),
        user=params["user"] or None,
        own_certificates=_are_own(config.tls if config else None, params["certificates_dir"]),
        authority_sha256=params["authority_sha256"],
        renew_days=params["renew_days"],
        controller_time=params["controller_time"],
        clock_seconds=params["clock_seconds"],
        packages_from=params["python_packages_from"],
        wheels_found=params["wheels_found"],
        config_dir=params["config_dir"],
        lib_dir=params["lib_dir"],
        timeout=params["timeout"],
    )


def _are_own(tls: TlsConfig | None, folder: str) -> bool:
    """Whether the TLS files are the user's own, not those of the role mirror_certificates."""
    made = [os.path.join(folder, name) for name in ("ca.crt", "machine.crt", "machine.key")]
    return tls is not None and [tls.ca, tls.certificate, tls.key] != made


def _result(findings: list[Finding]) -> dict[str, Any]:
    levels = [finding.level for finding in findings]
    return {
        "findings": [finding.to_dict() for finding in findings],
        "problems": levels.count(PROBLEM),
        "warnings_found": levels.count(WARNING),
    }
