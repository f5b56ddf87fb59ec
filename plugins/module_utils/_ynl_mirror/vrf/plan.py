# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has + what is wanted -> what to do, in which order, and what belongs to another owner. Pure.

A route's key is (table, prefix, tos, metric). The kernel lets any process replace or delete any route. Therefore:

* a key that a route of another owner (protocol) holds is a :class:`Conflict` and stays as it is;
* a new key is added with NLM_F_EXCL, which spares a route that was added in the meantime;
* NLM_F_REPLACE is used only where the one route at the key is ours: it changes *the first* of several, of any owner
  (fib_table_insert, fib6_add_rt2node). Several of ours (made by an append) are deleted, and one is added;
* an IPv6 dump hides a route without a gateway that is between the hops of a multipath route of the same metric
  (fib6_dump_node jumps to the last sibling), of any owner, and REPLACE by a route without a gateway would take
  exactly that one. Such a change is a delete and an add as well, and :func:`uncovers` says when to read again;
* a delete names owner, type and next hops. In IPv6 the type is not part of the match, and a route without a gateway is
  matched by its link alone, which matches a route through a gateway on that link as well (ip6_route_del). A discard
  route therefore names the loopback that it is attached to, and of several routes at one key those with gateways are
  deleted first.

Additions and replacements come before removals, and connected routes before routes through a gateway, which may need
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from ..model.routes import (
    AF_INET,
    AF_INET6,
    DISCARD_TYPES,
    IPV6_DEFAULT_METRIC,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_UNICAST,
    NextHop,
    Path,
    Route,
    RouteKey,
)
from ..netlink.route_codec import RouteWriter
from ..netlink.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, RTM_DELROUTE, RTM_NEWROUTE

ADD, REPLACE, DELETE = "add", "replace", "delete"
#: Message type and flags that carry out each action.
_MESSAGES = {
    ADD: (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL),
    REPLACE: (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE),
    DELETE: (RTM_DELROUTE, NLM_F_REQUEST),
}
#: The loopback's ifindex in every network namespace (LOOPBACK_IFINDEX in the kernel).
_LOOPBACK = 1


class Operation(NamedTuple):
    """One thing to do. *route* is what to add, to put in the place of *old*, or to delete."""

    action: str
    route: Route
    old: Route | None = None


class Conflict(NamedTuple):
    """A wanted route, or one to delete, whose key is taken by *holder*, a route of another owner."""

    route: Route
    holder: Route


@dataclass
class Plan:
    """*operations* in their order, the *conflicts*, and how many wanted routes exist already."""

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    unchanged: int = 0


# -- the form in which routes compare ---------------------------------------------------------------------------------


def canonical(path: Path) -> Path:
    """The path as the kernel will report it: default metric, derived scope, no hops for a discard.

    An IPv4 unicast route without a gateway has link scope, as ``ip route`` sets it; IPv6 knows no scopes.
    """
    nexthops = () if path.type in DISCARD_TYPES else path.nexthops
    if len(nexthops) == 1 and nexthops[0].weight != 1:
        nexthops = (replace(nexthops[0], weight=1),)
    connected = path.family == AF_INET and path.type == RTN_UNICAST and all(hop.gateway is None for hop in nexthops)
    return replace(
        path,
        nexthops=nexthops,
        scope=RT_SCOPE_LINK if connected else RT_SCOPE_UNIVERSE,
        metric=path.metric or (IPV6_DEFAULT_METRIC if path.family == AF_INET6 else 0),
    )


@lru_cache(maxsize=1 << 16)
def same(have: Path, want: Path) -> bool:
    """Whether the kernel's *have* is what *want* asks for.

    A wanted hop without a link matches whichever the kernel chose for its gateway. The scope does not count: no option
    sets it. Next hops through an object (``nh_id``) count as what they resolve to.
    """
    if (have.family, have.table, have.type, have.protocol, have.tos, have.metric, have.src, have.mtu) != (
        *(want.family, want.table, want.type, want.protocol, want.tos, want.metric, want.src, want.mtu),
    ):
        return False
    return have.extras == want.extras and same_hops(have.nexthops, want.nexthops)


