# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for get-pip: puts pip into the virtual environment whose interpreter runs it, from that Python's own copy.

ansible-test downloads the real one from a host of its own, which need not be reachable; what it wants installed comes
from the package index that pip is set up for. It calls this file with packages and get-pip's own ``--no-*`` flags.
"""

from __future__ import annotations

import subprocess
import sys

GET_PIP_FLAGS = {"--no-setuptools", "--no-wheel"}

subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in GET_PIP_FLAGS]
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=False).returncode)
