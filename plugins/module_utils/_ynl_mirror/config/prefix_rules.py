# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefix rules of filters and policies: as the user writes them, and as they are asked of every route. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..model.routes import WIDTH, Prefix
from .fields import as_prefix, as_text
from .options import Kind

_EXACT = "exact "


@dataclass(frozen=True)
class PrefixRule:
    """A prefix and everything inside it, or with *exact* only the prefix itself ("exact 0.0.0.0/0")."""

    prefix: Prefix
    exact: bool = False

    @classmethod
    def from_text(cls, data: object, path: str) -> PrefixRule:
        """From "CIDR" or "exact CIDR"."""
        text = as_text(data, path)
        exact = text.startswith(_EXACT)
        return cls(as_prefix(text[len(_EXACT) :].strip() if exact else text, path), exact)

    def matches(self, prefix: Prefix) -> bool:
        """Whether a route to PREFIX is meant."""
        return prefix == self.prefix if self.exact else self.prefix.covers(prefix)

    def __str__(self) -> str:
        return f"{_EXACT}{self.prefix}" if self.exact else str(self.prefix)


#: An option that is such a rule.
RULE = Kind({"type": "str"}, lambda value, path, _names: PrefixRule.from_text(value, path), str)


class PrefixRules:
    """Which of several rules a prefix matches, by its key (:attr:`Prefix.key`).

    A million routes ask this, so no Prefix is made: one look-up for all exact rules, and one for each length that the
    others have, however many rules there are.
    """

    def __init__(self, rules: Iterable[PrefixRule]) -> None:
        self._exact: dict[int, dict[int, PrefixRule]] = {family: {} for family in WIDTH}
        by_length: dict[int, dict[int, dict[int, PrefixRule]]] = {family: {} for family in WIDTH}
        for rule in rules:
            prefix = rule.prefix
            if rule.exact:
                self._exact[prefix.family][prefix.key] = rule
            else:
                bits = prefix.value >> (WIDTH[prefix.family] - prefix.length)
                by_length[prefix.family].setdefault(prefix.length, {})[bits] = rule
        self._covering = {family: sorted(lengths.items()) for family, lengths in by_length.items()}
        self._any = any(self._exact[family] or by_length[family] for family in WIDTH)

    def __bool__(self) -> bool:
        return self._any

    def find(self, family: int, key: int) -> PrefixRule | None:
        """A rule that means this prefix; None when no rule does."""
        rule = self._exact[family].get(key)
        if rule is not None:
            return rule
        width = WIDTH[family]
        length = key >> width
        bits = key ^ (length << width)
        for shorter, known in self._covering[family]:
            if shorter > length:
                break
            rule = known.get(bits >> (length - shorter))
            if rule is not None:
                return rule
        return None
