# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A re-read of the routes over one link: what the replica has after it, and when the table has to be re-read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import best_path
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.paths import (
    MAIN,
    PREFIX,
    dump_into,
    hop,
    known,
    new,
    replica,
    v4,
    v6,
    whole,
)


@st.composite
def tables(draw: st.DrawFn) -> dict[Prefix, list[Path]]:
    """The routes of a table as configured: few prefixes, one or more paths each, hops over links 3, 4 and 5."""
    hops = st.sampled_from(("192.0.2.1@3", "192.0.2.2@3", "@4", "198.51.100.1@5", "203.0.113.1@4"))
    found: dict[Prefix, list[Path]] = {}
    for number in range(draw(st.integers(1, 5))):
        paths = found[Prefix.parse(f"10.{number}.0.0/16")] = []
        for metric in range(draw(st.integers(1, 2))):
            chosen = draw(st.lists(hops, min_size=1, max_size=3, unique=True))
            paths.append(v4(*chosen, metric=metric))
    return found


def seen(table: dict[Prefix, list[Path]], down: set[int]) -> dict[Prefix, list[Path]]:
    """What a dump shows while some links are down: living hops only, and no route without any."""
    found = {}
    for prefix, paths in table.items():
        living = [path.with_nexthops(*(hop for hop in path.nexthops if hop.oif not in down)) for path in paths]
        found[prefix] = [path for path in living if path.nexthops]
    return found


def read_table(rib: Rib, scope: Reread, configured: dict[Prefix, list[Path]], down: set[int]) -> None:
    """Apply a dump. That of a link has the routes which were configured over it, even if that hop is dead now."""
    reading = rib.reading(scope)
    for prefix, paths in configured.items():
        for path in paths:
            if scope.oif is not None and scope.oif not in path.oifs:
                continue
            for visible in seen({prefix: [path]}, down)[prefix]:
                reading.feed(new(visible, 2, prefix))
    reading.finish()


@settings(max_examples=200)
@given(tables(), st.sets(st.sampled_from((3, 4, 5)), max_size=2), st.sampled_from((3, 4, 5)))
def test_a_reread_of_one_link_finds_what_one_of_the_table_finds(
    configured: dict[Prefix, list[Path]], down: set[int], link: int
) -> None:
    rib = Rib([MAIN])
    read_table(rib, Reread(AF_INET, MAIN), configured, down)
    rib.recording = True
    before = {prefix: best_path(known(rib, AF_INET, prefix=prefix)) for prefix in configured}
    down = down ^ {link}  # goes down or comes up, without a route event
    rib.ask(link)
    while rib.rereads:
        for scope in rib.take_rereads():
            read_table(rib, scope, configured if scope.family == AF_INET else {}, down)
    expected = seen(configured, down)
    assert {prefix: known(rib, AF_INET, prefix=prefix) for prefix in configured} == {
        prefix: tuple(paths) for prefix, paths in expected.items()
    }
    after = {prefix: best_path(tuple(paths)) for prefix, paths in expected.items()}
    moved = {prefix.key for prefix in configured if before[prefix] != after[prefix]}
    assert rib.take_changed().get((AF_INET, MAIN), set()) == moved


def test_a_group_route_missing_from_the_dump_of_a_link_may_have_its_other_hops() -> None:
    # The group has lost the member over the link (carrier loss), so that the dump of the link omits the route.
    rib = replica()
    rib.tables[AF_INET, MAIN][PREFIX[AF_INET].key] = v4("192.0.2.1@3", "198.51.100.1@5", nh_id=7)
    rib.reading(Reread(AF_INET, MAIN, 3)).finish()
    assert rib.take_rereads() == whole(AF_INET)
    assert known(rib, AF_INET) != ()


def test_deleting_a_link_deletes_its_multipath_routes_as_a_whole() -> None:
    # fib_sync_down_dev: a route with a hop over a deleted link is deleted as a whole, even if that hop was dead before.
    rib = replica()
    multipath, other = v4("198.51.100.1@5", dead_links=(3,)), v4("198.51.100.2@5", metric=9)
    rib.tables[AF_INET, MAIN][PREFIX[AF_INET].key] = (multipath, other)
    rib.reading(Reread(AF_INET, MAIN, 3)).finish()
    assert rib.take_rereads() == []
    assert known(rib, AF_INET) == (other,)


def test_a_prefix_on_many_links_is_reread_by_one_of_them() -> None:
    # Such as fe80::/64, which is on each of them with the same metric.
    links = [v6(f"@{number}", metric=256) for number in range(3, 9)]
    rib = replica(*links)
    rib.reading(Reread(AF_INET6, MAIN, 5)).finish()
    assert known(rib, AF_INET6) == (*links[:2], *links[3:])
    dump_into(rib, Reread(AF_INET6, MAIN, 6), [links[3]])
    assert rib.take_rereads() == []
    dump_into(rib, Reread(AF_INET6, MAIN, 5), [links[2]])  # back, at an unknown place
    assert rib.take_rereads() == whole(AF_INET6)


def test_a_link_down_needs_no_reread_of_the_table_if_its_prefixes_have_no_other_paths() -> None:
    rib = Rib([MAIN])
    table = {Prefix.parse(f"10.{number}.0.0/16"): [v4(f"192.0.2.1@{3 + number % 2}")] for number in range(10)}
    read_table(rib, Reread(AF_INET, MAIN), table, set())
    rib.ask(3)
    (scope, _ipv6) = rib.take_rereads()
    assert scope == Reread(AF_INET, MAIN, 3)
    read_table(rib, scope, {}, {3})
    assert rib.take_rereads() == []
    assert {path.nexthops for path in map(best_path, rib.tables[AF_INET, MAIN].values()) if path} == {
        (hop("192.0.2.1@4"),)
    }
    assert len(rib.tables[AF_INET, MAIN]) == 5
