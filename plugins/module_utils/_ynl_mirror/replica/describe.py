# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a replica as JSON objects: the output of `ynl-mirror watch` and `ynl-mirror replay`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..model.links import Link
from ..model.routes import Path, Prefix, TableKey, protocol_name, table_name
from .entry import best_path
from .rib import Rib


def events(rib: Rib, changed: Mapping[TableKey, set[int]], links: Mapping[int, Link]) -> Iterator[dict[str, Any]]:
    """One event for each prefix whose best path changed: `update` with the new path, or `delete`."""
    names = {index: link.name for index, link in links.items()}
    for (family, table), keys in changed.items():
        for key in keys:
            best = best_path(rib.tables.get((family, table), {}).get(key))
            event = {"event": "delete" if best is None else "update", "prefix": str(Prefix.from_key(family, key))}
            event["table"] = table_name(table)
            if best is not None:
                event.update(describe_path(best, names))
            yield event


def describe_path(path: Path, names: dict[int, str] | None) -> dict[str, Any]:
    """A path as a JSON object: next hops, protocol, metric. *names* is None for a path of another machine's links."""
    hops = []
    for hop in path.nexthops:
        item: dict[str, Any] = {}
        if hop.gateway is not None:
            item["gateway"] = str(hop.gateway)
        if hop.oif is not None and names is not None:
            item["dev"] = names.get(hop.oif, f"if{hop.oif}")
        if len(path.nexthops) > 1:
            item["weight"] = hop.weight
        hops.append(item)
    return {"nexthops": hops, "protocol": protocol_name(path.protocol), "metric": path.metric}
