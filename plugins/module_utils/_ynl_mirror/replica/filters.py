# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes of the host are announced, and with which path. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..config.filters import Filters
from ..config.prefix_rules import PrefixRule, PrefixRules
from ..model.links import Link
from ..model.routes import ROUTE_TYPE_NAMES, Path, protocol_name


def exclusion(rule: PrefixRule) -> str:
    """Why a prefix that this rule excludes is left out."""
    return f"filtered: the prefix matches filters.exclude_prefixes ({rule})"


def unspeakable(path: Path) -> str:
    """Why a path with attributes that a Path has no field for is left out."""
    return f"the wire format cannot express {', '.join(path.extras)}"


class Selection:
    """The user's filters: why a path, a prefix, or a route is left out."""

    def __init__(self, filters: Filters, links: Mapping[int, Link]) -> None:
        self._filters = filters
        self._links = links
        self._prefixes = PrefixRules(filters.prefixes)
        self._excluded = PrefixRules(filters.exclude_prefixes)
        #: Whether single prefixes are left out, apart from those that :meth:`excluded` has with all that is inside.
        self.by_route = bool(filters.prefixes) or any(rule.exact for rule in filters.exclude_prefixes)

    def path_reason(self, path: Path) -> str | None:
        """Why the filters exclude a path, whatever its prefix."""
        f = self._filters
        if f.protocols and path.protocol not in f.protocols:
            return f"filtered: protocol {protocol_name(path.protocol)} is not in filters.protocols"
        if path.protocol in f.exclude_protocols:
            return f"filtered: protocol {protocol_name(path.protocol)} is in filters.exclude_protocols"
        if f.types and path.type not in f.types:
            return f"filtered: type {ROUTE_TYPE_NAMES.get(path.type, path.type)} is not in filters.types"
        if f.interfaces and not any(self._name(index) in f.interfaces for index in path.oifs):
            return "filtered: no next hop uses an interface of filters.interfaces"
        return None

    def excluded(self, family: int) -> list[PrefixRule]:
        """The rules that exclude a prefix of this family and all that is inside."""
        return [rule for rule in self._filters.exclude_prefixes if rule.prefix.family == family and not rule.exact]

    def reason(self, family: int, key: int, path: Path) -> str | None:
        """Why a route is left out; None if it is not."""
        reason = self.path_reason(path)
        if reason is None and path.extras:
            reason = unspeakable(path)
        return reason or self.prefix_reason(family, key)

    def _name(self, index: int) -> str:
        link = self._links.get(index)
        return link.name if link else ""

    def prefix_reason(self, family: int, key: int) -> str | None:
        """Why the filters exclude a prefix, whatever its path."""
        if self._prefixes and self._prefixes.find(family, key) is None:
            return "filtered: the prefix matches none of filters.prefixes"
        rule = self._excluded.find(family, key)
        return None if rule is None else exclusion(rule)
