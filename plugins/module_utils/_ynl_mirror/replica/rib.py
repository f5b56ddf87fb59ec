# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sans-IO replica of the kernel's routing tables: messages in, changed prefixes and re-read requests out.

The kernel's notifications are ambiguous in places (which of several entries did REPLACE change?) and silent in others
(a link that goes down takes IPv4 routes along without a word). The replica never guesses: where an event does not
say enough it asks for a :class:`Reread`, and the caller, who has the socket, feeds it a fresh dump of that scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..model.routes import AF_INET, AF_INET6, Address, Path, TableKey
from ..netlink import rtnetlink
from ..netlink.route_codec import RouteReader
from . import nexthops
from .entry import (
    AMBIGUOUS,
    Entry,
    alike_among,
    as_entry,
    best_path,
    inserted,
    is_manifold,
    maybe_hidden,
    merged,
    order,
    paths_of,
    removed,
)


class Reread(NamedTuple):
    """A scope to dump again: a table, or only its routes that leave by one link."""

    family: int
    table: int
    oif: int | None = None


#: With these a notification about a path that is known alone says nothing new.
_CERTAIN = rtnetlink.NLM_F_EXCL | rtnetlink.NLM_F_REPLACE


class Rib:
    """Replica of the tables in *follow* (all tables when it is None).

    *accept* decides which paths belong to it; the messages about others are handed to *rejected*
    (type, prefix key, path). Changed prefixes
    collect in :attr:`changed` while :attr:`recording` is set: by table, the keys whose best path is another now.
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
        self.sources: dict[Address, set[Reread]] = {}  # that routes have ever named, and where such routes are
        self.objects = nexthops.Objects()
        self._unresolved: set[TableKey] = set()  # tables with routes whose objects are missing
        # Tables that were read and may be newer than what is told next, and where a route was replaced since.
        self._fresh: dict[TableKey, set[int]] = {}
        self.doubted: dict[TableKey, None] = {}  # and about which such old news has come
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
        """The re-reads asked for since the last call, of tables that are followed still.

        A whole table swallows the narrower ones of that table.
        """
        wanted, self.rereads = [scope for scope in self.rereads if self.follows(scope.table)], {}
        whole = {(scope.family, scope.table) for scope in wanted if scope.oif is None}
        return [s for s in wanted if s.oif is None or (s.family, s.table) not in whole]

    def caught_up(self) -> None:
        """What is told from now on is newer than all that was read."""
        self._fresh.clear()

    def ask_doubted(self) -> None:
        """Ask for the tables that old news has come about."""
        for scope in self.doubted:
            self.rereads[Reread(*scope)] = None
        self.doubted.clear()

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

    def ask_for_source(self, address: Address) -> None:
        """An address is gone: ask for the routes that have named it as their source, by whichever link they leave."""
        for scope in sorted(self.sources.get(address, ()), key=str):
            if self.follows(scope.table):
                self.rereads[scope] = None

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
            if kind == rtnetlink.RTM_NEWROUTE:
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
        if kind == rtnetlink.RTM_DELROUTE and self._last_flat not in paths_of(table.get(key)):
            # The object may have changed, or be gone, before its route goes.
            known = [p for p in alike_among(paths_of(table.get(key)), path) if p.nh_id == path.nh_id]
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
                    self._put(table, key, paths[0], entry, as_entry([self.flattened(path) for path in paths]))

    def _refuse(self, kind: int, nlflags: int, key: int, path: Path) -> None:
        """Hand on what is not ours. Where it replaced a route that is, that one went without a word of its own."""
        known = paths_of(self.tables.get((path.family, path.table), {}).get(key))
        if kind == rtnetlink.RTM_NEWROUTE and nlflags & rtnetlink.NLM_F_REPLACE and alike_among(known, path):
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
        if path.src is not None:
            where = self.sources.setdefault(path.src, set())
            where.update(Reread(path.family, path.table, oif) for oif in path.links or (None,))
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
        if self._fresh and old is not None and (path.family, path.table) in self._fresh:
            self._doubt(key, path, old, new)
        if self.recording and best_path(old) != best_path(new):
            scope = (path.family, path.table)
            changed = self.changed.get(scope)
            if changed is None:
                changed = self.changed[scope] = set()
            changed.add(key)

    def _doubt(self, key: int, path: Path, old: Entry, new: Entry | None) -> None:
        """Old news over a newer dump: the last word on each path is right, but not on their order or hops."""
        scope = (path.family, path.table)
        replaced = self._fresh[scope]
        if is_manifold(old) or is_manifold(new) or (new is None and key in replaced):
            self.doubted[scope] = None
        elif new is not None and new != old:
            replaced.add(key)  # it may have been one of several; then another goes before it is as it was read

    # -- dumps

    def reading(self, scope: Reread) -> Reading:
        """Start to take in a fresh dump of *scope*."""
        return Reading(self, scope)


class Reading:
    """A dump on its way into the replica: feed it every chunk, then finish. Nothing changes before."""

    def __init__(self, rib: Rib, scope: Reread) -> None:
        self._rib = rib
        self._scope = scope
        self.found: dict[int, Entry] = {}
        self._hiding: list[int] = []  # where several hops of IPv6 may hide other paths

    def feed(self, chunk: bytes) -> None:
        """Take in a chunk of whole messages."""
        rib, found = self._rib, self.found
        last: Path | None = None
        wanted: Path | None = None
        hides = False
        for _kind, _nlflags, _start, _end, key, path in rib.reader.scan(chunk):
            if path is not last and path is not None:  # routes come in runs with one path
                last = path
                wanted = rib.flattened(path) if path.table == self._scope.table and rib.takes(path) else None
                hides = wanted is not None and wanted.family == AF_INET6 and len(wanted.nexthops) > 1
            if wanted is not None and path is not None:
                old = found.get(key)
                if old is not None and wanted.family == AF_INET6 and wanted in paths_of(old):
                    continue  # an IPv6 dump names routes twice when others are added before them
                found[key] = wanted if old is None else (*paths_of(old), wanted)
                if hides:
                    self._hiding.append(key)

    def finish(self, whole: bool = True) -> None:
        """Make the replica equal to the dump, within the scope. Where it is not *whole*, what it lacks stays."""
        rib, scope = self._rib, (self._scope.family, self._scope.table)
        if not rib.follows(self._scope.table):
            return  # since the dump was begun
        old = rib.tables.get(scope, {})
        rib._fresh[scope] = set()
        if not whole and self._scope.oif is not None:
            rib.rereads[self._scope._replace(oif=None)] = None
            return
        if not whole:
            self.found = {**old, **self.found}
        if self._scope.oif is None:
            self._keep_hidden(old)
            rib.doubted.pop(scope, None)
            rib.replace(scope, self.found)
            if rib.recording:
                self._compare(old, self.found)
        else:
            self._merge(old, self._scope.oif)

    def _keep_hidden(self, old: dict[int, Entry]) -> None:
        for key in self._hiding:
            shown = paths_of(self.found[key])
            if hidden := maybe_hidden(paths_of(old.get(key)), shown):
                self.found[key] = as_entry(sorted([*shown, *hidden], key=order))

    def _compare(self, old: dict[int, Entry], new: dict[int, Entry]) -> None:
        changed = {key for key in old if key not in new}
        for key, entry in new.items():
            before = old.get(key)
            if before is not entry and best_path(before) != best_path(entry):
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
            if best_path(before) != best_path(after):
                changed.add(key)
        self._rib.replace((self._scope.family, self._scope.table), table)
        self._tell(changed)

    def _tell(self, changed: set[int]) -> None:
        if changed and self._rib.recording:
            scope = (self._scope.family, self._scope.table)
            self._rib.changed.setdefault(scope, set()).update(changed)
