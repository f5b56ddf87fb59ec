# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the decision about an address cannot change: the prefixes that matter cut the address space into regions. Pure.

Own routes, static rules and the like are prefixes. Between two neighbouring boundaries of all of them every address
has the same longest match in every table. Announced prefixes that lie within one region, and that none of the others
names, therefore share one decision for each announced path: a million routes need a few decisions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from ..model.routes import WIDTH

#: A block is the prefixes of one length that differ in these last bits only; how many blocks are remembered.
_BLOCK = 8
_MOST_BLOCKS = 1 << 16
#: A block that has not been looked at, and one with several regions or with named prefixes.
_UNKNOWN = -2
_SEVERAL = -3


class Regions:
    """The regions that these prefixes (keys, see Prefix.key) make; :attr:`named` are the prefixes themselves."""

    def __init__(self, family: int, keys: Iterable[int]) -> None:
        self._width = WIDTH[family]
        self._mask = (1 << self._width) - 1
        self.named = frozenset(keys)
        bounds = {0}
        for key in self.named:
            first, behind = self.span(key)
            bounds.add(first)
            bounds.add(behind)
        self._starts = sorted(bounds | {1 << self._width})
        self._blocks: dict[int, int] = {}  # prefixes without the last bits of their network -> region, or -1

    def span(self, key: int) -> tuple[int, int]:
        """The first address of a prefix, and the first one behind it."""
        free = self._width - (key >> self._width)
        first = (key & self._mask) << free
        return first, first + (1 << free)

    def of(self, key: int) -> int | None:
        """The number of the region that has the whole prefix; None when several share it, or when it is named."""
        if key in self.named:
            return None
        free = self._width - (key >> self._width)
        return self._around((key & self._mask) << free, 1 << free)

    def _around(self, first: int, size: int) -> int | None:
        """The region that contains *size* addresses from *first* on; None if several do."""
        number = bisect_right(self._starts, first)
        return number if self._starts[number] - first >= size else None

    def of_many(self, keys: list[int]) -> list[int]:
        """The same for many prefixes, with -1 for None.

        Neighbours are looked up as a block: the prefixes of one length whose networks differ in the last bits.
        """
        blocks = self._blocks
        found = [blocks.get(key >> _BLOCK, _UNKNOWN) for key in keys]
        if _UNKNOWN in found:
            if len(blocks) > _MOST_BLOCKS:
                blocks.clear()
            for block in {key >> _BLOCK for key, region in zip(keys, found) if region == _UNKNOWN}:
                blocks[block] = self._of_block(block << _BLOCK)
            found = [blocks[key >> _BLOCK] if region == _UNKNOWN else region for key, region in zip(keys, found)]
        if _SEVERAL in found:
            for place, region in enumerate(found):
                if region == _SEVERAL:
                    one = self.of(keys[place])
                    found[place] = -1 if one is None else one
        return found

    def _of_block(self, lowest: int) -> int:
        """The region of all prefixes of a block, given the lowest that it may have."""
        length = lowest >> self._width
        free = self._width - length
        region = None
        if length >= _BLOCK:
            region = self._around((lowest & self._mask) << free, 1 << (free + _BLOCK))
        return _SEVERAL if region is None else region


class Prefixes:
    """Prefixes of one family, given as keys, that are looked up by what lies inside of other ones."""

    def __init__(self, family: int) -> None:
        self._width = WIDTH[family]
        self._mask = (1 << self._width) - 1
        self._keys: set[int] = set()
        self._places: list[int] = []  # first address and length of each in order; some have gone since
        self._fresh: list[int] = []  # added since the places were sorted

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: int) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def add(self, key: int) -> None:
        """Add a prefix, or do nothing if it is there."""
        if key not in self._keys:
            self._keys.add(key)
            self._fresh.append(key)

    def add_many(self, keys: Iterable[int]) -> None:
        """Add these prefixes."""
        fresh = set(keys) - self._keys
        self._keys |= fresh
        self._fresh += fresh

    def discard(self, key: int) -> None:
        """Remove a prefix if it is there."""
        self._keys.discard(key)

    def discard_many(self, keys: Iterable[int]) -> None:
        """Remove those of these prefixes that are there."""
        if self._keys:
            self._keys.difference_update(keys)

    def within(self, keys: Iterable[int]) -> set[int]:
        """Those that are longer than one of these prefixes, and inside of it."""
        wanted = set(keys)
        if not self._keys or not wanted:
            return set()
        lengths = {key >> self._width for key in wanted}
        if len(self._keys) * len(lengths) < 4 * len(wanted):
            return {key for key in self._keys if self._is_within(key, wanted, lengths)}
        self._sort()
        found: set[int] = set()
        for key in wanted:
            found.update(self._inside(key))
        return found

    def _is_within(self, key: int, wanted: set[int], lengths: set[int]) -> bool:
        own, network = key >> self._width, key & self._mask
        return any(length < own and (length << self._width | network >> (own - length)) in wanted for length in lengths)

    def _inside(self, key: int) -> Iterator[int]:
        length = key >> self._width
        first = (key & self._mask) << (self._width - length)
        start = bisect_right(self._places, first << 8 | length)
        stop = bisect_left(self._places, (first + (1 << (self._width - length))) << 8)
        for place in self._places[start:stop]:
            own = place & 255
            other = own << self._width | place >> 8 >> (self._width - own)
            if other in self._keys and own > length:
                yield other

    def _sort(self) -> None:
        if len(self._places) > 2 * len(self._keys) + 64:
            self._places, self._fresh = [], list(self._keys)
        if self._fresh:
            for key in self._fresh:
                length = key >> self._width
                self._places.append((key & self._mask) << (self._width - length) << 8 | length)
            self._fresh = []
            self._places.sort()  # two sorted runs, which is what it is fast at
