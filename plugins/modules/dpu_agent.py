#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dpu_agent
short_description: Run the agent that installs the routes of hosts in the VRFs of this machine
description:
  - Runs the agent as a service of the managed machine, a DPU or any Linux router. It takes the routes of hosts over
    FPM, works out VRF and egress of each, and installs them in the kernel under a protocol number of its own.
  - Copies the program and writes the configuration, then starts the agent, and starts it again when program or
    configuration have changed. Returns once the agent is ready.
  - To fetch its state later use the command C(ynl-mirror) that comes with it, or its HTTP interface.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.service
  - ekho.ynl_mirror.attributes.actiongroup_daemons
options:
  state:
    description:
      - V(started) makes sure that the agent runs, with this program and this configuration.
      - V(restarted) does the same, and starts it again in any case.
      - V(stopped) ends it. The routes that it has installed stay.
      - V(absent) ends it and removes its files. The routes that it has installed stay.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  listen:
    description: Where hosts connect to.
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
  tls:
    description: Files for mutual TLS 1.3. Give either this or O(plaintext).
    type: dict
    suboptions:
      ca:
        description: Certificates of the authorities whose hosts are accepted, PEM.
        type: path
        required: true
      certificate:
        description: Certificate of this machine, PEM.
        type: path
        required: true
      key:
        description: Private key of this machine, PEM, mode 0600.
        type: path
        required: true
      crl:
        description:
          - Certificates that the authorities have revoked, PEM, a list (CRL) of each authority. Peers with one of them
            are refused. So are all peers once a list is out of date.
          - A daemon that runs reads a list again, or one that is new, without being started again.
        type: path
      crl_optional:
        description: Go without O(tls.crl) where there is no such file, instead of failing.
        type: bool
        default: false
  plaintext:
    description: Plain TCP, for a trusted network, or for FRR's zebra, which knows nothing else.
    type: bool
    default: false
  hosts:
    description:
      - Names in the certificates of the hosts that are accepted. Empty accepts all that the authority has signed.
      - An item is a name, or a dictionary with C(name) and the suboptions of O(host_defaults), which say what this
        host may fill. What it leaves out is as in O(host_defaults).
    type: list
    elements: raw
    default: []
  host_defaults:
    description: What each host may fill. What is refused is C(failed) and says why, on both sides.
    type: dict
    suboptions:
      vrfs:
        description: Names of the VRFs that may get its routes. Empty is every VRF.
        type: list
        elements: str
      prefixes:
        description:
          - Its routes are installed within these prefixes only. V(10.0.0.0/8) means the prefix and all inside it,
            V(exact 0.0.0.0/0) only itself. Empty is every prefix.
        type: list
        elements: str
      exclude_prefixes:
        description: Its routes within these prefixes are not installed.
        type: list
        elements: str
      types:
        description: Types of its routes that are installed, such as V(unicast). Empty is every type.
        type: list
        elements: str
      routes:
        description:
          - How many of its prefixes are installed at most. The rest waits for room. V(2000000) when left out.
          - It also bounds what the agent remembers of the host, and so the memory that the agent takes.
        type: int
      nexthops:
        description: How many next hops one route may have. No limit when left out.
        type: int
      withdraw_after:
        description:
          - Seconds after which the routes of a host that is away are withdrawn. V(0) holds them for ever.
          - It counts from the end of its connection, or from the start of the agent when that is later.
        type: float
  vrf_limits:
    description:
      - How many mirrored routes a VRF takes at most - name of the VRF to a number. V(*) is every VRF that is not named.
      - The rest waits for room.
    type: dict
    default: {}
  host_tables:
    description: Tables of the hosts whose routes are installed, by number or name.
    type: list
    elements: raw
    default: [254]
  vrfs:
    description:
      - VRFs, where they are policy rules and not VRF devices of the kernel - name of the VRF to C(table) (number or
        name) and C(links) (list of link names).
      - Empty finds the VRF devices of the kernel.
    type: dict
    default: {}
  inference:
    description:
      - Ways to find out VRF and egress of a host's route, the first that finds something wins.
      - V(nexthop) - the host's gateway is an address of this machine. The link that has it tells the VRF, whose table
        tells the egress.
      - V(prefix) - a route of this machine with the same prefix tells both.
      - V(static) - the rules of O(static).
    type: list
    elements: str
    choices: [nexthop, prefix, static]
    default: [nexthop, prefix, static]
  static:
    description: Rules for O(inference=static). Each needs O(static[].prefix) or O(static[].gateway).
    type: list
    elements: dict
    default: []
    suboptions:
      prefix:
        description: Prefix of the host's route.
        type: str
      gateway:
        description: Gateway of the host's route.
        type: str
      vrf:
        description: VRF that the destination is in.
        type: str
        required: true
      dev:
        description: Link to the destination.
        type: str
        required: true
      via:
        description: Gateway on that link.
        type: str
  imports:
    description:
      - Which VRFs a VRF imports egresses from - name of the VRF to a list of names.
      - Empty lets every VRF import from all others.
    type: dict
    default: {}
  host_links:
    description: Links that lead to the hosts, besides those that own the gateways of their routes. They are no egress.
    type: list
    elements: str
    default: []
  protocol:
    description: Protocol number (or name of C(rt_protos)) of the routes that the agent installs, its mark of ownership.
    type: raw
    default: 121
  metric:
    description: Metric of the routes that the agent installs. The kernel's own default when left out.
    type: int
  settle_time:
    description: Seconds of silence after which the replay of a host that marks no end (FRR's zebra) counts as complete.
    type: float
    default: 5.0
  receive_buffer:
    description: Receive buffer of the netlink socket, bytes.
    type: int
    default: 134217728
  guard_share:
    description:
      - A host that withdraws more than this part of the routes mirrored into a VRF at once has to confirm that by a
        second dump before they go. So does one that withdraws a VRF's default route. 0 or 1 turns this guard off.
    type: float
    default: 0.5
  guard_routes:
    description: So many routes may go without being confirmed, whatever part of the VRF's they are.
    type: int
    default: 100
  audit_interval:
    description:
      - Seconds between two slow audits, which compare the mirrored routes with the kernel's, and what came of the host
        with what it sent, and put right what was missed.
      - It takes its time and holds up nothing. 0 does without.
    type: float
    default: 60.0
  http:
    description: HTTP interface on TCP, besides the control socket. None when left out.
    type: dict
    suboptions:
      address:
        description: Loopback address to serve at. There is neither encryption nor authentication.
        type: str
        default: 127.0.0.1
      port:
        description: TCP port.
        type: int
        default: 4321
      allow_changes:
        description: Whether C(POST /route/add) and C(POST /route/del) work here. They always do on the control socket.
        type: bool
        default: false
  log_level:
    description: How much the agent logs.
    type: str
    choices: [debug, info, warning, error]
    default: info
  rt_protos_dir:
    description:
      - Directory of iproute2, such as C(/etc/iproute2/rt_protos.d), for the file that names the protocols 121 and 122,
        so that C(ip route) shows V(ynl_mirror). None is written when left out.
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

- name: Let one host fill one VRF with some prefixes, and hold its routes for an hour when it is away
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

- name: Run it where policy rules make the VRFs, for FRR's zebra on a trusted link
  ekho.ynl_mirror.dpu_agent:
    listen:
      - address: 192.168.101.1
    plaintext: true
    vrfs:
      a: {table: 10, links: [eth1, eth3]}
      b: {table: 20, links: [eth2, eth4]}

- name: Remove it
  ekho.ynl_mirror.dpu_agent:
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, a line each.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/ynl-mirror/agent.json", "start the agent"]
service:
  description: The service as it is now.
  returned: success
  type: dict
  contains:
    name:
      description: Which daemon.
      type: str
      sample: agent
    manager:
      description: V(systemd) or V(supervised).
      type: str
    running:
      description: Whether it runs.
      type: bool
    pid:
      description: The daemon under systemd, else its supervisor.
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
      description: Path of the log, where it is a file.
      type: str
status:
  description: What C(ynl-mirror status --json) says. Null when the agent does not run.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.config.agent import AgentConfig
from ..module_utils._ynl_mirror.config.names import read_names
from ..module_utils._ynl_mirror.install import service_module

OPTIONS = {
    "listen": {
        "type": "list",
        "elements": "dict",
        "default": [{"address": "::", "port": 2620}],
        "options": {"address": {"type": "str", "required": True}, "port": {"type": "int", "default": 2620}},
    },
    "tls": service_module.TLS,
    "plaintext": {"type": "bool", "default": False},
    "hosts": {"type": "list", "elements": "raw", "default": []},
    "host_defaults": {
        "type": "dict",
        "options": {
            "vrfs": {"type": "list", "elements": "str"},
            "prefixes": {"type": "list", "elements": "str"},
            "exclude_prefixes": {"type": "list", "elements": "str"},
            "types": {"type": "list", "elements": "str"},
            "routes": {"type": "int"},
            "nexthops": {"type": "int"},
            "withdraw_after": {"type": "float"},
        },
    },
    "vrf_limits": {"type": "dict", "default": {}},
    "host_tables": {"type": "list", "elements": "raw", "default": [254]},
    "vrfs": {"type": "dict", "default": {}},
    "inference": {
        "type": "list",
        "elements": "str",
        "choices": ["nexthop", "prefix", "static"],
        "default": ["nexthop", "prefix", "static"],
    },
    "static": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "prefix": {"type": "str"},
            "gateway": {"type": "str"},
            "vrf": {"type": "str", "required": True},
            "dev": {"type": "str", "required": True},
            "via": {"type": "str"},
        },
    },
    "imports": {"type": "dict", "default": {}},
    "host_links": {"type": "list", "elements": "str", "default": []},
    "protocol": {"type": "raw", "default": 121},
    "metric": {"type": "int"},
    "settle_time": {"type": "float", "default": 5.0},
    "guard_share": {"type": "float", "default": 0.5},
    "guard_routes": {"type": "int", "default": 100},
    "receive_buffer": {"type": "int", "default": 134217728},
    "audit_interval": {"type": "float", "default": 60.0},
    "http": {
        "type": "dict",
        "options": {
            "address": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 4321},
            "allow_changes": {"type": "bool", "default": False},
        },
    },
    "log_level": {"type": "str", "choices": ["debug", "info", "warning", "error"], "default": "info"},
}


def read_config(data: Any) -> AgentConfig:
    """The daemon's configuration, with this machine's names of tables and protocols."""
    return AgentConfig.from_dict(data, read_names())


def main() -> None:
    """Run the module."""
    state = {"type": "str", "choices": ["started", "stopped", "restarted", "absent"], "default": "started"}
    module = AnsibleModule(
        argument_spec={"state": state, **OPTIONS, "rt_protos_dir": {"type": "path"}, **service_module.OPTIONS},
        supports_check_mode=True,
    )
    service_module.run(module, "agent", read_config, tuple(OPTIONS))


if __name__ == "__main__":
    main()
