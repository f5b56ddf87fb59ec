# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The FIB view: what the host's kernel would do with a forwarded packet, as one path per prefix. Pure.

The kernel asks table after table (layers.py) and takes the longest match of the first that has one. An agent knows one
table. So the view is the union of the prefixes of all layers, each with the path of the first layer that has it,
without those that an earlier layer covers: an address inside such a prefix has a match in that earlier layer already.
The longest match in the view is then the kernel's ordered look-up: of an address that layer L decides, no earlier layer
has a match, and every longer match of a later layer is covered by that of L.

What a layer puts into the view is a path as it is announced, in table main (:class:`Announcing`): the kernel's own
where it forwards through gateways or is slow by nature, else a reason why it is slow. A layer that may or may not apply
puts in what it covers as slow; either outcome is right then, because the packet takes the way over the host. A `throw`
is slow as well: the next table decides inside it, on the host.

Nothing of this is stored. The table of a million routes stands in the replica only, and a look-up asks, for a batch of
prefixes, which of them the layers before it cover. Those are small as a rule (table local), and know their prefixes by
length. A change of a prefix in one layer touches the prefixes inside it in the layers behind: `changed` finds them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, repeat

from ..model.routes import (
    DISCARD_TYPES,
    RT_TABLE_MAIN,
    RTN_THROW,
    RTN_UNICAST,
    RTN_XRESOLVE,
    WIDTH,
    Path,
    Prefix,
    TableKey,
    table_name,
)
from ..netlink.route_codec import MAX_TEMPLATES, reason_bytes
from ..replica.entry import Entry, best_path, paths_of, tos_of
from ..replica.filters import Selection, exclusion, unspeakable
from ..replica.nexthops import lacks_hops
from ..replica.rib import Rib
from .layers import Layer

#: Up to this many prefixes a layer knows them by length; of a larger table each prefix is looked up.
_SMALL = 16384
#: Where a prefix leaves at most this many bits free, each prefix that may be inside it is looked up.
_PROBED = 6
Routes = list[tuple[int, Path]]


def slow(rib: Rib, family: int, reason: str) -> Path:
    """The path of all prefixes that stay on the slow path for this reason."""
    return rib.reader.intern(Path(family, type=RTN_XRESOLVE, reason=reason_bytes(reason).decode()))


class Announcing:
    """How a path of the kernel is announced. What depends on the path only is decided once per path."""

    def __init__(self, rib: Rib, selection: Selection, tables: Collection[int]) -> None:
        self.selection = selection
        self.by_prefix = selection.by_route
        self._rib = rib
        self._tables = frozenset(tables)
        self._by_path: dict[Path, Path] = {}

    def path(self, path: Path) -> Path:
        """The path to announce for this one."""
        found = self._by_path.get(path)
        if found is None:
            if len(self._by_path) >= MAX_TEMPLATES:
                self._by_path.clear()
            found = self._by_path[path] = self._decide(path)
        return found

    def of_prefix(self, key: int, path: Path) -> Path:
        """The path to announce for one prefix, given the one for all; asked only if there are filters *by_prefix*."""
        if not is_choice(path):
            return path
        reason = self.selection.prefix_reason(path.family, key)
        return path if reason is None else slow(self._rib, path.family, reason)

    def excluded(self, family: int) -> dict[int, Path]:
        """Prefixes that the user excludes with all that is inside, as slow paths."""
        rules = self.selection.excluded(family)
        return {rule.prefix.key: slow(self._rib, family, exclusion(rule)) for rule in rules}

    def _decide(self, path: Path) -> Path:
        reason = self.selection.path_reason(path) if is_choice(path) else None
        if is_gatewayed(path) and path.table not in self._tables:
            reason = f"decided by table {table_name(path.table)}, which `tables` does not list"
        if reason is None and path.extras:
            reason = unspeakable(path)
        if reason is None and lacks_hops(path):
            reason = f"next hops of nexthop object {path.nh_id} unknown"
        if reason is not None:
            return slow(self._rib, path.family, reason)
        if path.table == RT_TABLE_MAIN and path.nh_id is None and not path.dead_links:
            return path
        return self._rib.reader.intern(replace(path, table=RT_TABLE_MAIN, nh_id=None, dead_links=()))


