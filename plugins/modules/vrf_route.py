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
    running kernel over rtnetlink and writes no configuration file, so routes are gone after a reboot unless something
    runs the task again.
  - Every route has an owner, its routing protocol number (O(protocol)). The module changes and deletes only routes of
    its own owner. Where a wanted destination with the same metric belongs to somebody else, such as the kernel, a DHCP
    client or a routing daemon, that is reported and the route stays as it is.
  - All routes of a task are checked before anything changes. Then one plan is worked off in batches, additions and
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
      - The difference is shown as the lines of C(ip route), of the routes that the task is about.
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
      - Name of the VRF device whose table is meant. Exactly one of O(vrf) and O(table) is needed.
      - On a machine without VRF devices, where policy rules do their job, give O(table).
    type: str
  table:
    description:
      - The routing table, by number or by a name of C(rt_tables) such as V(main).
    type: str
  state:
    description:
      - V(merged) adds the routes that are missing and replaces those that differ. Other routes stay. A route is
        identified by destination, metric and tos, and becomes exactly what the task says.
      - V(replaced) does the same, and removes other routes of this owner to the same destinations, such as one with
        another metric.
      - V(overridden) does the same, and removes every other route of this owner from the table. Without any routes
        (C(routes=[])) it empties the table of what this owner has.
      - V(deleted) removes the named routes. A route needs only O(routes[].dst); each further option narrows what is
        meant. A route of another owner that is meant as well is an error. Without any routes named it removes all
        routes of this owner from the table.
      - V(gathered) changes nothing and returns the routes of this owner in the form that O(routes) takes.
      - V(rendered) looks nowhere and returns the C(ip route) commands for O(routes).
    type: str
    choices: [merged, replaced, overridden, deleted, gathered, rendered]
    default: merged
  routes:
    description:
      - The routes. An unknown option, a destination with host bits set, an address of the wrong family, a link that
        does not exist, or the same destination, metric and tos twice is an error that names the item.
      - Very many routes are better given by O(routes_file). If they are to come from the controller, read them with
        C(lookup('file', ...) | from_json); the same list in a YAML variables file takes Ansible several times as long.
    type: list
    elements: dict
    suboptions:
      dst:
        description:
          - Destination as a prefix, an address, or V(default). That is of the O(family) that is given, otherwise of
            the family of the route's first address (O(routes[].gateway), O(routes[].src)), otherwise IPv4.
        type: str
        required: true
      gateway:
        description:
          - Address of the next router. An IPv6 gateway for an IPv4 destination works too.
        type: str
      dev:
        description:
          - Name of the outgoing link. It may be in another VRF. Without it the kernel finds the link by the gateway.
        type: str
      type:
        description:
          - V(unicast) sends packets on; V(blackhole) drops them silently, V(unreachable) and V(prohibit) with an ICMP
            answer.
        type: str
        choices: [unicast, blackhole, unreachable, prohibit]
        default: unicast
      metric:
        description:
          - Of several routes to a destination the one with the least metric counts.
          - The default is 0 for IPv4 and 1024 for IPv6, as the kernel has it.
        type: int
      src:
        description: Address of this machine that packets to this destination prefer as their source.
        type: str
      onlink:
        description: Take the gateway to be on the link O(routes[].dev) although no address there covers it.
        type: bool
        default: false
      mtu:
        description: MTU of the path, 68 (IPv6 1280) to 65520.
        type: int
      tos:
        description: The route counts only for packets with this type of service; a multiple of 4. IPv4 only.
        type: int
      nexthops:
        description:
          - Several ways to share the traffic (multipath), in the place of O(routes[].gateway) and O(routes[].dev).
          - Up to 1000. Where a route has more than 233 (IPv6 130), C(ip route) shows neither it nor those behind it in
            its table.
        type: list
        elements: dict
        suboptions:
          gateway:
            description: Address of the next router.
            type: str
          dev:
            description: Name of the outgoing link.
            type: str
          weight:
            description: Share of this way, 1 to 256.
            type: int
            default: 1
          onlink:
            description: Take the gateway to be on the link although no address there covers it.
            type: bool
            default: false
  routes_file:
    description:
      - File on the managed machine with the list that O(routes) would have, as JSON. Ansible needs some five seconds
        to hand a list of 100,000 routes over to a module; this way it has none to hand over.
    type: path
  dst:
    description:
      - One route may be given by these top-level options in the place of O(routes), which is handy for ad hoc calls.
        See O(routes[].dst); the same goes for the options that follow.
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
        description: Address of the next router.
        type: str
      dev:
        description: Name of the outgoing link.
        type: str
      weight:
        description: Share of this way, 1 to 256.
        type: int
        default: 1
      onlink:
        description: Take the gateway to be on the link although no address there covers it.
        type: bool
        default: false
  protocol:
    description:
      - The owner of the routes, as a routing protocol number or a name of C(rt_protos). Routes are installed with it,
        and only routes that carry it are changed or deleted. 121 is the number of this collection.
      - The agent of the mirror owns number 121 on the DPU that it runs on, and puts right whatever else carries it.
        For routes of your own on such a machine choose another number.
      - To take care of routes that somebody made with C(ip route add), name their protocol, which is V(boot).
      - V(any), for O(state=gathered) only, returns everybody's routes.
    type: str
    default: "121"
  family:
    description:
      - Look at one address family only. Matters where O(routes) does not tell, as with O(state=overridden).
      - The default is both.
    type: str
    choices: [ipv4, ipv6]
  force:
    description:
      - Allow O(state=overridden), and O(state=deleted) without routes, on the tables main, local and default. Even
        then only routes of O(protocol) go.
    type: bool
    default: false
  continue_on_error:
    description:
      - With V(false) nothing is changed when a route is held by another owner. When the kernel refuses a route, the
        batch of up to 1,000 routes that it is in is finished and the task fails there, before any later removal.
      - With V(true) whatever can be done is done, the task succeeds, and RV(failed_routes) tells what could not.
    type: bool
    default: false
  return_routes:
    description:
      - Return RV(before), RV(after), RV(commands) and the difference. Turn it off for a task of very many routes whose
        result nobody reads; RV(stats) and RV(failed_routes) are always there.
    type: bool
    default: true
