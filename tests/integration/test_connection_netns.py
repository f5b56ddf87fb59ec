# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The netns connection plugin, driven by the real ansible against real namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

pytestmark = pytest.mark.controller
pytestmark = pytest.mark.controller

ANSIBLE = Path(sys.executable).with_name("ansible")


def ansible(namespace: str, module: str, arguments: str, *options: str, pipelining: bool = True) -> dict[str, Any]:
    """Run one ad hoc task in a namespace; returns the task's result (key ``unreachable`` when it never started)."""
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": str(pipelining),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    command = [str(ANSIBLE), namespace, "-i", f"{namespace},", "-c", "ekho.ynl_mirror.netns", "-m", module]
    command += ["-a", arguments, "-e", f"ansible_python_interpreter={sys.executable}", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"][namespace]
    return result


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("module", ["ansible.builtin.command", "ansible.builtin.raw"])
def test_tasks_run_inside(netns: Namespace, module: str, pipelining: bool) -> None:
    inside = netns.run("readlink", "/proc/self/ns/net").stdout.strip()
    result = ansible(netns.name, module, "readlink /proc/self/ns/net", pipelining=pipelining)
    assert result["stdout"].strip() == inside != os.readlink("/proc/self/ns/net")


def test_quoting_survives_two_shells(netns: Namespace) -> None:
    result = ansible(netns.name, "ansible.builtin.raw", """printf '%s|' "it's" '$HOME' "a  b" ; exit 3""")
    assert result["stdout"] == "it's|$HOME|a  b|"
    assert result["rc"] == 3


def test_become_runs_inside(netns: Namespace) -> None:
    inside = netns.run("readlink", "/proc/self/ns/net").stdout.strip()
    options = ("--become", "--become-method", "ansible.builtin.su", "--become-user", "nobody")
    options += ("-e", "ansible_become_exe=su", "-e", "ansible_become_flags='-s /bin/sh'")
    result = ansible(netns.name, "ansible.builtin.raw", "readlink /proc/self/ns/net; id -un", *options)
    assert result["stdout"].split() == [inside, "nobody"]


def test_files_are_the_controllers(netns: Namespace, tmp_path: Path) -> None:
    target = tmp_path / "copied"
    result = ansible(netns.name, "ansible.builtin.copy", f"content=hello dest={target}", pipelining=False)
    assert result["changed"]
    assert target.read_text(encoding="utf-8") == "hello"


def test_missing_namespace_is_named(netns: Namespace) -> None:
    result = ansible(netns.name + "-gone", "ansible.builtin.command", "true")
    assert result["unreachable"]
    assert f"namespace '{netns.name}-gone' does not exist" in result["msg"]
    assert netns.name in result["msg"], "the message lists the namespaces that there are"
    assert "ip netns add" in result["msg"]


def test_leftover_file_is_no_namespace(netns: Namespace) -> None:
    leftover = netns.path.with_name(netns.name + "-file")
    leftover.touch()
    try:
        result = ansible(leftover.name, "ansible.builtin.command", "true")
        assert "leftover file" in result["msg"]
    finally:
        leftover.unlink()