def is_gatewayed(path: Path) -> bool:
    """Whether a path may be offloaded at all: it forwards through a gateway."""
    return path.type == RTN_UNICAST and any(hop.gateway is not None for hop in path.nexthops)


def is_choice(path: Path) -> bool:
    """Whether the user's filters concern a path. The host's own addresses and links are slow whatever they say."""
    return path.type in DISCARD_TYPES or is_gatewayed(path)


class Step(ABC):
    """What one layer puts into the view: prefix keys, each with the path to announce."""

    layer: Layer | None

    def __init__(self, family: int) -> None:
        self.family = family
        self.width = WIDTH[family]
        self.mask = (1 << self.width) - 1
        self._levels: dict[int, set[int]] | None = None

    @abstractmethod
    def at(self, key: int) -> Path | None:
        """The path for exactly this prefix."""

    @abstractmethod
    def members(self) -> Iterable[int]:
        """All prefixes that may be in here."""

    @abstractmethod
    def has(self, key: int) -> bool:
        """Whether a prefix is one of `members`."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of `members`, or somewhat more."""

    # -- covering prefixes

    def levels(self) -> dict[int, set[int]] | None:
        """The prefixes in here by length; None if there are too many to keep."""
        if len(self) > _SMALL:
            self._levels = None
        elif self._levels is None:
            self._levels = {}
            self.refresh(self.members())
        return self._levels

    def refresh(self, keys: Iterable[int]) -> None:
        """These prefixes may be in here now, or no longer."""
        if len(self) > _SMALL:
            self._levels = None  # a burst must not keep them up to date for nothing
        levels = self._levels
        if levels is None:
            return
        for key in keys:
            length = key >> self.width
            if self.at(key) is not None:
                levels.setdefault(length, set()).add(key)
            elif length in levels:
                levels[length].discard(key)

    def covering(self, key: int) -> int | None:
        """The longest prefix in here that is shorter than this one and covers it."""
        length, bits = key >> self.width, key & self.mask
        levels = self.levels()
        for shorter in range(length - 1, -1, -1) if levels is None else sorted(levels, reverse=True):
            if shorter < length:
                found = shorter << self.width | bits >> (length - shorter)
                if self.at(found) is not None if levels is None else found in levels[shorter]:
                    return found
        return None

    def touched(self, keys: list[int]) -> set[int]:
        """Those of these keys, in ascending order, that are in here or covered."""
        levels = self.levels()
        if levels is None:
            return {key for key in keys if self.at(key) is not None or self.covering(key) is not None}
        found: set[int] = set()
        start = 0
        while start < len(keys):
            length = keys[start] >> self.width
            stop = bisect_left(keys, (length + 1) << self.width, start)
            for shorter, known in levels.items():
                if shorter <= length and known:
                    self._touched(found, keys, (start, stop), length - shorter, known)
            start = stop
        return found

    def _touched(self, found: set[int], keys: list[int], part: tuple[int, int], bits: int, known: set[int]) -> None:
        """Add those keys of one length, *part* of all, that the *known* prefixes cover, which are *bits* shorter."""
        start, stop = part
        if 8 * len(known) > stop - start:
            mask, tag = self.mask, (keys[start] >> self.width) - bits << self.width
            found.update(key for key in keys[start:stop] if (key & mask) >> bits | tag in known)
            return
        for prefix in known:
            first, behind = inside(prefix, bits, self.width)
            at = bisect_left(keys, first, start, stop)
            found.update(keys[at : bisect_left(keys, behind, at, stop)])

    # -- changes

    def below(self, changed: set[int]) -> set[int]:
        """The prefixes in here that are inside one of these, or equal to it."""
        if len(self) <= len(changed) + 64:
            return {key for key in self.members() if self._within(key, changed)}
        found: set[int] = set()
        wide = []
        for key in changed:
            if self.width - (key >> self.width) > _PROBED:
                wide.append(key)
            else:
                found.update(filter(self.has, self._possible(key)))
        if wide:
            mine = sorted(self.members())
            for key in wide:
                for bits in range(self.width - (key >> self.width) + 1):
                    first, behind = inside(key, bits, self.width)
                    at = bisect_left(mine, first)
                    found.update(mine[at : bisect_left(mine, behind, at)])
        return found

    def _within(self, key: int, changed: set[int]) -> bool:
        length, bits = key >> self.width, key & self.mask
        return any((n << self.width | bits >> (length - n)) in changed for n in range(length + 1))

    def _possible(self, key: int, longest: int | None = None) -> Iterator[int]:
        """Every prefix inside this one, up to a length."""
        for bits in range((self.width if longest is None else longest) - (key >> self.width) + 1):
            yield from range(*inside(key, bits, self.width))


