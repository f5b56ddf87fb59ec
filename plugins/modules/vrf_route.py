#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vrf_route
short_description: Live kernel routes of a VRF or routing table, declaratively
description:
  - Brings the live routes of one VRF, or of one routing table, into the state that the task describes. It works on the
    running kernel over rtnetlink and writes no configuration file. Routes do not survive a reboot.
  - Every route has an owner, its routing protocol number. The module changes and deletes only routes of O(protocol).
    Where a wanted destination with the same metric belongs to another owner, such as the kernel, a DHCP client or a
    routing daemon, it reports that and leaves the route as it is.
  - All routes of a task are validated before anything changes. Then one plan is carried out in batches, additions and
    replacements before removals, with a result for each route. A task with 100,000 routes takes seconds.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The difference is shown as lines of C(ip route), for the routes that the task covers.
  idempotent:
    support: full
  platform:
    support: full
    platforms: Linux
requirements:
  - Linux 5.0 or later
options:
  vrf:
    description:
      - Name of the VRF device whose table to manage. Exactly one of O(vrf) and O(table) is required.
      - Where policy rules make the VRFs, without VRF devices, use O(table).
    type: str
  table:
    description:
      - The routing table, by number or by a name of C(rt_tables) such as V(main).
    type: str
  state:
    description:
      - V(merged) adds the routes that are missing and replaces those that differ. Other routes stay. A route is
        identified by destination, metric and tos, and becomes exactly what the task describes.
      - V(replaced) does the same, and removes other routes of this owner to the same destinations, such as one with
        another metric.
      - V(overridden) does the same, and removes every other route of this owner from the table. With an empty list
        (C(routes=[])) it removes all routes of this owner.
      - V(deleted) removes the listed routes. Only O(routes[].dst) is required; each further option narrows the
        selection. It is an error if a route of another owner is selected. Without any list it removes all routes of
        this owner from the table.
      - V(gathered) changes nothing and returns the routes of this owner as suboptions of O(routes).
      - V(rendered) does not access the kernel and returns the C(ip route) commands for O(routes).
    type: str
    choices: [merged, replaced, overridden, deleted, gathered, rendered]
    default: merged
  routes:
    description:
      - The routes. An unknown option, a destination with host bits set, an address of the wrong family, a link that
        does not exist, or the same destination, metric and tos twice is an error that names the item.
      - For very many routes use O(routes_file). To read them from a file on the controller, use
        V(lookup('file', ...\) | from_json); with a YAML variables file Ansible takes several times as long.
    type: list
    elements: dict
    suboptions:
      dst:
        description:
          - Destination as a prefix, an address, or V(default). The family of V(default) is O(family), otherwise that
            of the route's first address (O(routes[].gateway), O(routes[].src)), otherwise IPv4.
        type: str
        required: true
      gateway:
        description:
          - Address of the next hop. An IPv4 destination may have an IPv6 gateway.
        type: str
      dev:
        description:
          - Name of the outgoing link, which may be in another VRF. Without it the kernel finds the link by the gateway.
        type: str
      type:
        description:
          - V(unicast) forwards packets. V(blackhole) drops them silently, V(unreachable) and V(prohibit) with an ICMP
            error.
        type: str
        choices: [unicast, blackhole, unreachable, prohibit]
        default: unicast
      metric:
        description:
          - Of several routes to a destination the kernel uses the one with the lowest metric.
          - The default is that of the kernel, 0 for IPv4 and 1024 for IPv6.
        type: int
      src:
        description: Preferred source address of packets to this destination, an address of this machine.
        type: str
      onlink:
        description: Treat the gateway as directly reachable on O(routes[].dev) although no subnet there contains it.
        type: bool
        default: false
      mtu:
        description: MTU of the path, 68 (IPv6 1280) to 65520.
        type: int
      tos:
        description: Use the route only for packets with this type of service, a multiple of 4. IPv4 only.
        type: int
      nexthops:
        description:
          - Several next hops that share the traffic (multipath), instead of O(routes[].gateway) and O(routes[].dev).
          - At most 1000. If a route has more than 233 (IPv6 130), C(ip route) shows neither it nor any route after it
            in the table.
        type: list
        elements: dict
        suboptions:
          gateway:
            description: Address of the next hop.
            type: str
          dev:
            description: Name of the outgoing link.
            type: str
          weight:
            description: Share of the traffic of this next hop, 1 to 256.
            type: int
            default: 1
          onlink:
            description: Treat the gateway as directly reachable on the link although no subnet there contains it.
            type: bool
            default: false
  routes_file:
    description:
      - JSON file on the managed machine with the list that O(routes) would have. Ansible takes some five seconds to
        pass a list of 100,000 routes to a module, which this avoids.
    type: path
  dst:
    description:
      - A single route may be given by this option and those that follow instead of by O(routes), for example in an
        ad hoc command. See O(routes[].dst).
    type: str
  gateway:
    description: See O(routes[].gateway).
    type: str
  dev:
    description: See O(routes[].dev).
    type: str
  type:
    description: See O(routes[].type).
    type: str
    choices: [unicast, blackhole, unreachable, prohibit]
  metric:
    description: See O(routes[].metric).
    type: int
  src:
    description: See O(routes[].src).
    type: str
  onlink:
    description: See O(routes[].onlink).
    type: bool
  mtu:
    description: See O(routes[].mtu).
    type: int
  tos:
    description: See O(routes[].tos).
    type: int
  nexthops:
    description: See O(routes[].nexthops).
    type: list
    elements: dict
    suboptions:
      gateway:
        description: Address of the next hop.
        type: str
      dev:
        description: Name of the outgoing link.
        type: str
      weight:
        description: Share of the traffic of this next hop, 1 to 256.
        type: int
        default: 1
      onlink:
        description: Treat the gateway as directly reachable on the link although no subnet there contains it.
        type: bool
        default: false
  protocol:
    description:
      - The owner of the routes, as a routing protocol number or a name of C(rt_protos). Routes are installed with it,
        and only routes that carry it are changed or deleted. 121 is the number of this collection.
      - On a DPU with the mirror's agent, number 121 belongs to the agent, which removes other routes that carry it.
        Choose another number for routes of your own there.
      - To manage routes that were added by C(ip route add), use V(boot), their protocol.
      - V(any) returns the routes of every owner, with O(state=gathered) only.
    type: str
    default: "121"
  family:
    description:
      - Manage routes of this address family only, for example with O(state=overridden).
      - The default is both.
    type: str
    choices: [ipv4, ipv6]
  force:
    description:
      - Allow O(state=overridden), and O(state=deleted) without routes, on the tables main, local and default. Only
        routes of O(protocol) are removed there too.
    type: bool
    default: false
  continue_on_error:
    description:
      - With V(false) nothing changes if a wanted route belongs to another owner. If the kernel refuses a route, the
        task finishes the batch of up to 1,000 routes that it is in and fails, before any later removal.
      - With V(true) the task does what it can and succeeds. RV(failed_routes) lists the rest.
    type: bool
    default: false
  return_routes:
    description:
      - Return RV(before), RV(after), RV(commands) and the difference. Turn it off for tasks with very many routes.
        RV(stats) and RV(failed_routes) are always returned.
    type: bool
    default: true
