# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping on plain data: routes of a host (vrf_route) and facts of a DPU (vrf_info) -> routes for the DPU's VRFs.

The work of the filter map_routes. Pure. The mapping itself is mapping/inference.py, which the agent uses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..mapping.placement import Mapper
from ..mapping.policy import DEFAULT_INFERENCE, INFERENCES, MappingRule, Policy
from ..mapping.view import View, address_owners
from ..model.links import Link, LinkAddress, Vrf
from ..model.routes import (
    FAMILIES,
    PROTO_MIRROR,
    ROUTE_TYPES,
    RT_TABLE_MAIN,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
    protocol_number,
)
from .items import ItemReader, ItemWriter, LinkNames


def map_facts(announced_routes: Sequence[object], dpu: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Map the host's routes (items, as vrf_route gathers them) onto the machine that *dpu* (of vrf_info) describes.

    Returns ``vrfs``, for each VRF its ``table`` and ``routes`` (items, maybe none), and ``slow_path``, ``route`` and
    ``reason`` of each route that stays on the slow path. ValueError names what is invalid.
    """
    view, links = view_from(dpu, policy.protocol)
    host_links = LinkNames(None)
    reader = ItemReader(host_links, RT_TABLE_MAIN, label="announced routes")
    routes = _best_paths(reader.routes(announced_routes, unique=False))
    mapper = Mapper(view, policy)
    outcomes = [(route, mapper.map(route.prefix.key, route.path)) for route in routes]
    if mapper.learnt:  # a later gateway showed another link to lead to the host: map all routes again
        outcomes = [(route, mapper.map(route.prefix.key, route.path)) for route in routes]
    host, writer = ItemWriter(host_links), ItemWriter(links)
    by_table: dict[int, list[Route]] = {vrf.table: [] for vrf in view.vrfs}
    slow_path = []
    for route, outcome in outcomes:
        if not outcome.targets:
            slow_path.append({"route": host.items([route])[0], "reason": outcome.reason})
        for table, path in outcome.targets.items():
            by_table[table].append(Route(route.prefix, path))
    return {
        "vrfs": {vrf.name: {"table": vrf.table, "routes": writer.items(by_table[vrf.table])} for vrf in view.vrfs},
        "slow_path": slow_path,
    }


def _best_paths(routes: Iterable[Route]) -> list[Route]:
    """Of several routes to a prefix the one that the host uses: without tos if there is one, then the lowest metric."""
    best: dict[Prefix, Route] = {}
    for route in routes:
        other = best.get(route.prefix)
        if other is None or (route.path.tos, route.path.metric) < (other.path.tos, other.path.metric):
            best[route.prefix] = route
    return list(best.values())


def policy_from(options: Mapping[str, Any]) -> Policy:
    """The policy of the filter's options; ValueError names an invalid one."""
    inference = tuple(options.get("inference") or DEFAULT_INFERENCE)
    for name in inference:
        if name not in INFERENCES:
            raise ValueError(f"inference: unknown {name!r}; choose from: {', '.join(INFERENCES)}")
    return Policy(
        inference=inference,
        static=tuple(_rule(rule, f"static[{i}]") for i, rule in enumerate(options.get("static") or ())),
        imports={name: tuple(sources) for name, sources in (options.get("imports") or {}).items()},
        host_links=tuple(options.get("host_links") or ()),
        protocol=protocol_number(options.get("protocol") or PROTO_MIRROR),
        metric=options.get("metric"),
    )


def _rule(rule: Mapping[str, Any], name: str) -> MappingRule:
    unknown = set(rule) - set(MappingRule._fields)
    if unknown:
        known = ", ".join(MappingRule._fields)
        raise ValueError(f"{name}: unknown option {sorted(unknown)[0]!r}; choose from: {known}")
    if not rule.get("vrf") or not rule.get("dev"):
        raise ValueError(f"{name}: no egress; set vrf and dev")
    if not rule.get("prefix") and not rule.get("gateway"):
        raise ValueError(f"{name}: matches no announced route; set prefix or gateway")
    try:
        return MappingRule(
            rule["vrf"],
            rule["dev"],
            Prefix.parse(rule["prefix"]) if rule.get("prefix") else None,
            Address.parse(rule["gateway"]) if rule.get("gateway") else None,
            Address.parse(rule["via"]) if rule.get("via") else None,
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


# -- facts -> values --------------------------------------------------------------------------------------------------


def view_from(facts: Mapping[str, Any], mirrored: int) -> tuple[View, LinkNames]:
    """A result of vrf_info as values, without routes of the protocol *mirrored*; ValueError if it is not one."""
    try:
        links = {link["index"]: _link(link, facts["links"]) for link in facts["links"]}
        indexes = {link.name: index for index, link in links.items()}
        vrfs = tuple(
            Vrf(vrf["name"], vrf["table"], frozenset(indexes[name] for name in vrf["links"])) for vrf in facts["vrfs"]
        )
        owners = address_owners(
            LinkAddress(indexes[item["link"]], Address.parse(item["address"]), item["prefix_length"])
            for item in facts["addresses"]
        )
        view = View(vrfs, links, owners)
        _add_routes(view, (_route(fact, indexes) for fact in facts["routes"]), mirrored)
    except KeyError as error:
        raise ValueError(f"no {error} in the DPU's facts; pass the result of vrf_info with all its subsets") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the DPU's facts are not a result of vrf_info: {error}") from None
    return view, LinkNames(indexes)


def _link(link: Mapping[str, Any], links: Sequence[Mapping[str, Any]]) -> Link:
    master = next((other["index"] for other in links if other["name"] == link["master"]), None)
    return Link(link["index"], link["name"], link["up"], link["carrier"], master, link["kind"], link["table"])


def _add_routes(view: View, routes: Iterable[Route], mirrored: int) -> None:
    """Fill the VRFs' look-up tables; of several routes to a prefix the one with the lowest metric."""
    tables = {vrf.table for vrf in view.vrfs}
    best: dict[tuple[int, int, int], Path] = {}
    for route in routes:
        path = route.path
        if path.table not in tables or path.protocol == mirrored or path.tos:
            continue
        place = (path.family, path.table, route.prefix.key)
        if place not in best or path.metric < best[place].metric:
            best[place] = path
    for (family, table, key), path in best.items():
        view.lpm(family, table).set(key, path)


def _route(fact: Mapping[str, Any], indexes: Mapping[str, int]) -> Route:
    family = FAMILIES[fact["family"]]
    kind = fact["type"]
    hops = fact.get("nexthops") or [fact]
    path = Path(
        family,
        fact["table"],
        ROUTE_TYPES[kind] if kind in ROUTE_TYPES else int(kind),
        protocol_number(fact["protocol"]),
        tos=fact.get("tos", 0),
        metric=fact["metric"],
        nexthops=tuple(_hop(hop, indexes) for hop in hops if "gateway" in hop or "dev" in hop),
    )
    return Route(Prefix.parse(fact["dst"], family), path)


def _hop(hop: Mapping[str, Any], indexes: Mapping[str, int]) -> NextHop:
    return NextHop(
        Address.parse(hop["gateway"]) if "gateway" in hop else None,
        indexes.get(hop.get("dev", "")),
        hop.get("weight", 1),
        hop.get("onlink", False),
    )
