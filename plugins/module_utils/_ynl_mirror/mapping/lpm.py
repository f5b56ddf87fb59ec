# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Longest-prefix match over a set of routes of one family. Pure; one dictionary per prefix length."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from ..model.routes import WIDTH, Path


class Lpm:
    """Prefix -> path, with look-ups of the covering prefix and of more specific ones. Prefixes are given as keys."""

    def __init__(self, family: int) -> None:
        self.family = family
        self._width = WIDTH[family]
        self._mask = (1 << self._width) - 1
        self._levels: dict[int, dict[int, Path]] = {}  # length -> network bits -> path
        self._lengths: list[int] = []  # longest first
        self._sorted: list[tuple[int, int]] | None = None  # (value, length), made on demand for `inside`

    def __len__(self) -> int:
        return sum(len(level) for level in self._levels.values())

    def set(self, key: int, path: Path) -> None:
        """Add or replace one route."""
        length = key >> self._width
        level = self._levels.get(length)
        if level is None:
            level = self._levels[length] = {}
            self._lengths = sorted(self._levels, reverse=True)
        level[key & self._mask] = path
        self._sorted = None

    def remove(self, key: int) -> None:
        """Remove one route, if it exists."""
        length = key >> self._width
        level = self._levels.get(length)
        if level is None:
            return
        level.pop(key & self._mask, None)
        if not level:
            del self._levels[length]
            self._lengths.remove(length)
        self._sorted = None

    def exact(self, key: int) -> Path | None:
        """The route to exactly this prefix."""
        level = self._levels.get(key >> self._width)
        return None if level is None else level.get(key & self._mask)

    def covering(self, key: int) -> tuple[int, Path] | None:
        """The longest route that covers the whole prefix: (its key, its path)."""
        length, network = key >> self._width, key & self._mask
        for candidate in self._lengths:
            if candidate <= length:
                path = self._levels[candidate].get(network >> (length - candidate))
                if path is not None:
                    return candidate << self._width | network >> (length - candidate), path
        return None

    def inside(self, key: int) -> list[tuple[int, Path]]:
        """The more specific routes within the prefix."""
        length = key >> self._width
        if not self._lengths or self._lengths[0] <= length:
            return []
        start, stop = self._range(key)
        found = []
        for value, longer in self._in_order()[start:stop]:
            if longer > length:
                other = longer << self._width | value >> (self._width - longer)
                found.append((other, self._levels[longer][other & self._mask]))
        return found

    def number_inside(self, key: int) -> int:
        """About how many more specific routes there are within the prefix; never too few."""
        if not self._lengths or self._lengths[0] <= key >> self._width:
            return 0
        start, stop = self._range(key)
        return stop - start

    def _range(self, key: int) -> tuple[int, int]:
        length, order = key >> self._width, self._in_order()
        first = (key & self._mask) << (self._width - length)
        behind = first + (1 << (self._width - length))
        return bisect_left(order, (first, length + 1)), bisect_left(order, (behind, 0))

    def _in_order(self) -> list[tuple[int, int]]:
        if self._sorted is None:
            keys = ((key >> self._width, key & self._mask) for key in self.every())
            self._sorted = sorted((network << (self._width - length), length) for length, network in keys)
        return self._sorted

    def paths(self) -> Iterator[Path]:
        """The path of each prefix, in no particular order."""
        for level in self._levels.values():
            yield from level.values()

    def every(self) -> list[int]:
        """The keys of all prefixes, in no particular order."""
        return [length << self._width | network for length, level in self._levels.items() for network in level]
