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
  - Works out which routes a DPU needs in its VRFs, so that it forwards by itself what otherwise would climb to the host
    and be sent back down.
  - It is the mapping of the agent, on data that other tasks have gathered. It changes nothing anywhere.
positional: dpu
options:
  _input:
    description:
      - The host's routes, as M(ekho.ynl_mirror.vrf_route) returns them as C(gathered).
    type: list
    elements: dict
    required: true
  dpu:
    description: The DPU's own view, as M(ekho.ynl_mirror.vrf_info) returns it with all its subsets.
    type: dict
    required: true
  inference:
    description:
      - The inferences that may find egress and source VRF of a route, in the order in which they are tried.
      - V(nexthop) looks the destination up in the VRF whose link owns the announced route's gateway.
      - V(prefix) takes the DPU's own route to the same prefix. V(static) follows O(static).
    type: list
    elements: str
    choices: [nexthop, prefix, static]
    default: [nexthop, prefix, static]
  static:
    description: Rules of your own.
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
        description: The link to leave by.
        type: str
        required: true
      via:
        description: The router on that link, if there is one.
        type: str
  imports:
    description:
      - For a VRF the list of the VRFs whose egresses it takes. A VRF that is not named takes those of all others.
    type: dict
    default: {}
  host_links:
    description: Links of the DPU that lead to the host, besides those that the host's gateways tell.
    type: list
    elements: str
    default: []
  protocol:
    description: Routes of the DPU with this protocol were mirrored, and tell nothing about its own ways.
    type: int
    default: 121
  metric:
    description: Metric of the mapped routes. The default is the kernel's.
    type: int
seealso:
  - module: ekho.ynl_mirror.vrf_info
  - module: ekho.ynl_mirror.vrf_route
"""

EXAMPLES = r"""
- name: Map
  ansible.builtin.set_fact:
    mapped: "{{ host.gathered | ekho.ynl_mirror.map_routes(dpu) }}"

- name: Install on the DPU
  ekho.ynl_mirror.vrf_route:
    table: "{{ item.value.table }}"
    state: overridden
    routes: "{{ item.value.routes }}"
  loop: "{{ mapped.vrfs | dict2items }}"

- name: Why some stay on the host
  ansible.builtin.debug:
    var: mapped.slow_path
"""

RETURN = r"""
_value:
  description: What the DPU's VRFs need, and what could not be mapped.
  type: dict
  contains:
    vrfs:
      description:
        - For each VRF of the DPU its C(table), and its C(routes) as M(ekho.ynl_mirror.vrf_route) takes them.
      type: dict
    slow_path:
      description: The host's routes that have no place on the DPU, each C(route) with the C(reason).
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
            raise AnsibleFilterError(f"map_routes: unknown option {name!r}; known are {', '.join(OPTIONS)}")
    if not isinstance(routes, list):
        raise AnsibleFilterError(f"map_routes: the routes have to be a list, got {type(routes).__name__}")
    try:
        return map_facts(routes, dpu, policy_from(options))
    except ValueError as error:
        raise AnsibleFilterError(f"map_routes: {error}") from None


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function."""
        return {"map_routes": map_routes}
