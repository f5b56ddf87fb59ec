# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sans-IO replica of the kernel's routing tables: messages in, changed prefixes and re-read requests out.

The kernel's notifications are ambiguous in places (which of several entries did REPLACE change?) and silent in others
(a link that goes down takes IPv4 routes along without a word). The replica never guesses: where an event does not
say enough it asks for a :class:`Reread`, and the caller, who has the socket, feeds it a fresh dump of that scope.

What an entry looks like decides the memory of a million routes: a prefix with one path, the usual case, is one
integer key and a reference to a shared :class:`~.routes.Path`; several paths are a tuple in the kernel's order
(``net/ipv4/fib_trie.c``: tos descending, then metric ascending; ``net/ipv6/ip6_fib.c``: metric ascending).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, Union

from . import nexthops, wire
from .routes import AF_INET, AF_INET6, NextHop, Path
from .wire_routes import RouteReader

Entry = Union[Path, tuple[Path, ...]]
TableKey = tuple[int, int]  # (family, table number)


class Reread(NamedTuple):
    """A scope to dump again: a table, or only its routes that leave by one link."""

    family: int
    table: int
    oif: int | None = None


def paths_of(entry: Entry | None) -> tuple[Path, ...]:
    """All paths of an entry, in the kernel's order."""
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def winner(entry: Entry | None) -> Path | None:
    """The path by which the kernel sends a packet without DS field; None when there is none.

    Routes for one tos only and routes whose every hop is dead are passed over, as fib_table_lookup() does.
    """
    if isinstance(entry, Path):  # by far the most
        return entry if not entry.tos and (not entry.extras or "dead" not in entry.extras) else None
    for path in entry or ():
        if not path.tos and "dead" not in path.extras:
            return path
    return None


