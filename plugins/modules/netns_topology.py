#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netns_topology
short_description: Create, repair or remove a lab of network namespaces
description:
  - Creates a network namespace for each host, and veth links, VRFs, addresses, routes, policy rules and kernel
    settings, from one description. A second run repairs what is missing, and otherwise changes nothing.
  - VRFs are VRF devices if the kernel has them, otherwise policy rules with the same effect.
  - Only adds what is missing. Routes and links that a user adds to the lab stay.
  - Touches only namespaces that it created. Another namespace of the same name is an error.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.topology
  - ekho.ynl_mirror.attributes.actiongroup_lab
options:
  name:
    description: Name of the lab. Its namespaces are called C(NAME-HOST); labs of different names coexist.
    type: str
    required: true
  state:
    description:
      - V(present) creates or repairs the lab.
      - V(absent) stops the processes inside, and removes the namespaces and O(run_dir).
    type: str
    choices: [present, absent]
    default: present
  run_dir:
    description:
      - Folder for the lab's record of what it created (C(lab.json)), and for files of what runs inside.
      - The default is C(/run/ekho-lab/NAME).
    type: path
  vrf:
    description:
      - What the VRFs are, VRF devices (V(device)) or policy rules (V(rules)).
      - With V(auto) an existing lab keeps what it was created with; a new one gets VRF devices if the kernel has them.
    type: str
    choices: [auto, device, rules]
    default: auto
requirements:
  - iproute2
  - procps
attributes:
  check_mode:
    description: Returns the commands without running them.
    support: full
  diff_mode:
    description: Shows the commands as the difference.
    support: full
notes:
  - Runs as root on the machine that holds the namespaces.
"""

EXAMPLES = r"""
- name: Create two hosts and a link between them
  ekho.ynl_mirror.netns_topology:
    name: pair
    hosts:
      - name: left
        interfaces: [{name: eth1, addresses: [192.0.2.1/24, "fd00:db8::1/64"]}]
      - name: right
        interfaces: [{name: eth1, addresses: [192.0.2.2/24, "fd00:db8::2/64"]}]
    links:
      - ["left:eth1", "right:eth1"]

- name: Remove them and everything that runs inside
  ekho.ynl_mirror.netns_topology:
    name: pair
    state: absent
"""

RETURN = r"""
namespaces:
  description: Name of the namespace of each host.
  type: dict
  returned: always
  sample: {"left": "pair-left", "right": "pair-right"}
vrf:
  description: What the VRFs are, V(device) or V(rules).
  type: str
  returned: when O(state=present)
vrf_reason:
  description: The reason for RV(vrf).
  type: str
  returned: when O(state=present)
  sample: "this kernel has no VRF devices (Error: Unknown device type.)"
commands:
  description: The commands that were run, or in check mode would be run.
  type: list
  elements: str
  returned: always
stopped:
  description: The processes that were stopped, as process ID and command line.
  type: list
  elements: str
  returned: when O(state=absent)
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.arguments import TOPOLOGY
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.netns import Lab, LabFailure
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import (
    LabError,
    VrfKind,
    parse_topology,
)

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "run_dir": {"type": "path"},
    "vrf": {"type": "str", "choices": ["auto", "device", "rules"], "default": "auto"},
    **TOPOLOGY,
}


def main() -> None:
    """Read the options, let the library do the work and report it."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True, required_if=[("state", "present", ["hosts"])])
    options = module.params
    if os.geteuid() != 0:
        fix = "run the play with become, or use virtual machines, which need no root: make lab LAB=qemu"
        module.fail_json(msg=f"network namespaces need root: {fix}")
    run_dir = options["run_dir"] or os.path.join("/run/ekho-lab", options["name"])
    try:
        lab = Lab(options["name"], run_dir, module.run_command, dry=module.check_mode)
        if options["state"] == "absent":
            result = lab.remove()
        else:
            topology = parse_topology(options["name"], options["hosts"], options["links"])
            result = lab.make(topology, None if options["vrf"] == "auto" else VrfKind(options["vrf"]))
    except (LabError, LabFailure) as error:
        module.fail_json(msg=str(error))
    if module._diff:
        result["diff"] = {"prepared": "".join(f"+ {line}\n" for line in lab.commands)}
    module.exit_json(changed=bool(lab.commands), commands=lab.commands, **result)


if __name__ == "__main__":
    main()
