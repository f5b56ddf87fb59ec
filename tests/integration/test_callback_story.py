# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story callback, driven by the real ansible-playbook: changes, messages and failures, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.controller

ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
PLAY = """
- name: Some play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Silent
      ansible.builtin.command: "true"
      changed_when: false
    - name: Skipped
      ansible.builtin.command: "true"
      when: false
    - name: Changing
      ansible.builtin.command: "true"
    - name: Reporting
      ansible.builtin.debug:
        msg: ["== A headline", "  a line"]
    - name: Reporting in a loop
      ansible.builtin.debug:
        msg: "item {{ item }}"
      loop: [one, two]
    - name: Failing
      ansible.builtin.fail:
        msg: for a reason
      when: broken | default(false)
"""


def play(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAY, encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ekho.ynl_mirror.story", "ANSIBLE_NOCOLOR": "1"}
    command = [str(ANSIBLE_PLAYBOOK), str(playbook), *options]
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_story_is_changes_and_messages_only(tmp_path: Path) -> None:
    done = play(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "\n== Some play\n * localhost: Changing\n\n== A headline\n     a line\n   item one\n   item two\n"
        "\n4 tasks on 1 host succeeded, 1 changed something\n"
    )


def test_failures_are_printed_in_full(tmp_path: Path) -> None:
    done = play(tmp_path, "-e", '{"broken": true}')
    assert done.returncode == 2
    assert "TASK [Failing]" in done.stdout
    assert "for a reason" in done.stdout
    assert "failed=1" in done.stdout


def test_verbose_is_the_default_output(tmp_path: Path) -> None:
    done = play(tmp_path, "-v")
    assert "PLAY [Some play]" in done.stdout
    assert "TASK [Silent]" in done.stdout
