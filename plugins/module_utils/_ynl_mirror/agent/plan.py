# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the mirrored routes that are wanted to the changes that write them: which are new, replaced, removed. Pure.

Prefixes of one path and one region want the same, and usually come in thousands: `alike` looks at them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat

from ..mapping.placement import Mapper
from ..model.routes import AF_INET, Path, TableKey
from ..replica.entry import paths_of
from ..replica.rib import Rib
from .writer import Change


class Plan:
    """The changes to all tables of one family. *others* are the DPU's routes that the mirror did not install."""

    def __init__(self, family: int, mapper: Mapper, others: Rib, installed: Mapping[TableKey, dict[int, Path]]) -> None:
        self._mapper = mapper
        self._others = others
        self.changes = [Change(table, routes) for (of, table), routes in installed.items() if of == family]

    def one(self, key: int, wanted: Mapping[int, Path]) -> None:
        """What one prefix wants, by table."""
        for change in self.changes:
            want = wanted.get(change.table)
            have = change.installed.get(key)
            if want is not have:
                self._change(change, key, have, want)

    def alike(self, keys: list[int], wanted: Mapping[int, Path]) -> None:
        """What each of these prefixes wants, by table."""
        for change in self.changes:
            want = wanted.get(change.table)
            installed = change.installed
            known = [key for key in keys if key in installed] if installed else []
            for key in known:
                have = installed[key]
                if have is not want:
                    self._change(change, key, have, want)
            if want is not None and len(known) < len(keys):
                self._add(change, [key for key in keys if key not in installed] if known else keys, want)

    def take_removals(self, which: Callable[[int], bool] = lambda _key: True) -> list[int]:
        """Leave removals for later: their prefixes. One that makes room for another route stays."""
        left: list[int] = []
        for change in self.changes:
            taken = [key for key, _path in change.removals if key not in change.put_back and which(key)]
            if taken:
                left += taken
                gone = set(taken)
                change.removals = [item for item in change.removals if item[0] not in gone]
        return left

    def _add(self, change: Change, keys: Iterable[int], want: Path) -> None:
        there = self._others.tables.get((want.family, want.table))
        if there and not there.keys().isdisjoint(keys):
            for key in keys:
                (change.fronts if self._has_rival(key, want) else change.adds).append((key, want))
        else:
            change.adds.extend(zip(keys, repeat(want)))

    def _has_rival(self, key: int, want: Path) -> bool:
        """Whether a route of another owner has this prefix and metric, and leads to the host: ours goes in front."""
        there = self._others.tables.get((want.family, want.table))
        if not there or key not in there or want.family != AF_INET:
            return False
        alike = [path for path in paths_of(there[key]) if path.metric == want.metric and not path.tos]
        return bool(alike) and self._mapper.leads_to_host(key, alike[0])

    def _change(self, change: Change, key: int, have: Path | None, want: Path | None) -> None:
        if have == want:
            return
        if have is not None:
            if want is not None and self._may_replace(key, want, have):
                change.replacements.append((key, want))
                change.replaced[key] = have
                return
            change.removals.append((key, have))
            if want is not None:
                change.put_back.add(key)
        if want is not None:
            self._add(change, (key,), want)

    def _may_replace(self, key: int, want: Path, have: Path) -> bool:
        """Whether NLM_F_REPLACE hits our route only: it replaces the first of its prefix and metric, of any owner."""
        if want.metric != have.metric:
            return False
        there = paths_of(self._others.tables.get((have.family, have.table), {}).get(key))
        return not any(path.metric == have.metric and path.tos == have.tos for path in there)
