# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol of the wire audit: a table in buckets, the digest of a bucket, and the messages to compare them by.

A bucket is the prefixes whose keys leave the same remainder. The divisor is a prime, which also spreads routes that
follow a pattern (each 256th, all even). Both ends compute the same digest of the same routes, whatever their Python
version, hash seed or byte order. Pure: no socket, no clock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Callable, NamedTuple

from ..model.path_cache import ByPath
from ..model.routes import AF_INET, WIDTH, Path, TableKey
from ..netlink import rtnetlink

#: The netlink message type of the audit, far above those of the kernel (123 types in linux/rtnetlink.h today).
AUDIT = 0x7901
#: The number of buckets by the size of a table: (largest table in routes, buckets).
_SIZES = ((256, 1), (16384, 17), (1 << 64, 257))
MOST_BUCKETS = _SIZES[-1][1]
#: Version of digests and messages; messages of another version are ignored.
_VERSION = 1
#: Version, what, family, nothing, table, number of buckets, bucket, digest; in network order.
_BODY = struct.Struct(">BBBxIII16s")
#: Keys put into buckets before other tasks get a turn (about 2 ms).
_SLICE = 32768
#: After this many changes the keys are put into buckets again.
_STALE = 65536

OPEN = 1  # both ways: compare a table, in this many buckets
CHECK = 2  # to the listener: requests the digest of a bucket
DIGEST = 3  # to the agent: of all that was sent before this message
FETCH = 4  # to the listener: requests the routes of a bucket
BEGIN = 5  # to the agent: the bucket's routes follow, up to END
END = 6


class Message(NamedTuple):
    """One message of the audit. *buckets* is their number in the table, *bucket* the one that the message is about."""

    what: int
    scope: TableKey
    buckets: int
    bucket: int = 0
    digest: bytes = bytes(16)

    def encode(self) -> bytes:
        """The netlink message."""
        family, table = self.scope
        body = _BODY.pack(_VERSION, self.what, family, table, self.buckets, self.bucket, self.digest)
        return rtnetlink.request(AUDIT, 0, body)

    def about(self, what: int, digest: bytes = bytes(16)) -> Message:
        """Another message about the same bucket."""
        return self._replace(what=what, digest=digest)


def decode(buffer: bytes, start: int, end: int) -> Message | None:
    """Read a message; None when it is of another version or malformed."""
    at = start + rtnetlink.NLMSGHDR.size
    if end - at != _BODY.size:
        return None
    version, what, family, table, buckets, bucket, digest = _BODY.unpack_from(buffer, at)
    if version != _VERSION or not OPEN <= what <= END or family not in WIDTH:
        return None
    if not bucket < buckets <= MOST_BUCKETS:
        return None
    return Message(what, (family, table), buckets, bucket, digest)


def buckets_for(routes: int) -> int:
    """The number of buckets for a table of *routes* routes: each is compared in a few milliseconds."""
    return next(buckets for most, buckets in _SIZES if routes <= most)


# -- digests


def _mark(path: Path) -> bytes:
    """The digest of a path: the same for equal paths, on every machine."""
    hops = [
        (None if hop.gateway is None else (hop.gateway.family, hop.gateway.value), hop.oif, hop.weight, hop.onlink)
        for hop in path.nexthops
    ]
    numbers = (path.type, path.protocol, path.scope, path.tos, path.metric, path.mtu)
    source = None if path.src is None else (path.src.family, path.src.value)
    text = repr((numbers, source, hops)) + (path.reason or "")  # without a reason as agents before there were any
    return blake2b(text.encode(), digest_size=8).digest()


class Digester:
    """Computes digests of buckets, and caches the digest of each path."""

    def __init__(self) -> None:
        self._marks: ByPath[bytes] = ByPath()

    def of(self, family: int, routes: Iterable[tuple[int, Path]]) -> bytes:
        """The digest of (prefix key, path) pairs of one table, in any order; each prefix once."""
        size = 5 if family == AF_INET else 17  # bytes of a key: the address and the length
        marks = self._marks
        last: Path | None = None
        mark = b""
        parts: list[bytes] = []
        for key, path in routes:
            if path is not last:  # routes come in runs with one path
                last, found = path, marks.get(path)
                if found is None:
                    found = marks.keep(path, _mark(path))
                mark = found
            parts.append(key.to_bytes(size, "big") + mark)
        parts.sort()
        return blake2b(b"".join(parts), digest_size=16).digest()


# -- buckets


class Buckets:
    """The keys of one table, by bucket, while one bucket after the other is compared.

    The routes of a bucket are looked up in the table at the time of the comparison. The keys here are those that the
    table had at first and those touched since, so a route that is added or removed meanwhile makes no difference.
    """

    def __init__(self, scope: TableKey, buckets: int) -> None:
        self.scope = scope
        self.number = buckets
        self._keys: list[list[int]] = []
        self._touched: set[int] = set()
        self._most = 2 * _STALE

    def fill(self, keys: list[int]) -> Iterator[None]:
        """Put the table's keys into buckets; yields where others may get a turn. Keys may be touched meanwhile."""
        self._touched = set()
        self._keys = [[] for _bucket in range(self.number)]
        number, homes = self.number, self._keys
        for start in range(0, len(keys), _SLICE):
            for key in keys[start : start + _SLICE]:
                homes[key % number].append(key)
            yield

    def touch(self, keys: Iterable[int]) -> None:
        """These keys have changed, or may have."""
        self._touched.update(keys)

    def forget_gone(self, table: Mapping[int, Path]) -> None:
        """Drop keys that the table does not have: if one is added again it is touched again."""
        if len(self._touched) > self._most:
            self._touched = {key for key in self._touched if key in table}
            self._most = 2 * max(_STALE, len(self._touched))

    @property
    def stale(self) -> bool:
        """Whether enough keys were touched that all should be put into buckets again."""
        return len(self._touched) > _STALE

    def keys(self, bucket: int) -> list[int]:
        """All keys that the table may have in a bucket, each once."""
        number = self.number
        known = self._keys[bucket]
        if not self._touched:
            return known
        return list(dict.fromkeys((*known, *(key for key in self._touched if key % number == bucket))))

    def routes(self, bucket: int, table: Mapping[int, Path]) -> list[tuple[int, Path]]:
        """The routes that *table* has in a bucket."""
        get: Callable[[int], Path | None] = table.get
        return [(key, path) for key in self.keys(bucket) for path in (get(key),) if path is not None]
