#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dpu_agent
short_description: Run the agent that installs the routes of hosts in the VRFs of this machine
description:
  - Runs the agent as a service of the managed machine, a DPU or any Linux router. The agent receives the routes of
    hosts over FPM, finds the VRF and egress of each, and installs them in the kernel under its own protocol number.
  - Installs the program, writes the configuration and starts the agent. Restarts it if program or configuration have
    changed. Returns once the agent is ready.
  - To query the agent later, use the command C(ynl-mirror), which is installed with it, or its HTTP interface.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.service
  - ekho.ynl_mirror.attributes.actiongroup_daemons
options:
  state:
    description:
      - V(started) makes sure that the agent runs, with this program and this configuration.
      - V(restarted) does the same and always restarts it.
      - V(stopped) stops it. The installed routes stay.
      - V(absent) stops it and removes its files. The installed routes stay.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  listen:
    description: Addresses and ports that hosts connect to.
    type: list
    elements: dict
    default:
      - address: "::"
        port: 2620
    suboptions:
      address:
        description: Address of this machine. V(::) is every address, IPv4 and IPv6.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        default: 2620
  hosts:
    description:
      - Names in the certificates of the hosts that may connect. Empty accepts all that the authority has signed.
      - An item is a name, or a dictionary with C(name) and suboptions of O(host_defaults) that apply to this host. It
        inherits the others from O(host_defaults).
    type: list
    elements: raw
    default: []
  host_defaults:
    description:
      - What each host may fill, unless C(hosts) says otherwise.
      - A refused route is C(failed), with the reason, on both sides.
    type: dict
    suboptions:
      vrfs:
        description: Names of the VRFs that may get its routes. Empty is every VRF.
        type: list
        elements: str
        default: []
      prefixes:
        description:
          - Install only routes within these prefixes. Empty is every prefix.
          - V(10.0.0.0/8) means the prefix and everything inside it, V(exact 0.0.0.0/0) only the prefix itself.
        type: list
        elements: str
        default: []
      exclude_prefixes:
        description: Do not install routes within these prefixes.
        type: list
        elements: str
        default: []
      types:
        description: Install only routes of these types, such as V(unicast). Empty is every type.
        type: list
        elements: str
        default: []
      routes:
        description:
          - Maximum number of prefixes installed for the host. The rest waits for room.
          - It also limits what the agent remembers of the host, and with it the agent's memory.
        type: int
        default: 2000000
      nexthops:
        description: Maximum number of next hops of a route. No limit when left out.
        type: int
      withdraw_after:
        description:
          - Seconds after which the routes of a disconnected host are withdrawn. V(0) keeps them forever.
          - They count from the end of the connection, or from the start of the agent if that is later.
        type: float
        default: 0.0
  vrf_limits:
    description:
      - Maximum number of mirrored routes in a VRF - name of the VRF to a number. V(*) is every VRF not named.
      - The rest waits for room.
    type: dict
    default: {}
  host_tables:
    description: Routing tables of the hosts whose routes are installed, by number or name.
    type: list
    elements: raw
    default: [254]
  vrfs:
    description:
      - VRFs made by policy rules instead of VRF devices - name of the VRF to C(table) and C(links).
      - C(table) is a number or name, C(links) a list of link names. Empty uses the kernel's VRF devices.
    type: dict
    default: {}
  inference:
    description:
      - Ways to find the VRF and egress of an announced route. The first that knows decides. V(prefix) is a guess.
      - V(static) - the rules of O(static).
      - V(nexthop) - the host's gateway is an address of this machine. Its link is in a VRF, and the longest match in
        the table of that VRF is the egress. This is what can be proven.
      - V(prefix) - a route of this machine to the same prefix has both, whatever the gateway. Nothing proves that
        packets take this way.
    type: list
    elements: str
    choices: [static, nexthop, prefix]
    default: [static, nexthop]
  static:
    description:
      - Rules for the inference V(static).
      - Each needs either O(static[].prefix) or O(static[].gateway).
    type: list
    elements: dict
    default: []
    suboptions:
      vrf:
        description: VRF that the destination is in.
        type: str
        required: true
      dev:
        description: Link to the destination.
        type: str
        required: true
      prefix:
        description: Prefix of the announced route.
        type: str
      gateway:
        description: Gateway of the announced route.
        type: str
      via:
        description: Gateway on that link.
        type: str
  imports:
    description:
      - VRFs from which a VRF imports egresses - name of the VRF to a list of names.
      - A VRF that is not named imports from all others.
    type: dict
    default: {}
  host_links:
    description:
      - Links that lead to the hosts, besides those that own the gateways of their routes.
      - They are never an egress.
    type: list
    elements: str
    default: []
  protocol:
    description: Protocol of the installed routes, by number or name. It marks them as the agent's.
    type: raw
    default: 121
  metric:
    description: Metric of the installed routes, trap routes apart. The kernel's default when left out.
    type: int
  settle_time:
    description: Seconds of silence that complete the replay of a host that marks no end, such as FRR's zebra.
    type: float
    default: 5.0
  guard_share:
    description:
      - Share of a VRF's mirrored routes that a host may withdraw at once without confirmation.
      - Larger withdrawals, and that of a VRF's default route, wait until the host confirms them by a replay. V(0) and
        V(1) turn this mass-withdrawal guard off.
    type: float
    default: 0.5
  guard_routes:
    description: Number of routes that a host may withdraw at once without confirmation, whatever their share.
    type: int
    default: 100
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
      allow_changes:
        description:
          - Whether C(POST /route/add) and C(POST /route/del) are accepted here. The control socket always accepts them.
        type: bool
        default: false
  rt_protos_dir:
    description:
      - Directory of iproute2 for a file that names the protocols 121 and 122, for C(ip route) to show V(ynl_mirror).
      - Usually C(/etc/iproute2/rt_protos.d). No file is written when left out.
    type: path
