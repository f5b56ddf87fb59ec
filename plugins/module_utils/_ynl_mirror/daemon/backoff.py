# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a daemon that ends again and again waits before it goes to work once more.

The supervisor counts in its own memory. systemd starts a service again after a fixed time (RestartSteps= is new in 254,
and never starts over), so under it the daemon itself waits: a note in its runtime directory, which a run that ends as
it was asked to takes away, holds "PAUSE TIME" of the run before: its pause in seconds, and the boot clock at its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0  # seconds between an end and the next start
HEALTHY_SECONDS = 60.0  # a daemon that lived this long starts over with the first pause
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def next_pause(pause: float, lived: float) -> float:
    """The pause, seconds, after a run that waited PAUSE (0.0: there was none before) and then LIVED."""
    return FIRST_PAUSE if pause == 0.0 or lived >= HEALTHY_SECONDS else min(pause * 2, LAST_PAUSE)


def note_of(control_socket: str) -> str:
    """Where a daemon keeps its note: beside its control socket."""
    return os.path.splitext(control_socket)[0] + ".starts"


def due_pause(note: str) -> float:
    """The pause, seconds, that this run is due; 0.0 after none that failed. Leaves word for the next run."""
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
    """Wait PAUSE seconds; False when SIGTERM or SIGINT has come instead."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return signal.sigtimedwait(_SIGNALS, pause) is None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forget(note: str) -> None:
    """The run ended as it was asked to: the next one does not wait."""
    with contextlib.suppress(OSError):
        os.unlink(note)
