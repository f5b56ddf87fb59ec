# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the routes of a host that is away are held, and who withdraws them then.

The lease of a host begins when its connection ends, or when the agent starts: what happened before nobody remembers. A
connection that ends before its replay was complete does not begin it anew, so a host that only comes to fail again
and again holds nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from time import monotonic as now
from typing import Any, Callable

from ..daemon.logs import about

_LOG = logging.getLogger("ynl_mirror.lease")


class Lease:
    """The lease of the host whose routes are installed.

    *term* gives the seconds that a host may be away, 0 for ever; None is the host of an agent that has just started.
    """

    def __init__(self, term: Callable[[str | None], float]) -> None:
        self._term = term
        self._begin = now()
        self._connected = False
        self._news = asyncio.Event()
        self.host: str | None = None
        self.withdrawn: int | None = None  # how many routes went when the lease ended; None while it lasts

    def arrived(self, host: str) -> None:
        """A host has connected."""
        if self.host not in (None, host) or self.withdrawn is not None:
            self._begin = now()
        self.host, self.withdrawn, self._connected = host, None, True

    def left(self, complete: bool) -> None:
        """Its connection has ended, after a replay that was complete or not."""
        if complete:
            self._begin = now()
        self._connected = False
        self._news.set()

    def changed(self) -> None:
        """The terms are others now."""
        self._news.set()

    async def run(self, withdraw: Callable[[], Awaitable[int]]) -> None:
        """Call *withdraw*, which returns a number of routes, whenever a lease ends; until cancelled."""
        while True:
            self._news.clear()
            left = self._seconds_left()
            if left is not None and left <= 0:
                term = self._term(self.host)
                self.withdrawn = 0  # from now on nobody holds them
                self.withdrawn = await withdraw()
                text = f"{self.host or 'the host'} has been away for {term:g} s: {self.withdrawn} routes are withdrawn"
                _LOG.warning("%s", text, extra=about(host=self.host, reason=text))
                continue
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except asyncio.TimeoutError:
                continue

    def status(self) -> dict[str, Any] | None:
        """Who is away, for how long, and what comes of it; None while a host is connected or nothing ever ends."""
        term = self._term(self.host)
        if self._connected or not term:
            return None
        told: dict[str, Any] = {"host": self.host, "away": round(now() - self._begin, 1), "withdraw_after": term}
        return told if self.withdrawn is None else {**told, "withdrawn": self.withdrawn}

    def _seconds_left(self) -> float | None:
        """None when nothing is going to end."""
        term = self._term(self.host)
        if self._connected or not term or self.withdrawn is not None:
            return None
        return self._begin + term - now()
