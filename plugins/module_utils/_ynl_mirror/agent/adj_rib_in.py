# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Adj-RIB-In: all that one host has announced. Pure: the caller passes the time.

It is the one owner of the announced routes: everybody reads them, and only its methods change them. It outlives the
connections of the host: at the end of the first replay of a connection what that has not named is stale, routes as well
as the host's word on whether it forwards. Nexthop objects, and what there was no room for, are forgotten at once.

An announced route leaves in one of two ways. Without a guard it is removed when the host withdraws it. With one it is
*held* first: it stays until the guard releases it, and is removed then, or the host announces it again.

What there was no room for is not known, but its packets follow the next shorter prefix. That one is *shadowed*: nobody
may offload it, nor a new one, until the host has replayed its routes on another connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

from ..model.routes import WIDTH, Path, TableKey
from .guard import Guard, Installed, Keys
from .host_nexthops import HostNexthops
from .limits import HostMemory

#: Prefixes by family.
Touched = dict[int, set[int]]


class Run:
    """Updates with one path, which come in runs: what they change.

    *sent* is the path as the host sent it, *path* has the next hops of its nexthop object too. If the run is not
    *simple*, :meth:`AdjRibIn.announce` has to look at each route; else the intake writes into the dictionaries itself.
    """

    __slots__ = ("fits", "named", "path", "routes", "scope", "sent", "simple", "waiting")

    def __init__(self, scope: TableKey, sent: Path) -> None:
        self.scope = scope
        self.sent = self.path = sent
        self.routes: dict[int, Path] = {}
        self.named: dict[int, Path] | None = None  # what the replay has announced of this table, if that matters
        self.waiting: set[int] | None = None  # the table's withdrawals that are held
        self.fits = True  # there is room for the path
        self.simple = True


