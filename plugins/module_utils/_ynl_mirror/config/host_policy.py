# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may fill, as a value: the agent's `hosts`, `host_defaults` and `vrf_limits`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import Fields, as_text
from .names import Names
from .options import ROUTE_TYPE, TEXT, Kind, Table, given, integer, many, number, option, optional, options
from .prefix_rules import RULE, PrefixRule

#: Prefixes that a host may have by default: both families of the Internet's table, and as many again.
ROUTES = 2_000_000
#: In `vrf_limits`: each VRF that has no limit of its own there.
EVERY_VRF = "*"
LIMIT = integer(1, 2**31 - 1)
_YEARS = 10 * 365 * 86400.0  # seconds


@dataclass(frozen=True)
class HostPolicy(Table):
    """What one host may fill; an empty tuple, None and a *withdraw_after* of 0 restrict nothing.

    *types* are RTN_ numbers. *nexthops* counts those of the announced route as well as those of the installed one.
    """

    vrfs: tuple[str, ...] = option(many(TEXT), (), "Names of the VRFs that may get its routes. Empty is every VRF.")
    prefixes: tuple[PrefixRule, ...] = option(
        many(RULE), (), "Install only routes within these prefixes. Empty is every prefix."
    )
    exclude_prefixes: tuple[PrefixRule, ...] = option(many(RULE), (), "Do not install routes within these prefixes.")
    types: tuple[int, ...] = option(
        many(ROUTE_TYPE), (), "Install only routes of these types, such as V(unicast). Empty is every type."
    )
    routes: int = option(LIMIT, ROUTES, "Maximum number of prefixes installed for the host. The rest waits for room.")
    nexthops: int | None = option(
        optional(LIMIT), None, "Maximum number of next hops of a route. No limit when left out."
    )
    withdraw_after: float = option(
        number(0, _YEARS),
        0.0,
        "Seconds after which the routes of a disconnected host are withdrawn. V(0) keeps them forever.",
    )

    @property
    def restricts(self) -> bool:
        """Whether any route may be refused for it, however few there are."""
        return bool(self.vrfs or self.prefixes or self.exclude_prefixes or self.types or self.nexthops)


@dataclass(frozen=True)
class Host:
    """A host that may connect, by the name in its certificate; *own* are the options in which it has its own policy."""

    name: str
    own: Mapping[str, Any] = field(default_factory=dict)


def _read_host(value: object, path: str, names: Names) -> Host:
    if not isinstance(value, Mapping):
        return Host(as_text(value, path))
    fields = Fields(value, path)
    made = Host(as_text(fields.required("name"), fields.path("name")), given(HostPolicy, fields, names))
    fields.done()
    return made


def _write_host(host: Host) -> str | dict[str, Any]:
    kinds = {known.name: known.kind for known in options(HostPolicy)}
    own = {name: kinds[name].write(value) for name, value in host.own.items()}
    return {"name": host.name, **own} if own else host.name


#: A name, or an object with the name and the options of HostPolicy.
HOST = Kind({"type": "raw"}, _read_host, _write_host)