seealso:
  - module: ekho.ynl_mirror.vrf_info
  - name: ip-route(8)
    description: The command that does the same by hand.
    link: https://man7.org/linux/man-pages/man8/ip-route.8.html
notes:
  - Needs root on the managed machine (C(become), or the capability CAP_NET_ADMIN), except for O(state=gathered),
    O(state=rendered) and check mode.
  - IPv6 routes through gateways with the same destination and metric are one multipath route to the kernel, which tells
    the owner of the first next hop alone. A next hop that somebody appends to a route of yours counts as yours.
  - The kernel takes back routes of its own accord, without saying so, when a link goes down or loses its last address.
    The next run of the task installs them again.
"""

EXAMPLES = r"""
- name: Two routes in VRF red, whatever else is there
  ekho.ynl_mirror.vrf_route:
    vrf: red
    routes:
      - dst: 10.20.0.0/16
        gateway: 192.168.101.2
      - dst: fd00:20::/48
        gateway: fd00:101::2
        metric: 50

- name: Exactly these routes of ours in table 10
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

- name: One destination, moved to another gateway and metric in one step
  ekho.ynl_mirror.vrf_route:
    vrf: red
    state: replaced
    routes:
      - dst: 10.20.0.0/16
        gateway: 192.168.101.3
        metric: 20

- name: What would go, without doing it
  ekho.ynl_mirror.vrf_route:
    vrf: red
    state: deleted
    dst: 10.20.0.0/16
  check_mode: true
  diff: true

# ansible -m ekho.ynl_mirror.vrf_route -a 'table=main dst=10.1.0.0/16 gateway=192.0.2.1' router1 -b

- name: Read the routes of ours in VRF red
  ekho.ynl_mirror.vrf_route:
    vrf: red
    state: gathered
  register: red

- name: Install the same ones in VRF blue
  ekho.ynl_mirror.vrf_route:
    vrf: blue
    state: overridden
    routes: "{{ red.gathered }}"

- name: A hundred thousand routes from a file on the controller
  ekho.ynl_mirror.vrf_route:
    table: 20
    state: overridden
    routes: "{{ lookup('ansible.builtin.file', 'routes.json') | from_json }}"
    return_routes: false

- name: The same, without the routes passing through Ansible's variables
  block:
    - name: Put the file there
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
  description: Name of the VRF that has this table, V(null) if none has.
  returned: success, except for O(state=rendered)
  type: str
  sample: red
