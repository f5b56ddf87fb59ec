# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Longest-prefix match over a set of routes of one family. Pure; one dictionary per prefix length."""

from __future__ import annotations

from bisect import bisect_left

from .routes import WIDTH, Path, Prefix


class Lpm:
    """Prefix -> path, with look-ups by covering prefix and by what lies inside one."""

    def __init__(self, family: int) -> None:
        self.family = family
        self._width = WIDTH[family]
        self._levels: dict[int, dict[int, Path]] = {}
        self._lengths: list[int] = []  # longest first
        self._sorted: list[int] | None = None  # keys in order, made when somebody asks what is inside a prefix

    def __len__(self) -> int:
        return sum(len(level) for level in self._levels.values())

    def set(self, key: int, path: Path) -> None:
        """Put or replace one route, by its prefix key."""
        value, length = key >> 8, key & 0xFF
        level = self._levels.get(length)
        if level is None:
            level = self._levels[length] = {}
            self._lengths = sorted(self._levels, reverse=True)
        level[value >> (self._width - length)] = path
        self._sorted = None

    def remove(self, key: int) -> None:
        """Take one route out; nothing happens when it is not there."""
        value, length = key >> 8, key & 0xFF
        level = self._levels.get(length)
        if level is None:
            return
        level.pop(value >> (self._width - length), None)
        if not level:
            del self._levels[length]
            self._lengths.remove(length)
        self._sorted = None

    def exact(self, key: int) -> Path | None:
        """The route to exactly this prefix."""
        length = key & 0xFF
        level = self._levels.get(length)
        return None if level is None else level.get((key >> 8) >> (self._width - length))

    def covering(self, key: int) -> tuple[int, Path] | None:
        """The longest route that covers the whole prefix: (its prefix key, its path)."""
        value, length, width = key >> 8, key & 0xFF, self._width
        for candidate in self._lengths:
            if candidate <= length:
                network = value >> (width - candidate)
                path = self._levels[candidate].get(network)
                if path is not None:
                    return (network << (width - candidate)) << 8 | candidate, path
        return None

    def inside(self, key: int) -> list[tuple[int, Path]]:
        """The routes to a part of the prefix: longer than it, and within it."""
        length = key & 0xFF
        if not self._lengths or self._lengths[0] <= length:
            return []
        if self._sorted is None:
            width = self._width
            self._sorted = sorted(
                (network << (width - level)) << 8 | level for level, nets in self._levels.items() for network in nets
            )
        stop = ((key >> 8) + (1 << (self._width - length))) << 8
        found = []
        for at in range(bisect_left(self._sorted, key & ~0xFF), len(self._sorted)):
            other = self._sorted[at]
            if other >= stop:
                break
            if other & 0xFF > length:
                path = self.exact(other)
                if path is not None:
                    found.append((other, path))
        return found

    def prefixes(self) -> list[Prefix]:
        """All prefixes, in no particular order."""
        return [
            Prefix(self.family, network << (self._width - length), length)
            for length, level in self._levels.items()
            for network in level
        ]
