# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user decides about the mapping. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..model.routes import AF_INET6, IPV6_DEFAULT_METRIC, PROTO_MIRROR, Address, Prefix

#: What there is, and what is used unless the user says otherwise: the user's own word, then what can be proven.
INFERENCES = ("static", "nexthop", "prefix")
DEFAULT_INFERENCE = ("static", "nexthop")


class MappingRule(NamedTuple):
    """A static rule: routes within *prefix*, or through *gateway*, have the egress *dev* (*via*) in VRF *vrf*."""

    vrf: str
    dev: str
    prefix: Prefix | None = None
    gateway: Address | None = None
    via: Address | None = None


@dataclass(frozen=True)
class Policy:
    """What the user configures: order of inferences, static rules, imports, links to the host, protocol and metric.

    *imports* lists the source VRFs from which a VRF imports routes; a VRF without an entry imports from all others.
    *points* are prefixes about which the decision may differ from that around them, such as those that hosts may not
    fill.
    """

    inference: tuple[str, ...] = DEFAULT_INFERENCE
    static: tuple[MappingRule, ...] = ()
    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    host_links: tuple[str, ...] = ()
    protocol: int = PROTO_MIRROR
    metric: int | None = None
    points: tuple[Prefix, ...] = ()

    def metric_for(self, family: int) -> int:
        """The metric of mirrored routes, as the kernel will report it."""
        if self.metric:
            return self.metric
        return IPV6_DEFAULT_METRIC if family == AF_INET6 else 0