before:
  description:
    - The routes of this owner before the task, in the form that O(routes) takes. For O(state=overridden), and
      O(state=deleted) without routes, of the whole table; otherwise those to the destinations that the task names.
  returned: when O(return_routes=true) and O(state) is merged, replaced, overridden or deleted
  type: list
  elements: dict
  sample:
    - {dst: 10.20.0.0/16, type: unicast, gateway: 192.168.101.2, dev: eth1, metric: 0}
after:
  description: The same after the task, read back from the kernel. In check mode, what is to be expected.
  returned: as RV(before)
  type: list
  elements: dict
commands:
  description:
    - The C(ip route) command for each change that was made, or would be in check mode. For O(state=gathered) and
      O(state=rendered), those that install the routes.
  returned: when O(return_routes=true)
  type: list
  elements: str
  sample:
    - ip route add 10.20.0.0/16 via 192.168.101.2 proto 121 vrf red
gathered:
  description: The routes of this owner in the form that O(routes) takes.
  returned: O(state=gathered)
  type: list
  elements: dict
rendered:
  description: The routes as they were understood, with defaults filled in.
  returned: O(state=rendered)
  type: list
  elements: dict
stats:
  description: How many routes were changed, were right already, failed, or were not tried after a failure.
  returned: O(state) is merged, replaced, overridden or deleted
  type: dict
  sample: {added: 2, replaced: 0, deleted: 1, unchanged: 3, failed: 0, skipped: 0}
failed_routes:
  description: The routes that could not be changed, each with the reason.
  returned: O(state) is merged, replaced, overridden or deleted
  type: list
  elements: dict
  contains:
    index:
      description: Position in O(routes), V(null) for a route that was to go because the task does not name it.
      type: int
    route:
      description: The route, in the form that O(routes) takes.
      type: dict
    action:
      description: What was to be done, C(add), C(replace) or C(delete).
      type: str
    errno:
      description: The kernel's error number; 17 (EEXIST) where another owner holds the route.
      type: int
    error:
      description: The kernel's own explanation, or who holds the route.
      type: str
  sample:
    - index: 0
      route: {dst: 10.20.0.0/16, type: unicast, gateway: 198.51.100.1, metric: 0}
      action: add
      errno: 101
      error: Nexthop has invalid gateway
errors:
  description: Everything that is wrong with O(routes), when the task fails for that.
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
# The suboptions of `routes` are checked by module_utils/_ynl_mirror/vrf/items.py, which names the item.
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
    """The list in a JSON file of this machine; TaskError when there is none."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise TaskError(f"routes_file: {path} is no plain file; name the one that holds the list")
    try:
        with open(path, "rb") as file:
            routes = json.load(file)
    except OSError as error:
        raise TaskError(
            f"routes_file: {path} cannot be read: {error.strerror}; it has to be on the managed machine"
        ) from None
    except ValueError as error:
        raise TaskError(f"routes_file: {path} is no JSON: {error}") from None
    except RecursionError:
        raise TaskError(f"routes_file: {path} is nested too deeply; a list of routes is wanted") from None
    if not isinstance(routes, list):
        raise TaskError(f'routes_file: {path} has no list of routes in it, such as [{{"dst": ...}}, ...]')
    return routes


def task_from(params: dict[str, Any], *, check: bool = False, diff: bool = False) -> Task:
    """The task that the module's parameters describe; TaskError for routes where none or two kinds make sense."""
    single = {name: params[name] for name in OPTIONS if params[name] is not None}
    routes, label = params["routes"], "routes"
    if single:
        if "dst" not in single:
            raise TaskError(f"{next(iter(single))} describes a route, and its dst is missing")
        routes, label = [single], ""
    elif params["routes_file"] is not None:
        routes, label = read_file(params["routes_file"]), params["routes_file"]
    state = params["state"]
    if state == "gathered" and routes is not None:
        raise TaskError("state gathered reads all routes of the table: leave routes, routes_file and dst away")
    if state not in ("gathered", "deleted") and routes is None:
        raise TaskError(f"state {state} needs routes, routes_file, or dst for a single one")
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
    gc.disable()  # nothing cyclic in hundreds of thousands of small objects, which the collector would walk repeatedly
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
    """Keep very many routes from travelling back as `invocation`, which takes Ansible seconds."""
    routes = module.params["routes"]
    if routes is not None and len(routes) > 1000:
        module.params["routes"] = f"{len(routes)} routes"


if __name__ == "__main__":
    main()