seealso:
  - module: ekho.ynl_mirror.netlink_route_watch
"""

EXAMPLES = r"""
- name: Run the agent on a DPU with VRF devices
  ekho.ynl_mirror.dpu_agent:
    tls:
      ca: /etc/ynl-mirror/tls/ca.crt
      certificate: /etc/ynl-mirror/tls/dpu.crt
      key: /etc/ynl-mirror/tls/dpu.key
    hosts: [ekho-host]
    user: ynl-mirror

- name: Let a host fill one VRF with some prefixes, and keep its routes for an hour after it disconnects
  ekho.ynl_mirror.dpu_agent:
    tls:
      ca: /etc/ynl-mirror/tls/ca.crt
      certificate: /etc/ynl-mirror/tls/dpu.crt
      key: /etc/ynl-mirror/tls/dpu.key
    hosts:
      - name: ekho-host
        vrfs: [b]
        prefixes: [10.0.0.0/8]
        routes: 100000
        withdraw_after: 3600
    vrf_limits: {"*": 200000}

- name: Serve FRR's zebra on a trusted link, with VRFs made by policy rules
  ekho.ynl_mirror.dpu_agent:
    listen:
      - address: 192.168.101.1
    plaintext: true
    vrfs:
      a: {table: 10, links: [eth1, eth3]}
      b: {table: 20, links: [eth2, eth4]}

- name: Remove the agent
  ekho.ynl_mirror.dpu_agent:
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one line for each action.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/ynl-mirror/agent.json", "start the agent"]
service:
  description: Current state of the service.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the daemon.
      type: str
      sample: agent
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
  description: Output of C(ynl-mirror status --json). Null if the agent does not run.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.install import service_module
from ..module_utils._ynl_mirror.install.options import AGENT


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=service_module.argument_spec(AGENT), supports_check_mode=True)
    service_module.run(module, AGENT)


if __name__ == "__main__":
    main()
