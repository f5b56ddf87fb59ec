# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that this machine's kernel cannot run, run in a guest: each keeps its own name, outcome, output and seconds.

One pytest runs there, with all those tests of the session in their order; it writes every report as a line of JSON, and
here the report is handed on as if the test had run in this process.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.guest import Guest

#: In the guest: the descriptor that reports are written to.
REPORTS = "YNL_MIRROR_TEST_REPORTS"
_END = "END"
#: What a test may take there: on a busy machine the guest gets a part of a processor that it emulates.
_SECONDS = 600
#: What the guest's pytest said last, for when it ends before its time.
_TAIL = 40


class Elsewhere:
    """The guest's side of a session; the guest is started for the first test that is asked for."""

    def __init__(self, config: pytest.Config, nodeids: list[str]) -> None:
        self._config = config
        self._nodeids = nodeids
        self._left = set(nodeids)
        self._ended: dict[str, list[Any]] = {}
        self._stack = ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._said = Path()
        self._failure = ""

    def reports(self, nodeid: str) -> list[Any]:
        """The reports of one test; fails when there are none to be had. The guest ends with the last test."""
        if not self._failure:
            try:
                process = self._process or self._start()
                while nodeid not in self._ended:
                    self._read(process)
            except Exception as error:  # whatever it is, every test fails with it
                self._failure = f"in a guest, as root can make no VRF device here: {error}"
        if nodeid not in self._ended:
            pytest.fail(self._failure, pytrace=False)
        self._left.discard(nodeid)
        if not self._left:
            self.close()
        return self._ended.pop(nodeid)

    def close(self) -> None:
        """End the guest."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
        self._stack.close()

    def _start(self) -> subprocess.Popen[str]:
        guest = self._stack.enter_context(Guest())
        tests = shlex.join(self._nodeids)
        # Where systemd does not see a mount for every namespace, each of which would take its time.
        pytest_there = f"unshare --mount python3 -m pytest -p no:cacheprovider --timeout={_SECONDS} {tests}"
        script = f"{REPORTS}=3 CI=true exec {pytest_there} 3>&1 1>&2"
        self._said = guest.folder / "said"
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                guest.command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True
            )
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Take in one report."""
        assert process.stdout is not None  # it is a pipe
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"its pytest ended with {process.wait(30)}:\n{self._tail()}")
        nodeid, data = json.loads(line)
        collected = self._ended.setdefault(f"{_END} {nodeid}", [])
        if data == _END:
            self._ended[nodeid] = self._ended.pop(f"{_END} {nodeid}")
        else:
            collected.append(self._config.hook.pytest_report_from_serializable(config=self._config, data=data))

    def _tail(self) -> str:
        return "\n".join(self._said.read_text(errors="replace").splitlines()[-_TAIL:])


class Reporter:
    """The guest's plugin: writes the reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._file = os.fdopen(int(os.environ[REPORTS]), "w")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._write(report.nodeid, data)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._write(nodeid, _END)

    def _write(self, nodeid: str, data: object) -> None:
        print(json.dumps([nodeid, data], default=str), file=self._file, flush=True)
