# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a routing table has for one prefix, and what it has after a notification or a dump: pure functions.

What an entry looks like decides the memory of a million routes: a prefix with one path, the usual case, is a reference
to a shared :class:`~.routes.Path`; several paths are a tuple in the kernel's order
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
    """The path by which the kernel sends a packet without DS field; None when there is none.

    Routes for one tos only and routes whose every hop is dead are passed over, as fib_table_lookup() does.
    """
    if isinstance(entry, Path):  # by far the most
        return entry if not entry.tos and (not entry.extras or "dead" not in entry.extras) else None
    for path in entry or ():
        if not path.tos and "dead" not in path.extras:
            return path
    return None


#: What :func:`inserted` and :func:`removed` answer when the event alone does not tell the outcome.
AMBIGUOUS: tuple[Path, ...] = (Path(family=0),)


def is_manifold(entry: Entry | None) -> bool:
    """Whether there are several paths, or hops that IPv6 tells of one by one."""
    return isinstance(entry, tuple) or (entry is not None and entry.family == AF_INET6 and len(entry.nexthops) > 1)


def alike_among(paths: Iterable[Path], path: Path) -> list[Path]:
    """Those of the paths that are of the same tos and metric as *path*."""
    return [p for p in paths if p.tos == path.tos and p.metric == path.metric]


def order(path: Path) -> tuple[int, int]:
    """What paths of one prefix are sorted by, the best path first."""
    return -path.tos, path.metric


def as_entry(paths: list[Path]) -> Entry:
    """The entry of these paths, which are in the kernel's order and one at least."""
    return paths[0] if len(paths) == 1 else tuple(paths)


def inserted(old: Entry, path: Path, nlflags: int) -> Entry:
    """The entry after an RTM_NEWROUTE for a prefix that has one already, or AMBIGUOUS.

    Safe to repeat: a notification that a later dump already contains changes nothing, or is read again.
    """
    paths = list(paths_of(old))
    alike = alike_among(paths, path)
    if nlflags & rtnetlink.NLM_F_REPLACE and alike:
        if len(alike) > 1:
            return AMBIGUOUS
        paths[paths.index(alike[0])] = path
        return as_entry(paths)
    if path in alike:
        # Told before, or - where the kernel says that it has put it beside others - equal to one with a dead hop more.
        return old if nlflags & rtnetlink.NLM_F_EXCL or path.family == AF_INET6 else AMBIGUOUS
    if nlflags & rtnetlink.NLM_F_EXCL and alike:
        # The kernel says that there was no route of this metric: those known came later, or went without a word.
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
    """Whether IPv6 would merge the path with others of its metric (rt6_qualify_for_ecmp)."""
    return path.nh_id is None and bool(path.nexthops) and all(hop.gateway is not None for hop in path.nexthops)


def _inserted_ipv6(paths: list[Path], alike: list[Path], path: Path) -> Entry:
    siblings = [p for p in alike if _is_ecmp(p)]
    if _is_ecmp(path) and siblings:
        # The message carries the whole hop list; one that does not contain the known hops is older than they are.
        if len(siblings) > 1 or not _hops(siblings[0]) <= _hops(path):
            return AMBIGUOUS
        paths[paths.index(siblings[0])] = _with_new_hops_last(siblings[0], path)
        return as_entry(paths)
    if path.dead_links and any("dead" in p.extras for p in alike):
        return AMBIGUOUS  # a route of dead hops, which do not tell whether they are gateways, may go on in this one
    at = next((i for i, p in enumerate(paths) if p.metric > path.metric), len(paths))
    paths.insert(at, path)
    return as_entry(paths)


def _with_new_hops_last(known: Path, path: Path) -> Path:
    """The path with its hops in the order of a dump: a notification names the new hop first (rt6_fill_node).

    All else - owner, MTU, source - is that of the first hop, which a dump shows; a notification shows the new one's.
    """
    places = {(hop.gateway, hop.oif): place for place, hop in enumerate(known.nexthops)}
    ordered = tuple(sorted(path.nexthops, key=lambda hop: places.get((hop.gateway, hop.oif), len(places))))
    made = replace(known, nexthops=ordered, extras=path.extras, dead_links=path.dead_links)
    return path if made == path else made


def _hops(path: Path) -> set[tuple[object, object]]:
    return {(hop.gateway, hop.oif) for hop in path.nexthops}


def removed(old: Entry | None, path: Path) -> Entry | None:
    """The entry after an RTM_DELROUTE: None when nothing is left, AMBIGUOUS when the event fits no path known."""
    paths = list(paths_of(old))
    if path in paths:
        paths.remove(path)
        if path in paths or maybe_hidden(paths, [path]):
            return AMBIGUOUS  # dead hops made two routes look alike: which of them went? Or: what did it hide?
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
        return AMBIGUOUS  # the next hop may have been put there by another owner, whose route this is now
    left: list[NextHop] = [hop for hop in holders[0].nexthops if (hop.gateway, hop.oif) not in gone]
    if len(left) == 1:
        left = [replace(left[0], weight=1)]  # as decode_route does
    if len(left) < 2 and maybe_hidden(alike, holders):
        return AMBIGUOUS
    at = paths.index(holders[0])
    paths[at : at + 1] = [holders[0].with_nexthops(*left)] if left else []
    return as_entry(paths) if paths else None


def merged(old: Entry, found: Entry | None, oif: int) -> Entry | None:
    """The entry after a dump of the routes over one link, None when nothing is left, or AMBIGUOUS.

    Such a dump has the paths over that link in their order, but not where they stand among others.
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
    # Those of another tos or metric have their place by that; where nothing is new, what is left keeps its own.
    kept = [path for path in paths if order(path) not in places and (path in fresh or oif not in path.links)]
    kept += [path for path in fresh if order(path) in places]
    return as_entry(sorted(kept, key=order)) if kept else None


def maybe_hidden(known: Iterable[Path], shown: Sequence[Path]) -> list[Path]:
    """Those known that may be there though a dump shows only the others (fib6_dump_node).

    It goes on behind the last hop of a multipath route, and so passes over what stands between the hops: routes of the
    same metric that are no hops. They are kept, and looked for once the hops that hide them are gone.
    """
    hiding = {path.metric for path in shown if path.family == AF_INET6 and len(path.nexthops) > 1 and _is_ecmp(path)}
    if not hiding:
        return []
    return [path for path in known if path.metric in hiding and path not in shown and not _is_ecmp(path)]


def _may_live_on(paths: Iterable[Path], fresh: tuple[Path, ...], oif: int | None = None) -> bool:
    """Whether a path that is not over this link any more may be there with its other hops.

    A group may have lost the member that led there, and IPv6 the hop. An IPv4 route keeps its dead hops.
    """
    return any(
        len(path.links) > 1 and (path.nh_id is not None or path.family == AF_INET6)
        for path in paths
        if path not in fresh and (oif is None or oif in path.links)
    )
