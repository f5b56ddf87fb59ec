# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter map_routes: a host's routes -> routes for the VRFs of a DPU."""

from __future__ import annotations

DOCUMENTATION = r"""
name: map_routes
short_description: Map a host's routes onto the VRFs of a DPU
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
description:
  - Computes the routes that a DPU needs in its VRFs to forward by itself what would otherwise take the slow path over
    the host.
  - It is the mapping of the agent, applied to data that other tasks have gathered. It changes nothing.
  - A route is mapped for the VRFs whose own routes send such packets to the host, and to no others.
positional: dpu
options:
  _input:
    description:
      - The host's routes, as returned in C(gathered) by M(ekho.ynl_mirror.vrf_route).
    type: list
    elements: dict
    required: true
  dpu:
    description: The result of M(ekho.ynl_mirror.vrf_info) on the DPU, with all its subsets.
    type: dict
    required: true
  inference:
    description:
      - The inferences that find egress and source VRF of a route. The first one that knows decides.
      - V(static) follows O(static). V(nexthop) looks the destination up in the VRF whose link has the announced route's
        gateway.
      - V(prefix) takes the DPU's own route to the same prefix, whatever the gateway. It is a guess.
    type: list
    elements: str
    choices: [static, nexthop, prefix]
    default: [static, nexthop]
  static:
    description: Egresses by rule, for the inference V(static).
    type: list
    elements: dict
    default: []
    suboptions:
      prefix:
        description: For announced routes within this prefix.
        type: str
      gateway:
        description: For announced routes through this gateway.
        type: str
      vrf:
        description: The VRF that the egress is in.
        type: str
        required: true
      dev:
        description: The outgoing link.
        type: str
        required: true
      via:
        description: The next hop on that link, if there is one.
        type: str
  imports:
    description:
      - For a VRF, the list of the VRFs whose egresses it may use. A VRF that is not listed may use those of all others.
    type: dict
    default: {}
  host_links:
    description: Links of the DPU that lead to the host, besides those that own gateways of the host's routes.
    type: list
    elements: str
    default: []
  protocol:
    description: Protocol of mirrored routes, which are ignored among the routes of the DPU.
    type: int
    default: 121
  metric:
    description: Metric of the mapped routes. The default is that of the kernel.
    type: int
seealso:
  - module: ekho.ynl_mirror.vrf_info
  - module: ekho.ynl_mirror.vrf_route
"""

EXAMPLES = r"""
- name: Map the routes of the host
  ansible.builtin.set_fact:
    mapped: "{{ host.gathered | ekho.ynl_mirror.map_routes(dpu) }}"

- name: Install on the DPU
  ekho.ynl_mirror.vrf_route:
    table: "{{ item.value.table }}"
    state: overridden
    routes: "{{ item.value.routes }}"
  loop: "{{ mapped.vrfs | dict2items }}"

- name: Show which routes stay on the slow path, and why
  ansible.builtin.debug:
    var: mapped.slow_path
"""

RETURN = r"""
_value:
  description: The routes for the DPU's VRFs, and those that stay on the slow path.
  type: dict
  contains:
    vrfs:
      description:
        - For each VRF of the DPU its C(table), and its C(routes) as suboptions for M(ekho.ynl_mirror.vrf_route).
        - Trap routes are among them. They lead to the host, and keep a prefix on the slow path inside one that is not.
      type: dict
    slow_path:
      description: The host's routes that no VRF can forward by itself, each C(route) with its C(reason).
      type: list
      elements: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._ynl_mirror.vrf.map_facts import map_facts, policy_from

OPTIONS = ("inference", "static", "imports", "host_links", "protocol", "metric")


def map_routes(routes: Any, dpu: Any, **options: Any) -> dict[str, Any]:
    """Map *routes* onto the machine that *dpu* describes; see DOCUMENTATION."""
    for name in options:
        if name not in OPTIONS:
            raise AnsibleFilterError(f"map_routes: unknown option {name!r}; choose from: {', '.join(OPTIONS)}")
    if not isinstance(routes, list):
        raise AnsibleFilterError(f"map_routes: expected a list of routes, got {type(routes).__name__}")
    try:
        return map_facts(routes, dpu, policy_from(options))
    except ValueError as error:
        raise AnsibleFilterError(f"map_routes: {error}") from None


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function."""
        return {"map_routes": map_routes}
