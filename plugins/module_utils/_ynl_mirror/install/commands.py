# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the machine, run to their end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any


def completed(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command without standard input; its exit code and what it printed."""
    # A module's run_command knows no time limit, no other user, and is not there for what is no module.
    return subprocess.run(  # pylint: disable=ansible-bad-function
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
