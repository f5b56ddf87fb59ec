# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes are meant: the option table of filters, for the listener and for modules that read routes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import ConfigError
from .options import LINK, PROTOCOL, ROUTE_TYPE, Table, many, option
from .prefix_rules import RULE, PrefixRule


@dataclass(frozen=True)
class Filters(Table):
    """Which of the host's routes are mirrored; an empty tuple restricts nothing.

    *protocols* and *exclude_protocols* hold RTPROT_ numbers, *types* RTN_ numbers, *interfaces* link names (any hop).
    """

    protocols: tuple[int, ...] = option(many(PROTOCOL), (), "Only routes of these protocols, by number or name.")
    exclude_protocols: tuple[int, ...] = option(many(PROTOCOL), (), "No routes of these protocols, by number or name.")
    prefixes: tuple[PrefixRule, ...] = option(many(RULE), (), "Only routes within these prefixes.")
    exclude_prefixes: tuple[PrefixRule, ...] = option(many(RULE), (), "No routes within these prefixes.")
    types: tuple[int, ...] = option(
        many(ROUTE_TYPE), (), "Only routes of these types, such as V(unicast) or V(blackhole)."
    )
    interfaces: tuple[str, ...] = option(many(LINK), (), "Only routes with a next hop on one of these links.")

    def check(self, path: str) -> None:
        """No protocol is asked for and excluded."""
        both = set(self.protocols) & set(self.exclude_protocols)
        if both:
            raise ConfigError(f"{path}: protocol {min(both)} is both in protocols and exclude_protocols; remove one")