class Rib:
    """Replica of the tables in *follow* (all tables when it is None).

    *accept* decides which paths belong to it; the messages about others are handed to *rejected*
    (type, prefix key, path). Changed prefixes
    collect in :attr:`changed` while :attr:`recording` is set: by table, the keys whose winner is another now.
    """

    def __init__(
        self,
        follow: Iterable[int] | None = None,
        accept: Callable[[Path], bool] | None = None,
        rejected: Callable[[int, int, Path], None] | None = None,
    ) -> None:
        self._follow: set[int] | None = None if follow is None else set(follow)
        self.tables: dict[TableKey, dict[int, Entry]] = {}
        self.changed: dict[TableKey, set[int]] = {}
        self.rereads: dict[Reread, None] = {}  # a set that keeps its order
        self.recording = False
        self.reader = RouteReader()
        self.nexthop_objects: dict[int, set[TableKey]] = {}  # that routes have ever named, and in which tables
        self.objects = nexthops.Objects()
        self._unresolved: set[TableKey] = set()  # tables with routes whose objects are missing
        self._accept = accept
        self._rejected = rejected
        # Routes come in runs with one path: where the last one belongs.
        self._last: Path | None = None
        self._last_home: dict[int, Entry] | None = None
        self._last_flat: Path | None = None  # with its next hops

    def follows(self, table: int) -> bool:
        """Whether routes of this table are kept."""
        return self._follow is None or table in self._follow

    def follow(self, tables: Iterable[int]) -> None:
        """Follow these tables from now on: ask for the new ones, forget the others."""
        known, self._follow = self._follow or set(), set(tables)
        self._last = None
        for scope in [scope for scope in self.tables if scope[1] not in self._follow]:
            del self.tables[scope]
        for table in sorted(self._follow - known):
            for family in (AF_INET, AF_INET6):
                self.rereads[Reread(family, table)] = None

    def replace(self, scope: TableKey, table: dict[int, Entry]) -> None:
        """Put a table in the place of the one that was."""
        self.tables[scope] = table
        self._last = None

    def take_changed(self) -> dict[TableKey, set[int]]:
        """The changed prefixes since the last call."""
        changed, self.changed = self.changed, {}
        return changed

    def take_rereads(self) -> list[Reread]:
        """The re-reads asked for since the last call; a whole table swallows the narrower ones of that table."""
        wanted, self.rereads = self.rereads, {}
        whole = {(scope.family, scope.table) for scope in wanted if scope.oif is None}
        return [s for s in wanted if s.oif is None or (s.family, s.table) not in whole]

    def ask(self, oif: int | None = None, families: tuple[int, ...] = (AF_INET, AF_INET6)) -> None:
        """Ask for every followed table again, or for its routes that leave by one link."""
        self._last = None
        for family, table in self._scopes():
            if family in families:
                self.rereads[Reread(family, table, oif)] = None

    def ask_for_object(self, number: int) -> None:
        """A nexthop object is another now: ask for the followed tables whose routes have named it."""
        self._last = None
        for family, table in sorted(self.nexthop_objects.get(number, ())):
            if self.follows(table):
                self.rereads[Reread(family, table)] = None

    def _scopes(self) -> Iterator[TableKey]:
        if self._follow is None:
            yield from list(self.tables)
        else:
            for family in (AF_INET, AF_INET6):
                for table in sorted(self._follow):
                    yield family, table

    # -- notifications

    def apply(self, buffer: bytes) -> None:
        """Take in the route messages of one notification."""
        for kind, nlflags, _start, _end, key, told in self.reader.scan(buffer):
            if told is None:
                continue
            table = self._home(told)
            if table is None:
                if self.follows(told.table) and not self._accepts(told):
                    self._refuse(kind, nlflags, key, told)
                continue
            path = told if told.nh_id is None else self._through_object(kind, key, told, table)
            old = table.get(key)
            if kind == wire.RTM_NEWROUTE:
                if old is path and nlflags & _CERTAIN:
                    continue
                new: Entry | None = path if old is None else inserted(old, path, nlflags)
            else:
                new = None if old is path else removed(old, path)
            if new is not path and isinstance(new, Path):
                new = self.reader.intern(new)  # hops were added or taken away: one object for all equal paths
            self._put(table, key, path, old, new)

    def _through_object(self, kind: int, key: int, path: Path, table: dict[int, Entry]) -> Path:
        """A path that names an object, with its next hops: for a delete those that it is known with."""
        if self._last_flat is None:
            self._last_flat = self.flattened(path)
        if kind == wire.RTM_DELROUTE and self._last_flat not in paths_of(table.get(key)):
            # The object may have changed, or be gone, before its route goes.
            known = [p for p in _alike(paths_of(table.get(key)), path) if p.nh_id == path.nh_id]
            if len(known) == 1:
                return known[0]
        return self._last_flat

    def flattened(self, path: Path) -> Path:
        """A path with its next hops. Where its object is missing, that is noted for :meth:`resolve`."""
        if not nexthops.lacks_hops(path):
            return path
        scope = (path.family, path.table)
        flat, named = self.objects.flattened(path)
        for number in named:
            self.nexthop_objects.setdefault(number, set()).add(scope)
        if nexthops.lacks_hops(flat):
            self._unresolved.add(scope)
        return self.reader.intern(flat)

    def resolve(self) -> None:
        """Give next hops to routes whose objects have been fetched; the objects that are missing still are noted."""
        scopes, self._unresolved = self._unresolved, set()
        self.objects.missing.clear()
        self._last = None
        for scope in scopes:
            table = self.tables.get(scope, {})
            for key, entry in list(table.items()):
                paths = paths_of(entry)
                if any(nexthops.lacks_hops(path) for path in paths):
                    self._put(table, key, paths[0], entry, _entry([self.flattened(path) for path in paths]))

    def _refuse(self, kind: int, nlflags: int, key: int, path: Path) -> None:
        """Hand on what is not ours. Where it replaced a route that is, that one went without a word of its own."""
        known = paths_of(self.tables.get((path.family, path.table), {}).get(key))
        if kind == wire.RTM_NEWROUTE and nlflags & wire.NLM_F_REPLACE and _alike(known, path):
            self.rereads[Reread(path.family, path.table)] = None
        if self._rejected is not None:
            self._rejected(kind, key, path)

    def _home(self, path: Path) -> dict[int, Entry] | None:
        """The table that a path belongs into, None when it is not ours. Decided anew only when the path is another."""
        if path is not self._last:
            self._last, self._last_home, self._last_flat = path, None, None
            if self.follows(path.table) and self.takes(path):
                self._last_home = self.tables.setdefault((path.family, path.table), {})
        return self._last_home

    def takes(self, path: Path) -> bool:
        """Whether a path in a followed table belongs here."""
        if "cloned" in path.extras or not self._accepts(path):
            return False
        if path.nh_id is not None:
            self.nexthop_objects.setdefault(path.nh_id, set()).add((path.family, path.table))
        return True

    def _accepts(self, path: Path) -> bool:
        return self._accept is None or self._accept(path)

    def _put(self, table: dict[int, Entry], key: int, path: Path, old: Entry | None, new: Entry | None) -> None:
        if new is AMBIGUOUS:
            self.rereads[Reread(path.family, path.table)] = None
            return
        if new is None:
            table.pop(key, None)
        else:
            table[key] = new
        if self.recording and winner(old) != winner(new):
            scope = (path.family, path.table)
            changed = self.changed.get(scope)
            if changed is None:
                changed = self.changed[scope] = set()
            changed.add(key)

    # -- dumps

    def reading(self, scope: Reread) -> Reading:
        """Start to take in a fresh dump of *scope*."""
        return Reading(self, scope)