class Fixed(Step):
    """Prefixes with paths that no table has: an action of a rule, or prefixes that the user excludes."""

    def __init__(self, family: int, paths: Mapping[int, Path], layer: Layer | None = None) -> None:
        super().__init__(family)
        self.paths = paths
        self.layer = layer

    def at(self, key: int) -> Path | None:
        """The path for exactly this prefix."""
        return self.paths.get(key)

    def members(self) -> Iterable[int]:
        """All prefixes in here."""
        return self.paths

    def has(self, key: int) -> bool:
        """Whether a prefix is in here."""
        return key in self.paths

    def __len__(self) -> int:
        return len(self.paths)


class LookUp(Step):
    """A look-up in a table of the replica."""

    layer: Layer

    def __init__(self, layer: Layer, rib: Rib, announcing: Announcing) -> None:
        super().__init__(layer.region.family)
        self.layer = layer
        self.scope: TableKey = (self.family, layer.table or 0)
        self.announcing = announcing
        self._rib = rib
        self._region = layer.region.key if layer.region.length else None
        self._limit = (layer.longest + 1) << self.width if layer.longest < self.width else None
        self._doubt = None if layer.reason is None else slow(rib, self.family, layer.reason)
        text = f"rule {layer.rule.words} may pass over it"
        self._halfway = slow(rib, self.family, layer.reason or text)

    @property
    def table(self) -> Mapping[int, Entry]:
        """The table as it is now."""
        return self._rib.tables.get(self.scope, {})

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the paths of its table decides, apart from short prefixes."""
        return self._region is None and self._doubt is None and self._limit is None

    def __len__(self) -> int:
        # Of a limited layer it is the most that there can be, which is small: matches are limited to the shortest.
        return len(self.table) if self._limit is None else min(len(self.table), 2 << self.layer.longest)

    def members(self) -> Iterable[int]:
        """The prefixes of the table that this layer means."""
        if self._region is not None:
            over = [] if self._over_region() is None else [self._region]
            return [*over, *(key for key in self.table if key != self._region and self._in_region(key))]
        if self._limit is None:
            return self.table
        if len(self) < len(self.table):
            return list(filter(self.table.__contains__, self._possible(0, self.layer.longest)))
        return [key for key in self.table if key < self._limit]

    def has(self, key: int) -> bool:
        """Whether a prefix is one of `members`."""
        if self._region is not None:
            if key == self._region:
                return self._over_region() is not None
            return self._in_region(key) and key in self.table
        return key in self.table and (self._limit is None or key < self._limit)

    def at(self, key: int) -> Path | None:
        """The path for exactly this prefix."""
        if self._region is not None:
            if key == self._region:
                over = self._over_region()
                return None if over is None else self.path(*over)
            if not self._in_region(key):
                return None
        entry = self.table.get(key)
        return None if entry is None else self.path(key, entry)

    def _in_region(self, key: int) -> bool:
        """Whether a prefix is inside the region, or equal to it."""
        bits = (key >> self.width) - self.layer.region.length
        return bits >= 0 and (key & self.mask) >> bits == (self._region or 0) & self.mask

    def _over_region(self) -> tuple[int, Entry] | None:
        """The longest route of the table that covers the whole region, with its key."""
        region = self._region or 0
        length, bits = region >> self.width, region & self.mask
        for shorter in range(length, -1, -1):
            key = shorter << self.width | bits >> (length - shorter)
            entry = self.table.get(key)
            if entry is not None and (best_path(entry) is not None or tos_of(entry)):
                return key, entry
        return None

    def path(self, key: int, entry: Entry) -> Path | None:
        """The path to announce for an entry of the table; None if the entry decides nothing here."""
        length = key >> self.width
        if length > self.layer.longest:
            return None
        if length <= self.layer.suppress:
            # The kernel suppresses no discard (fib_rules_lookup), and then not what is inside of it either.
            if all(path.type not in DISCARD_TYPES for path in paths_of(entry)):
                return None
            if self.layer.suppress:
                return self._halfway
        path = self.path_of(entry)
        return path if path is None or not self.announcing.by_prefix else self.announcing.of_prefix(key, path)

    def path_of(self, entry: Entry) -> Path | None:
        """The same of a prefix that is long enough, without the filters by prefix."""
        best, tos = best_path(entry), tos_of(entry)
        if best is None and not tos:
            return None
        if self._doubt is not None:
            passes = best is not None and best.type == RTN_THROW and not tos and self.layer.suppress < 0
            return None if passes else self._doubt
        if tos or best is None:
            text = "the prefix has routes for a tos: " + ", ".join(f"{value:#x}" for value in tos)
            return slow(self._rib, self.family, text)
        return self.announcing.path(best)

    def affected(self, changed: set[int]) -> set[int]:
        """The prefixes in here that change with these of the table."""
        if self._region is None:
            return changed
        found = {key for key in changed if self._in_region(key)}
        if self._within(self._region, changed):
            found.add(self._region)
        return found

    def below(self, changed: set[int]) -> set[int]:
        """The prefixes in here that are inside one of these, or equal to it."""
        if self._region is not None:
            return {key for key in self.members() if self._within(key, changed)}
        if self._limit is not None:
            limit = self._limit
            changed = {key for key in changed if key < limit}
        return super().below(changed) if changed else changed


@dataclass(frozen=True)
class Decision:
    """What the view has for an address: the prefix that decides, its path, and where that comes from."""

    prefix: Prefix
    path: Path
    step: Step

    @property
    def table(self) -> int | None:
        """The table that decides; None if a rule or the user does."""
        return None if self.step.layer is None else self.step.layer.table

    @property
    def words(self) -> str:
        """What decides: a rule, or the user's filters."""
        return "filters" if self.step.layer is None else f"rule {self.step.layer.rule.words}"


