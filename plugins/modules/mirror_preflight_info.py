#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_preflight_info
short_description: Check a machine before the mirror is deployed on it
description:
  - Checks everything on a machine that the mirror depends on - kernel, Python, clock, VRFs, addresses, ports, other
    owners of routes, certificates - and returns one finding or more per check, with the fix where one is needed.
  - Changes nothing, needs nothing but Python on the machine, and does not fail when it finds a problem.
  - The playbook C(ekho.ynl_mirror.preflight) runs it on all machines and reports the outcome.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.attributes.info
requirements:
  - Linux, Python 3.9 or later; an older one is a finding, as far as Ansible itself still runs on it
options:
  agent:
    description:
      - Check a DPU for an agent with these options of M(ekho.ynl_mirror.dpu_agent), without those of its service.
      - Exactly one of O(agent), O(listener) and O(authority_dir) is required.
    type: dict
  listener:
    description:
      - Check a host for a listener with these options of M(ekho.ynl_mirror.netlink_route_watch), without those of its
        service.
    type: dict
  authority_dir:
    description: Check the certificate authority in this directory, C(ca.crt) and C(ca.key). For the controller.
    type: path
  names:
    description: Names that the machine's certificate must contain.
    type: list
    elements: str
    default: []
  expected:
    description: The option C(agents) of all listeners - the addresses and names by which hosts reach agents.
    type: list
    elements: dict
    default: []
  accepted:
    description: The option C(hosts) of all agents - the names of hosts that they accept. Empty accepts any.
    type: list
    elements: str
    default: []
  certificates_dir:
    description:
      - Directory where the role P(ekho.ynl_mirror.mirror_certificates#role) installs the machine's certificate.
      - A fault in these files is a warning, since the role replaces them. A fault in files elsewhere is a problem, and
        so is one in these files where O(authority_sha256) is empty, since then nothing replaces them.
    type: path
    default: /etc/ynl-mirror/tls
  authority_sha256:
    description: RV(authority_sha256) of the controller's authority.
    type: str
    default: ""
  renew_days:
    description: Warn of a certificate that expires within this number of days.
    type: int
    default: 30
  user:
    description: User that the daemon will run as, who has to be able to read the key. The default is root.
    type: str
  controller_time:
    description: Unix time on the controller.
    type: float
  clock_seconds:
    description: With TLS, a clock that differs from O(controller_time) by more than this is a problem.
    type: int
    default: 300
  python_packages_from:
    description: Where the daemon's Python packages will come from, see P(ekho.ynl_mirror.dpu_agent#role).
    type: str
    choices: [none, pip, wheels]
    default: none
  wheels_found:
    description: Whether the directory of wheels, if one was given, exists on the controller.
    type: bool
    default: true
  config_dir:
    description: Directory of the daemon's configuration. If the configuration exists, the daemon counts as deployed.
    type: path
    default: /etc/ynl-mirror
  lib_dir:
    description: Directory of the program.
    type: path
    default: /usr/local/lib/ynl-mirror
  timeout:
    description: Seconds to wait for each agent to answer.
    type: float
    default: 3.0
seealso:
  - module: ekho.ynl_mirror.vrf_info
  - module: ekho.ynl_mirror.dpu_agent
  - module: ekho.ynl_mirror.netlink_route_watch
"""

EXAMPLES = r"""
- name: Check a DPU
  ekho.ynl_mirror.mirror_preflight_info:
    agent:
      plaintext: true
    python_packages_from: pip
  register: dpu

- name: Fail if there is a problem
  ansible.builtin.assert:
    that: dpu.problems == 0
    fail_msg: "{{ dpu.findings | selectattr('level', 'eq', 'problem') | map(attribute='found') | join('; ') }}"

- name: Check a host
  ekho.ynl_mirror.mirror_preflight_info:
    listener:
      agents: [{address: 192.168.101.1, server_name: dpu1}]
      tls:
        ca: /etc/ynl-mirror/tls/ca.crt
        certificate: /etc/ynl-mirror/tls/machine.crt
        key: /etc/ynl-mirror/tls/machine.key
    names: [host1]
    controller_time: "{{ now().timestamp() }}"
"""

RETURN = r"""
findings:
  description: One item or more for each check.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: Name of the check.
      type: str
    level:
      description: V(ok), V(warning) (works, but should be known) or V(problem) (would not work, or would do harm).
      type: str
    found:
      description: What was found.
      type: str
    fix:
      description: How to fix it; empty with V(ok).
      type: str
  sample:
    - check: rp_filter
      level: warning
      found: "strict on eth3: packets that arrive over the host are dropped once their source is mirrored"
      fix: sysctl -w net.ipv4.conf.all.rp_filter=2 (loose; the larger of `all` and the link's value applies)
problems:
  description: Number of problems.
  returned: always
  type: int
  sample: 0
warnings_found:
  description: Number of warnings.
  returned: always
  type: int
  sample: 1
authority_sha256:
  description: SHA-256 of the authority's certificate file, empty when there is none.
  returned: when O(authority_dir) is given
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.preflight.check import check

OPTIONS = {
    "agent": {"type": "dict"},
    "listener": {"type": "dict"},
    "authority_dir": {"type": "path"},
    "names": {"type": "list", "elements": "str", "default": []},
    "expected": {"type": "list", "elements": "dict", "default": []},
    "accepted": {"type": "list", "elements": "str", "default": []},
    "certificates_dir": {"type": "path", "default": "/etc/ynl-mirror/tls"},
    "authority_sha256": {"type": "str", "default": ""},
    "renew_days": {"type": "int", "default": 30},
    "user": {"type": "str"},
    "controller_time": {"type": "float"},
    "clock_seconds": {"type": "int", "default": 300},
    "python_packages_from": {"type": "str", "choices": ["none", "pip", "wheels"], "default": "none"},
    "wheels_found": {"type": "bool", "default": True},
    "config_dir": {"type": "path", "default": "/etc/ynl-mirror"},
    "lib_dir": {"type": "path", "default": "/usr/local/lib/ynl-mirror"},
    "timeout": {"type": "float", "default": 3.0},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=OPTIONS,
        mutually_exclusive=[("agent", "listener", "authority_dir")],
        required_one_of=[("agent", "listener", "authority_dir")],
        supports_check_mode=True,
    )
    try:
        result = check(module.params)
    except OSError as error:
        module.fail_json(msg=f"cannot inspect the machine: {error}; run as root (become), with /proc mounted")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