#: With these a notification about a path that is known alone says nothing new.
_CERTAIN = wire.NLM_F_EXCL | wire.NLM_F_REPLACE
#: What :func:`inserted` and :func:`removed` answer when the event alone does not tell the outcome.
AMBIGUOUS: tuple[Path, ...] = (Path(family=0),)


def _alike(paths: Iterable[Path], path: Path) -> list[Path]:
    return [p for p in paths if p.tos == path.tos and p.metric == path.metric]


def _order(path: Path) -> tuple[int, int]:
    return -path.tos, path.metric


def _entry(paths: list[Path]) -> Entry:
    return paths[0] if len(paths) == 1 else tuple(paths)


def inserted(old: Entry, path: Path, nlflags: int) -> Entry:
    """The entry after an RTM_NEWROUTE for a prefix that has one already, or AMBIGUOUS.

    Safe to repeat: a notification that a later dump already contains changes nothing, or is read again.
    """
    paths = list(paths_of(old))
    alike = _alike(paths, path)
    if nlflags & wire.NLM_F_REPLACE and alike:
        if len(alike) > 1:
            return AMBIGUOUS
        paths[paths.index(alike[0])] = path
        return _entry(paths)
    if path in alike:
        # Told before, or - where the kernel says that it has put it beside others - equal to one with a dead hop more.
        return old if nlflags & wire.NLM_F_EXCL or path.family == AF_INET6 else AMBIGUOUS
    if nlflags & wire.NLM_F_EXCL and alike:
        # The kernel says that there was no route of this metric: those known came later, or went without a word.
        return AMBIGUOUS
    if path.family == AF_INET6:
        return _inserted_ipv6(paths, alike, path)
    if not alike:
        at = next((i for i, p in enumerate(paths) if _order(p) > _order(path)), len(paths))
    elif nlflags & wire.NLM_F_APPEND:
        at = paths.index(alike[0]) + len(alike)
    else:
        at = paths.index(alike[0])
    paths.insert(at, path)
    return _entry(paths)


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
        return _entry(paths)
    at = next((i for i, p in enumerate(paths) if p.metric > path.metric), len(paths))
    paths.insert(at, path)
    return _entry(paths)


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
        if path in paths:  # dead hops made two routes look alike: which of them went?
            return AMBIGUOUS
        return _entry(paths) if paths else None
    alike = _alike(paths, path)
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
    at = paths.index(holders[0])
    paths[at : at + 1] = [holders[0].with_nexthops(*left)] if left else []
    return _entry(paths) if paths else None


