# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mass-withdrawal guard: are withdrawals of the host applied, or held until the host confirms them?

Too many at once, or a default route: held. A few: applied at once. Numbers in between are collected while more follow:
otherwise half of a flood would be applied before the rest shows how large it is. Pure: the caller passes the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..model.routes import FAMILY_NAMES, Path, TableKey

#: Seconds without another withdrawal that end a flood, and seconds after which a flood is judged anyway.
QUIET = 0.2
LONGEST = 2.0
#: Seconds that a host has to confirm; then the held withdrawals are applied.
CONFIRM_TIMEOUT = 60.0
#: A tenth of the number that would be held is applied at once, but not more than this.
_FEW = 2048
#: The key of 0.0.0.0/0 and ::/0, see Prefix.key.
_DEFAULT = 0

Keys = dict[TableKey, set[int]]
Installed = Mapping[TableKey, Mapping[int, Path]]


@dataclass(frozen=True)
class Held:
    """Why withdrawals are held: the DPU's (family, table) that would lose most, how many routes, and since when."""

    scope: TableKey
    lost: int
    of: int
    default: bool
    since: float

    def words(self, vrf: str) -> str:
        """For the log and the status."""
        what = f"{self.lost} of {self.of} mirrored {FAMILY_NAMES[self.scope[0]]} routes"
        return f"VRF {vrf} would lose {'the default route, ' if self.default else ''}{what} at once"


class Guard:
    """Collects and holds the withdrawals of the host that are not applied yet, by the host's (family, table).

    Too many are more than *routes* and more than the *share* of the routes mirrored into a table; a share of 0 or 1
    turns the guard off. Put a withdrawn prefix into :attr:`waiting`, remove one that is announced again, then
    :meth:`look`.
    """

    def __init__(self, share: float = 0.0, routes: int = 0) -> None:
        self.enabled = 0 < share < 1
        self.waiting: Keys = {}
        self.held: Held | None = None
        self._share = share
        self._routes = routes
        self._close()

    def _close(self) -> None:
        self._swept = False  # the held withdrawals are routes that a complete replay did not announce
        self._base: dict[TableKey, int] | None = None  # routes by table when a flood began
        self._begun = self._last = 0.0
        self._total = 0  # waiting at the last look
        self._counted = 0  # waiting when last counted by table

    @property
    def number(self) -> int:
        """Number of prefixes that are collected or held."""
        return sum(map(len, self.waiting.values()))

    def due(self, now: float) -> float | None:
        """Seconds until the next look even if nothing more is withdrawn; None when nothing is collected."""
        if self.held is not None or not self._total:
            return None
        return max(0.0, min(self._last + QUIET, self._begun + LONGEST) - now)

    def look(self, installed: Installed, now: float) -> Keys:
        """The withdrawals to apply now. Those left in :attr:`waiting` are collected or held."""
        total = self.number
        if not total:
            if not self._swept:
                self.held = None  # all of them were announced again
            self._total = self._counted = 0
            self.waiting.clear()
            return {}
        if self.held is not None:
            return {}
        if self._base is None or (not self._total and now > min(self._last + QUIET, self._begun + LONGEST)):
            self._base = {scope: len(routes) for scope, routes in installed.items()}
            self._begun = now
        if total != self._total:
            self._last, self._total = now, total
        over = not self.due(now)
        if not over and self._counted < total < self._counted * 1.25:
            return {}  # a flood arrives in many parts; counting all of it each time would take longer than the flood
        self._counted = total
        held, few = self._judge(installed, self.waiting, now)
        if held is not None:
            self.held = held
            return {}
        return self._release(close=over) if few or over else {}

    def sweep(self, installed: Installed, gone: Mapping[int, set[int]], now: float) -> bool:
        """Whether prefixes (by family) that a complete replay did not announce may be swept; if not, they are held."""
        if not self.enabled:
            return True
        self._base = {scope: len(routes) for scope, routes in installed.items()}
        self.held, _few = self._judge(installed, {(family, 0): keys for family, keys in gone.items()}, now)
        self._swept = self.held is not None
        return not self._swept

    def release(self) -> Keys:
        """All waiting withdrawals: the host has confirmed them, or has not done so in time."""
        self.held = None
        return self._release(close=True)

    def _release(self, close: bool) -> Keys:
        waiting, self.waiting = self.waiting, {}
        self._total = self._counted = 0
        if close:
            self._close()
        return waiting

    def _judge(
        self, installed: Installed, waiting: Mapping[TableKey, set[int]], now: float
    ) -> tuple[Held | None, bool]:
        """Which table would lose too much, if any, and whether the withdrawals are few enough to apply at once."""
        worst: Held | None = None
        few = True
        base = self._base or {}
        for (family, table), routes in installed.items():
            before = max(base.get((family, table), 0), len(routes))
            going = sum(key in routes for scope, keys in waiting.items() if scope[0] == family for key in keys)
            if not going:
                continue
            lost = before - len(routes) + going
            most = max(self._routes, self._share * before)
            default = _DEFAULT in routes and any(_DEFAULT in k for s, k in waiting.items() if s[0] == family)
            if (lost > most or default) and (worst is None or lost > worst.lost):
                worst = Held((family, table), lost, before, default, now)
            few = few and lost <= max(self._routes, min(_FEW, most / 10))
        return worst, few
