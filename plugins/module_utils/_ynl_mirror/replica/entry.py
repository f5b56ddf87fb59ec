# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry of a routing table for one prefix, and its transitions on notifications and dumps. Pure functions.

The form of an entry decides the memory for a million routes: a prefix with one path, the usual case, is a reference to
a shared :class:`~.routes.Path`; several paths are a tuple in the kernel's order
(``net/ipv4/fib_trie.c``: tos descending, then metric ascending; ``net/ipv6/ip6_fib.c``: metric ascending).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Union

from ..model.routes import AF_INET6, NextHop, Path
from ..netlink import rtnetlink

Entry = Union[Path, tuple[Path, ...]]


def paths_of(entry: Entry | None) -> tuple[Path, ...]:
    """All paths of an entry, in the kernel's order."""
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def best_path(entry: Entry | None) -> Path | None:
    """The path by which the kernel forwards a packet with DS field 0; None if there is none.

    Routes with a tos and routes whose hops are all dead are skipped, as fib_table_lookup() does.
    """
    if isinstance(entry, Path):  # by far the most common case
        return entry if not entry.tos and (not entry.extras or "dead" not in entry.extras) else None
    for path in entry or ():
        if not path.tos and "dead" not in path.extras:
            return path
    return None


def tos_of(entry: Entry | None) -> tuple[int, ...]:
    """The values of the DS field for which an entry has routes of their own, which forward those packets instead."""
    if isinstance(entry, Path) and not entry.tos:  # by far the most common case
        return ()
    return tuple(sorted({path.tos for path in paths_of(entry) if path.tos and "dead" not in path.extras}))


def differ(old: Entry | None, new: Entry | None, tos: bool = False) -> bool:
    """Whether packets with DS field 0 may be forwarded differently; with *tos*, any packets."""
    if isinstance(old, Path) and isinstance(new, Path) and not (old.tos or new.tos or old.extras or new.extras):
        return old != new
    return best_path(old) != best_path(new) or (tos and tos_of(old) != tos_of(new))


#: The result of :func:`inserted`, :func:`removed` and :func:`merged` when the table has to be re-read.
AMBIGUOUS: tuple[Path, ...] = (Path(family=0),)


def is_manifold(entry: Entry | None) -> bool:
    """Whether an entry has several paths, or several IPv6 hops, which are notified one by one."""
    return isinstance(entry, tuple) or (entry is not None and entry.family == AF_INET6 and len(entry.nexthops) > 1)


def alike_among(paths: Iterable[Path], path: Path) -> list[Path]:
    """The paths that have the tos and metric of *path*."""
    return [p for p in paths if p.tos == path.tos and p.metric == path.metric]


def order(path: Path) -> tuple[int, int]:
    """Sort key for the paths of one prefix, the best path first."""
    return -path.tos, path.metric


def as_entry(paths: list[Path]) -> Entry:
    """The entry for these paths: at least one, in the kernel's order."""
    return paths[0] if len(paths) == 1 else tuple(paths)


def inserted(old: Entry, path: Path, nlflags: int) -> Entry:
    """The entry after an RTM_NEWROUTE for a prefix that has an entry already, or AMBIGUOUS.

    Idempotent: a notification that the last dump already contains changes nothing, or is AMBIGUOUS.
    """
    paths = list(paths_of(old))
    alike = alike_among(paths, path)
    if nlflags & rtnetlink.NLM_F_REPLACE and alike:
        if len(alike) > 1:
            return AMBIGUOUS
        paths[paths.index(alike[0])] = path
        return as_entry(paths)
    if path in alike:
        # Known already. Or the kernel added it beside others, and it looks like one that has a dead hop in addition.
        return old if nlflags & rtnetlink.NLM_F_EXCL or path.family == AF_INET6 else AMBIGUOUS
    if nlflags & rtnetlink.NLM_F_EXCL and alike:
        # The kernel had no route with this metric: the known ones were added later, or went silently.
        return AMBIGUOUS
    if path.family == AF_INET6:
        return _inserted_ipv6(paths, alike, path)
    if not alike:
        at = next((i for i, p in enumerate(paths) if order(p) > order(path)), len(paths))
    elif nlflags & rtnetlink.NLM_F_APPEND:
        at = paths.index(alike[0]) + len(alike)
    else:
        at = paths.index(alike[0])
    paths.insert(at, path)
    return as_entry(paths)


def _is_ecmp(path: Path) -> bool:
    """Whether IPv6 would merge the path with others of the same metric (rt6_qualify_for_ecmp)."""
    return path.nh_id is None and bool(path.nexthops) and all(hop.gateway is not None for hop in path.nexthops)


def _inserted_ipv6(paths: list[Path], alike: list[Path], path: Path) -> Entry:
    siblings = [p for p in alike if _is_ecmp(p)]
    if _is_ecmp(path) and siblings:
        # The message has the complete list of hops; one that lacks a known hop is older than that hop.
        if len(siblings) > 1 or not _hops(siblings[0]) <= _hops(path):
            return AMBIGUOUS
        paths[paths.index(siblings[0])] = _with_new_hops_last(siblings[0], path)
        return as_entry(paths)
    if path.dead_links and any("dead" in p.extras for p in alike):
        return AMBIGUOUS  # a route with dead hops, which do not show if they have gateways, may be part of this one
    at = next((i for i, p in enumerate(paths) if p.metric > path.metric), len(paths))
    paths.insert(at, path)
    return as_entry(paths)