def same_hops(have: Sequence[NextHop], want: Sequence[NextHop]) -> bool:
    """Whether two sets of next hops are equal in any order; a wanted hop that names no link matches any link."""
    if len(have) != len(want):
        return False
    left = list(have)
    for hop in sorted(want, key=lambda hop: hop.oif is None):  # those with a link are matched first
        found = next((other for other in left if _same_hop(other, hop)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_hop(have: NextHop, want: NextHop) -> bool:
    if (have.gateway, have.weight, have.onlink) != (want.gateway, want.weight, want.onlink):
        return False
    return want.oif is None or want.oif == have.oif


# -- one key ----------------------------------------------------------------------------------------------------------


def settle(held: Sequence[Route], want: Route | None, owner: int) -> tuple[list[Operation], Conflict | None]:
    """What to do at one key: *held* is all that the kernel has there, in its order; *want* None removes what is ours.

    The result is empty where nothing is to be done. *want* is in canonical form and carries *owner* as its protocol.
    """
    ours = [route for route in held if route.path.protocol == owner]
    if want is None:
        return [Operation(DELETE, route) for route in sorted(ours, key=_by_gateway)], None
    others = [route for route in held if route.path.protocol != owner]
    if ours and (others or len(ours) == 1) and any(same(route.path, want.path) for route in ours):
        return [], None
    if others:
        return [], Conflict(want, others[0])
    if not ours:
        return [Operation(ADD, want)], None
    if len(ours) == 1 and not (_is_ecmp(ours[0].path) and want.path.family == AF_INET6 and _by_gateway(want)):
        return [Operation(REPLACE, want, ours[0])], None
    deletes = [Operation(DELETE, route) for route in sorted(ours, key=_by_gateway)]
    return [*deletes, Operation(ADD, want)], None


def _by_gateway(route: Route) -> int:
    """Sort key: first the routes whose delete matches nothing else (see the module's docstring)."""
    return 1 if all(hop.gateway is None for hop in route.path.nexthops) else 0


def _is_ecmp(path: Path) -> bool:
    return len(path.nexthops) > 1


def uncovers(operation: Operation) -> bool:
    """Whether the key may have a route that the dump did not show (see the module's docstring)."""
    gone = operation.route if operation.action == DELETE else operation.old
    return gone is not None and gone.path.family == AF_INET6 and _is_ecmp(gone.path)


def _mistakable(route: Route, other: Route) -> bool:
    """Whether the delete of an IPv6 *route* without a gateway would match *other* through one on the same link."""
    linked = route.path.family == AF_INET6 and _by_gateway(route) and route.path.type not in DISCARD_TYPES
    return bool(linked) and not _by_gateway(other) and bool(route.path.oifs & other.path.oifs)


# -- a whole plan -----------------------------------------------------------------------------------------------------


def plan(have: Iterable[Route], want: Sequence[Route], owner: int, remove: Callable[[Route], bool]) -> Plan:
    """Turn *have*, all routes of the tables in question, into *want*, and remove owned routes that *remove* selects.

    *want* is in canonical form, with at most one route per key. *remove* is called for owned routes whose key is not
    wanted. The order is: additions and replacements, deletes that an addition follows, deletes.
    """
    held: dict[RouteKey, list[Route]] = {}
    for route in have:
        held.setdefault(route.key, []).append(route)
    result = Plan()
    puts: list[Operation] = []
    remade: list[Operation] = []
    for route in want:
        operations, conflict = settle(held.pop(route.key, ()), route, owner)
        if conflict is not None:
            result.conflicts.append(conflict)
        elif not operations:
            result.unchanged += 1
        else:
            (puts if len(operations) == 1 else remade).extend(operations)
    drops: list[Operation] = []
    for routes in held.values():
        ours = [route for route in routes if route.path.protocol == owner]
        doomed = [route for route in ours if remove(route)]
        kept = [route for route in ours if route not in doomed]
        if any(_mistakable(route, other) for route in doomed for other in kept):
            remade += [*settle(ours, None, owner)[0], *(Operation(ADD, route) for route in kept)]
        elif doomed:
            drops += settle(doomed, None, owner)[0]
    puts.sort(key=lambda operation: not _by_gateway(operation.route))
    drops.sort(key=lambda operation: _by_gateway(operation.route))
    result.operations = [*puts, *remade, *drops]
    return result


# -- operations -> messages -------------------------------------------------------------------------------------------


def encode(operations: Iterable[Operation]) -> list[bytes]:
    """The netlink message for each operation, in order."""
    out: list[bytes] = []
    writers = {action: RouteWriter(*how) for action, how in _MESSAGES.items()}
    for action, run in groupby(operations, key=lambda operation: operation.action):
        if action == DELETE:
            routes = [(operation.route.prefix.key, removal(operation.route.path)) for operation in run]
        else:
            routes = [(operation.route.prefix.key, operation.route.path) for operation in run]
        out += writers[action].batch(routes)
    return out


@lru_cache(maxsize=1 << 12)
def removal(path: Path) -> Path:
    """The path of a delete message that matches this route and no other."""
    if path.family == AF_INET6 and path.type in DISCARD_TYPES:
        return replace(path, nexthops=(NextHop(oif=_LOOPBACK),))
    return path


def predicted(have: Iterable[Route], operations: Iterable[Operation]) -> list[Route]:
    """What the kernel would have after *operations*: for check mode, where nothing is sent."""
    after: dict[RouteKey, list[Route]] = {}
    for route in have:
        after.setdefault(route.key, []).append(route)
    for operation in operations:
        held = after.setdefault(operation.route.key, [])
        if operation.action == DELETE:
            held.remove(operation.route)
        elif operation.action == REPLACE and operation.old is not None:
            held[held.index(operation.old)] = operation.route
        else:
            held.append(operation.route)
    return [route for routes in after.values() for route in routes]
