#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netlink_route_watch
short_description: Run the listener, which follows the kernel's routes and mirrors them
description:
  - Runs the listener as a service of the managed machine, the host. It follows the kernel's routing tables and sends
    what the kernel uses to one or several agents (M(ekho.ynl_mirror.dpu_agent)), or to any other FPM consumer.
  - Copies the program and writes the configuration, then starts the listener, and starts it again when program or
    configuration have changed. Returns once the listener is ready.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.service
  - ekho.ynl_mirror.attributes.actiongroup_daemons
options:
  state:
    description:
      - V(started) makes sure that the listener runs, with this program and this configuration.
      - V(restarted) does the same, and starts it again in any case.
      - V(stopped) ends it.
      - V(absent) ends it and removes its files.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  tables:
    description: Tables to follow, by number or name.
    type: list
    elements: raw
    default: [254]
  families:
    description: Address families to follow.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  filters:
    description: Which routes are meant. What is left out or empty restricts nothing.
    type: dict
    suboptions:
      protocols:
        description: Only routes of these protocols, by number or name.
        type: list
        elements: raw
      exclude_protocols:
        description: No routes of these protocols, by number or name.
        type: list
        elements: raw
      prefixes:
        description: Only routes in these prefixes. C(exact 0.0.0.0/0) is the default route and nothing else.
        type: list
        elements: str
      exclude_prefixes:
        description: No routes in these prefixes.
        type: list
        elements: str
      types:
        description: Only routes of these types, such as V(unicast) or V(blackhole).
        type: list
        elements: str
      interfaces:
        description: Only routes with a next hop on one of these links.
        type: list
        elements: str
  agents:
    description: The agents to send routes to.
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
        description: Name that the agent's certificate has to have. The default is O(agents[].address).
        type: str
  tls:
    description: Files for mutual TLS 1.3. Give either this or O(plaintext).
    type: dict
    suboptions:
      ca:
        description: Certificates of the authorities whose agents are accepted, PEM.
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
    description: Plain TCP, for a trusted network.
    type: bool
    default: false
  receive_buffer:
    description: Receive buffer of the netlink socket, bytes.
    type: int
    default: 134217728
  audit_interval:
    description:
      - Seconds between two slow audits, which compare what the listener knows with the routes of the kernel, and put
        right what was missed.
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
  log_level:
    description: How much the listener logs.
    type: str
    choices: [debug, info, warning, error]
    default: info
seealso:
  - module: ekho.ynl_mirror.netlink_route_info
  - module: ekho.ynl_mirror.dpu_agent
  - module: ekho.ynl_mirror.vrf_route
"""

EXAMPLES = r"""
- name: Mirror the routes of the main table, but for those of the kernel itself
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
  description: What was done, or would be in check mode, a line each.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/ynl-mirror/listener.json", "start the listener"]
service:
  description: The service as it is now.
  returned: success
  type: dict
  contains:
    name:
      description: Which daemon.
      type: str
      sample: listener
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
  description: What C(ynl-mirror status --json) says. Null when the listener does not run.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.config.listener import ListenerConfig
from ..module_utils._ynl_mirror.config.names import read_names
from ..module_utils._ynl_mirror.install import service_module

FILTERS = {
    "protocols": {"type": "list", "elements": "raw"},
    "exclude_protocols": {"type": "list", "elements": "raw"},
    "prefixes": {"type": "list", "elements": "str"},
    "exclude_prefixes": {"type": "list", "elements": "str"},
    "types": {"type": "list", "elements": "str"},
    "interfaces": {"type": "list", "elements": "str"},
}
OPTIONS = {
    "tables": {"type": "list", "elements": "raw", "default": [254]},
    "families": {"type": "list", "elements": "str", "choices": ["ipv4", "ipv6"], "default": ["ipv4", "ipv6"]},
    "filters": {"type": "dict", "options": FILTERS},
    "agents": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 2620},
            "server_name": {"type": "str"},
        },
    },
    "tls": service_module.TLS,
    "plaintext": {"type": "bool", "default": False},
    "receive_buffer": {"type": "int", "default": 134217728},
    "audit_interval": {"type": "float", "default": 60.0},
    "http": {
        "type": "dict",
        "options": {"address": {"type": "str", "default": "127.0.0.1"}, "port": {"type": "int", "default": 4321}},
    },
    "log_level": {"type": "str", "choices": ["debug", "info", "warning", "error"], "default": "info"},
}


def read_config(data: Any) -> ListenerConfig:
    """The daemon's configuration, with this machine's names of tables and protocols."""
    return ListenerConfig.from_dict(data, read_names())


def main() -> None:
    """Run the module."""
    states = ["started", "stopped", "restarted", "absent"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": states, "default": "started"},
            **OPTIONS,
            **service_module.OPTIONS,
        },
        supports_check_mode=True,
    )
    service_module.run(module, "listener", read_config, tuple(OPTIONS))


if __name__ == "__main__":
    main()
