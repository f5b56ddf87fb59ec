# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of the module mirror_machine: reads the files, and sends the Python packages if need be.

Private keys are sent as input of the module, like a password, and appear on no command line and in no log. The module
runs once, and a second time if its first result says that packages are missing.
"""

from __future__ import annotations

import base64
import os
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.main import PACKAGES
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages.wheelhouse import (
    NoPackages,
    Wheelhouse,
)

MODULE = "ekho.ynl_mirror.mirror_machine"


class ActionModule(ActionBase):
    """Runs on the controller."""

    # Otherwise Ansible creates a folder on the machine each time, which costs a round trip.
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module with its input from the controller."""
        super().run(tmp, task_vars)
        arguments = {**self._task.args, "controller_time": time.time()}
        if arguments.get("state", "present") == "present":
            try:
                arguments["files"] = [self._with_content(file) for file in arguments.get("files") or []]
                return self._present(arguments, task_vars)
            except NoPackages as error:
                raise AnsibleActionFail(str(error)) from None
        return self._module(arguments, task_vars)

    def _present(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        if arguments.get("packages_from", "none") != "wheels":
            return self._module(arguments, task_vars)
        packages = arguments.get("packages") or list(PACKAGES.values())
        wheels = Wheelhouse(packages, arguments.get("wheels_dir") or "")
        result = self._module({**arguments, "environments": wheels.known_keys()}, task_vars)
        if result.get("failed") or not result.get("archive_wanted"):
            return result
        python = result["python_version"]
        key, archive = wheels.archive(python)
        more: dict[str, Any] = {"environments": {python: key}}
        if not self._task.check_mode:
            more["archive"] = self._send(str(archive))
        return self._module({**arguments, **more}, task_vars)

    def _send(self, archive: str) -> str:
        """Send the archive to the task's temporary folder on the machine, and return its path."""
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        folder = self._connection._shell.tmpdir
        sent = self._transfer_file(archive, self._connection._shell.join_path(folder, "packages.zip"))
        self._fixup_perms2((folder, sent))
        return str(sent)

    def _with_content(self, file: dict[str, Any]) -> dict[str, Any]:
        source = os.path.expanduser(file["src"])
        if self._task.check_mode and not os.path.exists(source):
            return file  # in check mode the play has not created it
        try:
            with open(source, "rb") as stream:
                return {**file, "content": base64.b64encode(stream.read()).decode()}
        except OSError as error:
            raise AnsibleActionFail(f"files: {source} on the controller cannot be read: {error.strerror}") from None

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars, wrap_async=False
        )
        return result