seealso:
  - module: ekho.ynl_mirror.vrf_info
  - name: ip-route(8)
    description: The command for the same routes.
    link: https://man7.org/linux/man-pages/man8/ip-route.8.html
notes:
  - Needs root on the managed machine (C(become), or the capability CAP_NET_ADMIN), except for O(state=gathered),
    O(state=rendered) and check mode.
  - To the kernel, IPv6 routes through gateways with the same destination and metric are one multipath route. Its owner
    is that of the first next hop. A next hop that another process appends to a route of yours counts as yours.
  - The kernel silently removes routes when a link goes down or loses its last address. The next run of the task
    installs them again.
"""

EXAMPLES = r"""
- name: Ensure two routes in VRF red
  ekho.ynl_mirror.vrf_route:
    vrf: red
    routes:
      - dst: 10.20.0.0/16
        gateway: 192.168.101.2
      - dst: fd00:20::/48
        gateway: fd00:101::2
        metric: 50

- name: Leave exactly these routes of ours in table 10
  ekho.ynl_mirror.vrf_route:
    table: 10
    state: overridden
    routes:
      - dst: default
        nexthops:
          - {gateway: 192.168.101.2, weight: 2}
          - {gateway: 192.168.102.2, dev: eth2}
      - dst: 192.168.12.0/24
        dev: eth4
      - dst: 203.0.113.0/24
        type: blackhole

- name: Move a destination to another gateway and metric in one step
  ekho.ynl_mirror.vrf_route:
    vrf: red
    state: replaced
    routes:
      - dst: 10.20.0.0/16
        gateway: 192.168.101.3
        metric: 20

