# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that describe a lab, whatever its hosts are made of."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  hosts:
    description: The hosts of the lab. Needed for O(state=present).
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
            description: Its addresses with prefix length, of both families.
            type: list
            elements: str
            default: []
      routes:
        description: Routes by way of a neighbour.
        type: list
        elements: dict
        default: []
        suboptions:
          dst:
            description: Destination prefix or V(default).
            type: str
            required: true
          gateway:
            description: Address of the neighbour. It tells family and interface.
            type: str
            required: true
          vrf:
            description: The VRF whose table the route goes to.
            type: str
          table:
            description: Number of the table the route goes to. Without this and O(hosts[].routes[].vrf) it is main.
            type: int
      rules:
        description: Policy rules of both families that send every packet to a table.
        type: list
        elements: dict
        default: []
        suboptions:
          priority:
            description: Priority of the rule; the main table's is 32766.
            type: int
            required: true
          table:
            description: Number of the table.
            type: int
            required: true
      sysctls:
        description: Kernel settings of the namespace.
        type: dict
        default: {}
  links:
    description: The cables, each a list of two ends, V(HOST:INTERFACE).
    type: list
    elements: list
    default: []
"""
