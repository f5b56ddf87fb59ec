#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vrf_info
short_description: VRFs of a machine with their links, addresses and routes
description:
  - Returns the live view that a machine with VRFs has of itself - the VRFs with their tables, the links with VRF and
    state, the addresses, the policy rules and the routes.
  - VRFs are the kernel's VRF devices. Where policy rules do their job (VRF-lite), O(vrfs) says which there are.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.attributes.info
requirements:
  - Linux 5.0 or later
options:
  gather_subset:
    description: What to return. Tables with very many routes are better left out when nobody reads them.
    type: list
    elements: str
    choices: [vrfs, links, addresses, rules, routes]
    default: [vrfs, links, addresses, rules, routes]
  vrfs:
    description:
      - VRFs of a machine that has no VRF devices, by name, each with C(table) and the names of its C(links).
      - Without C(links) they are those that a policy rule C(iif LINK lookup TABLE) binds to the table.
      - If given, VRF devices are not looked for.
    type: dict
  tables:
    description:
      - Return the routes of these tables, by number or by a name of C(rt_tables).
      - The default is the tables of the VRFs, and main.
    type: list
    elements: str
  families:
    description: Return addresses, rules and routes of these address families only.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  protocols:
    description:
      - Return only the routes of these owners, by routing protocol number or by a name of C(rt_protos).
      - The default is all.
    type: list
    elements: str
seealso:
  - module: ekho.ynl_mirror.vrf_route
  - plugin: ekho.ynl_mirror.map_routes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at everything
  ekho.ynl_mirror.vrf_info:
  register: dpu

- name: Every link of VRF red has carrier
  ansible.builtin.assert:
    that: dpu.links | selectattr('vrf', 'eq', 'red') | map(attribute='carrier') is all

- name: The mirrored routes of a machine whose VRFs are policy rules
  ekho.ynl_mirror.vrf_info:
    gather_subset: [routes]
    protocols: [121]
    vrfs:
      a: {table: 10, links: [eth1, eth3]}
      b: {table: 20, links: [eth2, eth4]}
"""

RETURN = r"""
vrfs:
  description: The VRFs, in the order of their devices or of O(vrfs).
  returned: when C(vrfs) is in O(gather_subset)
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VRF.
      type: str
    table:
      description: Its routing table.
      type: int
    links:
      description: Names of the links in it.
      type: list
      elements: str
    device:
      description: Whether the VRF is a VRF device.
      type: bool
  sample:
    - {name: red, table: 10, links: [eth1, eth3], device: true}
links:
  description: All links, by index.
  returned: when C(links) is in O(gather_subset)
  type: list
  elements: dict
  contains:
    name:
      description: Name of the link.
      type: str
    index:
      description: Its interface index.
      type: int
    kind:
      description: The kernel's name for the kind of device; empty for hardware.
      type: str
    up:
      description: Whether it is set up.
      type: bool
    carrier:
      description: Whether packets would get out.
      type: bool
    master:
      description: Name of the VRF, bridge or bond that it is part of.
      type: str
    vrf:
      description: Name of the VRF that it is in; a VRF device is in its own VRF.
      type: str
    table:
      description: For a VRF device its table.
      type: int
  sample:
    - {name: eth1, index: 2, kind: veth, up: true, carrier: true, master: red, vrf: red, table: null}
addresses:
  description: All addresses.
  returned: when C(addresses) is in O(gather_subset)
  type: list
  elements: dict
  contains:
    address:
      description: The address.
      type: str
    prefix_length:
      description: Length of its subnet's prefix.
      type: int
    family:
      description: C(ipv4) or C(ipv6).
      type: str
    link:
      description: Name of the link that has it.
      type: str
    vrf:
      description: Name of the VRF of that link.
      type: str
  sample:
    - {address: 192.168.101.1, prefix_length: 24, family: ipv4, link: eth1, vrf: red}
rules:
  description: The policy rules, by priority.
  returned: when C(rules) is in O(gather_subset)
  type: list
  elements: dict
  contains:
    family:
      description: C(ipv4) or C(ipv6).
      type: str
    priority:
      description: Rules of smaller numbers are asked first.
      type: int
    table:
      description: The table to look in; null where C(l3mdev) says it.
      type: int
    iif:
      description: Name of the link that a packet has to come from.
      type: str
    source:
      description: Prefix that a packet has to come from.
      type: str
    l3mdev:
      description: Whether it is the rule for VRF devices, by which a packet is looked up in the table of its VRF.
      type: bool
  sample:
    - {family: ipv4, priority: 1000, table: 10, iif: eth1, source: null, l3mdev: false}
routes:
  description: The routes of the tables, of all owners.
  returned: when C(routes) is in O(gather_subset)
  type: list
  elements: dict
  contains:
    dst:
      description: Destination.
      type: str
    type:
      description: Type of the route, such as C(unicast).
      type: str
    gateway:
      description: Address of the next router, if there is one.
      type: str
    dev:
      description: Name of the outgoing link, if there is one.
      type: str
    onlink:
      description: There, and true, if the gateway is taken to be on the link.
      type: bool
    nexthops:
      description: Of a multipath route the ways, each with C(gateway), C(dev), C(weight) and C(onlink).
      type: list
      elements: dict
    metric:
      description: Metric.
      type: int
    src:
      description: Preferred source address, if there is one.
      type: str
    mtu:
      description: MTU of the path, if it has one.
      type: int
    tos:
      description: Type of service, if the route is for one.
      type: int
    family:
      description: C(ipv4) or C(ipv6).
      type: str
    table:
      description: Routing table.
      type: int
    vrf:
      description: Name of the VRF of that table.
      type: str
    protocol:
      description: Who installed it, as the name or number of the routing protocol.
      type: str
  sample:
    - dst: 10.20.0.0/16
      type: unicast
      gateway: 192.168.101.2
      dev: eth1
      metric: 0
      family: ipv4
      table: 10
      vrf: red
      protocol: ynl_mirror
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.config.fields import ConfigError, Fields, as_link
from ..module_utils._ynl_mirror.config.names import read_names
from ..module_utils._ynl_mirror.vrf.facts import SUBSETS, Question, gather
from ..module_utils._ynl_mirror.vrf.target import TaskError


def question_from(params: dict[str, Any]) -> Question:
    """What the module's parameters ask for; ConfigError names a parameter that makes no sense."""
    names = read_names()
    tables = params["tables"]
    return Question(
        subset=tuple(params["gather_subset"]),
        vrfs={name: _vrf(value, f"vrfs.{name}") for name, value in (params["vrfs"] or {}).items()},
        tables=None if tables is None else tuple(names.table(t, f"tables[{i}]") for i, t in enumerate(tables)),
        families=tuple(params["families"]),
        protocols=tuple(names.protocol(p, f"protocols[{i}]") for i, p in enumerate(params["protocols"] or ())),
    )


def _vrf(value: object, path: str) -> tuple[int, tuple[str, ...]]:
    fields = Fields(value, path)
    table = read_names().table(fields.required("table"), f"{path}.table")
    links = fields.many("links", as_link)
    fields.done()
    return table, links


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "gather_subset": {"type": "list", "elements": "str", "choices": list(SUBSETS), "default": list(SUBSETS)},
            "vrfs": {"type": "dict"},
            "tables": {"type": "list", "elements": "str"},
            "families": {
                "type": "list",
                "elements": "str",
                "choices": ["ipv4", "ipv6"],
                "default": ["ipv4", "ipv6"],
            },
            "protocols": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    try:
        facts = gather(question_from(module.params))
    except (ConfigError, TaskError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
