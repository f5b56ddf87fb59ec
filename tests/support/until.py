# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting, without a sleep of fixed length: poll until it is as wanted, and say what was seen when it never is."""

from __future__ import annotations

import time
from typing import Any, Callable, TypeVar

T = TypeVar("T")

#: Far more than anything here takes, even on a busy or emulated machine.
SECONDS = 60.0


def until(
    read: Callable[[], T],
    wanted: Any = bool,
    seconds: float = SECONDS,
    otherwise: str = "",
) -> T:
    """Call ``read`` until it returns ``wanted`` (or, when that is a function, something it is true of), and return it.

    An AssertionError out of ``read``, or a ConnectionError (no daemon answers yet), counts as not yet. In the end an
    AssertionError has the last outcome, and what ``otherwise`` says of it.
    """
    end, pause = time.monotonic() + seconds, 0.005
    while True:
        start = time.monotonic()
        seen: object
        try:
            value = read()
            seen = value
            if wanted(value) if callable(wanted) else value == wanted:
                return value
        except (AssertionError, ConnectionError) as error:
            seen = error
        now = time.monotonic()
        if now > end:
            what = otherwise and f"{otherwise}: "
            raise AssertionError(f"{what}not within {seconds:g} s; seen last:\n{seen!r}\nwanted:\n{wanted!r}")
        # Half of the time at most: what is asked needs the machine itself.
        time.sleep(max(pause, min(now - start, 1.0)))
        pause = min(0.1, pause * 1.5)


def always(read: Callable[[], T], wanted: T, rounds: int = 10) -> None:
    """Check a few times in a row that ``read`` returns ``wanted``: for what must not move any more."""
    for _round in range(rounds):
        assert read() == wanted
        time.sleep(0.02)
