# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin netns: a network namespace of the controller as an Ansible host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: netns
short_description: Run tasks inside a network namespace of the controller
description:
  - Runs every command of a task with C(ip netns exec NAMESPACE). Modules, C(raw), C(script) and become see the links,
    addresses and routes of that namespace, and the file system of the controller.
  - Needs nothing to be running inside the namespace. It is as fast as the C(ansible.builtin.local) connection, and can
    pipeline.
author: ynl-mirror contributors (@ekho)
version_added: "0.1.0"
options:
  remote_addr:
    description:
      - Name of the network namespace, as in C(ip netns list).
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_netns_host
  ip_command:
    description:
      - The C(ip) command. Entering a namespace needs root; if Ansible runs as another user, set V(sudo -n ip).
    type: str
    default: ip
    env:
      - name: ANSIBLE_NETNS_IP_COMMAND
    ini:
      - section: netns_connection
        key: ip_command
    vars:
      - name: ansible_netns_ip_command
  become_success_timeout:
    description:
      - Number of seconds to wait for become to succeed when enabled.
      - The default is used if the configured value is less than 1.
    type: int
    default: 10
    vars:
      - name: ansible_netns_become_success_timeout
  become_strip_preamble:
    description:
      - Strip internal become output preceding command execution. Disable for additional diagnostics.
    type: bool
    default: true
    vars:
      - name: ansible_netns_become_strip_preamble
extends_documentation_fragment:
  - connection_pipelining
notes:
  - The remote user is ignored, the user with which the ansible CLI was executed is used instead.
  - Files are the controller's, except for those that C(ip netns exec) mounts from C(/etc/netns/NAMESPACE).
  - To run modules with the controller's Python, set C(ansible_python_interpreter) to C({{ ansible_playbook_python }}).
"""

EXAMPLES = r"""
# inventory.yml: two namespaces as two hosts
lab:
  vars:
    ansible_connection: ekho.ynl_mirror.netns
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  hosts:
    red:
    blue:
      ansible_host: lab7-blue
"""

import os
import shlex

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as LocalConnection

NETNS_DIR = "/run/netns"


class Connection(LocalConnection):
    """The local connection, with every command run inside a network namespace."""

    transport = "ekho.ynl_mirror.netns"
    has_pipelining = True

    def _connect(self) -> Connection:
        """Check that the namespace exists: C(ip netns exec) fails without a message that Ansible could show."""
        if not self._connected:
            problem = namespace_problem(self.get_option("remote_addr"))
            if problem is None and os.geteuid() != 0 and self.get_option("ip_command") == "ip":
                problem = "network namespaces need root: run Ansible with sudo, or set ip_command to 'sudo -n ip'"
            if problem:
                raise AnsibleConnectionFailure(problem)
        super()._connect()
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command line in the namespace; become is already part of I(cmd) and also runs inside.

        Returns exit code, standard output and standard error.
        """
        inside = " ".join(
            [
                self.get_option("ip_command"),
                "netns exec",
                shlex.quote(self.get_option("remote_addr")),
                "/bin/sh -c",
                shlex.quote(cmd),
            ]
        )
        return super().exec_command(inside, in_data=in_data, sudoable=sudoable)


def namespace_problem(namespace: str, directory: str = NETNS_DIR) -> str | None:
    """Why the namespace cannot be entered, and the fix; None if it can be.

    A namespace whose mount is gone leaves an ordinary file. A file is not enough: it must be on the kernel's namespace
    file system.
    """
    path = os.path.join(directory, namespace)
    try:
        if os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev:
            return None
        return f"{path} is a leftover file, not a network namespace; remove it with: ip netns delete {namespace}"
    except OSError:
        pass
    try:
        known = ", ".join(sorted(os.listdir(directory)))
    except OSError:
        known = ""
    return (
        f"network namespace {namespace!r} does not exist on this controller (found: {known or 'none'}); "
        f"create it with: ip netns add {namespace}, or bring up the lab with: ansible-playbook ekho.ynl_mirror.lab_up"
    )