class FibView:
    """The view of all families, on top of the tables of *rib*."""

    def __init__(self, rib: Rib) -> None:
        self._rib = rib
        self._announcing: Announcing | None = None
        self._made: dict[int, list[tuple[object, Step]]] = {}  # what each step was made of
        self.steps: dict[int, list[Step]] = {}

    # -- what it is made of

    def compile(
        self, layers: Mapping[int, list[Layer]], selection: Selection, tables: Collection[int]
    ) -> dict[int, set[int]]:
        """Take other layers and filters; returns the prefixes that may have changed, by family.

        To be called before the replica forgets the tables that are not looked up any more.
        """
        old, announcing = self._announcing, Announcing(self._rib, selection, tables)
        keep = old is not None and old.selection is selection
        self._announcing = announcing = old if keep and old is not None else announcing
        changed: dict[int, set[int]] = {}
        for family in {*self._made, *layers}:
            known, before = self._made.get(family, []), self.steps.get(family, [])
            made = self._steps(family, layers.get(family, []), announcing, dict(known) if keep else {})
            self._made[family], self.steps[family] = made, [step for _source, step in made]
            others = [step for step in before if step not in self.steps[family]]
            others += [step for step in self.steps[family] if step not in before]
            keys = changed.setdefault(family, set())
            for step in others:
                own = set(step.members())
                keys |= own
                for other in {*before, *self.steps[family]} - {step}:
                    keys |= other.below(own)
        return {family: keys for family, keys in changed.items() if keys}

    def _steps(
        self, family: int, layers: list[Layer], announcing: Announcing, known: Mapping[object, Step]
    ) -> list[tuple[object, Step]]:
        """The steps, each with what it was made of; those that are known as they are."""
        made: list[tuple[object, Step]] = []
        excluded = announcing.excluded(family)
        if excluded:
            source: object = tuple(excluded.items())
            made.append((source, known.get(source) or Fixed(family, excluded)))
        for layer in layers:
            step = known.get(layer)
            if step is None and layer.table is None:
                step = Fixed(family, {layer.region.key: self._action(layer)}, layer)
            made.append((layer, step or LookUp(layer, self._rib, announcing)))
        return made

    def _action(self, layer: Layer) -> Path:
        if layer.reason is not None:
            return slow(self._rib, layer.region.family, layer.reason)
        return self._rib.reader.intern(Path(layer.region.family, type=layer.discard or 0))

    # -- look-ups

    def path_of(self, family: int, key: int) -> Path | None:
        """The path of a prefix; None if the view does not have it."""
        return self._walk(self.steps.get(family, []), key)

    @staticmethod
    def _walk(steps: Iterable[Step], key: int) -> Path | None:
        for step in steps:
            path = step.at(key)
            if path is not None:
                return path
            if len(step) and step.covering(key) is not None:
                return None
        return None

    def found(self, family: int, key: int) -> Decision | None:
        """What the view has for exactly this prefix."""
        for step in self.steps.get(family, []):
            path = step.at(key)
            if path is not None:
                return Decision(Prefix.from_key(family, key), path, step)
            if len(step) and step.covering(key) is not None:
                return None
        return None

    def own_path(self, family: int, key: int) -> Path | None:
        """The kernel's own path for a prefix: that of the first table that has one, whatever decides."""
        for step in self.steps.get(family, []):
            path = best_path(step.table.get(key)) if isinstance(step, LookUp) else None
            if path is not None:
                return path
        return None

    def decision(self, prefix: Prefix) -> Decision | None:
        """The longest match that covers a prefix."""
        for length in range(prefix.length, -1, -1):
            decision = self.found(prefix.family, prefix._replace(length=length).masked().key)
            if decision is not None:
                return decision
        return None

    def look_up(self, family: int, keys: list[int]) -> tuple[Routes, list[int], list[int]]:
        """The routes of these prefixes, in their order, and the prefixes that the view does not have.

        Third, those of the latter that some step may have all the same (see `keys`).
        """
        steps = self.steps.get(family, [])
        puts: Routes = []
        drops: list[int] = []
        place = self._widest(steps)
        if place is None:
            for key in keys:
                self._take(steps, key, puts, drops)
            return puts, drops, self._known(steps, drops)
        main, behind = steps[place], [step for step in steps[place + 1 :] if len(step)]
        if not isinstance(main, LookUp):
            raise AssertionError("a layer of a table looks up")
        odd = self._odd(steps[:place], main, keys)
        if not keys:
            return puts, drops, []
        if not odd:
            self._bulk(main, behind, keys, puts, drops)
        else:
            for is_odd, group in groupby(keys, odd.__contains__):
                if is_odd:
                    for key in group:
                        self._take(steps, key, puts, drops)
                else:
                    self._bulk(main, behind, list(group), puts, drops)
        return puts, drops, self._known(steps, drops)

    @staticmethod
    def _known(steps: Iterable[Step], keys: list[int]) -> list[int]:
        """Those of these keys that some step may have."""
        full = [step for step in steps if len(step)] if keys else []
        return [key for key in keys if any(step.has(key) for step in full)]

    @staticmethod
    def _widest(steps: list[Step]) -> int | None:
        """The place of the largest table that decides by itself."""
        plain = [place for place, step in enumerate(steps) if isinstance(step, LookUp) and step.is_plain]
        return max(plain, key=lambda place: len(steps[place]), default=None)

    @staticmethod
    def _odd(before: list[Step], main: LookUp, keys: list[int]) -> set[int]:
        """Those of these keys that the main step does not decide alone."""
        odd: set[int] = set()
        if any(map(len, before)):
            ordered = sorted(keys)
            for step in before:
                if len(step):
                    odd |= step.touched(ordered)
        short = (main.layer.suppress + 1) << main.width
        if short and keys and min(keys) < short:
            odd.update(key for key in keys if key < short)
        return odd

    def _take(self, steps: Iterable[Step], key: int, puts: Routes, drops: list[int]) -> None:
        path = self._walk(steps, key)
        if path is None:
            drops.append(key)
        else:
            puts.append((key, path))

    def _bulk(self, main: LookUp, behind: list[Step], keys: list[int], puts: Routes, drops: list[int]) -> None:
        """Look many prefixes up that the steps before the main one have no word on."""
        by_prefix, of_prefix = main.announcing.by_prefix, main.announcing.of_prefix
        found = list(map(main.table.get, keys))
        last = found[0]
        out = None if last is None else main.path_of(last)
        if out is not None and not by_prefix and found == [last] * len(found):  # a burst has one path as a rule
            puts.extend(zip(keys, repeat(out)))
            return
        for key, entry in zip(keys, found):
            if entry is not last or out is None:  # routes come in runs with one path
                last = entry
                out = None if entry is None else main.path_of(entry)
                if out is None:
                    if not behind or main.covering(key) is not None:
                        drops.append(key)
                    else:
                        self._take(behind, key, puts, drops)
                    continue
            puts.append((key, of_prefix(key, out) if by_prefix else out))

    def keys(self, family: int) -> list[int]:
        """All prefixes that the view may have, each once; those of the largest table in its order."""
        steps = self.steps.get(family, [])
        place = self._widest(steps)
        if place is None:
            return list({key: None for step in steps for key in step.members()})
        main = steps[place]
        more = {key: None for step in steps if step is not main for key in step.members() if not main.has(key)}
        return [*main.members(), *more]

    def size(self, family: int) -> int:
        """The number of `keys`."""
        steps = self.steps.get(family, [])
        place = self._widest(steps)
        main = None if place is None else steps[place]
        more = {
            key
            for step in steps
            if step is not main and len(step)
            for key in step.members()
            if main is None or not main.has(key)
        }
        return len(more) + (0 if main is None else len(main))

    # -- changes

    def changed(self, by_table: Mapping[TableKey, set[int]]) -> dict[int, set[int]]:
        """The prefixes whose path in the view may have changed, by family, after these have changed in their tables."""
        out: dict[int, set[int]] = {}
        for family, steps in self.steps.items():
            for place, step in enumerate(steps):
                changed = by_table.get(step.scope) if isinstance(step, LookUp) else None
                if not changed:
                    continue
                if not isinstance(step, LookUp):
                    raise AssertionError("a layer of a table looks up")
                own = step.affected(changed)
                step.refresh(own)
                found = out.get(family)
                if found is None:
                    out[family] = found = own
                elif found is not own:
                    out[family] = found = found | own
                for later in steps[place + 1 :]:
                    inner = later.below(own) if len(later) else own
                    if inner is not own and not inner <= found:
                        out[family] = found = found | inner
        return out


def inside(key: int, bits: int, width: int) -> tuple[int, int]:
    """The first of the prefixes that are inside this one and *bits* longer, and the number behind the last."""
    length = key >> width
    first = (key ^ length << width) << bits | (length + bits) << width
    return first, first + (1 << bits)
