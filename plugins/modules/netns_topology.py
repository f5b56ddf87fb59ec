#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netns_topology
short_description: A lab of network namespaces, made, repaired or removed as a whole
description:
  - Makes one network namespace per host, veth links between them, VRFs, addresses, routes, policy rules and kernel
    settings from one description. A second run changes nothing; what has gone missing in between is put back.
  - VRFs are the kernel's VRF devices where it has them, otherwise policy rules that do the same job.
  - Only adds what is missing. Routes and links that somebody adds to the lab while playing with it are left alone.
  - Takes a namespace for its own only if it made it. One of the same name that it did not make is an error.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.topology
  - ekho.ynl_mirror.attributes.actiongroup_lab
options:
  name:
    description: Name of the lab. Its namespaces are called C(NAME-HOST), so labs of different names stand side by side.
    type: str
    required: true
  state:
    description:
      - V(present) makes or repairs the lab.
      - V(absent) ends the processes inside, and removes the namespaces and O(run_dir).
    type: str
    choices: [present, absent]
    default: present
  run_dir:
    description:
      - Folder for the lab's own note of what it made (C(lab.json)), and for files of what runs inside.
      - The default is C(/run/ekho-lab/NAME).
    type: path
  vrf:
    description:
      - How VRFs are made. V(device) uses VRF devices, V(rules) policy rules.
      - V(auto) keeps to what the lab was made with, and for a new lab tries once whether the kernel has VRF devices.
    type: str
    choices: [auto, device, rules]
    default: auto
requirements:
  - iproute2
  - procps
attributes:
  check_mode:
    description: Says what would be done without doing it.
    support: full
  diff_mode:
    description: Shows the commands as the difference.
    support: full
notes:
  - Runs as root on the machine that holds the namespaces.
"""

EXAMPLES = r"""
- name: Two hosts and a cable between them
  ekho.ynl_mirror.netns_topology:
    name: pair
    hosts:
      - name: left
        interfaces: [{name: eth1, addresses: [192.0.2.1/24, "fd00:db8::1/64"]}]
      - name: right
        interfaces: [{name: eth1, addresses: [192.0.2.2/24, "fd00:db8::2/64"]}]
    links:
      - ["left:eth1", "right:eth1"]

- name: Remove them and all that runs inside
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
  description: How the VRFs are made, V(device) or V(rules).
  type: str
  returned: when O(state=present)
vrf_reason:
  description: Why they are made that way.
  type: str
  returned: when O(state=present)
  sample: "this kernel has no VRF devices (Error: Unknown device type.)"
commands:
  description: What was done (in check mode, would be done), as command lines.
  type: list
  elements: str
  returned: always
stopped:
  description: The processes that were ended for O(state=absent), as process id and command line.
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
        way = "run the play with become, or ansible-playbook with sudo"
        module.fail_json(msg=f"network namespaces need root: {way}. Virtual machines need none: make lab LAB=qemu")
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
