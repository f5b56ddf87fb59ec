# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that must not meet take turns: a lock on a file, held by whoever has it open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

POLL_SECONDS = 0.2


class Busy(Exception):
    """Somebody else has held the lock all the time; the text says what to do."""


@contextlib.contextmanager
def locked(path: str, tell: Callable[[str], None], what: str, seconds: float, *, keep: bool = True) -> Iterator[int]:
    """Hold the lock WHAT, and yield its descriptor: a program that inherits it holds the lock as long as it runs.

    TELL hears of it when there is somebody to wait for; Busy after SECONDS. Without KEEP the file goes afterwards.
    """
    descriptor = _take(path, tell, what, seconds)
    try:
        yield descriptor
    finally:
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        os.close(descriptor)


def _take(path: str, tell: Callable[[str], None], what: str, seconds: float) -> int:
    deadline, told = time.monotonic() + seconds, False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            if not told:
                tell(f"another run is at work on {what}; waiting for it")
                told = True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise Busy(f"another run has been at work on {what} for {seconds:.0f} s; end it (fuser -v {path} shows it)")
        time.sleep(POLL_SECONDS)


def _is_still(path: str, descriptor: int) -> bool:
    """Whether the file is the one that has this name; who had it before may have removed it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False
