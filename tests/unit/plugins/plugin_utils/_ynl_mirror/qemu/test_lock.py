# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that take turns, also when the file of their lock goes in between."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.lock import locked

pytestmark = pytest.mark.controller


def test_one_at_a_time_though_each_removes_the_file(tmp_path: Path) -> None:
    """Whoever waits on a file that is removed must not believe that it has the lock: a third one has a new file."""
    inside, most = 0, 0
    lock = str(tmp_path / "lock")

    def work() -> None:
        nonlocal inside, most
        for _turn in range(5):
            with locked(lock, lambda _text: None, "it", 60.0, keep=False):
                inside += 1
                most = max(most, inside)
                time.sleep(0.01)
                inside -= 1

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert list(tmp_path.iterdir()) == []
