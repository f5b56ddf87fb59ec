# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prefixes that a session has to send, longest first, and the order of a replay. Pure.

An agent that got a short prefix before a longer one inside it would send packets for the longer one the wrong way
meanwhile. So announcements go out longest first, whenever they were marked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..model.routes import WIDTH

#: A replay goes out in this many strides, see spread().
_STRIDES = 1024
_SLICE = 8192


class Pending:
    """A set of prefixes by family and length."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], set[int]] = {}  # (length, family) -> prefix keys

    def __len__(self) -> int:
        return sum(map(len, self._parts.values()))

    def __bool__(self) -> bool:
        return bool(self._parts)

    def has(self, family: int, key: int) -> bool:
        """Whether a prefix is in here."""
        return key in self._parts.get((key >> WIDTH[family], family), ())

    @property
    def longest(self) -> int:
        """The length of the longest prefix; -1 if there is none."""
        return max(self._parts)[0] if self._parts else -1

    def add(self, family: int, keys: Collection[int]) -> None:
        """Add prefixes of a family."""
        if not keys:
            return
        width, parts = WIDTH[family], self._parts
        shortest = min(keys) >> width
        if shortest == max(keys) >> width:  # a burst has one length as a rule
            parts.setdefault((shortest, family), set()).update(keys)
            return
        for key in keys:
            part = (key >> width, family)
            if part in parts:
                parts[part].add(key)
            else:
                parts[part] = {key}

    def take(self, most: int) -> tuple[int, list[int]]:
        """Take some of the longest prefixes of a family: (family, keys). There has to be one."""
        place = max(self._parts)
        part = self._parts[place]
        if len(part) <= most:
            del self._parts[place]
            return place[1], list(part)
        return place[1], [part.pop() for _count in range(most)]


def by_length(family: int, keys: list[int]) -> list[list[int]]:
    """The keys of each length, the longest first, each in the order that they had."""
    width = WIDTH[family]
    parts: dict[int, list[int]] = {}
    for start in range(0, len(keys), _SLICE):
        some = keys[start : start + _SLICE]
        length = min(some) >> width
        if length == max(some) >> width:  # a table of many routes with one length: nothing to do for each
            parts.setdefault(length, []).extend(some)
            continue
        for key in some:
            length = key >> width
            if length in parts:
                parts[length].append(key)
            else:
                parts[length] = [key]
    return [parts[length] for length in sorted(parts, reverse=True)]


def replay_order(family: int, keys: list[int], most: int) -> Iterator[list[int]]:
    """All keys in the order of a replay, in batches of *most* or, if the next stride does not fit, fewer."""
    batch: list[int] = []
    for part in by_length(family, keys):
        for stride in spread(part):
            if len(batch) + len(stride) > most and batch:
                yield batch
                batch = []
            batch += stride
    if batch:
        yield batch


def spread(keys: list[int]) -> Iterator[list[int]]:
    """The keys in strides, far ones first: offsets 0, 1/2, 1/4, 3/4, 1/8 ... of a stride.

    A dump is in ascending order. Inserting routes into a table in that order makes the kernel's trie rebalance over and
    over; in this order it inserts them about 1.5 times as fast, and choosing it costs nothing.
    """
    bits = _STRIDES.bit_length() - 1
    for number in range(_STRIDES):
        start = int(format(number, f"0{bits}b")[::-1], 2)
        part = keys[start::_STRIDES]
        if part:
            yield part
