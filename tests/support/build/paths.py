# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short words for the paths of one prefix, for what the kernel says of them, and for what a replica knows of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELROUTE,
    RTM_NEWROUTE,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import paths_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib

MAIN = 254
PREFIX = {AF_INET: Prefix.parse("10.1.0.0/16"), AF_INET6: Prefix.parse("fd10::/32")}
CREATED = NLM_F_CREATE | NLM_F_EXCL
APPENDED = NLM_F_CREATE | NLM_F_APPEND


def hop(text: str) -> NextHop:
    """``192.0.2.2@3`` or ``@3``: gateway and link; ``*5`` behind it is the weight."""
    text, _star, weight = text.partition("*")
    gateway, _at, oif = text.partition("@")
    return NextHop(Address.parse(gateway) if gateway else None, int(oif), int(weight or 1))


def v4(*hops: str, **fields: Any) -> Path:
    return Path(AF_INET, nexthops=tuple(map(hop, hops)), **fields)


def v6(*hops: str, **fields: Any) -> Path:
    return Path(AF_INET6, nexthops=tuple(map(hop, hops)), **{"metric": 1024, **fields})


def message(kind: int, nlflags: int, path: Path, prefix: Prefix | None = None) -> bytes:
    return RouteWriter(kind, nlflags).message((prefix or PREFIX[path.family]).key, path)


def new(path: Path, nlflags: int = CREATED, prefix: Prefix | None = None) -> bytes:
    return message(RTM_NEWROUTE, nlflags, path, prefix)


def gone(path: Path, prefix: Prefix | None = None) -> bytes:
    return message(RTM_DELROUTE, 0, path, prefix)


def dump_into(rib: Rib, scope: Reread, paths: Iterable[Path], caught_up: bool = True) -> None:
    """Answer a re-read of the one prefix of these tests; *caught_up*: no notification came since the request."""
    reading = rib.reading(scope)
    for path in paths:
        if path.family == scope.family:
            reading.feed(new(path, 2))
    reading.finish()
    if caught_up:
        rib.caught_up()


def known(rib: Rib, family: int, table: int = MAIN, prefix: Prefix | None = None) -> tuple[Path, ...]:
    return paths_of(rib.tables.get((family, table), {}).get((prefix or PREFIX[family]).key))


def replica(*paths: Path) -> Rib:
    """A replica that has read these paths of the one prefix."""
    rib = Rib([MAIN])
    for family in (AF_INET, AF_INET6):
        dump_into(rib, Reread(family, MAIN), paths)
    rib.recording = True
    return rib


def whole(family: int) -> list[Reread]:
    return [Reread(family, MAIN)]
