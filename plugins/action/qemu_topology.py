# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of the module qemu_topology, which does all its work on the controller and reports progress."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.arguments import TOPOLOGY
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import LabError, parse_topology
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image as qemu_image
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import requirements
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.lab import Lab
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import (
    KERNEL_ARGUMENTS,
    Accelerator,
    Software,
)
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.place import LabFailure, Place
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.process import MachineError

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "run_dir": {"type": "path", "required": True},
    "cache_dir": {"type": "path"},
    "image": {"type": "path"},
    "image_kernel": {"type": "path"},
    "image_initrd": {"type": "path"},
    "image_arguments": {"type": "str", "default": KERNEL_ARGUMENTS},
    "accelerator": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
    "memory": {"type": "int", "default": 384},
    "saved_state": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 180.0},
    **TOPOLOGY,
}
RULES = {
    "required_if": [("state", "present", ["hosts"])],
    "required_by": {"image_kernel": ["image"], "image_initrd": ["image_kernel"]},
}
FAILURES = (LabError, LabFailure, MachineError, qemu_image.ImageError, requirements.Lacking)
DISPLAY = Display()


class ActionModule(ActionBase):
    """Runs on the controller."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the options, call the library and return its results."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(ARGUMENTS, **RULES)
        lab = Lab(
            Place(options["name"], os.path.realpath(options["run_dir"])),
            _progress,
            dry=self._task.check_mode,
            seconds=options["timeout"],
        )
        try:
            with _interrupted_in_order():
                done = lab.remove() if options["state"] == "absent" else asyncio.run(_make(lab, options))
        except FAILURES as error:
            raise AnsibleActionFail(str(error)) from None
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename or options['run_dir']}: {error.strerror}") from None
        if self._task.diff:
            done["diff"] = {"prepared": "".join(f"+ {line}\n" for line in lab.commands)}
        return {"changed": bool(lab.commands), "commands": lab.commands, **done}


async def _make(lab: Lab, options: dict[str, Any]) -> dict[str, Any]:
    reasons = []

    async def image(created_with: Accelerator | None) -> qemu_image.Image:
        cache = options["cache_dir"] or qemu_image.cache_folder()
        requirements.check()
        disk, kernel, initrd = options["image"], options["image_kernel"], options["image_initrd"]
        if not disk:
            disk, kernel, initrd = qemu_image.base_image(cache, qemu_image.Recipe(), _progress)
        if created_with is None:
            accelerator, reason = requirements.choose_accelerator(options["accelerator"], kernel)
            _progress(f"accelerator {accelerator.name}: {reason}")
            reasons.append(reason)
        else:
            accelerator = created_with
        software = Software(accelerator, options["memory"], kernel, initrd, options["image_arguments"])
        if options["image"]:
            return qemu_image.given_image(disk, software)
        chosen = qemu_image.Image(disk, software)
        return await qemu_image.booted(cache, chosen, _progress) if options["saved_state"] else chosen

    record = lab.place.read_record()
    if record and options["accelerator"] not in ("auto", record["accelerator"]):
        raise LabFailure(f"lab {options['name']} was created with {record['accelerator']}; take it down to change that")
    topology = parse_topology(options["name"], options["hosts"], options["links"])
    done = await lab.make(topology, image)
    return {**done, "accelerator_reason": reasons[0] if reasons else "the lab was created with it"}


@contextlib.contextmanager
def _interrupted_in_order() -> Iterator[None]:
    """Ansible kills its workers at once. Let an interrupted build stop its programs and remove its files first."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in before:  # Ansible sends both
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(text: str) -> None:
    DISPLAY.display(f"   {text}")
