# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sans-IO replica of the kernel's routing tables: messages in, changed prefixes and re-read requests out.

Some of the kernel's notifications are ambiguous (which of several routes did REPLACE change?), and some changes have
none (a link that goes down takes its IPv4 routes along silently). The replica never guesses: it requests a
:class:`Reread`, and its caller, who has the socket, feeds it a fresh dump of that scope.
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
    differ,
    inserted,
    is_manifold,
    maybe_hidden,
    merged,
    order,
    paths_of,
    removed,
)


class Reread(NamedTuple):
    """A scope to dump again: a table, or only its routes over one link."""

    family: int
    table: int
    oif: int | None = None


#: With one of these flags, a notification of the only known path is a repetition.
_CERTAIN = rtnetlink.NLM_F_EXCL | rtnetlink.NLM_F_REPLACE


class Rib:
    """Replica of the tables in *follow* (None: of all tables).

    *accept* decides which paths belong to it; messages about other paths go to *rejected* (type, prefix key, path).
    While :attr:`recording` is set, :attr:`changed` collects the keys whose best path has changed, by table.
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
        self.rereads: dict[Reread, None] = {}  # an ordered set
        self.recording = False
        self.minds_tos = False  # whether routes for a tos are changes, too
        self.reader = RouteReader()
        self.nexthop_objects: dict[int, set[TableKey]] = {}  # that routes have ever used, and in which tables
        self.sources: dict[Address, set[Reread]] = {}  # preferred sources ever used, and where such routes are
        self.uplinks: set[tuple[int, int]] = set()  # (family, link) by which routes with gateways have ever left
        self.objects = nexthops.Objects()
        self._unresolved: set[TableKey] = set()  # tables with routes whose objects are missing
        # Tables that were dumped while notifications were queued, which may be older; and the keys replaced since.
        self._fresh: dict[TableKey, set[int]] = {}
        self.doubted: dict[TableKey, None] = {}  # those whose order of paths such a notification has put in doubt
        self._accept = accept
        self._rejected = rejected
        # Consecutive routes often have the same path: the last one, and the table that it belongs to.
        self._last: Path | None = None
        self._last_home: dict[int, Entry] | None = None
        self._last_flat: Path | None = None  # the same with its next hops

    def follows(self, table: int) -> bool:
        """Whether this table is followed."""
        return self._follow is None or table in self._follow

    def follow(self, tables: Iterable[int]) -> None:
        """Follow these tables from now on: request the new ones, forget the others."""
        known, self._follow = self._follow or set(), set(tables)
        self._last = None
        for scope in [scope for scope in self.tables if scope[1] not in self._follow]:
            del self.tables[scope]
        for table in sorted(self._follow - known):
            for family in (AF_INET, AF_INET6):
                self.rereads[Reread(family, table)] = None

    def replace(self, scope: TableKey, table: dict[int, Entry]) -> None:
        """Replace a whole table."""
        self.tables[scope] = table
        self._last = None

    def take_changed(self) -> dict[TableKey, set[int]]:
        """The prefixes that have changed since the last call."""
        changed, self.changed = self.changed, {}
        return changed

    def take_rereads(self) -> list[Reread]:
        """The re-reads requested since the last call, of tables that are still followed.

        A re-read of a whole table includes those of its links.
        """
        wanted, self.rereads = [scope for scope in self.rereads if self.follows(scope.table)], {}
        whole = {(scope.family, scope.table) for scope in wanted if scope.oif is None}
        return [s for s in wanted if s.oif is None or (s.family, s.table) not in whole]

    def caught_up(self) -> None:
        """All notifications from now on are newer than the last dumps."""
        self._fresh.clear()

    def ask_doubted(self) -> None:
        """Request the doubted tables."""
        for scope in self.doubted:
            self.rereads[Reread(*scope)] = None
        self.doubted.clear()

    def ask(self, oif: int | None = None, families: tuple[int, ...] = (AF_INET, AF_INET6)) -> None:
        """Request a re-read of every followed table, or only of its routes over one link."""
        self._last = None
        for family, table in self._scopes():
            if family in families:
                self.rereads[Reread(family, table, oif)] = None

    def ask_for_object(self, number: int) -> None:
        """A nexthop object has changed: request the followed tables whose routes have used it."""
        self._last = None
        for family, table in sorted(self.nexthop_objects.get(number, ())):
            if self.follows(table):
                self.rereads[Reread(family, table)] = None

    def ask_for_source(self, address: Address) -> None:
        """An address is gone: request the routes that have had it as their preferred source, over any link."""
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
        """Apply the route messages of one notification."""
        for kind, nlflags, _start, _end, key, notified in self.reader.scan(buffer):
            if notified is None:
                continue
            table = self._home(notified)
            if table is None:
                if self.follows(notified.table) and not self._accepts(notified):
                    self._refuse(kind, nlflags, key, notified)
                continue
            path = notified if notified.nh_id is None else self._through_object(kind, key, notified, table)
            old = table.get(key)
            if kind == rtnetlink.RTM_NEWROUTE:
                if old is path and nlflags & _CERTAIN:
                    continue
                new: Entry | None = path if old is None else inserted(old, path, nlflags)
            else:
                new = None if old is path else removed(old, path)
            if new is not path and isinstance(new, Path):
                new = self.reader.intern(new)  # a path whose hops have changed: one object for all equal ones
            self._put(table, key, path, old, new)

    def _through_object(self, kind: int, key: int, path: Path, table: dict[int, Entry]) -> Path:
        """A path that uses a nexthop object, with its next hops; in a delete, with those that are known for it."""
        if self._last_flat is None:
            self._last_flat = self.flattened(path)
        if kind == rtnetlink.RTM_DELROUTE and self._last_flat not in paths_of(table.get(key)):
            # The object may have changed, or be gone, before its route is deleted.
            known = [p for p in alike_among(paths_of(table.get(key)), path) if p.nh_id == path.nh_id]
            if len(known) == 1:
                return known[0]
        return self._last_flat

    def flattened(self, path: Path) -> Path:
        """A path with its next hops. A missing object is noted for :meth:`resolve`."""
        if not nexthops.lacks_hops(path):
            return path
        scope = (path.family, path.table)
        flat, named = self.objects.flattened(path)
        self._note_uplinks(flat)
        for number in named:
            self.nexthop_objects.setdefault(number, set()).add(scope)
        if nexthops.lacks_hops(flat):
            self._unresolved.add(scope)
        return self.reader.intern(flat)

    def resolve(self) -> None:
        """Add next hops to routes whose objects have been fetched; objects that are still missing are noted again."""
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
        """Pass on a message about another's path. If that replaced one of ours, ours has gone without an event."""
        known = paths_of(self.tables.get((path.family, path.table), {}).get(key))
        if kind == rtnetlink.RTM_NEWROUTE and nlflags & rtnetlink.NLM_F_REPLACE and alike_among(known, path):
            self.rereads[Reread(path.family, path.table)] = None
        if self._rejected is not None:
            self._rejected(kind, key, path)

    def _home(self, path: Path) -> dict[int, Entry] | None:
        """The table that a path belongs to, None if it is not kept. Decided once for consecutive equal paths."""
        if path is not self._last:
            self._last, self._last_home, self._last_flat = path, None, None
            if self.follows(path.table) and self.keeps(path):
                self._note_uses(path)
                self._last_home = self.tables.setdefault((path.family, path.table), {})
        return self._last_home

    def keeps(self, path: Path) -> bool:
        """Whether a path of a followed table belongs to the replica."""
        return "cloned" not in path.extras and self._accepts(path)

    def _note_uses(self, path: Path) -> None:
        """Remember the nexthop object and the source that a path uses: events about them may change it silently."""
        self._note_uplinks(path)
        if path.nh_id is not None:
            self.nexthop_objects.setdefault(path.nh_id, set()).add((path.family, path.table))
        if path.src is not None:
            where = self.sources.setdefault(path.src, set())
            where.update(Reread(path.family, path.table, oif) for oif in path.links or (None,))

    def _note_uplinks(self, path: Path) -> None:
        for hop in path.nexthops:
            if hop.gateway is not None and hop.oif is not None:
                self.uplinks.add((path.family, hop.oif))

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
        if self.recording and differ(old, new, self.minds_tos):
            scope = (path.family, path.table)
            changed = self.changed.get(scope)
            if changed is None:
                changed = self.changed[scope] = set()
            changed.add(key)

    def _doubt(self, key: int, path: Path, old: Entry, new: Entry | None) -> None:
        """Note a notification that may be older than the dump: each path ends up right, but not their order or hops."""
        scope = (path.family, path.table)
        replaced = self._fresh[scope]
        if is_manifold(old) or is_manifold(new) or (new is None and key in replaced):
            self.doubted[scope] = None
        elif new is not None and new != old:
            replaced.add(key)  # it may have been one of several, of which another is deleted before this one is as read

    # -- dumps

    def reading(self, scope: Reread) -> Reading:
        """Start to apply a fresh dump of *scope*."""
        return Reading(self, scope)


