# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nexthop objects of a host: what it sent of them, and which announced routes get their next hops from which. Pure.

By default FRR's zebra sends objects and groups (RTM_NEWNEXTHOP) and routes that name one by its number. A group is
replaced in place, with no word about its routes: all of them move. The objects are those of one connection. A producer
sends them again when it connects, under other numbers.
"""

from __future__ import annotations

from ..model.routes import AF_INET, AF_INET6, Path, TableKey
from ..netlink import rtnetlink
from ..replica.nexthops import NexthopObject, Objects, decode, lacks_hops

#: Families of objects; a group has none.
_FAMILIES = (0, AF_INET, AF_INET6)
#: Members of a group at most; FRR has up to 256. A short message about a route brings in all of them.
MOST_MEMBERS = 1024
#: Next hops of resolved paths that are cached; then the cache is dropped.
_CACHED_HOPS = 65536


def is_ours(message: bytes, start: int, end: int) -> bool:
    """Whether an object of this message may be used by IPv4 and IPv6 routes."""
    return end - start <= rtnetlink.NLMSGHDR.size or message[start + rtnetlink.NLMSGHDR.size] in _FAMILIES


class HostNexthops:
    """The objects, at most *most* next hops and members of groups in all; None: any number.

    A route that names an object is announced by two paths: the one that the host sent, which has the number only, and
    the *resolved* one, which has the next hops as well. As long as an object is unknown both are the same.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.spent = 0
        self.refused = 0  # objects that there was no room for
        #: The paths as the host sent them, by table and prefix, of the routes that name an object.
        self.sent: dict[TableKey, dict[int, Path]] = {}
        self._objects = Objects()
        self._keys: dict[Path, set[int]] = {}  # prefixes by the path that the host sent
        self._paths: dict[int, set[Path]] = {}  # those paths by the object that they name
        self._groups: dict[int, set[int]] = {}  # groups by member
        self._changed: set[int] = set()
        self._resolved: dict[Path, Path] = {}
        self._cached_hops = 0

    # -- objects

    def learn(self, kind: int, message: bytes) -> None:
        """Apply an RTM_NEWNEXTHOP or RTM_DELNEXTHOP. WireError if it is malformed."""
        found = decode(message)
        old = self._objects.known.get(found.number)
        new = found if kind == rtnetlink.RTM_NEWNEXTHOP else None
        if old == new:
            return
        if old is not None:
            self._forget(old)
        if new is not None:
            self._keep(new)
        self._changed.add(found.number)
        self._drop_cache()

    def _keep(self, new: NexthopObject) -> None:
        size = _size(new)
        if size > MOST_MEMBERS or (self.most is not None and self.spent + size > self.most):
            self.refused += 1  # its routes wait, like those of an object that was never sent
            return
        self.spent += size
        self._objects.known[new.number] = new
        for member, _weight in new.members:
            self._groups.setdefault(member, set()).add(new.number)

    def _forget(self, old: NexthopObject) -> None:
        self.spent -= _size(old)
        del self._objects.known[old.number]
        for member, _weight in old.members:
            groups = self._groups.get(member)
            if groups is not None:
                groups.discard(old.number)
                if not groups:
                    del self._groups[member]

    def size(self, path: Path) -> int | None:
        """How many next hops a path is about to get; None if it has them, or its object is unknown."""
        if path in self._resolved or path.nh_id is None or not lacks_hops(path):
            return None
        found = self._objects.known.get(path.nh_id)
        return None if found is None else _size(found)

    def _drop_cache(self) -> None:
        self._resolved.clear()
        self._cached_hops = 0

    def resolve(self, path: Path) -> Path:
        """A path with the next hops of the object that it names; the same path while object or member is unknown."""
        if not lacks_hops(path):
            return path
        found = self._resolved.get(path)
        if found is None:
            found, _named = self._objects.flattened(path)
            self._objects.missing.clear()  # nobody is asked for them: they come, or they do not
            if self._cached_hops > _CACHED_HOPS:
                self._drop_cache()
            self._cached_hops += 1 + len(found.nexthops)
            self._resolved[path] = found
        return found

    # -- the routes that name them

    def sent_path(self, key: int, path: Path) -> Path:
        """The path as the host sent it, given the one with next hops."""
        return self.sent.get((path.family, path.table), {}).get(key, path)

    def announce(self, key: int, path: Path) -> None:
        """The host announces a prefix by this path, as it sent it."""
        if not lacks_hops(path):
            self.drop((path.family, path.table), key)
            return
        sent = self.sent.setdefault((path.family, path.table), {})
        old = sent.get(key)
        if old is path:
            return
        if old is not None:
            self._release(key, old)
        sent[key] = path
        keys = self._keys.get(path)
        if keys is None:
            keys = self._keys[path] = set()
            self._paths.setdefault(path.nh_id or 0, set()).add(path)
        keys.add(key)

    def drop(self, scope: TableKey, key: int) -> None:
        """The host announces a prefix no longer, or without an object."""
        old = self.sent.get(scope, {}).pop(key, None)
        if old is not None:
            self._release(key, old)

    def _release(self, key: int, path: Path) -> None:
        keys = self._keys[path]
        keys.discard(key)
        if not keys:
            del self._keys[path]
            paths = self._paths[path.nh_id or 0]
            paths.discard(path)
            if not paths:
                del self._paths[path.nh_id or 0]

    def take_changed(self) -> list[tuple[Path, list[int]]]:
        """Paths whose objects have changed since the last call, as the host sent them, each with its prefixes."""
        found: dict[Path, None] = {}
        for number in self._changed:
            for named in (number, *self._groups.get(number, ())):
                found.update(dict.fromkeys(self._paths.get(named, ())))
        self._changed.clear()
        return [(path, list(self._keys[path])) for path in found]


def _size(found: NexthopObject) -> int:
    return 1 + len(found.members)
