# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica of routing tables: every ambiguous or silent event of the kernel, and random histories.

Two small models have the behaviour of the kernel, as observed on Linux 6.18 (see ``fib_table_insert`` and
``fib6_add_rt2node``): the flags of each notification, the place of a route among others, the content of a dump. After
random histories of the models the replica must equal the dump, at whatever point that dump was taken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTNH_F_DEAD,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELROUTE,
    RTM_NEWROUTE,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import (
    AMBIGUOUS,
    best_path,
    inserted,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.paths import (
    APPENDED,
    CREATED,
    MAIN,
    PREFIX,
    dump_into,
    gone,
    hop,
    known,
    new,
    replica,
    v4,
    v6,
    whole,
)

# -- IPv4: paths of one prefix, by tos and metric, and within those in an order that only the kernel knows for certain


def test_append_adds_after_and_prepend_before_paths_of_the_same_metric() -> None:
    one, two, three = v4("192.0.2.1@3"), v4("192.0.2.2@3"), v4("192.0.2.3@3")
    low, high = v4("192.0.2.8@3", metric=9), v4("192.0.2.9@3", tos=16)
    rib = replica(one)
    for packet in (new(low), new(high), new(two, APPENDED), new(three, NLM_F_CREATE)):
        rib.apply(packet)
    assert known(rib, AF_INET) == (high, three, one, two, low)
    assert rib.take_rereads() == []


def test_replace_is_applied_to_a_single_path_and_causes_a_reread_with_several() -> None:
    one, two, three = v4("192.0.2.1@3"), v4("192.0.2.2@3"), v4("192.0.2.3@3")
    rib = replica(one, v4("192.0.2.9@3", metric=7))
    rib.apply(new(two, NLM_F_REPLACE))
    assert known(rib, AF_INET) == (two, v4("192.0.2.9@3", metric=7))
    assert rib.take_rereads() == []
    rib.apply(new(one, APPENDED))
    rib.apply(new(three, NLM_F_REPLACE))
    assert known(rib, AF_INET)[:2] == (two, one)
    assert rib.take_rereads() == whole(AF_INET)


def test_replace_with_another_metric_adds_a_route() -> None:
    one, other = v4("192.0.2.1@3"), v4("192.0.2.1@3", metric=5)
    rib = replica(one)
    rib.apply(new(other))  # the flags are those of what the kernel did, not of the request
    assert known(rib, AF_INET) == (one, other)


def test_a_route_notified_as_the_first_of_its_metric_causes_a_reread_if_another_is_known() -> None:
    # A link went down and silently took the old route along, or the dump is newer than the queue.
    rib = replica(v4("192.0.2.1@3"))
    rib.apply(new(v4("192.0.2.2@4"), CREATED))
    assert rib.take_rereads() == whole(AF_INET)


def test_a_delete_that_matches_no_known_path_causes_a_reread_and_of_an_unknown_metric_none() -> None:
    # A multipath route, one hop of which is silently dead, is deleted with its remaining hops.
    rib = replica(v4("192.0.2.1@3", "198.51.100.1@5"))
    rib.apply(gone(v4("192.0.2.1@3")))
    assert rib.take_rereads() == whole(AF_INET)
    rib.apply(gone(v4("192.0.2.1@3", metric=77)))
    rib.apply(gone(v4("192.0.2.1@3"), Prefix.parse("10.99.0.0/16")))
    assert rib.take_rereads() == []
    assert known(rib, AF_INET) == (v4("192.0.2.1@3", "198.51.100.1@5"),)


def test_routes_that_look_alike_by_their_dead_hops_cause_a_reread() -> None:
    # The first one was configured with a second hop, on a link that is down.
    one, other = v4("192.0.2.1@3"), v4("192.0.2.2@3")
    rib = replica(one)
    rib.apply(new(one, APPENDED))
    assert rib.take_rereads() == whole(AF_INET)
    rib = replica(one, other, one)
    rib.apply(new(v4("192.0.2.3@3"), APPENDED))
    assert known(rib, AF_INET) == (one, other, one, v4("192.0.2.3@3"))
    rib.apply(gone(one))
    assert rib.take_rereads() == whole(AF_INET)


def test_the_last_of_several_hops_has_no_weight() -> None:
    rib = replica(v6("fd00:2::3@5*5", "fd00:1::2@3"))
    rib.apply(gone(v6("fd00:1::2@3")))
    assert known(rib, AF_INET6) == (v6("fd00:2::3@5"),)


def test_an_ipv6_route_keeps_the_attributes_of_its_first_hop() -> None:
    rib = replica(v6("fd00:1::2@3", protocol=4))
    rib.apply(new(v6("fd00:2::3@5", "fd00:1::2@3", protocol=121, mtu=1400), APPENDED))
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3", "fd00:2::3@5", protocol=4),)
    assert rib.take_rereads() == []
    rib.apply(gone(v6("fd00:1::2@3", protocol=4)))  # the protocol of the second hop was never kept
    assert rib.take_rereads() == whole(AF_INET6)


def test_an_ipv6_hop_added_to_a_route_with_dead_hops_is_ambiguous() -> None:
    dead, more = v6(extras=("dead",), dead_links=(5,)), v6("fd00:1::2@3", protocol=121, dead_links=(5,))
    assert inserted(dead, more, APPENDED) is AMBIGUOUS
    assert inserted(dead, v6("fd00:1::2@3"), APPENDED) == (dead, v6("fd00:1::2@3"))  # none of its hops is dead
    assert inserted(replace(dead, metric=9), more, APPENDED) == (replace(dead, metric=9), more)


def test_the_best_path_has_no_tos_and_a_living_hop() -> None:
    for_tos, dead, good = v4("192.0.2.1@3", tos=8), Path(AF_INET, extras=("dead",)), v4("192.0.2.2@3", metric=9)
    assert best_path((for_tos, dead, good)) == good
    assert best_path((for_tos, dead)) is None
    assert best_path(for_tos) is best_path(dead) is best_path(None) is None
    assert best_path(good) is good


def test_only_a_change_of_the_best_path_is_recorded() -> None:
    first, second = v4("192.0.2.1@3"), v4("192.0.2.2@3", metric=5)
    rib = replica(first)
    rib.apply(new(second))
    assert rib.take_changed() == {}
    rib.apply(gone(second))
    assert rib.take_changed() == {}
    rib.apply(new(v4("192.0.2.3@3"), NLM_F_CREATE))
    rib.apply(gone(v4("192.0.2.3@3")))
    assert rib.take_changed() == {(AF_INET, MAIN): {PREFIX[AF_INET].key}}
    rib.apply(gone(first))
    assert rib.take_changed() == {(AF_INET, MAIN): {PREFIX[AF_INET].key}}
    assert known(rib, AF_INET) == ()


# -- IPv6: one multipath route of gateways per metric, changed hop by hop


def test_an_appended_ipv6_hop_becomes_the_last_one() -> None:
    rib = replica(v6("fd00:1::2@3*5"))
    rib.apply(new(v6("fd00:2::3@5", "fd00:1::2@3*5"), APPENDED))  # the notification has the new one first
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3*5", "fd00:2::3@5"),)
    rib.apply(new(v6("fd00:1::2@3*5", "fd00:2::3@5", "fd00:1::7@3", "fd00:2::7@5"), APPENDED))
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3*5", "fd00:2::3@5", "fd00:1::7@3", "fd00:2::7@5"),)
    assert rib.take_rereads() == []


def test_an_ipv6_delete_removes_one_hop() -> None:
    rib = replica(v6("fd00:1::2@3*5", "fd00:2::3@5", "fd00:2::4@5"))
    rib.apply(gone(v6("fd00:2::3@5")))
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3*5", "fd00:2::4@5"),)
    rib.apply(gone(v6("fd00:1::2@3*5", "fd00:2::4@5")))
    assert known(rib, AF_INET6) == ()
    assert rib.take_rereads() == []


def test_an_ipv6_replace_leaves_one_hop() -> None:
    rib = replica(v6("fd00:1::2@3", "fd00:2::3@5"))
    rib.apply(new(v6("fd00:1::9@3"), NLM_F_REPLACE))
    assert known(rib, AF_INET6) == (v6("fd00:1::9@3"),)


def test_a_gateway_route_and_a_device_route_of_one_metric_are_two_routes() -> None:
    rib = replica(v6("fd00:1::2@3"))
    rib.apply(new(v6("@5"), APPENDED))
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3"), v6("@5"))
    rib.apply(new(v6("fd00:1::3@3", "fd00:1::2@3"), APPENDED))
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3", "fd00:1::3@3"), v6("@5"))
    rib.apply(gone(v6("@5")))
    assert known(rib, AF_INET6) == (v6("fd00:1::2@3", "fd00:1::3@3"),)
    rib.apply(new(v6("@5"), APPENDED))
    rib.apply(new(v6("fd00:1::9@3"), NLM_F_REPLACE))  # of which of the two?
    assert rib.take_rereads() == whole(AF_INET6)


def test_an_ipv6_notification_without_a_known_hop_causes_a_reread() -> None:
    rib = replica(v6("fd00:1::2@3", "fd00:2::3@5"))
    rib.apply(new(v6("fd00:1::9@3", "fd00:1::2@3"), APPENDED))
    assert rib.take_rereads() == whole(AF_INET6)
    rib.apply(gone(v6("fd00:1::77@3")))
    assert rib.take_rereads() == whole(AF_INET6)


def test_paths_that_grow_hop_by_hop_are_shared_among_prefixes() -> None:
    rib = Rib([MAIN])
    for number in range(3):
        prefix = Prefix.parse(f"fd10:{number}::/32")
        rib.apply(new(v6("fd00:1::2@3"), CREATED, prefix))
        rib.apply(new(v6("fd00:2::3@5", "fd00:1::2@3"), APPENDED, prefix))
    assert len({id(entry) for entry in rib.tables[AF_INET6, MAIN].values()}) == 1


# -- what belongs to the replica


def test_other_tables_cached_clones_and_other_protocols_are_not_kept() -> None:
    rejected = []
    rib = Rib([MAIN], lambda path: path.protocol != 121, lambda kind, key, path: rejected.append((kind, key, path)))
    mine = v4("@3", protocol=121)
    for path in (v4("@3", table=9), mine, replace(v4("@3"), extras=("cloned",)), v4("@3")):
        rib.apply(new(path))
    rib.apply(gone(mine))
    assert known(rib, AF_INET) == (v4("@3"),)
    assert list(rib.tables) == [(AF_INET, MAIN)]
    key = PREFIX[AF_INET].key
    assert rejected == [(RTM_NEWROUTE, key, mine), (RTM_DELROUTE, key, mine)]
    dump_into(rib, Reread(AF_INET, MAIN), [mine, v4("@3", table=9), v4("@4")])
    assert known(rib, AF_INET) == (v4("@4"),)


def test_a_route_of_another_protocol_that_replaces_ours_causes_a_reread() -> None:
    rib = Rib([MAIN], lambda path: path.protocol != 121)
    dump_into(rib, Reread(AF_INET, MAIN), [v4("@3")])
    rib.apply(new(v4("@4", protocol=121, metric=5), NLM_F_REPLACE))
    rib.apply(new(v4("@4", protocol=121), APPENDED))
    assert rib.take_rereads() == []
    rib.apply(new(v4("@4", protocol=121), NLM_F_REPLACE))
    assert rib.take_rereads() == whole(AF_INET)


def test_following_other_tables_requests_the_new_ones_and_forgets_the_old_ones() -> None:
    rib = Rib([10])
    rib.apply(new(v4("@3", table=10)))
    rib.follow([10, 20])
    assert rib.take_rereads() == [Reread(AF_INET, 20), Reread(AF_INET6, 20)]
    rib.apply(new(v4("@3", table=20)))
    rib.follow([20])
    assert rib.take_rereads() == []
    rib.apply(new(v4("@4", table=10)))
    assert list(rib.tables) == [(AF_INET, 20)]
    rib.follow([])
    rib.apply(new(v4("@4", table=20)))
    assert rib.tables == {}


def test_a_dump_of_a_table_that_is_no_longer_followed_is_dropped() -> None:
    rib = Rib([10, 20])
    rib.ask(oif=3)
    reading = rib.reading(Reread(AF_INET, 10, 3))
    reading.feed(new(v4("@3", table=10), 2))
    rib.follow([20])
    reading.finish()
    assert (AF_INET, 10) not in rib.tables
    assert {scope.table for scope in rib.take_rereads()} == {20}


def test_a_reread_of_a_table_includes_those_of_its_links() -> None:
    rib = Rib([10, 20])
    rib.ask(oif=3)
    rib.rereads[Reread(AF_INET, 10)] = None
    rib.ask(oif=3)
    expected = {Reread(AF_INET, 10), Reread(AF_INET, 20, 3), Reread(AF_INET6, 10, 3), Reread(AF_INET6, 20, 3)}
    wanted = rib.take_rereads()
    assert set(wanted) == expected
    assert len(wanted) == len(expected)
    assert rib.take_rereads() == []


def test_nexthop_objects_are_noted_from_notifications_and_dumps() -> None:
    rib = Rib([MAIN])
    assert rib.nexthop_objects == {}
    rib.apply(new(v4(nh_id=7)))
    assert rib.nexthop_objects == {7: {(AF_INET, MAIN)}}
    rib = Rib([MAIN])
    dump_into(rib, Reread(AF_INET, MAIN), [v4(nh_id=7), v4("@3")])
    assert rib.nexthop_objects == {7: {(AF_INET, MAIN)}}


def test_a_dump_changes_nothing_until_it_is_complete() -> None:
    rib = replica(v4("192.0.2.1@3"))
    reading = rib.reading(Reread(AF_INET, MAIN))
    reading.feed(new(v4("192.0.2.2@3"), 2))
    assert known(rib, AF_INET) == (v4("192.0.2.1@3"),)
    assert rib.take_changed() == {}
    reading.finish()
    assert known(rib, AF_INET) == (v4("192.0.2.2@3"),)
    assert rib.take_changed() == {(AF_INET, MAIN): {PREFIX[AF_INET].key}}


@pytest.mark.parametrize("table", [255, 256, 0xFFFFFFFF])
def test_table_numbers_beyond_one_byte_are_distinct(table: int) -> None:
    rib = Rib([table])
    rib.apply(new(v4("@3", table=table)))
    rib.apply(new(v4("@4", table=252)))
    assert list(rib.tables) == [(AF_INET, table)]
    assert known(rib, AF_INET, table) == (v4("@3", table=table),)


def test_a_multipath_route_with_dead_hops_only_is_not_the_best_path() -> None:
    # Each hop is flagged as dead, the route as a whole is not (fib_nexthop_info).
    packet = bytearray(new(v4("192.0.2.1@3", "198.51.100.1@5")))
    at = packet.index(bytes.fromhex("c0000201")) - 12
    for start in (at, at + 16):
        length, flags, _weight, _oif = struct.unpack_from("=HBBi", packet, start)
        assert (length, flags) == (16, 0)
        packet[start + 2] = RTNH_F_DEAD
    rib = Rib([MAIN])
    rib.apply(bytes(packet))
    rib.apply(new(v4("192.0.2.9@4", metric=5)))
    entry = rib.tables[AF_INET, MAIN][PREFIX[AF_INET].key]
    assert best_path(entry) == v4("192.0.2.9@4", metric=5)


# -- models of the kernel: one prefix of the main table


@dataclass
class Kernel:
    """*paths* is what a dump shows, *notified* has every notification, *shows[n]* is the dump after n of them."""

    family: int
    paths: list[Path] = field(default_factory=list)
    notified: list[bytes] = field(default_factory=list)
    shows: list[list[Path]] = field(default_factory=lambda: [[]])

    def notify(self, packet: bytes) -> None:
        self.notified.append(packet)
        self.shows.append(list(self.paths))

    def alike(self, path: Path) -> list[Path]:
        return [p for p in self.paths if (p.tos, p.metric) == (path.tos, path.metric)]

    def put(self, path: Path, how: str) -> None:
        raise NotImplementedError

    def delete(self, path: Path, pick: int) -> None:
        raise NotImplementedError


class Ipv4Kernel(Kernel):
    def put(self, path: Path, how: str) -> None:
        alike = self.alike(path)
        if not alike:
            at = next((i for i, p in enumerate(self.paths) if (-p.tos, p.metric) > (-path.tos, path.metric)), None)
            self.paths.insert(len(self.paths) if at is None else at, path)
            self.notify(new(path, CREATED))
        elif how == "replace":
            if path not in alike:
                self.paths[self.paths.index(alike[0])] = path
                self.notify(new(path, NLM_F_REPLACE))
        elif path not in alike and how == "append":
            self.paths.insert(self.paths.index(alike[-1]) + 1, path)
            self.notify(new(path, APPENDED))
        elif path not in alike and how == "prepend":
            self.paths.insert(self.paths.index(alike[0]), path)
            self.notify(new(path, NLM_F_CREATE))

    def delete(self, path: Path, pick: int) -> None:
        if self.paths:
            self.notify_gone(self.paths[pick % len(self.paths)])

    def notify_gone(self, path: Path) -> None:
        self.paths.remove(path)
        self.notify(gone(path))


class Ipv6Kernel(Kernel):
    """With gateway routes only: a dump hides device routes between the hops of a multipath route."""

    def put(self, path: Path, how: str) -> None:
        alike = self.alike(path)
        if not alike:
            at = next((i for i, p in enumerate(self.paths) if p.metric > path.metric), len(self.paths))
            self.paths.insert(at, path)
            self.notify(new(path, CREATED if len(path.nexthops) == 1 else NLM_F_CREATE))
            return
        (old,) = alike
        at = self.paths.index(old)
        if how == "replace":
            self.paths[at] = path
            self.notify(new(path, NLM_F_REPLACE))
        elif how != "add" and not set(path.nexthops) & set(old.nexthops):
            merged = self.paths[at] = old.with_nexthops(*old.nexthops, *path.nexthops)
            shown = merged if len(path.nexthops) > 1 else old.with_nexthops(*path.nexthops, *old.nexthops)
            self.notify(new(shown, APPENDED if how == "append" else NLM_F_CREATE))

    def delete(self, path: Path, pick: int) -> None:
        if not self.paths:
            return
        at = pick % len(self.paths)
        old = self.paths[at]
        if pick % 3:
            one = old.nexthops[pick % len(old.nexthops)]
            left = [other for other in old.nexthops if other != one]
            self.paths[at : at + 1] = [old.with_nexthops(*left)] if left else []
            self.notify(gone(old.with_nexthops(one)))
        else:
            del self.paths[at]
            self.notify(gone(old))


HOPS = {
    AF_INET: ("192.0.2.1@3", "192.0.2.2@3", "198.51.100.1@5", "@5"),
    AF_INET6: ("fd00:1::1@3", "fd00:1::2@3", "fd00:2::1@5", "fe80::1@5"),
}


@st.composite
def histories(draw: st.DrawFn) -> Kernel:
    family = draw(st.sampled_from((AF_INET, AF_INET6)))
    kernel = (Ipv4Kernel if family == AF_INET else Ipv6Kernel)(family)
    for _step in range(draw(st.integers(1, 14))):
        hops = draw(st.lists(st.sampled_from(HOPS[family]), min_size=1, max_size=2, unique=True))
        metric = draw(st.sampled_from((1024, 1024, 1024, 7)))
        tos = draw(st.sampled_from((0, 0, 0, 16))) if family == AF_INET else 0
        path = Path(family, MAIN, metric=metric, tos=tos, nexthops=tuple(map(hop, hops)))
        how = draw(st.sampled_from(("add", "append", "prepend", "replace", "delete", "delete")))
        if how == "delete":
            kernel.delete(path, draw(st.integers(0, 20)))
        else:
            kernel.put(path, how)
    return kernel


class Shadow:
    """What is known from the recorded changes alone."""

    def __init__(self, rib: Rib) -> None:
        self.rib = rib
        self.best: dict[int, dict[int, Path | None]] = {AF_INET: {}, AF_INET6: {}}

    def catch_up(self) -> None:
        for (family, table), keys in self.rib.take_changed().items():
            for key in keys:
                self.best[family][key] = best_path(self.rib.tables[family, table].get(key))


@settings(max_examples=200)
@given(histories())
def test_each_event_in_order_leads_to_the_kernels_state(kernel: Kernel) -> None:
    rib = Rib([MAIN])
    rib.recording = True
    shadow = Shadow(rib)
    for number, packet in enumerate(kernel.notified, 1):
        rib.apply(packet)
        for scope in rib.take_rereads():
            dump_into(rib, scope, kernel.shows[number])
        shadow.catch_up()
        assert known(rib, kernel.family) == tuple(kernel.shows[number])
        assert shadow.best[kernel.family].get(PREFIX[kernel.family].key) == best_path(tuple(kernel.shows[number]))


@settings(max_examples=300)
@given(histories(), st.data())
def test_events_that_a_dump_already_contains_are_harmless(kernel: Kernel, data: st.DataObject) -> None:
    # Subscribed at the start, dumped at any time after. Notifications queued before the dump are applied after it.
    rib = Rib([MAIN])
    rib.recording = True
    shadow = Shadow(rib)
    events = len(kernel.notified)
    applied = 0
    rib.rereads[Reread(kernel.family, MAIN)] = None
    while applied < events or rib.rereads:
        if rib.rereads:
            dumped = data.draw(st.integers(applied, events))
            for scope in rib.take_rereads():
                dump_into(rib, scope, kernel.shows[dumped], caught_up=False)
        for packet in kernel.notified[applied:dumped]:
            rib.apply(packet)
        applied = max(applied, dumped)
        rib.caught_up()
        rib.ask_doubted()
        shadow.catch_up()
        if applied < events and not rib.rereads:
            rib.apply(kernel.notified[applied])
            applied += 1
    shadow.catch_up()
    assert known(rib, kernel.family) == tuple(kernel.paths)
    assert shadow.best[kernel.family].get(PREFIX[kernel.family].key) == best_path(tuple(kernel.paths))


def test_a_replace_older_than_the_dump_puts_the_table_in_doubt() -> None:
    # Of two paths the first is replaced, then deleted. The dump shows the second only, and is applied before all that.
    other, second = v4("192.0.2.9@3"), v4("192.0.2.2@3")
    rib = replica(second)
    dump_into(rib, Reread(AF_INET, MAIN), [second], caught_up=False)
    rib.apply(new(other, NLM_F_REPLACE))
    assert not rib.doubted
    rib.apply(gone(other))
    assert list(rib.doubted) == [(AF_INET, MAIN)]
    rib.caught_up()
    rib.ask_doubted()
    assert rib.take_rereads() == [Reread(AF_INET, MAIN)]


def test_only_notifications_that_may_be_older_than_the_dump_cause_doubt() -> None:
    first, second = v4("192.0.2.2@3"), v4("192.0.2.3@3")
    rib = replica(first)
    rib.apply(new(second, APPENDED))
    assert not rib.doubted
    dump_into(rib, Reread(AF_INET, MAIN), [first], caught_up=False)
    rib.apply(new(second, APPENDED))
    assert list(rib.doubted) == [(AF_INET, MAIN)]
