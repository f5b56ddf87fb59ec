# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a daemon waits that failed before."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon import backoff


def test_the_pause_doubles_up_to_a_bound_and_starts_over_after_a_healthy_run() -> None:
    pauses = list(itertools.accumulate(range(9), lambda pause, _turn: backoff.next_pause(pause, 1.0), initial=0.0))
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert backoff.next_pause(30.0, 60.0) == 0.5


def test_a_note_carries_it_from_run_to_run(tmp_path: Path) -> None:
    note = backoff.note_of(str(tmp_path / "agent.sock"))
    assert note == str(tmp_path / "agent.starts")
    assert [backoff.due_pause(note) for _turn in range(4)] == [0.0, 0.5, 1.0, 2.0]
    backoff.forget(note)
    assert backoff.due_pause(note) == 0.0


def test_a_run_that_lived_long_starts_over(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text(f"16.0 {time.clock_gettime(time.CLOCK_BOOTTIME) - 61}\n")
    assert backoff.due_pause(str(note)) == 0.5


@pytest.mark.parametrize("text", ["", "x y", "1", "1 2 3"])
def test_a_note_that_cannot_be_read_counts_as_one_failure(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text)
    assert backoff.due_pause(str(tmp_path / "note")) == 0.5


def test_a_signal_ends_the_pause() -> None:
    assert backoff.sleep(0.01)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        signal.raise_signal(signal.SIGTERM)  # to this thread: it waits until somebody takes it
        assert not backoff.sleep(30)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
