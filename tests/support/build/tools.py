# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the project's tools (linters, ansible-test, molecule, ...) as tests, and finding what they need."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
CACHE = CHECKOUT / ".cache"
COLLECTIONS = CACHE / "collections"
PROGRAMS = Path(sys.executable).parent
#: The Python of the machines that tests manage through Ansible: the tests' own, or what the matrix (noxfile.py) says.
MACHINE_PYTHON = os.environ.get("YNL_MIRROR_MACHINE_PYTHON", sys.executable)


def run_tool(*command: str, seconds: float = 300.0, cwd: Path = CHECKOUT, env: dict[str, str] | None = None) -> str:
    """Run a tool without standard input; return what it printed, or fail the test with exactly that.

    A tool that takes longer than ``seconds`` is ended with everything that it started.
    """
    # Its own session, so that a tool that hangs takes its children with it.
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={
            **os.environ,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
            **(env or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _unused = process.communicate(timeout=seconds)
        outcome = f"exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _unused = process.communicate()
        outcome = f"ended after {seconds:.0f} s"
    if process.returncode:
        pytest.fail(f"{shlex.join(command)}: {outcome}\n{output}", pytrace=False)
    return output


def checkout_files() -> list[Path]:
    """Every file that belongs to the project: in git's index or new and not ignored; relative to the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    # A file that was deleted but not committed is still in the index.
    return [Path(name) for name in sorted(set(names)) if name and os.path.lexists(CHECKOUT / name)]


def copy_checkout(target: Path) -> None:
    """Copy the project's files (symbolic links stay such) to ``target``, which is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    for name in checkout_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target / name, follow_symlinks=False)
