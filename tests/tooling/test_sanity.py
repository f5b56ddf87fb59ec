# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ansible-test sanity`` without a container engine, with every Python version that this machine has."""

from __future__ import annotations

import shutil
from importlib.metadata import version

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import (
    CACHE,
    CHECKOUT,
    PROGRAMS,
    copy_checkout,
    find_python,
    run_tool,
)

HOME = CACHE / "sanity" / "home"
PYTHONS = CACHE / "sanity" / "bin"
# ansible-test refuses a path through symbolic links: it gets a copy.
COLLECTION = CACHE / "sanity" / "ansible_collections" / "ekho" / "ynl_mirror"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PIP_VERSION = "24.2"  # what ansible-test of ansible-core 2.19 puts into its virtual environments


def _prepare_home() -> None:
    """A home of its own: ansible-test keeps virtual environments there, and finds our stand-in for get-pip."""
    get_pip = HOME / ".ansible" / "test" / "cache" / f"get_pip_{PIP_VERSION.replace('.', '_')}.py"
    get_pip.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "tests" / "support" / "build" / "get_pip.py", get_pip)


def _prepare_pythons() -> list[str]:
    """A folder with the working Python versions only: pyenv's shims for versions that are not active would fail."""
    shutil.rmtree(PYTHONS, ignore_errors=True)
    PYTHONS.mkdir(parents=True)
    found = []
    for name in ("3.9", "3.10", "3.11", "3.12", "3.13"):
        python = PROGRAMS / "python" if name == "3.11" else find_python(name)
        if python:
            (PYTHONS / f"python{name}").symlink_to(python)
            found.append(name)
    return found


def _prepare_copy() -> None:
    """Copy the project's files, as a git repository of its own: in the outer one .cache is ignored."""
    copy_checkout(COLLECTION)
    run_tool("git", "init", "--quiet", cwd=COLLECTION)
    run_tool("git", "add", "--all", cwd=COLLECTION)


@pytest.mark.slow
@pytest.mark.timeout(960)
def test_sanity() -> None:
    assert version("ansible-core").startswith("2.19."), "PIP_VERSION belongs to ansible-core 2.19: look it up again"
    _prepare_home()
    pythons = _prepare_pythons()
    _prepare_copy()
    env = {"HOME": str(HOME), "PATH": f"{PYTHONS}:{PROGRAMS}:{SYSTEM_PATH}"}
    output = run_tool("ansible-test", "sanity", "--color", "no", cwd=COLLECTION, env=env, seconds=900)
    print(f"ran with Python {', '.join(pythons)}\n{output}")
    assert "All targets skipped" not in output
    assert 'Running sanity test "validate-modules"' in output