class Reading:
    """A dump that is being applied: feed it every chunk, then finish. The replica does not change before that."""

    def __init__(self, rib: Rib, scope: Reread) -> None:
        self._rib = rib
        self._scope = scope
        self.found: dict[int, Entry] = {}
        self._hiding: list[int] = []  # keys at which an IPv6 multipath route may hide other paths

    def feed(self, chunk: bytes) -> None:
        """Read a chunk of whole messages."""
        rib, found = self._rib, self.found
        last: Path | None = None
        wanted: Path | None = None
        hides = False
        for _kind, _nlflags, _start, _end, key, path in rib.reader.scan(chunk):
            if path is not last and path is not None:  # consecutive routes often have the same path
                last, wanted = path, None
                if path.table == self._scope.table and rib.keeps(path):
                    rib._note_uses(path)
                    wanted = rib.flattened(path)
                hides = wanted is not None and wanted.family == AF_INET6 and len(wanted.nexthops) > 1
            if wanted is not None and path is not None:
                old = found.get(key)
                if old is not None and wanted.family == AF_INET6 and wanted in paths_of(old):
                    continue  # an IPv6 dump repeats routes when others are added before them
                found[key] = wanted if old is None else (*paths_of(old), wanted)
                if hides:
                    self._hiding.append(key)

    def finish(self, whole: bool = True) -> None:
        """Make the replica equal to the dump, within its scope. A dump that is not *whole* removes nothing."""
        rib, scope = self._rib, (self._scope.family, self._scope.table)
        if not rib.follows(self._scope.table):
            return  # no longer
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
            if before is not entry and differ(before, entry, self._rib.minds_tos):
                changed.add(key)
        self._record(changed)

    def _merge(self, table: dict[int, Entry], oif: int) -> None:
        """Replace the paths over one link; request the whole table where the dump of the link leaves it ambiguous."""
        known: dict[int, bool] = {}  # by identity: a table has few different paths
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
            if differ(before, after, self._rib.minds_tos):
                changed.add(key)
        self._rib.replace((self._scope.family, self._scope.table), table)
        self._record(changed)

    def _record(self, changed: set[int]) -> None:
        if changed and self._rib.recording:
            scope = (self._scope.family, self._scope.table)
            self._rib.changed.setdefault(scope, set()).update(changed)