class AdjRibIn:
    """What one host has announced, by its (family, table); *tables* are its tables, those that come first win."""

    def __init__(self, tables: tuple[int, ...], guard: Guard | None = None) -> None:
        self.tables = tables
        self.routes: dict[TableKey, dict[int, Path]] = {}
        self.guard = guard or Guard()
        self.memory: HostMemory | None = None  # how much is stored; None: everything
        self.nexthops = HostNexthops()
        self.over_limit = 0  # announcements that were ignored for lack of room, since the host connected
        self.shadowed: dict[int, set[int]] = {}  # by family: prefixes around those that were ignored
        self._newly_shadowed: Touched = {}
        #: Whether the host forwards, by (family, ifindex of the host); -1: all links, -2: new ones (NETCONFA_IFINDEX).
        self.forwarding: dict[tuple[int, int], bool] = {}
        self.on_forwarding: Callable[[], None] = lambda: None
        self._told: set[tuple[int, int]] | None = None  # of those, the ones that this connection has named so far
        # What this replay has announced so far, by table; None for a table of which nothing was known before, where
        # every route is from this replay.
        self._named: dict[TableKey, dict[int, Path] | None] = {}
        self._parts: dict[TableKey, dict[int, Path] | None] = {}  # what was in its place before a part was sent again

    # -- reading

    def path(self, family: int, key: int) -> Path | None:
        """The path of a prefix, from the first of the host's tables that has one."""
        for table in self.tables:
            path = self.routes.get((family, table), {}).get(key)
            if path is not None:
                return path
        return None

    def keys(self, family: int) -> list[int]:
        """Every announced prefix."""
        tables = [self.routes.get((family, table), {}) for table in self.tables]
        if len(tables) == 1:
            return list(tables[0])
        return list(dict.fromkeys(key for table in tables for key in table))

    @property
    def number(self) -> int:
        """How many routes are announced."""
        return sum(map(len, self.routes.values()))

    def as_sent(self, family: int, keys: Iterable[int]) -> list[tuple[int, Path]]:
        """The announced routes of these prefixes in each table, as the host sent them."""
        found = []
        for table in self.tables:
            routes = self.routes.get((family, table), {})
            found += [(key, self.nexthops.sent_path(key, routes[key])) for key in keys if key in routes]
        return found

    # -- connections and replays

    def connected(self) -> None:
        """A new connection of the host begins, and with it a replay."""
        self.nexthops = HostNexthops(None if self.memory is None else self.memory.object_hops)
        self.over_limit = 0
        self.shadowed.clear()
        self._told = set()
        self.begin_replay()

    def begin_replay(self) -> None:
        """From now on the host announces all its routes again: what it does not name is stale at the end."""
        self._parts.clear()
        self._named = {scope: {} if routes else None for scope, routes in self.routes.items()}

    def end_replay(self) -> Keys:
        """The host has announced all its routes: the stale ones, with those that are held."""
        for scope in list(self._parts):
            self.end_part(scope)
        named = self.forget_replay()
        stale = {scope: self.routes[scope].keys() - keys.keys() for scope, keys in named.items() if keys is not None}
        for scope, waiting in self.guard.waiting.items():
            stale[scope] = stale.get(scope, set()) | waiting
        told, self._told = self._told, None
        if told is not None and not told.issuperset(self.forwarding):
            for link in self.forwarding.keys() - told:
                del self.forwarding[link]
            self.on_forwarding()
        return stale

    def forget_replay(self) -> dict[TableKey, dict[int, Path] | None]:
        """Nothing is stale any more; returns what the replay has named."""
        named, self._named = self._named, {}
        self._parts.clear()
        return named

    def begin_part(self, scope: TableKey) -> None:
        """A part of a table is sent again, up to `end_part`."""
        self._parts[scope] = self._named.get(scope)
        self._named[scope] = {}

    def end_part(self, scope: TableKey) -> dict[int, Path] | None:
        """The part has been sent: what it had. None if a replay has begun or ended in between, which is more recent."""
        if scope not in self._parts:
            return None
        here, before = self._named.pop(scope, None), self._parts.pop(scope)
        if before is not None:  # a replay goes on
            before.update(here or {})
            self._named[scope] = before
        return here

    # -- announcements

    def has_room(self, size: int) -> bool:
        """Whether all prefixes fit that *size* bytes of messages can announce."""
        return self.memory is None or self.memory.room(size) is None

    def run(self, path: Path, now: float, roomy: bool) -> Run:
        """The updates with a path that follow. *roomy*: there is room for all prefixes that may come."""
        scope = (path.family, path.table)
        run = Run(scope, path)
        run.fits = path.nh_id is None or self._may_resolve(path, now)
        if run.fits:
            run.path = path if path.nh_id is None else self.nexthops.resolve(path)
            run.fits = self.memory is None or self.memory.fits(run.path, now)
        run.routes = self.routes.setdefault(scope, {})
        run.named = self._named.get(scope)
        run.waiting = self.guard.waiting.get(scope)
        run.simple = roomy and run.fits and path.nh_id is None and not self.nexthops.sent and not self.over_limit
        return run

    def _may_resolve(self, path: Path, now: float) -> bool:
        """Whether there is room for the next hops of its object: to make them in vain would take long."""
        size = self.nexthops.size(path)
        return size is None or self.memory is None or self.memory.fits_hops(size, now)

    def announce(self, run: Run, key: int) -> bool:
        """Store a route, if there is room for it. One that it replaces is forgotten otherwise."""
        routes = run.routes
        if not run.fits or (key not in routes and self.memory is not None and self.memory.full):
            self._ignore(run, key)
            return False
        if self.over_limit and key not in routes:
            self._shadow(run.scope[0], key)
        routes[key] = run.path
        self.nexthops.announce(key, run.sent)
        if run.waiting:
            run.waiting.discard(key)
        if run.named is not None:
            run.named[key] = run.path
        return True

    def move(self, now: float) -> Touched:
        """Give the routes whose nexthop objects have changed the next hops that these have now; returns the prefixes.

        A route that is held stays as it is until its withdrawal is applied or taken back.
        """
        moved: Touched = {}
        for sent, keys in self.nexthops.take_changed():
            run = self.run(sent, now, roomy=True)
            touched = moved.setdefault(sent.family, set())
            for key in keys:
                if key not in run.routes:
                    self.nexthops.drop(run.scope, key)
                elif run.waiting and key in run.waiting:
                    continue
                elif run.fits:
                    run.routes[key] = run.path
                    if run.named is not None and key in run.named:
                        run.named[key] = run.path
                else:
                    self._ignore(run, key)
                touched.add(key)
        return moved

    def take_shadowed(self, family: int) -> set[int]:
        """The prefixes that have been shadowed since the last call."""
        return self._newly_shadowed.pop(family, set())

    def _shadow(self, family: int, key: int) -> None:
        if key not in self.shadowed.setdefault(family, set()):
            self.shadowed[family].add(key)
            self._newly_shadowed.setdefault(family, set()).add(key)

    def _shadow_around(self, family: int, key: int) -> None:
        """Shadow the next shorter prefix that is announced."""
        width = WIDTH[family]
        length, network = key >> width, key & ((1 << width) - 1)
        for shorter in range(length - 1, -1, -1):
            around = shorter << width | network >> (length - shorter)
            if self.path(family, around) is not None:
                self._shadow(family, around)
                return

    def _unknown(self, family: int, key: int) -> None:
        """A prefix is not announced any more: what was ignored inside of it follows the next shorter one."""
        if key in self.shadowed.get(family, ()):
            self.shadowed[family].discard(key)
            self._shadow_around(family, key)

    def _ignore(self, run: Run, key: int) -> None:
        self.over_limit += 1
        self._forget(run, key)
        self._shadow_around(run.scope[0], key)

    def _forget(self, run: Run, key: int) -> None:
        if run.routes.pop(key, None) is None:
            return
        self.nexthops.drop(run.scope, key)
        if run.named is not None:
            run.named.pop(key, None)
        if run.waiting:
            run.waiting.discard(key)

    # -- withdrawals

    def withdraw(self, run: Run, key: int) -> None:
        """The host withdraws a route: removed, or held if there is a guard."""
        if run.named is not None:
            run.named.pop(key, None)
        if not self.guard.enabled:
            run.routes.pop(key, None)
            self._unknown(run.scope[0], key)
            if self.nexthops.sent:
                self.nexthops.drop(run.scope, key)
        elif key in run.routes:
            if run.waiting is None:
                run.waiting = self.guard.waiting.setdefault(run.scope, set())
            run.waiting.add(key)

    def withdraw_all(self, scope: TableKey, keys: set[int]) -> Touched:
        """The host no longer announces these; returns those that were removed and not held."""
        if self.guard.enabled and keys:
            self.guard.waiting.setdefault(scope, set()).update(keys)
            return {}
        return self.remove({scope: keys})

    def hold(self, stale: Keys) -> None:
        """Hold these, and no others."""
        self.guard.waiting = stale

    def look(self, installed: Installed, now: float) -> Touched:
        """Remove what the guard releases now; returns the prefixes."""
        return self.remove(self.guard.look(installed, now))

    def release(self) -> Touched:
        """Remove all that is held; returns the prefixes."""
        return self.remove(self.guard.release())

    def remove(self, gone: Keys) -> Touched:
        """Remove these routes; returns the prefixes."""
        touched: Touched = {}
        for scope, keys in gone.items():
            routes = self.routes.get(scope, {})
            for key in keys:
                routes.pop(key, None)
            for key in self.shadowed.get(scope[0], set()).intersection(keys):
                self._unknown(scope[0], key)
            if self.nexthops.sent:
                for key in keys:
                    self.nexthops.drop(scope, key)
            touched.setdefault(scope[0], set()).update(keys)
        return touched

    def clear(self) -> Touched:
        """Remove all routes: the lease of the host has ended. Nothing is left to confirm."""
        self.guard.release()
        return self.remove({scope: set(routes) for scope, routes in self.routes.items()})

    # -- what the host says about itself

    def set_forwarding(self, family: int, index: int, forwards: bool) -> None:
        """The host forwards packets of this family that come in by this link, or does not."""
        if self._told is not None:
            self._told.add((family, index))
        if self.forwarding.get((family, index)) is not forwards:
            self.forwarding[family, index] = forwards
            self.on_forwarding()
