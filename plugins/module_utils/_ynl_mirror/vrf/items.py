# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes as users write them (the suboptions of ``routes`` of the module vrf_route) <-> values. Pure.

Ansible's own validation of suboptions names no item and would take most of the time of a large task. The items are
validated here instead: each error names the item and the fix, and what many items share (all but ``dst``) is checked
once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..model.routes import (
    AF_INET,
    AF_INET6,
    DISCARD_TYPES,
    FAMILY_NAMES,
    PROTO_MIRROR,
    ROUTE_TYPE_NAMES,
    ROUTE_TYPES,
    RTN_UNICAST,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
    RouteKey,
    protocol_name,
)
from .plan import canonical, same_hops

OPTIONS = ("dst", "gateway", "dev", "type", "metric", "src", "onlink", "mtu", "tos", "nexthops")
HOP_OPTIONS = ("gateway", "dev", "weight", "onlink")
TYPES = ("unicast", "blackhole", "unreachable", "prohibit")
_DEFAULTS = ("default", "any", "all")
_TRUE = frozenset(("yes", "on", "1", "true", "t", "y"))
_FALSE = frozenset(("no", "off", "0", "false", "f", "n"))
_U32 = 0xFFFFFFFF
#: The kernel silently reduces a larger one to this (ip_metrics_convert), and the next run would differ.
_LARGEST_MTU = 65520
#: RFC 791 and RFC 8200 section 5.
_SMALLEST_MTU = {AF_INET: 68, AF_INET6: 1280}
#: A dump ends, without an error, before a route that does not fit into 32 KiB; a next hop takes 32 bytes at most.
_MOST_HOPS = 1000
#: How many links an error lists at most.
_SHOWN = 20


class ItemError(ValueError):
    """What is wrong with one item; the text does not name the item."""


class ItemErrors(ValueError):
    """All that is wrong with a list of items, each text naming its item."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(errors[0] + more)


class LinkNames:
    """The links' names and ifindexes. Without any (``None``) every name is accepted, and numbered in order."""

    def __init__(self, indexes: Mapping[str, int] | None) -> None:
        self._invent = indexes is None
        self._indexes = dict(indexes or {})
        self._names = {index: name for name, index in self._indexes.items()}

    def index(self, name: str) -> int:
        """The ifindex of a link; ItemError when there is no such link."""
        found = self._indexes.get(name)
        if found is None:
            if not self._invent:
                raise ItemError(f"no link {name!r} on this machine; {_nearest(name, self._indexes)}")
            found = self._indexes[name] = len(self._indexes) + 1
            self._names[found] = name
        return found

    def name(self, index: int | None) -> str:
        """The name of a link, or ``if7`` when it has gone in the meantime."""
        return self._names.get(index, f"if{index}") if index is not None else ""


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(names[:_SHOWN]) or "none"
    return f"choose from: {shown}" + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


@dataclass(frozen=True)
class Selector:
    """Which routes of a destination to delete: those with every option that the item gives."""

    prefix: Prefix
    given: Mapping[str, Any]

    def matches(self, path: Path) -> bool:
        """Whether a route of this destination is selected."""
        for name in ("type", "metric", "tos", "src", "mtu"):
            if name in self.given and self.given[name] != getattr(path, name):
                return False
        hops = self.given.get("nexthops")
        if hops is not None:
            return same_hops(path.nexthops, hops)
        wanted = {name: self.given[name] for name in ("gateway", "oif", "onlink") if name in self.given}
        if not wanted:
            return True
        return len(path.nexthops) == 1 and all(getattr(path.nexthops[0], n) == v for n, v in wanted.items())


