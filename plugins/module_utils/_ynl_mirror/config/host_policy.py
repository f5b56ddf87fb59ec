# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may fill, as a value: read from the agent's `hosts`, `host_defaults` and `vrf_limits`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model.routes import ROUTE_TYPE_NAMES, ROUTE_TYPES
from .fields import ConfigError, Fields, as_choice, as_integer, as_text
from .prefix_rules import PrefixRule

#: Prefixes that a host may have by default: both families of the Internet's table, and as many again.
ROUTES = 2_000_000
#: In `vrf_limits`: each VRF that has no limit of its own there.
EVERY_VRF = "*"
_MOST = 2**31 - 1
_YEARS = 10 * 365 * 86400.0  # seconds


@dataclass(frozen=True)
class HostPolicy:
    """What one host may fill; an empty tuple, None and a *withdraw_after* of 0 restrict nothing.

    *vrfs*: names of the VRFs whose tables may get its routes. *types*: RTN_ numbers of its routes. *routes*: how many
    of its prefixes are installed at most. *nexthops*: next hops of one route, the host's as well as the installed one.
    *withdraw_after*: seconds of absence after which its routes are withdrawn.
    """

    vrfs: tuple[str, ...] = ()
    prefixes: tuple[PrefixRule, ...] = ()
    exclude_prefixes: tuple[PrefixRule, ...] = ()
    types: tuple[int, ...] = ()
    routes: int = ROUTES
    nexthops: int | None = None
    withdraw_after: float = 0.0

    @classmethod
    def from_dict(cls, data: object, path: str, defaults: HostPolicy | None = None) -> HostPolicy:
        """From an object with the same field names; what it leaves out is as in DEFAULTS."""
        fields = Fields(data, path)
        made = cls.read(fields, defaults or cls())
        fields.done()
        return made

    @classmethod
    def read(cls, fields: Fields, defaults: HostPolicy) -> HostPolicy:
        """The policy among the fields of an object."""
        known = defaults.to_dict()
        return cls(
            vrfs=fields.many("vrfs", as_text, known["vrfs"]),
            prefixes=fields.many("prefixes", PrefixRule.from_text, known["prefixes"]),
            exclude_prefixes=fields.many("exclude_prefixes", PrefixRule.from_text, known["exclude_prefixes"]),
            types=fields.many("types", as_route_type, known["types"]),
            routes=_limit(fields, "routes", defaults.routes) or ROUTES,
            nexthops=_limit(fields, "nexthops", defaults.nexthops),
            withdraw_after=fields.number("withdraw_after", defaults.withdraw_after, 0, _YEARS),
        )

    @property
    def restricts(self) -> bool:
        """Whether any route may be refused for it, however few there are."""
        return bool(self.vrfs or self.prefixes or self.exclude_prefixes or self.types or self.nexthops)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "vrfs": list(self.vrfs),
            "prefixes": [str(rule) for rule in self.prefixes],
            "exclude_prefixes": [str(rule) for rule in self.exclude_prefixes],
            "types": [ROUTE_TYPE_NAMES[number] for number in self.types],
            "routes": self.routes,
            "nexthops": self.nexthops,
            "withdraw_after": self.withdraw_after,
        }


def hosts_of(fields: Fields, defaults: HostPolicy) -> tuple[tuple[str, ...], dict[str, HostPolicy]]:
    """The names in `hosts`, and the policies of those that have one: each item is a name, or an object with one."""
    read = fields.many("hosts", lambda value, path: _host(value, path, defaults))
    names: list[str] = []
    for index, (name, _policy) in enumerate(read):
        if name in names:
            raise ConfigError(f"hosts[{index}]: {name} is there twice; say all about a host in one place")
        names.append(name)
    return tuple(names), {name: policy for name, policy in read if policy is not None}


def host_entry(name: str, policy: HostPolicy | None) -> str | dict[str, Any]:
    """A host's item of `hosts`."""
    return name if policy is None else {"name": name, **policy.to_dict()}


def _host(value: object, path: str, defaults: HostPolicy) -> tuple[str, HostPolicy | None]:
    if not isinstance(value, Mapping):
        return as_text(value, path), None
    fields = Fields(value, path)
    name, policy = fields.text("name"), HostPolicy.read(fields, defaults)
    fields.done()
    return name, policy


def _limit(fields: Fields, key: str, default: int | None) -> int | None:
    value = fields.take(key)
    return default if value is None else as_integer(value, fields.path(key), 1, _MOST)


def vrf_limit(value: object, path: str) -> int:
    """How many mirrored routes a VRF takes."""
    return as_integer(value, path, 1, _MOST)


def as_route_type(value: object, path: str) -> int:
    """The RTN_ number of a route type's name."""
    return ROUTE_TYPES[as_choice(value, path, tuple(ROUTE_TYPES))]
