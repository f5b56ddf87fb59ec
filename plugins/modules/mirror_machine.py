#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_machine
short_description: Prepare a machine for the mirror's daemons
description:
  - Checks that a machine can run a daemon of the mirror, creates the daemon's user, installs certificates that only
    this user can read, and fills a virtual environment with the daemons' Python packages. One module does it all, since
    each task costs seconds on a slow and distant machine.
  - Used by the roles P(ekho.ynl_mirror.mirror_common#role) and P(ekho.ynl_mirror.mirror_certificates#role).
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
options:
  state:
    description:
      - V(present) prepares the machine.
      - V(absent) removes the O(files). With O(lib_dir), and unless a daemon is configured in O(config_dir), it also
        removes the virtual environments, and the user if this module created it. Directories are removed if they were
        created for the mirror and are empty.
    type: str
    choices: [present, absent]
    default: present
  user:
    description: System user of the daemons, created if it does not exist. Empty or V(root) creates none.
    type: str
    default: ""
  folder:
    description: Directory for O(files), which only root and the group of O(user) can read.
    type: path
  files:
    description: Files for the daemons in O(folder), copied from the controller.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the file in O(folder).
        type: str
        required: true
      src:
        description: The file on the controller. Required if O(state=present).
        type: path
      secret:
        description: Owned by O(user) with mode 0600, and shown in no diff. Other files are root's, with mode 0644.
        type: bool
        default: false
      content:
        description: Set by the action plugin from O(files[].src), encoded in Base64.
        type: str
  lib_dir:
    description: Directory for the virtual environments. Required unless O(packages_from=none).
    type: path
  config_dir:
    description: Directory of the daemons' configuration files.
    type: path
    default: /etc/ynl-mirror
  daemon:
    description:
      - With O(state=absent), the daemon that was removed before.
      - In check mode its configuration still exists, and is ignored.
    type: str
    choices: [agent, listener]
  packages:
    description: Python packages for the daemons, as C(pip install) takes them.
    type: list
    elements: str
    default: [uvicorn, prometheus-client]
  packages_from:
    description:
      - Where the packages come from.
      - V(none) - Ansible's Python on the machine has them.
      - V(pip) - pip on the machine installs them from a package index.
      - V(wheels) - the controller sends them. The machine needs no package index, no pip and no C(ensurepip).
    type: str
    choices: [none, pip, wheels]
    default: none
  wheels_dir:
    description:
      - Directory on the controller with the wheels, as C(pip download) leaves them.
      - If empty, the controller's pip downloads those for the machine's Python, once, into C(~/.cache/ynl-mirror).
    type: str
    default: ""
  controller_time:
    description: Unix time on the controller. Set by the action plugin.
    type: float
  clock_seconds:
    description: Maximum difference between the clocks of machine and controller. V(0) turns this check off.
    type: int
    default: 0
  environments:
    description: Keys of the packages by Python version. Set by the action plugin.
    type: dict
    default: {}
  archive:
    description: The packages, on the machine. Set by the action plugin.
    type: path
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
    details: [Shows no secret.]
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: full
  action:
    description: Has a part on the controller, which reads the files and packs the wheels.
    support: full
requirements:
  - On the managed machine - Linux 5.10 or later, Python 3.9 or later, root, and C(useradd) to create a user.
  - On the controller, with O(packages_from=wheels) - C(pip) for the Python that runs Ansible.
seealso:
  - module: ekho.ynl_mirror.dpu_agent
  - module: ekho.ynl_mirror.netlink_route_watch
"""

EXAMPLES = r"""
- name: Prepare a DPU that cannot reach a package index
  ekho.ynl_mirror.mirror_machine:
    user: ynl-mirror
    lib_dir: /usr/local/lib/ynl-mirror
    packages_from: wheels
  register: machine

- name: Run the agent in that environment
  ekho.ynl_mirror.dpu_agent:
    interpreter: "{{ machine.interpreter }}"
    user: ynl-mirror
    plaintext: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one line for each action.
  returned: success
  type: list
  elements: str
  sample: ["create user ynl-mirror", "write /etc/ynl-mirror/tls/ca.crt"]
interpreter:
  description: The Python to run the daemons with. In check mode it may not exist yet.
  returned: success
  type: str
  sample: /usr/local/lib/ynl-mirror/python3.11-0f5f6b0e2c1d/bin/python
python_version:
  description: Its version.
  returned: success
  type: str
  sample: "3.11"
archive_wanted:
  description: Whether the packages for this Python version have to be sent first. Nothing has been done yet.
  returned: success
  type: bool
"""

import base64
import hashlib
import os
import platform
import re
import sys
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ynl_mirror.install.environment import VERSION, Environment, EnvironmentFailed
from ..module_utils._ynl_mirror.install.machine import Machine, MachineError, PrivateFile

FILE = {
    "name": {"type": "str", "required": True},
    "src": {"type": "path"},
    "secret": {"type": "bool", "default": False},
    "content": {"type": "str", "no_log": True},
}
OPTIONS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "user": {"type": "str", "default": ""},
    "folder": {"type": "path"},
    "files": {"type": "list", "elements": "dict", "default": [], "options": FILE},
    "lib_dir": {"type": "path"},
    "config_dir": {"type": "path", "default": "/etc/ynl-mirror"},
    "daemon": {"type": "str", "choices": ["agent", "listener"]},
    "packages": {"type": "list", "elements": "str", "default": ["uvicorn", "prometheus-client"]},
    "packages_from": {"type": "str", "choices": ["none", "pip", "wheels"], "default": "none"},
    "wheels_dir": {"type": "str", "default": ""},
    "controller_time": {"type": "float"},
    "clock_seconds": {"type": "int", "default": 0},
    "environments": {"type": "dict", "default": {}},
    "archive": {"type": "path"},
}


def check(params: dict[str, Any]) -> None:
    """Refuse a machine that cannot run a daemon, before changing anything."""
    if sys.version_info < (3, 9):  # noqa: UP036  # that of a managed machine may be
        raise MachineError(
            f"{sys.executable} is Python {VERSION}, and the mirror needs 3.9 or later; install one, and set "
            "ansible_python_interpreter to it"
        )
    kernel = re.match(r"(\d+)\.(\d+)", platform.release())
    if kernel and (int(kernel[1]), int(kernel[2])) < (5, 10):
        raise MachineError(
            f"this is Linux {platform.release()}, and the mirror needs 5.10 or later; upgrade the kernel"
        )
    if os.geteuid() != 0:
        raise MachineError(f"the task runs as uid {os.geteuid()}, and kernel routes need root; add `become: true`")
    off = abs(time.time() - params["controller_time"]) if params["controller_time"] else 0.0
    if 0 < params["clock_seconds"] < off:
        raise MachineError(
            f"the clock differs from the controller's by {off:.0f} s, so certificates may appear expired or not "
            "yet valid; set it, and synchronize it by NTP"
        )


def environment(params: dict[str, Any]) -> Environment | None:
    """The wanted environment; None if none is wanted, or its key for this Python is not known yet."""
    key = None
    if params["packages_from"] == "pip":
        key = hashlib.sha256("\0".join(sorted(params["packages"])).encode()).hexdigest()[:12]
    elif params["packages_from"] == "wheels":
        key = params["environments"].get(VERSION, params["environments"].get("any"))
    return Environment(params["lib_dir"], str(key)) if key else None


def private_file(folder: str, file: dict[str, Any]) -> PrivateFile:
    """A file as the option describes it."""
    content = None if file["content"] is None else base64.b64decode(file["content"])
    return PrivateFile(os.path.join(folder, file["name"]), content, file["secret"])


def present(params: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """Prepare the machine, unless the packages have to be sent first."""
    check(params)
    wanted = environment(params)
    result = {"interpreter": wanted.interpreter if wanted else sys.executable, "python_version": VERSION}
    if params["packages_from"] == "wheels":
        unknown = wanted is None
        unsent = wanted is not None and not wanted.is_whole() and params["archive"] is None
        if unknown or (unsent and not machine.check):
            return {**result, "archive_wanted": True}
    machine.ensure_user()
    if params["folder"]:
        machine.ensure_files(params["folder"], [private_file(params["folder"], file) for file in params["files"]])
    if wanted:
        machine.ensure_environment(wanted, params["archive"], params["packages"])
    return {**result, "archive_wanted": False}


def absent(params: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """Remove what is no longer needed."""
    if params["folder"]:
        machine.remove_files(
            params["folder"], [os.path.join(params["folder"], file["name"]) for file in params["files"]]
        )
    others = [name for name in ("agent", "listener") if not (machine.check and name == params["daemon"])]
    configured = [os.path.join(params["config_dir"], f"{name}.json") for name in others]
    if params["lib_dir"] and not any(map(os.path.exists, configured)):
        machine.remove_environments(params["lib_dir"])
        machine.remove_user()
    return {"interpreter": sys.executable, "python_version": VERSION, "archive_wanted": False}


def main() -> None:
    """Run the module."""
    needed = [("packages_from", source, ["lib_dir"]) for source in ("pip", "wheels")]
    module = AnsibleModule(argument_spec=OPTIONS, required_if=needed, supports_check_mode=True)
    machine = Machine(module.params["user"], check=module.check_mode)
    try:
        result = (present if module.params["state"] == "present" else absent)(module.params, machine)
    except (MachineError, EnvironmentFailed) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        module.fail_json(msg=f"{what}; run as root (become), and check that the file system has space and is writable")
    outcome = machine.outcome
    diff = {"diff": outcome.diff} if module._diff else {}
    module.exit_json(changed=bool(outcome.actions), actions=outcome.actions, **diff, **result)


if __name__ == "__main__":
    main()
