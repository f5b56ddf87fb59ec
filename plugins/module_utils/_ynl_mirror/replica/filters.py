# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes of the host are announced, and with which path. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..config.filters import Filters
from ..config.prefix_rules import PrefixRule, PrefixRules
from ..model.links import Link
from ..model.routes import ROUTE_TYPE_NAMES, Path, protocol_name
from ..netlink.route_codec import MAX_TEMPLATES, RouteReader


def exclusion(rule: PrefixRule) -> str:
    """Why a prefix that this rule excludes is left out."""
    return f"filtered: the prefix matches filters.exclude_prefixes ({rule})"


def unspeakable(path: Path) -> str:
    """Why a path with attributes that a Path has no field for is left out."""
    return f"the wire format cannot express {', '.join(path.extras)}"


class Selection:
    """The user's filters. What depends on the path only is decided once per path."""

    def __init__(self, filters: Filters, links: Mapping[int, Link], reader: RouteReader) -> None:
        self._filters = filters
        self._links = links
        self._reader = reader
        self._by_path: dict[Path, tuple[Path | None, str]] = {}
        self._prefixes = PrefixRules(filters.prefixes)
        self._excluded = PrefixRules(filters.exclude_prefixes)
        self.by_prefix = bool(self._prefixes or self._excluded)
        self.by_route = bool(filters.prefixes) or any(rule.exact for rule in filters.exclude_prefixes)

    def path(self, path: Path) -> Path | None:
        """The path to announce for this one, or None. Nexthop objects are the host's own, so it has none."""
        found = self._by_path.get(path)
        if found is None:
            if len(self._by_path) >= MAX_TEMPLATES:
                self._by_path.clear()
            found = self._by_path[path] = self._decide(path)
        return found[0]

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

    def has_prefix(self, family: int, key: int) -> bool:
        """Whether a route passes the prefix filters; needed only if there are some (:attr:`by_prefix`)."""
        return self.prefix_reason(family, key) is None

    def reason(self, family: int, key: int, path: Path) -> str | None:
        """Why a route is not announced; None if it is."""
        if self.path(path) is None:
            return self._by_path[path][1]
        return self.prefix_reason(family, key)

    def _decide(self, path: Path) -> tuple[Path | None, str]:
        reason = self.path_reason(path)
        if reason is not None:
            return None, reason
        if path.extras:
            return None, unspeakable(path)
        if path.nh_id is not None or path.dead_links:
            path = self._reader.intern(replace(path, nh_id=None, dead_links=()))
        return path, ""

    def _name(self, index: int) -> str:
        link = self._links.get(index)
        return link.name if link else ""

    def prefix_reason(self, family: int, key: int) -> str | None:
        """Why the filters exclude a prefix, whatever its path."""
        if self._prefixes and self._prefixes.find(family, key) is None:
            return "filtered: the prefix matches none of filters.prefixes"
        rule = self._excluded.find(family, key)
        return None if rule is None else exclusion(rule)