class ItemReader:
    """Items -> routes of one table and owner.

    *family*, when given, is the only one allowed, and that of ``default``. *label* is how errors name an item:
    ``routes`` gives ``routes[17] (10.0.0.0/8): ...``, an empty one just the destination.
    """

    def __init__(
        self,
        links: LinkNames,
        table: int = 0,
        protocol: int = PROTO_MIRROR,
        family: int | None = None,
        label: str = "routes",
    ) -> None:
        self._links = links
        self._table = table
        self._protocol = protocol
        self._family = family
        self._label = label
        self._paths: dict[tuple[str, int], Path] = {}
        self._given: dict[tuple[str, int], dict[str, Any]] = {}

    def routes(self, items: Sequence[object], unique: bool = True) -> list[Route]:
        """All items, in order and in canonical form. ItemErrors names every invalid one.

        With *unique*, a second item of the same key is invalid too. The kernel itself may have several in IPv6, such as
        the link-local prefix of each link.
        """
        errors: list[str] = []
        routes: list[Route] = []
        seen: dict[RouteKey, int] = {}
        for index, item in enumerate(items):
            try:
                route = self._route(item)
                first = seen.setdefault(route.key, index)
                if unique and first != index:
                    raise ItemError(
                        f"same dst, metric and tos as {self._label}[{first}]; "
                        "remove one, or combine them into one route with nexthops"
                    )
            except ItemError as error:
                errors.append(self._name(index, item) + str(error))
                continue
            routes.append(route)
        if errors:
            raise ItemErrors(errors)
        return routes

    def selectors(self, items: Sequence[object]) -> list[Selector]:
        """What to delete, in order; only ``dst`` is required. ItemErrors as above."""
        errors: list[str] = []
        found: list[Selector] = []
        for index, item in enumerate(items):
            try:
                prefix, rest, signature = self._halves(item)
                given = self._given.get(signature)
                if given is None:
                    given = self._given[signature] = self._values(rest, prefix.family)
            except ItemError as error:
                errors.append(self._name(index, item) + str(error))
                continue
            found.append(Selector(prefix, given))
        if errors:
            raise ItemErrors(errors)
        return found

    # -- one item

    def _name(self, index: int, item: object) -> str:
        dst = item.get("dst") if isinstance(item, Mapping) else None
        if not self._label:
            return f"route {dst}: " if dst is not None else "route: "
        return f"{self._label}[{index}]" + (f" ({dst}): " if dst is not None else ": ")

    def _halves(self, item: object) -> tuple[Prefix, dict[str, Any], tuple[str, int]]:
        """The destination, the rest of the item, and a key for the rest."""
        fields = _checked(item)
        prefix = self._prefix(fields)
        rest = {name: value for name, value in fields.items() if name != "dst"}
        return prefix, rest, (repr(rest), prefix.family)

    def _route(self, item: object) -> Route:
        prefix, rest, signature = self._halves(item)
        path = self._paths.get(signature)
        if path is None:
            path = self._paths[signature] = self._path(rest, prefix.family)
        return Route(prefix, path)

    def _prefix(self, fields: Mapping[str, Any]) -> Prefix:
        dst = fields.get("dst")
        if dst is None:
            raise ItemError("no dst: set a prefix, an address or default")
        text = str(dst).strip()
        try:
            prefix = Prefix.parse(text, self._default_family(fields) if text in _DEFAULTS else None)
        except ValueError as error:
            # Prefix.parse gives "'10.0.0.1/8' has host bits set; ...", and the item is named already.
            raise ItemError(str(error).replace(f"{text!r} has host bits set", "host bits are set")) from None
        if self._family is not None and prefix.family != self._family:
            raise ItemError(f"not an {FAMILY_NAMES[self._family]} route, as the option family requires")
        return prefix

    def _default_family(self, fields: Mapping[str, Any]) -> int:
        """The family of ``default``: that of the option family, else of the first address of the item, else IPv4."""
        if self._family is not None:
            return self._family
        hops = fields.get("nexthops")
        hops = [hop for hop in hops if isinstance(hop, Mapping)] if isinstance(hops, list) else []
        for text in (fields.get("gateway"), *(hop.get("gateway") for hop in hops), fields.get("src")):
            if text is not None:
                return AF_INET6 if ":" in str(text) else AF_INET
        return AF_INET

    def _path(self, rest: Mapping[str, Any], family: int) -> Path:
        given = self._values(rest, family)
        kind = given.get("type", RTN_UNICAST)
        hops: tuple[NextHop, ...] = given.get("nexthops", ())
        if not hops and ("gateway" in given or "oif" in given):
            hops = (NextHop(given.get("gateway"), given.get("oif"), 1, given.get("onlink", False)),)
        if kind in DISCARD_TYPES:
            _refuse_hops(rest, ROUTE_TYPE_NAMES[kind])
        elif not hops:
            raise ItemError("no next hop: set gateway, dev or nexthops, or a type such as blackhole")
        for number, hop in enumerate(hops):
            _check_hop(hop, f"nexthops[{number}]: " if "nexthops" in given else "")
        if family == AF_INET6 and len(hops) > 1 and any(hop.gateway is None for hop in hops):
            raise ItemError("nexthops: an IPv6 multipath route needs a gateway on each next hop; set gateway")
        path = Path(
            family,
            self._table,
            kind,
            self._protocol,
            tos=given.get("tos", 0),
            metric=given.get("metric", 0),
            src=given.get("src"),
            mtu=given.get("mtu"),
            nexthops=hops,
        )
        return canonical(path)

    def _values(self, rest: Mapping[str, Any], family: int) -> dict[str, Any]:
        """The options of an item as values, only those that were given."""
        given: dict[str, Any] = {}
        if "type" in rest:
            if rest["type"] not in TYPES:
                raise ItemError(f"type {rest['type']!r} is not supported; choose from: {', '.join(TYPES)}")
            given["type"] = ROUTE_TYPES[rest["type"]]
        for name, highest in (("metric", _U32), ("tos", 255), ("mtu", _LARGEST_MTU)):
            if name in rest:
                given[name] = _integer(rest[name], name, 0, highest)
        _check_numbers(given, family)
        if "src" in rest:
            given["src"] = _address(rest["src"], "src")
            if given["src"].family != family:
                raise ItemError(f"src {given['src']} is not an {FAMILY_NAMES[family]} address like the destination")
        if "nexthops" in rest:
            _refuse_beside_nexthops(rest)
            given["nexthops"] = self._nexthops(rest["nexthops"], family)
        given.update(self._hop(rest, family))
        return given

    def _hop(self, fields: Mapping[str, Any], family: int) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if "gateway" in fields:
            given["gateway"] = gateway = _address(fields["gateway"], "gateway")
            if family == AF_INET6 and gateway.family != family:
                raise ItemError(f"gateway {gateway} is an IPv4 address, but the destination is IPv6")
            if gateway.value == 0 or _is_for_many(gateway):
                raise ItemError(f"gateway {gateway} is not a unicast address; for a connected route set dev alone")
        if "dev" in fields:
            given["oif"] = self._links.index(str(fields["dev"]))
        if "onlink" in fields:
            given["onlink"] = _flag(fields["onlink"], "onlink")
        return given

    def _nexthops(self, value: object, family: int) -> tuple[NextHop, ...]:
        if not isinstance(value, list) or not value:
            raise ItemError("nexthops: expected a list of at least one next hop, each with gateway, dev or both")
        if len(value) > _MOST_HOPS:
            raise ItemError(
                f"nexthops: {len(value)} are too many; list at most {_MOST_HOPS}, since a dump of the kernel ends at a "
                "route with many more"
            )
        hops: list[NextHop] = []
        seen: set[tuple[Address | None, int | None]] = set()
        for number, fields in enumerate(value):
            try:
                hop = self._nexthop(fields, family)
                if (hop.gateway, hop.oif) in seen:
                    raise ItemError("same gateway and dev as an earlier one; list it once, with a weight")
            except ItemError as error:
                raise ItemError(f"nexthops[{number}]: {error}") from None
            seen.add((hop.gateway, hop.oif))
            hops.append(hop)
        return (
            tuple(hops) if len(hops) > 1 else (replace(hops[0], weight=1),)
        )  # a single one takes all traffic, whatever its weight

    def _nexthop(self, value: object, family: int) -> NextHop:
        fields = _checked(value, HOP_OPTIONS, "gateway")
        given = self._hop(fields, family)
        if "gateway" not in given and "oif" not in given:
            raise ItemError("no next hop: set gateway, dev or both")
        weight = _integer(fields.get("weight", 1), "weight", 1, 256)
        return NextHop(given.get("gateway"), given.get("oif"), weight, given.get("onlink", False))


