# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes as lines of ip-route(8): what users know, can read in a diff and can run by hand. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..model.routes import (
    AF_INET6,
    PROTO_MANUAL,
    PROTO_MIRROR,
    ROUTE_TYPE_NAMES,
    RTN_UNICAST,
    NextHop,
    Path,
    Route,
    protocol_name,
    table_name,
)
from .plan import ADD, DELETE, REPLACE, Operation

_VERBS = {ADD: "add", REPLACE: "replace", DELETE: "del"}
#: Commands have their numbers: iproute2 knows the names only where they are in its rt_protos.
_OWN_PROTOCOLS = (PROTO_MIRROR, PROTO_MANUAL)

LinkName = Callable[[int], str]


class LineWriter:
    """Routes -> lines; what equal paths share is made once. *table* is ``table 10`` or ``vrf red``."""

    def __init__(self, link_name: LinkName, table: str) -> None:
        self._link_name = link_name
        self._table = table
        self._parts: dict[tuple[Path, bool], tuple[str, str, str]] = {}

    def line(self, route: Route) -> str:
        """The route as ``ip route show`` prints it, with its owner and without its table."""
        head, middle, hops = self._thirds(route.path, False)
        return f"{head}{route.prefix}{middle}{hops}"

    def command(self, operation: Operation) -> str:
        """The command for one operation."""
        path = operation.route.path
        head, middle, hops = self._thirds(path, operation.action == DELETE)
        program = "ip -6 route" if path.family == AF_INET6 else "ip route"
        # After `nexthop` iproute2 accepts nothing but further ones: the table comes before them.
        return f"{program} {_VERBS[operation.action]} {head}{operation.route.prefix}{middle} {self._table}{hops}"

    def commands(self, operations: Iterable[Operation]) -> list[str]:
        """The commands for all operations, in order."""
        return [self.command(operation) for operation in operations]

    def _thirds(self, path: Path, deleting: bool) -> tuple[str, str, str]:
        """What comes before the destination, after it, and after the table: the hops of a multipath route."""
        found = self._parts.get((path, deleting))
        if found is None:
            found = self._parts[path, deleting] = self._build(path, deleting)
        return found

    def _build(self, path: Path, deleting: bool) -> tuple[str, str, str]:
        head = "" if path.type == RTN_UNICAST else f"{ROUTE_TYPE_NAMES.get(path.type, path.type)} "
        words: list[str] = []
        if path.tos:
            words += ["tos", f"{path.tos:#04x}"]
        if len(path.nexthops) == 1:
            words += self._hop(path.nexthops[0], path.family)
        protocol = str(path.protocol) if path.protocol in _OWN_PROTOCOLS else protocol_name(path.protocol)
        words += ["proto", protocol]
        if path.metric:
            words += ["metric", str(path.metric)]
        if path.src is not None:
            words += ["src", str(path.src)]
        if path.mtu is not None and not deleting:
            words += ["mtu", str(path.mtu)]
        several = path.nexthops if len(path.nexthops) > 1 else ()
        hops = [" ".join([" nexthop", *self._hop(hop, path.family), "weight", str(hop.weight)]) for hop in several]
        return head, " " + " ".join(words), "".join(hops)

    def _hop(self, hop: NextHop, family: int) -> list[str]:
        words: list[str] = []
        if hop.gateway is not None:
            words += ["via", *(["inet6"] if hop.gateway.family != family else []), str(hop.gateway)]
        if hop.oif is not None:
            words += ["dev", self._link_name(hop.oif)]
        if hop.onlink:
            words.append("onlink")
        return words


def table_words(table: int, vrf: str | None) -> str:
    """The table as an argument of ip-route(8)."""
    return f"vrf {vrf}" if vrf else f"table {table_name(table)}"