def merged(old: Entry, found: Entry | None, oif: int) -> Entry | None:
    """The entry after a dump of the routes over one link, None when nothing is left, or AMBIGUOUS.

    Such a dump has the paths over that link in their order, but not where they stand among others.
    """
    paths, fresh = paths_of(old), paths_of(found)
    beside = [path for path in paths if oif not in path.links]
    if not beside and not _may_live_on(paths, fresh):
        return found
    if len(set(paths)) < len(paths) or len(set(fresh)) < len(fresh):  # dead hops made two look alike
        return AMBIGUOUS
    places = {_order(path) for path in fresh if path not in paths}
    if _may_live_on(paths, fresh, oif) or any(_order(path) in places for path in beside):
        return AMBIGUOUS
    # Those of another tos or metric have their place by that; where nothing is new, what is left keeps its own.
    kept = [path for path in paths if _order(path) not in places and (path in fresh or oif not in path.links)]
    kept += [path for path in fresh if _order(path) in places]
    return _entry(sorted(kept, key=_order)) if kept else None


def _may_live_on(paths: Iterable[Path], fresh: tuple[Path, ...], oif: int | None = None) -> bool:
    """Whether a path that is not over this link any more may be there with its other hops.

    A group may have lost the member that led there, and IPv6 the hop. An IPv4 route keeps its dead hops.
    """
    return any(
        len(path.links) > 1 and (path.nh_id is not None or path.family == AF_INET6)
        for path in paths
        if path not in fresh and (oif is None or oif in path.links)
    )


class Reading:
    """A dump on its way into the replica: feed it every chunk, then finish. Nothing changes before."""

    def __init__(self, rib: Rib, scope: Reread) -> None:
        self._rib = rib
        self._scope = scope
        self.found: dict[int, Entry] = {}

    def feed(self, chunk: bytes) -> None:
        """Take in a chunk of whole messages."""
        rib, found = self._rib, self.found
        last: Path | None = None
        wanted: Path | None = None
        for _kind, _nlflags, _start, _end, key, path in rib.reader.scan(chunk):
            if path is not last and path is not None:  # routes come in runs with one path
                last = path
                wanted = rib.flattened(path) if path.table == self._scope.table and rib.takes(path) else None
            if wanted is not None and path is not None:
                old = found.get(key)
                if old is not None and wanted.family == AF_INET6 and wanted in paths_of(old):
                    continue  # an IPv6 dump names routes twice when others are added before them
                found[key] = wanted if old is None else (*paths_of(old), wanted)

    def finish(self, whole: bool = True) -> None:
        """Make the replica equal to the dump, within the scope. Where it is not *whole*, what it lacks stays."""
        rib, scope = self._rib, (self._scope.family, self._scope.table)
        old = rib.tables.get(scope, {})
        if not whole and self._scope.oif is not None:
            rib.rereads[self._scope._replace(oif=None)] = None
            return
        if not whole:
            self.found = {**old, **self.found}
        if self._scope.oif is None:
            rib.replace(scope, self.found)
            if rib.recording:
                self._compare(old, self.found)
        else:
            self._merge(old, self._scope.oif)

    def _compare(self, old: dict[int, Entry], new: dict[int, Entry]) -> None:
        changed = {key for key in old if key not in new}
        for key, entry in new.items():
            before = old.get(key)
            if before is not entry and winner(before) != winner(entry):
                changed.add(key)
        self._tell(changed)

    def _merge(self, table: dict[int, Entry], oif: int) -> None:
        """Replace the paths over one link; where that link's dump alone does not tell, ask for the whole table."""
        known: dict[int, bool] = {}  # by identity: a table holds few different paths
        affected = []
        for key, entry in table.items():
            uses = known.get(id(entry))
            if uses is None:
                uses = known[id(entry)] = any(oif in path.links for path in paths_of(entry))
            if uses:
                affected.append(key)
        changed = set()
        for key in {**dict.fromkeys(affected), **dict.fromkeys(self.found)}:
            before, found = table.get(key), self.found.get(key)
            after = found if before is None else merged(before, found, oif)
            if after is AMBIGUOUS:
                self._rib.rereads[self._scope._replace(oif=None)] = None
                continue
            if after is None:
                del table[key]
            else:
                table[key] = after
            if winner(before) != winner(after):
                changed.add(key)
        self._rib.replace((self._scope.family, self._scope.table), table)
        self._tell(changed)

    def _tell(self, changed: set[int]) -> None:
        if changed and self._rib.recording:
            scope = (self._scope.family, self._scope.table)
            self._rib.changed.setdefault(scope, set()).update(changed)