# -- checks -----------------------------------------------------------------------------------------------------------


def _checked(item: object, known: Sequence[str] = OPTIONS, example: str = "dst") -> dict[str, Any]:
    """The options of an item that are set; ItemError if it is not a dictionary or has an unknown option."""
    if not isinstance(item, Mapping):
        raise ItemError(f"expected a dictionary such as {{{example}: ...}}, got {item!r:.60}")
    for name in item:
        if name not in known:
            raise ItemError(f"unknown option {name!r}; {_nearest(str(name), known)}")
    return {name: value for name, value in item.items() if value is not None}


def _refuse_hops(rest: Mapping[str, Any], kind: str) -> None:
    for name in ("gateway", "dev", "nexthops", "onlink"):
        if name in rest and rest[name] is not False:
            raise ItemError(f"{name} cannot be combined with type {kind}, which has no next hop; remove one of them")


def _refuse_beside_nexthops(rest: Mapping[str, Any]) -> None:
    for name in ("gateway", "dev", "onlink"):
        if name in rest:
            raise ItemError(f"{name} cannot be combined with nexthops; move it into nexthops")


def _is_for_many(address: Address) -> bool:
    """Whether it is a multicast address, or 255.255.255.255."""
    if address.family == AF_INET6:
        return address.value >> 120 == 0xFF
    return address.value >> 28 == 0xE or address.value == _U32


