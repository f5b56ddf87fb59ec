# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons of this machine: those that the collection supports, and where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: What a managed machine may have.
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
OLDEST_PYTHON = PYTHONS[0]
#: Files of tests/ that cannot even be imported without Ansible, which no longer runs on OLDEST_PYTHON.
WANT_ANSIBLE = ("unit/plugins/action", "unit/plugins/modules/test_option_tables.py")


def find_python(version: str) -> Path | None:
    """A working CPython of that version (``"3.9"``): from PATH, else from pyenv; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = shutil.which(f"python{version}")
    for candidate in [Path(found)] if found else [], sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")):
        for python in candidate:
            # A pyenv shim is on PATH whether or not its version is active, so ask it, and for the real file's path.
            probe = subprocess.run(
                [python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=False
            )
            if probe.returncode == 0:
                return Path(probe.stdout.strip())
    return None
