# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the agent's configuration to what its parts take: the mapper's policy, leases, admission."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..config.agent import AgentConfig
from ..config.host_policy import EVERY_VRF
from ..daemon.logs import about
from ..mapping.policy import MappingRule, Policy
from ..model.routes import AF_INET, AF_INET6
from .admission import Admission
from .installer import Installer
from .limits import HostMemory

_LOG = logging.getLogger("ynl_mirror.agent")


def mapping_policy(config: AgentConfig) -> Policy:
    """What the user decides about the mapping."""
    policies = [config.host_defaults, *map(config.policy_of, config.host_names)]
    return Policy(
        inference=config.inference,
        static=tuple(MappingRule(rule.vrf, rule.dev, rule.prefix, rule.gateway, rule.via) for rule in config.static),
        imports=config.imports,
        host_links=config.host_links,
        points=tuple(rule.prefix for policy in policies for rule in policy.exclude_prefixes if not rule.exact),
        protocol=config.protocol,
        metric=config.metric,
    )


def lease_term(host: str | None, config: AgentConfig) -> float:
    """Seconds that a host may be disconnected before its routes are withdrawn; 0 means forever.

    None: an agent cannot know whose routes it finds when it starts. They get the longest lease of all hosts.
    """
    if host is not None:
        return config.policy_of(host).withdraw_after
    terms = [config.policy_of(name).withdraw_after for name in config.host_names] or [
        config.host_defaults.withdraw_after
    ]
    return 0.0 if 0.0 in terms else max(terms)


def warn_of_unknown_vrfs(config: AgentConfig, known: Iterable[str]) -> None:
    """Warn of VRFs in policies and limits that do not exist (yet): a misspelt name limits nothing."""
    policies = (config.host_defaults, *map(config.policy_of, config.host_names))
    named = {*config.vrf_limits, *(name for policy in policies for name in policy.vrfs)} - {EVERY_VRF, *known}
    if named:
        text = f"VRF {', '.join(sorted(named))} in `hosts` or `vrf_limits` does not exist (yet); check the spelling"
        _LOG.warning("%s", text, extra=about(reason=text))


def admit_host(host: str, config: AgentConfig, installer: Installer) -> None:
    """Apply the policy of HOST from now on. Earlier decisions stay if they were made by the same policy."""
    policy = config.policy_of(host)
    if installer.admission is not None and installer.admission.fits(host, policy, config.vrf_limits):
        return
    admission = Admission(host, policy, config.vrf_limits)
    # The limit may be lower than it was.
    admission.counts = admission.counts or sum(map(len, installer.announced.values())) > policy.routes
    for family in (AF_INET, AF_INET6):
        tables = [routes for (of, _table), routes in installer.installed.items() if of == family]
        admission.reserve(family, dict.fromkeys(key for routes in tables for key in routes))
    installer.admission = admission
    installer.adj.memory = HostMemory(admission.memory, installer.announced)