def _check_hop(hop: NextHop, where: str) -> None:
    if hop.onlink and (hop.gateway is None or hop.oif is None):
        raise ItemError(f"{where}onlink needs gateway and dev: it declares the gateway to be on that link")
    if hop.gateway is not None and hop.gateway.is_link_local and hop.gateway.family == AF_INET6 and hop.oif is None:
        raise ItemError(f"{where}gateway {hop.gateway} is link-local; set its dev as well")


def _check_numbers(given: Mapping[str, Any], family: int) -> None:
    if given.get("tos") and family == AF_INET6:
        raise ItemError("tos: IPv6 routes have none; remove it")
    if given.get("tos", 0) & 3:
        raise ItemError(f"tos {given['tos']:#x}: the lowest two bits belong to ECN and must be 0")
    if "mtu" in given and given["mtu"] < _SMALLEST_MTU[family]:
        raise ItemError(f"mtu {given['mtu']}: the minimum for {FAMILY_NAMES[family]} is {_SMALLEST_MTU[family]}")


def _address(value: object, name: str) -> Address:
    try:
        return Address.parse(str(value))
    except ValueError as error:
        raise ItemError(f"{name}: {error}") from None


def _integer(value: object, name: str, low: int, high: int) -> int:
    """A number. Templates may give a string of digits, and a tos is often written 0x10."""
    number = value
    if isinstance(value, str):
        try:
            number = int(value, 0)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise ItemError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
    return number


def _flag(value: object, name: str) -> bool:
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ItemError(f"{name}: expected true or false, got {value!r}")


# -- values -> items --------------------------------------------------------------------------------------------------


def expressible(path: Path) -> bool:
    """Whether an item can express all of this path."""
    return not path.extras and ROUTE_TYPE_NAMES.get(path.type) in TYPES


def to_item(route: Route, links: LinkNames) -> dict[str, Any]:
    """The item for this route: only what is set, but always type and metric."""
    path = route.path
    item: dict[str, Any] = {"dst": str(route.prefix), "type": ROUTE_TYPE_NAMES.get(path.type, str(path.type))}
    if len(path.nexthops) == 1:
        item.update(_hop_item(path.nexthops[0], links))
    elif path.nexthops:
        item["nexthops"] = [{**_hop_item(hop, links), "weight": hop.weight} for hop in path.nexthops]
    item["metric"] = path.metric
    if path.src is not None:
        item["src"] = str(path.src)
    if path.mtu is not None:
        item["mtu"] = path.mtu
    if path.tos:
        item["tos"] = path.tos
    return item


def to_fact(route: Route, links: LinkNames) -> dict[str, Any]:
    """The item with what a task gives as options of its own: family, table and protocol."""
    path = route.path
    return {
        **to_item(route, links),
        "family": FAMILY_NAMES[path.family],
        "table": path.table,
        "protocol": protocol_name(path.protocol),
    }


def _hop_item(hop: NextHop, links: LinkNames) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if hop.gateway is not None:
        item["gateway"] = str(hop.gateway)
    if hop.oif is not None:
        item["dev"] = links.name(hop.oif)
    if hop.onlink:
        item["onlink"] = True
    return item


class ItemWriter:
    """Routes -> items; what equal paths share is made once."""

    def __init__(self, links: LinkNames) -> None:
        self._links = links
        self._rest: dict[Path, dict[str, Any]] = {}

    def items(self, routes: Iterable[Route]) -> list[dict[str, Any]]:
        """The item for each route, in order."""
        out = []
        for route in routes:
            rest = self._rest.get(route.path)
            if rest is None:
                rest = self._rest[route.path] = to_item(route, self._links)
            out.append({**rest, "dst": str(route.prefix)})
        return out
