# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that describe a lab, whatever its hosts are."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  hosts:
    description: The hosts of the lab. Required for O(state=present).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host within the lab.
        type: str
        required: true
      vrfs:
        description: The VRFs of the host.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the VRF.
            type: str
            required: true
          table:
            description: Number of its routing table.
            type: int
            required: true
      interfaces:
        description: The interfaces of the host, each the end of a link.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the interface.
            type: str
            required: true
          vrf:
            description: The VRF that the interface belongs to.
            type: str
          addresses:
            description: Its addresses of both families, with prefix length.
            type: list
            elements: str
            default: []
      routes:
        description: Routes through a neighbour.
        type: list
        elements: dict
        default: []
        suboptions:
          dst:
            description: Destination prefix or V(default).
            type: str
            required: true
          gateway:
            description: Address of the neighbour, which determines family and interface.
            type: str
            required: true
          vrf:
            description: The VRF whose table gets the route.
            type: str
          table:
            description: Number of the table that gets the route. By default that of O(hosts[].routes[].vrf), or main.
            type: int
      rules:
        description: Policy rules of both families without selectors. Every packet is looked up in their table.
        type: list
        elements: dict
        default: []
        suboptions:
          priority:
            description: Priority of the rule; the main table has 32766.
            type: int
            required: true
          table:
            description: Number of the table.
            type: int
            required: true
      sysctls:
        description: Kernel settings of the host.
        type: dict
        default: {}
  links:
    description: The links, each a list of two ends V(HOST:INTERFACE).
    type: list
    elements: list
    default: []
"""
