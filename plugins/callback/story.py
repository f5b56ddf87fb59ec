# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short output for people who watch a play: what changed, what the play reports, and every failure in full."""

from __future__ import annotations

DOCUMENTATION = r"""
name: story
type: stdout
short_description: Shows only changes, messages and failures
description:
  - Prints one line per change, and the messages of C(ansible.builtin.debug) as plain text. Names of plays are
    headlines, and so are messages that start with C(==).
  - Tasks that change nothing print nothing. Failures look as they do with the default callback.
  - With C(-v) everything looks as it does with the default callback.
  - The lab's C(make) targets use it. Set E(ANSIBLE_STDOUT_CALLBACK=ekho.ynl_mirror.story) to use it elsewhere.
author: ynl-mirror contributors (@ekho)
version_added: "0.1.0"
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

from typing import Any

from ansible.constants import COLOR_CHANGED, COLOR_HIGHLIGHT
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

DEBUG = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")


class CallbackModule(DefaultCallback):
    """The default callback without the tasks that succeed and change nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "ekho.ynl_mirror.story"

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Print the play's name as a headline."""
        if self._display.verbosity:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        self._display.display(f"\n== {play.get_name().strip()}", color=COLOR_HIGHLIGHT)

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        """Print no banner yet; a failure prints it."""
        if self._display.verbosity:
            super()._task_start(task, prefix)
            return
        if prefix is not None:
            self._task_type_cache[task._uuid] = prefix
        self._last_task_name = task.get_name().strip()

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Print nothing; which files a play includes is a detail."""
        if self._display.verbosity:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Print a message or a change."""
        if self._display.verbosity:
            super().v2_runner_on_ok(result)
        elif result._task.action in DEBUG:
            self._show_message(result._result)
        else:
            self._handle_warnings(result._result)
            if result._result.get("changed"):
                self._show_change(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Print an item's message; its change is reported once, by the task."""
        if self._display.verbosity:
            super().v2_runner_item_on_ok(result)
        elif result._task.action in DEBUG:
            self._show_message(result._result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Print nothing."""
        if self._display.verbosity:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Print nothing."""
        if self._display.verbosity:
            super().v2_runner_item_on_skipped(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the table of hosts after a failure, otherwise one line."""
        sums = [stats.summarize(host) for host in stats.processed]
        if self._display.verbosity or any(one["failures"] or one["unreachable"] for one in sums):
            super().v2_playbook_on_stats(stats)
            return
        done, changed = sum(one["ok"] for one in sums), sum(one["changed"] for one in sums)
        hosts = "1 host" if len(sums) == 1 else f"{len(sums)} hosts"
        self._display.display(f"\n{done} tasks on {hosts} succeeded, {changed or 'none'} changed something")

    def _show_message(self, result: dict[str, Any]) -> None:
        message = result.get("msg")
        if "results" in result:  # a loop, whose items have printed theirs
            return
        if message is None:  # debug of a variable
            for key, value in result.items():
                if not key.startswith(("_", "ansible_")) and key not in ("changed", "failed"):
                    self._display.display(f"   {key}: {value}")
            return
        lines = message if isinstance(message, list) else str(message).splitlines()
        for line in lines:
            if line.startswith("== "):
                self._display.display(f"\n{line}", color=COLOR_HIGHLIGHT)
            else:
                self._display.display(f"   {line}".rstrip())

    def _show_change(self, result: Any) -> None:
        _role, colon, task = (self._last_task_name or result._task.get_name()).rpartition(" : ")
        name = task if colon else self._last_task_name
        self._display.display(f" * {self.host_label(result)}: {name}", color=COLOR_CHANGED)