def _with_new_hops_last(known: Path, path: Path) -> Path:
    """The path with its hops in dump order: a notification has the new hop first (rt6_fill_node).

    Protocol, MTU and source are those of the first hop, as in a dump; a notification has those of the new hop.
    """
    places = {(hop.gateway, hop.oif): place for place, hop in enumerate(known.nexthops)}
    ordered = tuple(sorted(path.nexthops, key=lambda hop: places.get((hop.gateway, hop.oif), len(places))))
    made = replace(known, nexthops=ordered, extras=path.extras, dead_links=path.dead_links)
    return path if made == path else made


def _hops(path: Path) -> set[tuple[object, object]]:
    return {(hop.gateway, hop.oif) for hop in path.nexthops}


def removed(old: Entry | None, path: Path) -> Entry | None:
    """The entry after an RTM_DELROUTE: None if nothing is left, AMBIGUOUS if it matches no known path."""
    paths = list(paths_of(old))
    if path in paths:
        paths.remove(path)
        if path in paths or maybe_hidden(paths, [path]):
            return AMBIGUOUS  # either of two routes that look alike by dead hops, or one that hid another from dumps
        return as_entry(paths) if paths else None
    alike = alike_among(paths, path)
    if not alike:
        return old
    if path.family == AF_INET6:
        return _removed_ipv6(paths, alike, path)
    return AMBIGUOUS


def _removed_ipv6(paths: list[Path], alike: list[Path], path: Path) -> Entry | None:
    gone = _hops(path)
    holders = [p for p in alike if gone and gone <= _hops(p)]
    if len(holders) != 1:
        return AMBIGUOUS
    if len(gone) < len(holders[0].nexthops) and (holders[0].nexthops[0].gateway, holders[0].nexthops[0].oif) in gone:
        return AMBIGUOUS  # the next hop may have been added with another protocol, which is the route's now
    left: list[NextHop] = [hop for hop in holders[0].nexthops if (hop.gateway, hop.oif) not in gone]
    if len(left) == 1:
        left = [replace(left[0], weight=1)]  # as decode_route does
    if len(left) < 2 and maybe_hidden(alike, holders):
        return AMBIGUOUS
    at = paths.index(holders[0])
    paths[at : at + 1] = [holders[0].with_nexthops(*left)] if left else []
    return as_entry(paths) if paths else None


def merged(old: Entry, found: Entry | None, oif: int) -> Entry | None:
    """The entry after a dump of the routes over one link, None if nothing is left, or AMBIGUOUS.

    Such a dump has the paths over that link in order, but not their places among the other paths.
    """
    paths, fresh = paths_of(old), paths_of(found)
    beside = [path for path in paths if oif not in path.links]
    hidden = maybe_hidden((path for path in paths if oif in path.links), [*fresh, *beside])
    if hidden:
        fresh = (*fresh, *hidden)
        found = as_entry(sorted(fresh, key=order))
    if not beside and not _may_live_on(paths, fresh):
        return found
    if len(set(paths)) < len(paths) or len(set(fresh)) < len(fresh):  # dead hops made two look alike
        return AMBIGUOUS
    places = {order(path) for path in fresh if path not in paths}
    if _may_live_on(paths, fresh, oif) or any(order(path) in places for path in beside):
        return AMBIGUOUS
    # Paths that differ in tos or metric are ordered by those; where there is no new path, the others keep their order.
    kept = [path for path in paths if order(path) not in places and (path in fresh or oif not in path.links)]
    kept += [path for path in fresh if order(path) in places]
    return as_entry(sorted(kept, key=order)) if kept else None


def maybe_hidden(known: Iterable[Path], shown: Sequence[Path]) -> list[Path]:
    """The known paths that may exist though a dump does not show them (fib6_dump_node).

    An IPv6 dump continues after the last hop of a multipath route, and skips routes of the same metric that lie between
    its hops. They are kept, and re-read once the hops that hide them are gone.
    """
    hiding = {path.metric for path in shown if path.family == AF_INET6 and len(path.nexthops) > 1 and _is_ecmp(path)}
    if not hiding:
        return []
    return [path for path in known if path.metric in hiding and path not in shown and not _is_ecmp(path)]


def _may_live_on(paths: Iterable[Path], fresh: tuple[Path, ...], oif: int | None = None) -> bool:
    """Whether a path that no longer uses this link may still exist with its other hops.

    A nexthop group may have lost the member over that link, an IPv6 route the hop. An IPv4 route keeps its dead hops.
    """
    return any(
        len(path.links) > 1 and (path.nh_id is not None or path.family == AF_INET6)
        for path in paths
        if path not in fresh and (oif is None or oif in path.links)
    )
