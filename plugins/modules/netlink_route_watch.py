#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netlink_route_watch
short_description: Run the listener, which follows the kernel's routes and mirrors them
description:
  - Runs the listener as a service of the managed machine, the host. The listener follows the kernel's rules and routing
    tables and sends what the kernel does with forwarded packets, one path for each prefix, to one or more agents
    (M(ekho.ynl_mirror.dpu_agent)), or to any other FPM consumer.
  - Installs the program, writes the configuration and starts the listener. Restarts it if program or configuration have
    changed. Returns once the listener is ready.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.service
  - ekho.ynl_mirror.attributes.actiongroup_daemons
options:
  state:
    description:
      - V(started) makes sure that the listener runs, with this program and this configuration.
      - V(restarted) does the same and always restarts it.
      - V(stopped) stops it.
      - V(absent) stops it and removes its files.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  tables:
    description:
      - Routing tables whose routes may be offloaded, by number or name. What another table decides stays slow.
      - The listener follows every table that the policy rules of the host look up, and announces what its kernel does
        with a forwarded packet. A table in this list that no rule looks up takes no part in that; the log names it.
    type: list
    elements: raw
    default: [254]
  ignore_rules:
    description:
      - Priorities of policy rules that are treated as absent, because they concern no packet of a DPU.
      - A rule with a condition that a forwarded packet may or may not meet, such as a mark or a source address, keeps
        what it covers on the slow path. List it here if you know that packets from the DPU never meet it.
    type: list
    elements: int
    default: []
  families:
    description: Address families to follow.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  filters:
    description:
      - Which routes are mirrored. What is left out or empty restricts nothing.
      - A route that the filters exclude stays on the slow path, and so does all traffic to O(filters.exclude_prefixes).
    type: dict
    suboptions:
      protocols:
        description: Only routes of these protocols, by number or name.
        type: list
        elements: raw
        default: []
      exclude_protocols:
        description: No routes of these protocols, by number or name.
        type: list
        elements: raw
        default: []
      prefixes:
        description:
          - Only routes within these prefixes.
          - V(10.0.0.0/8) means the prefix and everything inside it, V(exact 0.0.0.0/0) only the prefix itself.
        type: list
        elements: str
        default: []
      exclude_prefixes:
        description: No routes within these prefixes.
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
  agents:
    description: Agents to send routes to.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: Address or name of the agent.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        default: 2620
      server_name:
        description: Name that the agent's certificate has to have. The default is its address.
        type: str
  http:
    description: HTTP interface on TCP, besides the control socket. None when left out.
    type: dict
    suboptions:
      address:
        description: Loopback address to serve on. There is neither encryption nor authentication.
        type: str
        default: 127.0.0.1
      port:
        description: TCP port.
        type: int
        default: 4321
seealso:
  - module: ekho.ynl_mirror.netlink_route_info
  - module: ekho.ynl_mirror.dpu_agent
  - module: ekho.ynl_mirror.vrf_route
"""

EXAMPLES = r"""
- name: Mirror the routes of the main table, except those of the kernel itself
  ekho.ynl_mirror.netlink_route_watch:
    filters:
      exclude_protocols: [kernel]
    agents:
      - address: 192.168.101.1
        server_name: ekho-dpu
    tls:
      ca: /etc/ynl-mirror/tls/ca.crt
      certificate: /etc/ynl-mirror/tls/host.crt
      key: /etc/ynl-mirror/tls/host.key
    user: ynl-mirror

- name: Remove the listener
  ekho.ynl_mirror.netlink_route_watch:
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one line for each action.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/ynl-mirror/listener.json", "start the listener"]
service:
  description: Current state of the service.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the daemon.
      type: str
      sample: listener
    manager:
      description: V(systemd) or V(supervised).
      type: str
    running:
      description: Whether it runs.
      type: bool
    pid:
      description: Process of the daemon with systemd, otherwise of its supervisor.
      type: int
    digest:
      description: Digest of the program and the configuration that it was started with.
      type: str
      sample: 0f5f6b0e2c1d
    config_file:
      description: Path of the configuration.
      type: str
    control_socket:
      description: Path of the control socket.
      type: str
    command:
      description: Path of the command.
      type: str
    log_file:
      description: Path of the log file, without systemd.
      type: str
status:
  description: Output of C(ynl-mirror status --json). Null if the listener does not run.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.install import service_module
from ..module_utils._ynl_mirror.install.options import LISTENER


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=service_module.argument_spec(LISTENER), supports_check_mode=True)
    service_module.run(module, LISTENER)


if __name__ == "__main__":
    main()
