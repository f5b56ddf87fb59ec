#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netlink_route_info
short_description: Routes that the kernel uses, and their changes over a while
description:
  - Returns the routes that the kernel uses, one for each table and prefix, selected in the same way as by the listener
    (M(ekho.ynl_mirror.netlink_route_watch)).
  - With O(duration) it then captures route events for that time, for example to see what a routing daemon does.
  - Needs no daemon and changes nothing.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.attributes.info
requirements:
  - Linux 5.0 or later
options:
  tables:
    description: Routing tables to read, by number or by a name of C(rt_tables).
    type: list
    elements: raw
    default: [254]
  families:
    description: Address families to read.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  filters:
    description: Which routes and events to return. What is left out or empty restricts nothing.
    type: dict
    suboptions:
      protocols:
        description: Only routes of these routing protocols, by number or by a name of C(rt_protos).
        type: list
        elements: raw
        default: []
      exclude_protocols:
        description: No routes of these routing protocols, by number or by a name of C(rt_protos).
        type: list
        elements: raw
        default: []
      prefixes:
        description: Only routes in these prefixes. C(exact 0.0.0.0/0) is the default route and nothing else.
        type: list
        elements: str
        default: []
      exclude_prefixes:
        description: No routes in these prefixes.
        type: list
        elements: str
        default: []
      types:
        description: Only routes of these types, such as V(unicast) or V(blackhole).
        type: list
        elements: str
        default: []
      interfaces:
        description: Only routes with a next hop on one of these links.
        type: list
        elements: str
        default: []
  duration:
    description:
      - Seconds to capture route events, 0.001 to 86400.
      - The default is to return the routes only, at once.
    type: float
  max_events:
    description: Stop the capture after this many events.
    type: int
    default: 1000
  receive_buffer:
    description: Receive buffer of the socket during the capture, in bytes. Events that do not fit are lost.
    type: int
    default: 134217728
seealso:
  - module: ekho.ynl_mirror.vrf_info
  - module: ekho.ynl_mirror.netlink_route_watch
  - module: ekho.ynl_mirror.vrf_route
notes:
  - Routes with attributes that O(ekho.ynl_mirror.vrf_route#module:routes) has no option for, such as encapsulation, are
    left out.
  - Works for every user. Without root (C(become)) the kernel limits O(receive_buffer) to the sysctl
    C(net.core.rmem_max).
"""

EXAMPLES = r"""
- name: Read the static routes of table main
  ekho.ynl_mirror.netlink_route_info:
    filters:
      protocols: [static]
  register: static

- name: Read the IPv4 routes of two tables
  ekho.ynl_mirror.netlink_route_info:
    tables: [main, 100]
    families: [ipv4]
  register: both

- name: Capture what BGP changes in ten seconds
  ekho.ynl_mirror.netlink_route_info:
    duration: 10
    max_events: 100
    filters:
      protocols: [bgp]
  register: bgp

- name: Fail if a route flaps
  ansible.builtin.assert:
    that: bgp.complete and bgp.events | selectattr('event', 'eq', 'deleted') | length == 0
"""

RETURN = r"""
routes:
  description:
    - The routes that the kernel uses, one for each table and prefix, as suboptions of
      O(ekho.ynl_mirror.vrf_route#module:routes) plus C(family), C(table) and C(protocol), which is a name or else a
      number.
    - With O(duration), those at the start of the capture.
  returned: success
  type: list
  elements: dict
  sample:
    - dst: 192.168.11.0/24
      type: unicast
      gateway: 192.168.101.1
      dev: eth1
      metric: 0
      family: ipv4
      table: 254
      protocol: static
events:
  description:
    - The route events of the capture in the kernel's order, each with the keys of RV(routes), C(event) and C(time), the
      seconds since the capture began.
    - C(event) is C(added), C(replaced), C(appended), C(deleted), or, without a route, C(overrun) where the kernel has
      dropped events.
    - A change that happens while RV(routes) is being read may be in both.
  returned: when O(duration) is given
  type: list
  elements: dict
  sample:
    - event: added
      time: 1.25
      dst: 203.0.113.0/24
      type: unicast
      gateway: 192.168.101.1
      dev: eth1
      metric: 20
      family: ipv4
      table: 254
      protocol: bgp
complete:
  description: Whether RV(events) has all events of O(duration) - neither O(max_events) nor an overrun cut them short.
  returned: when O(duration) is given
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.config.fields import ConfigError
from ..module_utils._ynl_mirror.config.names import read_names
from ..module_utils._ynl_mirror.config.options import argument_spec
from ..module_utils._ynl_mirror.vrf.route_info import Question, gather
from ..module_utils._ynl_mirror.vrf.target import TaskError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(Question), supports_check_mode=True)
    try:
        result = gather(Question.from_dict(module.params, read_names()))
    except (ConfigError, TaskError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
