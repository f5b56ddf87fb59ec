# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that an IPv6 dump hides between the hops of a multipath route: kept while hidden, re-read afterwards."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import RTM_NEWROUTE
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import (
    AMBIGUOUS,
    Entry,
    best_path,
    maybe_hidden,
    merged,
    removed,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib

MAIN = 254
KEY = Prefix.parse("fd10::/32").key


def route(*hops: tuple[str, int], metric: int = 1024, nh_id: int | None = None) -> Path:
    """Gateway (empty: none) and link of each hop."""
    made = (NextHop(Address.parse(gateway) if gateway else None, oif) for gateway, oif in hops)
    return Path(AF_INET6, MAIN, metric=metric, nexthops=tuple(made), nh_id=nh_id)


FIRST, SECOND, THIRD = ("fd00:1::2", 3), ("fd00:2::2", 5), ("fd00:3::2", 6)
SEVERAL = route(FIRST, SECOND)
DEVICE = route(("", 4))


def read(rib: Rib, *paths: Path) -> Entry | None:
    """The entry of the prefix after a dump of its table that shows these paths."""
    reading = rib.reading(Reread(AF_INET6, MAIN))
    for path in paths:
        reading.feed(RouteWriter(RTM_NEWROUTE, 2).message(KEY, path))
    reading.finish()
    return rib.tables[AF_INET6, MAIN].get(KEY)


@pytest.mark.parametrize(
    ("known", "shown", "kept"),
    [
        (DEVICE, SEVERAL, True),
        (route(("", 4), nh_id=7), SEVERAL, True),
        (
            route(("", 4), metric=5),
            SEVERAL,
            False,
        ),  # of another metric, hence before or after the hops, where a dump shows it
        (DEVICE, route(FIRST), False),
        (DEVICE, route(FIRST, SECOND, nh_id=7), False),  # an object's hops are one route, with nothing in between
        (route(THIRD), SEVERAL, False),  # would be a third hop
    ],
)
def test_only_a_path_that_a_dump_may_hide_survives_one_without_it(known: Path, shown: Path, kept: bool) -> None:
    assert maybe_hidden([known], [shown]) == ([known] if kept else [])


def test_a_hidden_path_is_kept_after_the_one_that_hides_it_and_before_other_metrics() -> None:
    rib, last = Rib([MAIN]), route(THIRD, metric=2000)
    read(rib, SEVERAL, DEVICE, last)
    assert read(rib, SEVERAL, last) == (SEVERAL, DEVICE, last)
    assert read(rib, route(FIRST), last) == (route(FIRST), last)


@pytest.mark.parametrize("gone", [SEVERAL, route(FIRST), route(SECOND)])
def test_deleting_the_hops_that_hide_a_path_is_ambiguous(gone: Path) -> None:
    assert removed((SEVERAL, DEVICE), gone) is AMBIGUOUS


def test_deleting_a_hop_is_certain_while_several_are_left() -> None:
    three = route(FIRST, SECOND, THIRD)
    assert removed((three, DEVICE), route(THIRD)) == (SEVERAL, DEVICE)


def test_a_delete_is_certain_where_nothing_can_be_hidden() -> None:
    assert removed(SEVERAL, SEVERAL) is None
    assert removed((SEVERAL, route(("", 4), metric=2000)), SEVERAL) == route(("", 4), metric=2000)


def test_a_dump_of_its_own_link_does_not_show_a_hidden_path_either() -> None:
    found = merged((SEVERAL, DEVICE), None, oif=4)
    assert found == (SEVERAL, DEVICE)
    assert best_path(found) is SEVERAL
    assert merged((SEVERAL, route(("", 4), metric=5)), None, oif=4) == SEVERAL
