# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping on plain data: routes of a host (vrf_route) and facts of a DPU (vrf_info) -> routes for the DPU's VRFs.

The work of the filter map_routes. Pure. The mapping itself is mapping/placement.py, which the agent uses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..mapping.host import HostFacts
from ..mapping.placement import Mapper
from ..mapping.policy import DEFAULT_INFERENCE, INFERENCES, MappingRule, Policy
from ..mapping.view import View, address_owners, shared_subnets
from ..mapping.wanted import Wanted
from ..model.links import Link, LinkAddress, Vrf
from ..model.routes import (
    FAMILIES,
    FAMILY_NAMES,
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

    Returns ``vrfs``, for each VRF its ``table`` and ``routes`` (items, trap routes among them, maybe none), and
    ``slow_path``, ``route`` and ``reason`` of each announced route that is offloaded in no VRF. ValueError names what
    is invalid.
    """
    view, links = view_from(dpu, policy.protocol)
    host_links = LinkNames(None)
    reader = ItemReader(host_links, RT_TABLE_MAIN, label="announced routes")
    announced = {route.prefix: route for route in _best_paths(reader.routes(announced_routes, unique=False))}
    mapper = Mapper(view, policy, _facts_of(announced.values(), view))
    host, writer = ItemWriter(host_links), ItemWriter(links)
    slow_path = []
    for route in announced.values():
        outcome = mapper.map(route.prefix.key, route.path)
        if not outcome.targets:
            slow_path.append({"route": host.items([route])[0], "reason": outcome.reason})
    by_table = _wanted(mapper, announced)
    return {
        "vrfs": {vrf.name: {"table": vrf.table, "routes": writer.items(by_table[vrf.table])} for vrf in view.vrfs},
        "slow_path": slow_path,
    }


def _facts_of(announced: Iterable[Route], view: View) -> HostFacts:
    """Facts about the host from all these routes, before the first of them is placed."""
    facts = HostFacts()
    for route in announced:
        facts.note(route.prefix.family, route.prefix.key, route.path)
        facts.learn_gateways(route.path, view.owners)
    return facts


def _wanted(mapper: Mapper, announced: Mapping[Prefix, Route]) -> dict[int, list[Route]]:
    """The mirrored routes of each table: those of announced prefixes in their order, then those of parts."""
    by_table: dict[int, list[Route]] = {vrf.table: [] for vrf in mapper.view.vrfs}
    by_key = {(prefix.family, prefix.key): route.path for prefix, route in announced.items()}
    wanted = Wanted(mapper, lambda family, key: by_key.get((family, key)))
    for family in FAMILY_NAMES:
        keys = [key for of, key in by_key if of == family]
        for key, paths in wanted.everything(family, keys).items():
            for table, path in paths.items():
                by_table[table].append(Route(Prefix.from_key(family, key), path))
    return by_table


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
        addresses = [
            LinkAddress(indexes[item["link"]], Address.parse(item["address"]), item["prefix_length"])
            for item in facts["addresses"]
        ]
        view = View(vrfs, links, address_owners(addresses), subnets=shared_subnets(addresses))
        _add_routes(view, (_route(fact, indexes) for fact in facts["routes"]), mirrored)
    except KeyError as error:
        raise ValueError(f"no {error} in the DPU's facts; pass the result of vrf_info with all its subsets") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the DPU's facts are not a result of vrf_info: {error}") from None
    return view, LinkNames(indexes)


def _link(link: Mapping[str, Any], links: Sequence[Mapping[str, Any]]) -> Link:
    indexes = {other["name"]: other["index"] for other in links}
    return Link(
        *(link["index"], link["name"], link["up"], link["carrier"], indexes.get(link["master"]), link["kind"]),
        vrf_table=link["table"],
        mtu=link.get("mtu") or 0,
        lower=indexes.get(link.get("lower")),
    )


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
        mtu=fact.get("mtu"),
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
