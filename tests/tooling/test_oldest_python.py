# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library and the daemons on the oldest Python that a managed machine may have, with that Python's own packages."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.pythons import OLDEST_PYTHON, WANT_ANSIBLE, find_python
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CACHE, CHECKOUT, run_tool

ENVIRONMENT = CACHE / f"python{OLDEST_PYTHON}"
REQUIREMENTS = CHECKOUT / "tests" / "requirements-oldest.txt"
#: The others take long, and say more of kernels and peers than of Python: what they run through, the rest does as well.
LEFT_OUT = (
    *WANT_ANSIBLE,
    "integration/test_audit.py",
    "integration/test_exact.py",
    "integration/test_guard.py",
    "integration/test_hidden_routes.py",
    "integration/test_overlap.py",
    "integration/test_replica.py",
    "integration/test_route_kinds.py",
    "integration/test_traps.py",
    "integration/test_vrf_route_property.py",
    "integration/test_wrong_input.py",
    "integration/test_zebra.py",
)


def _environment(python: Path) -> Path:
    """The interpreter of a virtual environment with REQUIREMENTS, made again when these change."""
    stamp = ENVIRONMENT / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        run_tool(str(python), "-m", "venv", "--clear", str(ENVIRONMENT))
        run_tool(str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "-r", str(REQUIREMENTS))
        stamp.write_text(REQUIREMENTS.read_text())
    return ENVIRONMENT / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(1260)
def test_library_and_daemons_run_on_the_oldest_python() -> None:
    assert all((CHECKOUT / "tests" / left_out).exists() for left_out in LEFT_OUT)
    python = find_python(OLDEST_PYTHON)
    if python is None:
        warnings.warn(f"no Python {OLDEST_PYTHON} on this machine: nothing was tried on it", stacklevel=1)
        pytest.skip(f"no Python {OLDEST_PYTHON} on this machine (PATH, pyenv)")
    command = [str(_environment(python)), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not controller"]
    command += [f"--ignore=tests/{left_out}" for left_out in LEFT_OUT]
    output = run_tool(*command, "tests/unit", "tests/integration", seconds=1200)
    print(output)