- name: Show what would be deleted, without doing it
  ekho.ynl_mirror.vrf_route:
    vrf: red
    state: deleted
    dst: 10.20.0.0/16
  check_mode: true
  diff: true

# ansible -m ekho.ynl_mirror.vrf_route -a 'table=main dst=10.1.0.0/16 gateway=192.0.2.1' router1 -b

- name: Read our routes in VRF red
  ekho.ynl_mirror.vrf_route:
    vrf: red
    state: gathered
  register: red

- name: Install the same routes in VRF blue
  ekho.ynl_mirror.vrf_route:
    vrf: blue
    state: overridden
    routes: "{{ red.gathered }}"

- name: Install a hundred thousand routes from a file on the controller
  ekho.ynl_mirror.vrf_route:
    table: 20
    state: overridden
    routes: "{{ lookup('ansible.builtin.file', 'routes.json') | from_json }}"
    return_routes: false

- name: Install them from a file on the managed machine, which is faster
  block:
    - name: Copy the file
      ansible.builtin.copy:
        src: routes.json
        dest: /var/lib/routes.json
        mode: "0644"
    - name: Install its routes
      ekho.ynl_mirror.vrf_route:
        table: 20
        state: overridden
        routes_file: /var/lib/routes.json
        return_routes: false
"""

RETURN = r"""
table:
  description: Number of the routing table.
  returned: success, except for O(state=rendered)
  type: int
  sample: 10
vrf:
  description: Name of the VRF with this table, V(null) if there is none.
  returned: success, except for O(state=rendered)
  type: str
  sample: red
before:
  description:
    - The routes of this owner before the task, as suboptions of O(routes). With O(state=overridden), and
      O(state=deleted) without routes, those of the whole table; otherwise those to the destinations of the task.
  returned: when O(return_routes=true) and O(state) is merged, replaced, overridden or deleted
  type: list
  elements: dict
  sample:
    - {dst: 10.20.0.0/16, type: unicast, gateway: 192.168.101.2, dev: eth1, metric: 0}
after:
  description: The same after the task, read back from the kernel, or predicted in check mode.
  returned: when O(return_routes=true) and O(state) is merged, replaced, overridden or deleted
  type: list
  elements: dict
commands:
  description:
    - The C(ip route) command for each change that was made, or would be made in check mode. With O(state=gathered) and
      O(state=rendered), the commands that install the routes.
  returned: when O(return_routes=true)
  type: list
  elements: str
  sample:
    - ip route add 10.20.0.0/16 via 192.168.101.2 proto 121 vrf red
gathered:
  description: The routes of this owner, as suboptions of O(routes).
  returned: O(state=gathered)
  type: list
  elements: dict
rendered:
  description: The routes of the task with their defaults, as suboptions of O(routes).
  returned: O(state=rendered)
  type: list
  elements: dict
stats:
  description: How many routes were changed, were unchanged, failed, or were skipped after a failure.
  returned: O(state) is merged, replaced, overridden or deleted
  type: dict
  sample: {added: 2, replaced: 0, deleted: 1, unchanged: 3, failed: 0, skipped: 0}
failed_routes:
  description: The routes that could not be changed, with the reasons.
  returned: O(state) is merged, replaced, overridden or deleted
  type: list
  elements: dict
  contains:
    index:
      description: Position in O(routes), V(null) for a route to be removed because the task does not list it.
      type: int
    route:
      description: The route, as suboptions of O(routes).
      type: dict
    action:
      description: The intended change, C(add), C(replace) or C(delete).
      type: str
    errno:
      description: The kernel's error number, 17 (EEXIST) for a route of another owner.
      type: int
    error:
      description: The kernel's error text, or the owner of the route, with the fix.
      type: str
  sample:
    - index: 0
      route: {dst: 10.20.0.0/16, type: unicast, gateway: 198.51.100.1, metric: 0}
      action: add
      errno: 101
      error: "Nexthop has invalid gateway; no subnet of a link contains the gateway: set dev and onlink"
errors:
  description: Everything that is wrong with O(routes), if the task fails for that.
  returned: when O(routes) is not valid
  type: list
  elements: str
  sample:
    - "routes[17] (10.0.0.1/8): host bits are set; did you mean 10.0.0.0/8?"
