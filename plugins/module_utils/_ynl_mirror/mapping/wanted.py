# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mirrored routes a prefix needs in each VRF, given all that the host has announced. Pure.

The placement of one prefix (placement.py) leaves two questions open, which depend on shorter prefixes. A trap route is
needed only where the next shorter mirrored route is an offload. And an own route inside an announced prefix (a part of
it) is placed by the decision about the shortest announced prefix around it, unless that sends packets the same way.

So the prefixes whose routes may change with a shorter one are kept in an index, *inner*: those that stay on the slow
path in some VRF or in all, and parts. A change of a prefix looks at those inside of it again, and at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from ..model.routes import AF_INET, AF_INET6, WIDTH, Path, TableKey
from .placement import NO_OUTCOME, Mapper, Outcome, Way
from .regions import Prefixes

_FAMILIES = (AF_INET, AF_INET6)
#: Of a part's offloads (family, part, announced prefix around it, its path, offloads) those that may be installed.
Permits = Callable[[int, int, int, Path, Mapping[int, Path]], Mapping[int, Path]]


class Wanted:
    """The mirrored routes of every prefix. *announced* gives the path that the host announced for (family, key).

    *blocked* are offloads, by (family, table), that must not be installed, with the reason. *standing* gives an offload
    (family, table, prefix) that is installed though nothing is known of it yet: after a restart the host announces its
    routes one after the other, and a trap route has to stay below an offload that stands.
    """

    def __init__(self, mapper: Mapper, announced: Callable[[int, int], Path | None]) -> None:
        self._mapper = mapper
        self.inner = {family: Prefixes(family) for family in _FAMILIES}
        self.blocked: dict[TableKey, dict[int, str]] = {}
        # Which offloads may be installed because of an announced route; None: all.
        self.permits: Permits | None = None
        self.standing: Callable[[int, int, int], Path | None] | None = None
        self._announced = announced
        self._announced_lengths: dict[int, set[int]] = {family: set() for family in _FAMILIES}  # that ever were
        self._lengths: dict[int, list[int]] = {}  # of all that may be placed, longest first

    @property
    def mapper(self) -> Mapper:
        """The placement of single prefixes."""
        return self._mapper

    @mapper.setter
    def mapper(self, mapper: Mapper) -> None:
        self._mapper = mapper
        self._lengths = {}

    def with_inner(self, family: int, keys: list[int]) -> list[int]:
        """These distinct prefixes and those that depend on them, the longest first where lengths differ."""
        lengths = self._use(family, keys)
        inner = self.inner[family].within(keys)
        inner.difference_update(keys)
        if inner or len(lengths) > 1:
            return longest_first(family, [*keys, *inner])
        return keys

    def _use(self, family: int, keys: Iterable[int]) -> set[int]:
        """From now on prefixes of these lengths are looked for around others; returns the lengths."""
        width = WIDTH[family]
        lengths = {key >> width for key in keys}
        if not lengths <= self._announced_lengths[family]:
            self._announced_lengths[family] |= lengths
            self._lengths = {}
        return lengths

    def everything(self, family: int, keys: Iterable[int]) -> dict[int, Mapping[int, Path]]:
        """What to install for these prefixes, all that are announced, and for their parts: by prefix and table."""
        announced = dict.fromkeys(keys)
        self._use(family, announced)
        outcomes = {key: self.outcome(family, key) for key in announced}
        parts = {part for outcome in outcomes.values() for part in outcome.parts}.difference(announced)
        outcomes.update((key, self.part(family, key)) for key in sorted(parts))
        found: dict[int, Mapping[int, Path]] = {}
        for key, (targets, _reason, ways, _parts) in outcomes.items():
            dependent = self.depends(family, key, targets, ways, key in announced)
            found[key] = self.paths(family, key, targets, ways, key in announced) if dependent else targets
        return found

    def outcome(self, family: int, key: int) -> Outcome:
        """The placement of a prefix, announced or a part of an announced one."""
        path = self._announced(family, key)
        return self.part(family, key) if path is None else self.mapper.rule(path).outcome(key)

    def part(self, family: int, key: int) -> Outcome:
        """The placement of a prefix that is not announced: by the decision about the announced one around it."""
        if self.mapper.is_part(family, key):
            for around, path in self._around(family, key):
                crowded = self.mapper.is_crowded(family, around)
                return NO_OUTCOME if crowded else self.mapper.rule(path).outcome(key)
        return NO_OUTCOME

    def _around(self, family: int, key: int) -> Iterator[tuple[int, Path]]:
        """The announced prefixes around a prefix, the longest first."""
        for around in self.shorter(family, key):
            path = self._announced(family, around)
            if path is not None:
                yield around, path

    def permitted(self, family: int, key: int, targets: Mapping[int, Path]) -> Mapping[int, Path]:
        """Those offloads of a prefix, announced or a part, that may be installed."""
        if self.permits is None or not targets:
            return targets
        path = self._announced(family, key)
        decides = next(self._around(family, key), None) if path is None else (key, path)
        return targets if decides is None else self.permits(family, key, *decides, targets)

    def depends(
        self, family: int, key: int, targets: Mapping[int, Path], ways: Mapping[int, Way], announced: bool
    ) -> bool:
        """Whether what a prefix needs depends on shorter ones, which is noted; `paths` has the answer.

        An announced prefix that is slow is noted even where no VRF is known to send its packets to the host: the way
        of one may be found out later, together with an offload around the prefix.
        """
        inner = self.inner[family]
        if announced and targets and len(targets) == len(ways):
            inner.discard(key)
            return False
        if ways or announced:
            inner.add(key)
        else:
            inner.discard(key)
        return bool(ways)

    def paths(
        self, family: int, key: int, targets: Mapping[int, Path], ways: Mapping[int, Way], announced: bool
    ) -> Mapping[int, Path]:
        """What to install for a prefix, by table: offloads, and trap routes below the offloads of shorter prefixes."""
        wanted: dict[int, Path] = {}
        for table, way in ways.items():
            target = targets.get(table)
            if target is not None and announced:
                wanted[table] = target
                continue
            above = self.above(family, key, table, way)
            if target is None:
                if above is not None:
                    wanted[table] = way.trap
            elif above is None or above[1] is not target:
                wanted[table] = target
        return wanted

    def above(self, family: int, key: int, table: int, way: Way) -> tuple[int, Path] | None:
        """The offload of a shorter prefix that packets would follow in a table if nothing were placed for this one."""
        blocked = self.blocked.get((family, table), {})
        for candidate in self.shorter(family, key, way.length):
            path = self._announced(family, candidate)
            if path is None and self.standing is not None:
                stands = self.standing(family, table, candidate)
                if stands is not None:
                    return candidate, stands
            outcome = self.part(family, candidate) if path is None else self.mapper.rule(path).outcome(candidate)
            targets = self.permitted(family, candidate, outcome.targets)
            if table in targets and candidate not in blocked:
                return candidate, targets[table]
            if table in outcome.ways:
                return None  # it stays on the slow path, and so does everything inside of it
        return None

    def lengths(self, family: int) -> list[int]:
        """The lengths of all prefixes that may be placed, the longest first."""
        lengths = self._lengths.get(family)
        if lengths is None:
            own = {key >> WIDTH[family] for key in self.mapper.regions(family).named}
            lengths = self._lengths[family] = sorted(own | self._announced_lengths[family], reverse=True)
        return lengths

    def shorter(self, family: int, key: int, shortest: int = 0) -> Iterator[int]:
        """The shorter prefixes that cover a prefix, of the lengths in use; the longest first."""
        width = WIDTH[family]
        length, network = key >> width, key & ((1 << width) - 1)
        for candidate in self.lengths(family):
            if candidate < shortest:
                return
            if candidate < length:
                yield candidate << width | network >> (length - candidate)


def longest_first(family: int, keys: Iterable[int]) -> list[int]:
    """These prefixes by length; those of one length keep their order."""
    width = WIDTH[family]
    return sorted(keys, key=lambda key: -(key >> width))
