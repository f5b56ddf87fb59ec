# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ansible-test sanity`` without a container engine, with every Python version that this machine has.

It is that of the ansible-core beside this Python: the matrix (noxfile.py) runs it with each one.
"""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.pythons import PYTHONS, find_python
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import (
    CACHE,
    CHECKOUT,
    PROGRAMS,
    copy_checkout,
    run_tool,
)

PLACE = CACHE / "sanity" / version("ansible-core")
HOME = PLACE / "home"
FOUND = PLACE / "bin"
# ansible-test refuses a path through symbolic links: it gets a copy.
COLLECTION = PLACE / "ansible_collections" / "ekho" / "ynl_mirror"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _prepare_home() -> None:
    """A home of its own: ansible-test keeps virtual environments there, and finds our stand-in for get-pip."""
    source = Path(str(distribution("ansible-core").locate_file("ansible_test/_internal/python_requirements.py")))
    (pip_version,) = re.findall(r"default_packages = dict\(\s*pip='([\d.]+)'", source.read_text())
    get_pip = HOME / ".ansible" / "test" / "cache" / f"get_pip_{pip_version.replace('.', '_')}.py"
    get_pip.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "tests" / "support" / "build" / "get_pip.py", get_pip)


def _prepare_pythons() -> list[str]:
    """A folder with the working Python versions only: pyenv's shims for versions that are not active would fail."""
    shutil.rmtree(FOUND, ignore_errors=True)
    FOUND.mkdir(parents=True)
    own = "{}.{}".format(*sys.version_info)
    pythons = {name: PROGRAMS / "python" if name == own else find_python(name) for name in PYTHONS}
    for name, python in pythons.items():
        if python:
            (FOUND / f"python{name}").symlink_to(python)
        else:
            warnings.warn(f"no Python {name} on this machine: nothing was tried on it", stacklevel=1)
    return [name for name, python in pythons.items() if python]


def _prepare_copy() -> None:
    """Copy the project's files, as a git repository of its own: in the outer one .cache is ignored."""
    copy_checkout(COLLECTION)
    run_tool("git", "init", "--quiet", cwd=COLLECTION)
    run_tool("git", "add", "--all", cwd=COLLECTION)


@pytest.mark.slow
@pytest.mark.timeout(960)
def test_sanity() -> None:
    _prepare_home()
    pythons = _prepare_pythons()
    _prepare_copy()
    env = {"HOME": str(HOME), "PATH": f"{FOUND}:{PROGRAMS}:{SYSTEM_PATH}"}
    output = run_tool("ansible-test", "sanity", "--color", "no", cwd=COLLECTION, env=env, seconds=900)
    print(f"ansible-core {version('ansible-core')}, Python {', '.join(pythons)}\n{output}")
    assert "All targets skipped" not in output
    assert 'Running sanity test "validate-modules"' in output
