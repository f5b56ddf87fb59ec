# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blast-radius guard: may these withdrawals of the host be carried out, or is the host to confirm them first?

Too much at once, or a default route: held. A few: at once. What lies between is collected for as long as more comes, so
that the first half of a flood is not gone when the second half shows what it is. Pure: the time is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..model.routes import FAMILY_NAMES, Path, TableKey

#: Seconds without another withdrawal that end a flood of them, and seconds after which it is judged anyway.
QUIET = 0.2
LONGEST = 2.0
#: Seconds that a host has to confirm; then it is taken at its word.
PATIENCE = 60.0
#: A tenth of what would be held goes at once, but not more than this.
_FEW = 2048
#: The key of 0.0.0.0/0 and ::/0, see Prefix.key.
_DEFAULT = 0

Keys = dict[TableKey, set[int]]
Installed = Mapping[TableKey, Mapping[int, Path]]


@dataclass(frozen=True)
class Held:
    """Why withdrawals are held: the DPU's (family, table) that would lose most, how much of it, and since when."""

    scope: TableKey
    lost: int
    of: int
    default: bool
    since: float

    def words(self, vrf: str) -> str:
        """For the log and the status."""
        what = f"{self.lost} of {self.of} mirrored {FAMILY_NAMES[self.scope[0]]} routes"
        return f"vrf {vrf}: {'the default route, ' if self.default else ''}{what} would go at once"


class Guard:
    """Keeps the withdrawals of the host that are not carried out yet, by the host's (family, table).

    More than *routes* and more than the part *share* of what is mirrored into a table is too much; a share of 0 or 1
    turns the guard off. Put a withdrawn prefix into :attr:`waiting`, take out one that is back, then :meth:`look`.
    """

    def __init__(self, share: float = 0.0, routes: int = 0) -> None:
        self.enabled = 0 < share < 1
        self.waiting: Keys = {}
        self.held: Held | None = None
        self._share = share
        self._routes = routes
        self._close()

    def _close(self) -> None:
        self._swept = False  # what is held was left out by a whole replay
        self._base: dict[TableKey, int] | None = None  # routes by table when the first of a flood came
        self._begun = self._last = 0.0
        self._total = 0  # waiting when looked at last
        self._counted = 0  # waiting when counted by table last

    @property
    def number(self) -> int:
        """Prefixes that wait."""
        return sum(map(len, self.waiting.values()))

    def due(self, now: float) -> float | None:
        """Seconds until it is time to look again though nothing came; None when there is nothing to look at."""
        if self.held is not None or not self._total:
            return None
        return max(0.0, min(self._last + QUIET, self._begun + LONGEST) - now)

    def look(self, installed: Installed, now: float) -> Keys:
        """The withdrawals to be carried out now. What they leave in :attr:`waiting` is collected, or held."""
        total = self.number
        if not total:
            if not self._swept:
                self.held = None  # all of them are back
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
            return {}  # a flood comes in many parts; counting all of it at each would take longer than the flood
        self._counted = total
        held, few = self._judge(installed, self.waiting, now)
        if held is not None:
            self.held = held
            return {}
        return self._release(close=over) if few or over else {}

    def sweep(self, installed: Installed, gone: Mapping[int, set[int]], now: float) -> bool:
        """Whether prefixes (by family) that a whole replay did not name may go; if not, they are held from now on."""
        if not self.enabled:
            return True
        self._base = {scope: len(routes) for scope, routes in installed.items()}
        self.held, _few = self._judge(installed, {(family, 0): keys for family, keys in gone.items()}, now)
        self._swept = self.held is not None
        return not self._swept

    def release(self) -> Keys:
        """The host has confirmed, or did not in time: all that waits."""
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
        """What is too much of the withdrawals, and whether they are so few that nobody needs to wait."""
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
