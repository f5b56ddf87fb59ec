# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that exclude each other take turns: a lock on a file, held as long as a process has it open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from .machine import Progress

POLL_SECONDS = 0.2


class Busy(Exception):
    """Another run has held the lock the whole time; the text names the fix."""


@contextlib.contextmanager
def locked(path: str, progress: Progress, what: str, seconds: float, *, keep: bool = True) -> Iterator[int]:
    """Hold the lock for WHAT, and yield its descriptor: a program that inherits it holds the lock while it runs.

    PROGRESS gets a message if there is another run to wait for; Busy after SECONDS. Without KEEP the file is removed.
    """
    descriptor = _take(path, progress, what, seconds)
    try:
        yield descriptor
    finally:
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        os.close(descriptor)


def _take(path: str, progress: Progress, what: str, seconds: float) -> int:
    deadline, waiting = time.monotonic() + seconds, False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            if not waiting:
                progress(f"another run is using {what}; waiting for it")
                waiting = True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise Busy(f"another run has been using {what} for {seconds:.0f} s; stop it (fuser -v {path} shows it)")
        time.sleep(POLL_SECONDS)


def _is_still(path: str, descriptor: int) -> bool:
    """Whether the file still has this name; the previous holder may have removed it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False
