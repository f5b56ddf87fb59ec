# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause before a daemon that keeps failing starts again.

The supervisor keeps the pause in memory. systemd restarts a service after a fixed time (RestartSteps= is new in 254,
and is never reset), so under systemd the daemon itself waits. A note in its runtime directory holds "PAUSE TIME" of the
previous run: its pause in seconds, and the boot clock at the end of it. A run that ends as requested removes the note.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0  # seconds between an end and the next start
HEALTHY_SECONDS = 60.0  # a run of this length resets the pause to the first
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def next_pause(pause: float, lived: float) -> float:
    """The pause in seconds after a run that waited PAUSE (0.0: it did not wait) and then LIVED for so long."""
    return FIRST_PAUSE if pause == 0.0 or lived >= HEALTHY_SECONDS else min(pause * 2, LAST_PAUSE)


def note_of(control_socket: str) -> str:
    """Where a daemon keeps its note: beside its control socket."""
    return os.path.splitext(control_socket)[0] + ".starts"


def due_pause(note: str) -> float:
    """The pause in seconds before this run; 0.0 unless the previous one failed. Writes the note for the next run."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        with open(note, encoding="ascii") as file:
            before, started = (float(word) for word in file.read().split())
        pause = next_pause(before, now - started)
    except FileNotFoundError:
        pause = 0.0
    except (OSError, ValueError):
        pause = FIRST_PAUSE
    with contextlib.suppress(OSError), open(note, "w", encoding="ascii") as file:
        file.write(f"{pause} {now + pause}\n")
    return pause


def sleep(pause: float) -> bool:
    """Wait PAUSE seconds; False when SIGTERM or SIGINT ended the wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return signal.sigtimedwait(_SIGNALS, pause) is None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forget(note: str) -> None:
    """The run ended as requested: the next one does not wait."""
    with contextlib.suppress(OSError):
        os.unlink(note)
