#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vrf_info
short_description: VRFs of a machine with their links, addresses and routes
description:
  - Returns the VRFs of a machine with their tables, its links with VRF and state, its addresses, policy rules and
    routes, all read from the running kernel.
  - VRFs are the kernel's VRF devices. Where policy rules make the VRFs, without VRF devices, list them in O(vrfs).
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.attributes.info
requirements:
  - Linux 5.0 or later
options:
  gather_subset:
    description: What to return. Leave C(routes) out where tables are large and not needed.
    type: list
    elements: str
    choices: [vrfs, links, addresses, rules, routes]
    default: [vrfs, links, addresses, rules, routes]
  vrfs:
    description:
      - VRFs that policy rules make, by name, each with C(table) and the names of its C(links).
      - Without C(links) they are those that a policy rule C(iif LINK lookup TABLE) binds to the table.
      - If given, VRF devices are ignored.
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
  - module: ekho.ynl_mirror.netlink_route_info
  - plugin: ekho.ynl_mirror.map_routes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Gather everything
  ekho.ynl_mirror.vrf_info:
  register: dpu

- name: Fail if a link of VRF red has no carrier
  ansible.builtin.assert:
    that: dpu.links | selectattr('vrf', 'eq', 'red') | map(attribute='carrier') is all

- name: Gather the mirrored routes of a machine whose VRFs are made by policy rules
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
      description: Names of its links.
      type: list
      elements: str
    device:
      description: Whether it is a VRF device.
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
      description: Whether it is administratively up.
      type: bool
    carrier:
      description: Whether it has carrier.
      type: bool
    master:
      description: Name of its master, a VRF, bridge or bond, V(null) without one.
      type: str
    vrf:
      description: Name of its VRF, V(null) without one. A VRF device is in its own VRF.
      type: str
    table:
      description: Table of a VRF device, V(null) for other links.
      type: int
    mtu:
      description: Largest packet that it carries, in bytes.
      type: int
    lower:
      description: Name of the link that a VLAN or macvlan link runs on, V(null) for other links.
      type: str
  sample:
    - name: eth1
      index: 2
      kind: veth
      up: true
      carrier: true
      master: red
      vrf: red
      table: null
      mtu: 1500
      lower: null
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
      description: Prefix length of its subnet.
      type: int
    family:
      description: C(ipv4) or C(ipv6).
      type: str
    link:
      description: Name of its link.
      type: str
    vrf:
      description: Name of the VRF of its link, V(null) without one.
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
      description: Rules with lower numbers come first.
      type: int
    table:
      description: The table that it looks up, V(null) if C(l3mdev) is V(true).
      type: int
    iif:
      description: Name of the incoming link that it matches, V(null) for any.
      type: str
    source:
      description: Source prefix that it matches, V(null) for any.
      type: str
    l3mdev:
      description: Whether it is the rule for VRF devices, which looks up the table of the packet's VRF.
      type: bool
  sample:
    - {family: ipv4, priority: 1000, table: 10, iif: eth1, source: null, l3mdev: false}
routes:
  description: The routes of O(tables), of all owners unless O(protocols) is given.
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
      description: Address of the next hop, if there is one.
      type: str
    dev:
      description: Name of the outgoing link, if there is one.
      type: str
    onlink:
      description: Returned, as V(true), if the gateway is treated as directly reachable on the link.
      type: bool
    nexthops:
      description: Next hops of a multipath route, each with C(gateway), C(dev), C(weight) and C(onlink).
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
      description: Name of the VRF of that table, V(null) without one.
      type: str
    protocol:
      description: Its owner, as the name or else the number of the routing protocol.
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
    """What the module's parameters ask for; ConfigError names an invalid one."""
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
