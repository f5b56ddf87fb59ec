# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the routes of a disconnected host stay installed, and the timer that withdraws them then.

The lease of a host begins when its session ends, or when the agent starts, which knows nothing of the time before. A
session that ends before its replay is complete does not restart the lease: a host that connects only to fail again
keeps no routes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from time import monotonic as now
from typing import Any, Callable

from ..daemon.logs import about

_LOG = logging.getLogger("ynl_mirror.agent.lease")


class Lease:
    """The lease of the host whose routes are installed.

    *term* gives the seconds that a host may be disconnected, 0 for ever; it is called with None while the agent has
    just started and the host is not known.
    """

    def __init__(self, term: Callable[[str | None], float]) -> None:
        self._term = term
        self._begin = now()
        self._connected = False
        self._changed = asyncio.Event()
        self.host: str | None = None
        self.withdrawn: int | None = None  # how many routes were withdrawn when the lease ended; None while it lasts

    def arrived(self, host: str) -> None:
        """A host has connected."""
        if self.host not in (None, host) or self.withdrawn is not None:
            self._begin = now()
        self.host, self.withdrawn, self._connected = host, None, True

    def left(self, complete: bool) -> None:
        """Its session has ended, after a replay that was complete or not."""
        if complete:
            self._begin = now()
        self._connected = False
        self._changed.set()

    def changed(self) -> None:
        """The terms have changed."""
        self._changed.set()

    async def run(self, withdraw: Callable[[], Awaitable[int]]) -> None:
        """Call *withdraw*, which returns a number of routes, whenever a lease ends; until cancelled."""
        while True:
            self._changed.clear()
            left = self._seconds_left()
            if left is not None and left <= 0:
                term = self._term(self.host)
                self.withdrawn = 0  # from now on the routes are stale
                self.withdrawn = await withdraw()
                text = f"{self.host or 'the host'} disconnected for {term:g} s: {self.withdrawn} routes withdrawn"
                _LOG.warning("%s", text, extra=about(host=self.host, reason=text))
                continue
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                continue

    def status(self) -> dict[str, Any] | None:
        """Which host is disconnected, for how long, its term and what was withdrawn; None when no lease is running."""
        term = self._term(self.host)
        if self._connected or not term:
            return None
        lease: dict[str, Any] = {"host": self.host, "away": round(now() - self._begin, 1), "withdraw_after": term}
        return lease if self.withdrawn is None else {**lease, "withdrawn": self.withdrawn}

    def _seconds_left(self) -> float | None:
        """Until the lease ends; None when none is running."""
        term = self._term(self.host)
        if self._connected or not term or self.withdrawn is not None:
            return None
        return self._begin + term - now()
