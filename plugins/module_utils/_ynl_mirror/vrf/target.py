# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that a task of vrf_route works on, and the owner of its routes: names -> numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config.fields import ConfigError
from ..config.names import read_names
from ..model.links import Link
from .lines import table_words


class TaskError(Exception):
    """The task cannot be done, or only in part; *details* go into the result."""

    def __init__(self, text: str, **details: Any) -> None:
        self.details = details
        super().__init__(text)


@dataclass(frozen=True)
class Target:
    """The table to work on, the name of its VRF if it has one, and its name in messages and commands."""

    table: int
    vrf: str | None
    words: str


def resolve_vrf(name: str, links: Sequence[Link]) -> int:
    """The table of a VRF device; TaskError lists those that exist."""
    vrfs = {link.name: link.vrf_table for link in links if link.vrf_table is not None}
    if name in vrfs:
        return int(vrfs[name] or 0)
    kinds = {link.name: link.kind or "hardware" for link in links}
    what = f"link {name} is not a VRF device (kind {kinds[name]})" if name in kinds else f"no VRF named {name!r}"
    if vrfs:
        known = ", ".join(f"{vrf} (table {table})" for vrf, table in sorted(vrfs.items()))
        raise TaskError(f"vrf: {what}; choose from: {known}")
    raise TaskError(f"vrf: {what}, and this machine has no VRF devices; set the option table instead")


def resolve(vrf: str | None, table_name: object, links: Sequence[Link] | None) -> Target:
    """The table of a VRF, or the one of that name or number. *links* None: any VRF is accepted, as table 0."""
    if vrf is not None:
        table = resolve_vrf(vrf, links) if links is not None else 0
        return Target(table, vrf, table_words(table, vrf))
    try:
        table = read_names().table(table_name, "table")
    except ConfigError as error:
        raise TaskError(str(error)) from None
    name = next((link.name for link in links or () if link.vrf_table == table), None)
    return Target(table, name, table_words(table, None))


def owner(protocol: object) -> int:
    """The number of the owning protocol."""
    try:
        number = read_names().protocol(protocol, "protocol")
    except ConfigError as error:
        raise TaskError(str(error)) from None
    if number == 0:  # in a delete it matches routes of every owner
        raise TaskError(f"protocol: {protocol} cannot own routes; choose one from 4 to 255, such as 121 or static")
    return number