"""

import gc
import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.vrf.apply import Task, run
from ..module_utils._ynl_mirror.vrf.items import OPTIONS, TYPES
from ..module_utils._ynl_mirror.vrf.target import TaskError

STATES = ["merged", "replaced", "overridden", "deleted", "gathered", "rendered"]
HOP = {
    "gateway": {"type": "str"},
    "dev": {"type": "str"},
    "weight": {"type": "int", "default": 1},
    "onlink": {"type": "bool", "default": False},
}
ROUTE = {
    "dst": {"type": "str"},
    "gateway": {"type": "str"},
    "dev": {"type": "str"},
    "type": {"type": "str", "choices": list(TYPES)},
    "metric": {"type": "int"},
    "src": {"type": "str"},
    "onlink": {"type": "bool"},
    "mtu": {"type": "int"},
    "tos": {"type": "int"},
    "nexthops": {"type": "list", "elements": "dict", "options": HOP},
}
# The suboptions of `routes` are validated by module_utils/_ynl_mirror/vrf/items.py, which names the item.
ARGUMENTS = {
    **ROUTE,
    "vrf": {"type": "str"},
    "table": {"type": "str"},
    "state": {"type": "str", "choices": STATES, "default": "merged"},
    "routes": {"type": "list", "elements": "dict"},
    "routes_file": {"type": "path"},
    "protocol": {"type": "str", "default": "121"},
    "family": {"type": "str", "choices": ["ipv4", "ipv6"]},
    "force": {"type": "bool", "default": False},
    "continue_on_error": {"type": "bool", "default": False},
    "return_routes": {"type": "bool", "default": True},
}


def read_file(path: str) -> list[Any]:
    """The list in a JSON file on this machine; TaskError when there is none."""
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would block
        raise TaskError(f"routes_file: {path} is not a regular file; set the path of the JSON file")
    try:
        with open(path, "rb") as file:
            routes = json.load(file)
    except OSError as error:
        raise TaskError(
            f"routes_file: {path} cannot be read: {error.strerror}; the file has to be on the managed machine"
        ) from None
    except ValueError as error:
        raise TaskError(f"routes_file: {path} is not JSON: {error}") from None
    except RecursionError:
        raise TaskError(f"routes_file: {path} is nested too deeply; it should hold a list of routes") from None
    if not isinstance(routes, list):
        raise TaskError(f'routes_file: {path} does not hold a list of routes such as [{{"dst": ...}}, ...]')
    return routes


def task_from(params: dict[str, Any], *, check: bool = False, diff: bool = False) -> Task:
    """The task of the module's parameters; TaskError when the state needs routes, or takes none."""
    single = {name: params[name] for name in OPTIONS if params[name] is not None}
    routes, label = params["routes"], "routes"
    if single:
        if "dst" not in single:
            raise TaskError(f"{next(iter(single))} describes a single route, which needs dst")
        routes, label = [single], ""
    elif params["routes_file"] is not None:
        routes, label = read_file(params["routes_file"]), params["routes_file"]
    state = params["state"]
    if state == "gathered" and routes is not None:
        raise TaskError("state gathered reads all routes of the table; remove routes, routes_file and dst")
    if state not in ("gathered", "deleted") and routes is None:
        raise TaskError(f"state {state} needs routes, routes_file, or dst (a single route)")
    return Task(
        state=state,
        routes=routes,
        label=label,
        **{
            name: params[name]
            for name in ("vrf", "table", "protocol", "family", "force", "continue_on_error", "return_routes")
        },
        check=check,
        diff=diff,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        mutually_exclusive=[
            ("vrf", "table"),
            ("routes", "routes_file"),
            *[(several, name) for several in ("routes", "routes_file") for name in OPTIONS],
        ],
        required_one_of=[("vrf", "table")],
        supports_check_mode=True,
    )
    gc.disable()  # the collector would repeatedly walk hundreds of thousands of objects without a cycle
    try:
        result = run(task_from(module.params, check=module.check_mode, diff=module._diff))
    except TaskError as error:
        _trim(module)
        module.fail_json(msg=str(error), **error.details)
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    _trim(module)
    module.exit_json(**result)


def _trim(module: AnsibleModule) -> None:
    """Keep very many routes out of `invocation` in the result, which would take Ansible seconds."""
    routes = module.params["routes"]
    if routes is not None and len(routes) > 1000:
        module.params["routes"] = f"{len(routes)} routes"


if __name__ == "__main__":
    main()
