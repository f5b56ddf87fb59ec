# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way in which the kernel changes routes without saying so, on a real kernel, by the numbers of docs/following.md.

After each event the replica equals a fresh dump, and the follower has read again what the event put in doubt: routes by
a link or of a table, and never links, addresses, rules and all tables as after an overrun.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, Path, Prefix
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteReader
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import paths_of
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import joined
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import MAIN, OTHER, Followed, follow

FAMILIES = ("ipv4", "ipv6")


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    """e1 and e2 with an address of each family, their other ends p1 and p2 in the same namespace."""
    return joined(namespaces("traps"))


@pytest.fixture
def seen(machine: Namespace) -> Iterator[Followed]:
    with follow(machine) as made:
        yield made


def held(seen: Followed, prefix: str, table: int = MAIN) -> tuple[Path, ...]:
    """What the replica has for a prefix."""
    of = Prefix.parse(prefix)
    return paths_of(seen.replica.rib.tables.get((of.family, table), {}).get(of.key))


def hops(seen: Followed, prefix: str, table: int = MAIN) -> list[str]:
    """The gateways, or else links, of all its paths."""
    found = [hop for path in held(seen, prefix, table) for hop in path.nexthops]
    return [str(hop.gateway or seen.replica.links[hop.oif or 0].name) for hop in found]


def index(seen: Followed, link: str) -> int:
    return next(found.index for found in seen.replica.links.values() if found.name == link)


def carrier(seen: Followed, link: str) -> bool:
    return next(found.carrier for found in seen.replica.links.values() if found.name == link)


def by(*links: int, table: str | None = None, family: str | None = None) -> set[str]:
    """Reads of the routes by each of these links; *table*, *family*: of that alone."""
    return {
        f"{f} routes of table {t} by link {link}"
        for f in ([family] if family else FAMILIES)
        for t in ([table] if table else ("main", "100"))
        for link in links
    }


def whole(*tables: str, family: str = "ipv4") -> set[str]:
    """Reads of whole tables."""
    return {f"{family} routes of table {table}" for table in tables}


# -- links, addresses and carriers


def test_trap_1_a_link_that_goes_down_takes_its_ipv4_routes_in_silence(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after(
        "route add 10.1.0.0/16 via 192.0.2.2",
        "route add 10.2.0.0/16 nexthop via 192.0.2.2 nexthop via 198.51.100.2",
        "route add fd10::/32 via fd00:1::2",
    )
    both = by(e1, index(seen, "p1"))  # whose carrier goes and comes with it, as the kernel reports a little later
    assert seen.after("link set e1 down", until=lambda: not carrier(seen, "p1")) == both
    assert hops(seen, "10.1.0.0/16") == hops(seen, "fd10::/32") == []
    assert hops(seen, "10.2.0.0/16") == ["198.51.100.2"]
    assert seen.after("link set e1 up", until=lambda: carrier(seen, "e1") and carrier(seen, "p1")) == both
    assert hops(seen, "10.2.0.0/16") == ["192.0.2.2", "198.51.100.2"]
    assert hops(seen, "192.0.2.0/24") == ["e1"]


def test_trap_2_the_last_ipv4_address_takes_the_routes_of_every_table(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after("route add 10.1.0.0/16 via 192.0.2.2 table 100", "route add 10.2.0.0/16 dev e1")
    assert seen.after("address del 192.0.2.1/24 dev e1") == by(e1)
    assert hops(seen, "10.1.0.0/16", OTHER) == hops(seen, "10.2.0.0/16") == []


def test_trap_3_a_preferred_source_that_goes(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after(
        "address add 192.0.2.77/32 dev e1",
        "route add 10.1.0.0/16 via 192.0.2.2 src 192.0.2.77",
        "route add 10.1.0.0/16 via 192.0.2.2 src 192.0.2.77 table 100",
    )
    assert seen.after("address del 192.0.2.77/32 dev e1") == by(e1)
    assert held(seen, "10.1.0.0/16") == ()
    assert [str(path.src) for path in held(seen, "10.1.0.0/16", OTHER)] == ["192.0.2.77"]


def test_trap_4_a_nexthop_object_that_is_deleted_takes_its_routes(seen: Followed) -> None:
    seen.after(
        "nexthop add id 1 via 192.0.2.2 dev e1",
        "nexthop add id 4 via fd00:1::2 dev e1",
        "route add 10.1.0.0/16 nhid 1",
        "route add fd10::/32 nhid 4",
    )
    assert seen.after("nexthop del id 1") == whole("main")  # of the one family and the one table that name it
    assert held(seen, "10.1.0.0/16") == ()
    assert seen.after("nexthop del id 4") == whole("main", family="ipv6")
    assert held(seen, "fd10::/32") == ()


def test_trap_5_a_carrier_that_is_lost(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after(
        "nexthop add id 1 via 192.0.2.2 dev e1",
        "nexthop add id 4 via fd00:1::2 dev e1",
        "route add 10.1.0.0/16 nhid 1",
        "route add 10.2.0.0/16 via 192.0.2.2",
        "route add fd10::/32 nhid 4",
    )
    both = by(e1, index(seen, "p1"))
    assert seen.after("link set p1 down", until=lambda: not carrier(seen, "e1")) == both
    assert held(seen, "10.1.0.0/16") == held(seen, "fd10::/32") == ()
    assert hops(seen, "10.2.0.0/16") == []  # kept, and passed over
    assert seen.after("link set p1 up", until=lambda: carrier(seen, "e1") and carrier(seen, "p1")) == both
    assert held(seen, "10.1.0.0/16") == ()
    assert hops(seen, "10.2.0.0/16") == ["192.0.2.2"]


def test_trap_6_a_nexthop_object_that_changes_and_a_group_that_shrinks(seen: Followed) -> None:
    seen.after(
        "nexthop add id 1 via 192.0.2.2 dev e1",
        "nexthop add id 2 via 198.51.100.2 dev e2",
        "nexthop add id 3 group 1/2,3",
        "route add 10.1.0.0/16 nhid 3 table 100",
        "route add 10.2.0.0/16 nhid 1",
    )
    assert [(hop.weight) for path in held(seen, "10.1.0.0/16", OTHER) for hop in path.nexthops] == [1, 3]
    assert seen.after("nexthop replace id 1 via 192.0.2.9 dev e1") == whole("main")
    assert hops(seen, "10.1.0.0/16", OTHER) == ["192.0.2.9", "198.51.100.2"]
    assert hops(seen, "10.2.0.0/16") == ["192.0.2.9"]
    assert seen.after("nexthop del id 2") == whole("100")
    assert hops(seen, "10.1.0.0/16", OTHER) == ["192.0.2.9"]


def test_trap_7_ipv6_is_as_silent_as_ipv4_where_it_is_set_to_be(machine: Namespace) -> None:
    machine.sysctl("net.ipv6.route.skip_notify_on_dev_down", 1)
    with follow(machine) as seen:
        e1 = index(seen, "e1")
        seen.after("route add fd10::/32 via fd00:1::2", "route add fd10::/32 via fd00:1::2 table 100")
        both = by(e1, index(seen, "p1"))
        assert seen.after("link set e1 down", until=lambda: not carrier(seen, "p1")) == both
        assert held(seen, "fd10::/32") == held(seen, "fd10::/32", OTHER) == ()


def test_trap_8_a_link_that_is_deleted_and_another_one_with_its_index(seen: Followed) -> None:
    e1, p1 = index(seen, "e1"), index(seen, "p1")
    seen.after("route add 10.1.0.0/16 via 192.0.2.2", "route add fd10::/32 via fd00:1::2")
    seen.machine.ip("link del e1")  # and p1 with it
    reads = seen.after(
        f"link add new index {e1} type bridge",
        "link set new up",
        "address add 192.0.2.7/24 dev new",
        "route add 10.9.0.0/16 dev new",
    )
    # The connected route of the new link is notified as the first of its prefix, and the old one's removal is not:
    # IPv4 routes of main are read as a whole.
    assert reads == by(e1, p1) - by(e1, p1, table="main", family="ipv4") | whole("main")
    assert held(seen, "10.1.0.0/16") == held(seen, "fd10::/32") == ()
    assert hops(seen, "10.9.0.0/16") == ["new"]
    assert index(seen, "new") == e1


def test_trap_8_a_link_that_is_deleted_takes_multipath_routes_in_which_its_hop_was_dead(seen: Followed) -> None:
    both = by(index(seen, "e2"), index(seen, "p2"))
    seen.after(
        "route add 10.1.0.0/16 nexthop via 192.0.2.2 nexthop via 198.51.100.2",
        "link set e2 down",
        until=lambda: not carrier(seen, "p2"),
    )
    assert hops(seen, "10.1.0.0/16") == ["192.0.2.2"]
    assert seen.after("link del e2") == both
    assert held(seen, "10.1.0.0/16") == ()  # the hop that lived is gone as well


def test_trap_9_a_link_that_changes_its_master_is_read_again(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after("link add br0 type bridge", "route add 10.1.0.0/16 via 192.0.2.2")
    assert seen.after("link set e1 master br0") == by(e1)
    assert seen.after("link set e1 nomaster") == by(e1)


def test_trap_10_a_table_that_a_rule_brings_is_read_and_one_that_it_takes_is_forgotten(seen: Followed) -> None:
    seen.after("route add 10.1.0.0/16 via 192.0.2.2 table 300")
    assert held(seen, "10.1.0.0/16", 300) == ()
    reads = seen.after("rule add iif e1 lookup 300", "route add 10.2.0.0/16 via 192.0.2.2 table 300")
    assert reads == whole("300") | whole("300", family="ipv6")
    assert hops(seen, "10.1.0.0/16", 300) == hops(seen, "10.2.0.0/16", 300) == ["192.0.2.2"]
    assert seen.after("rule del iif e1 lookup 300", "route add 10.3.0.0/16 via 192.0.2.2 table 300") == set()
    assert (AF_INET, 300) not in seen.replica.rib.tables


def test_trap_10_a_table_stays_forgotten_whose_links_change_as_it_goes(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after("rule add iif e1 lookup 300", "route add 10.1.0.0/16 via 192.0.2.2 table 300")
    reads = seen.after("address del fd00:1::1/64 dev e1", "rule del iif e1 lookup 300")
    assert reads == by(e1)  # which carries the route of that table, too
    assert (AF_INET, 300) not in seen.replica.rib.tables


# -- several routes to one prefix


def test_trap_11_ipv6_multipath_grows_shrinks_and_collapses_without_a_read(seen: Followed) -> None:
    assert not seen.after(
        "route add fd10::/32 via fd00:1::2",
        "route append fd10::/32 via fd00:2::2",
        "route append fd10::/32 nexthop via fd00:1::3 weight 5 nexthop via fd00:2::3",
    )
    assert hops(seen, "fd10::/32") == ["fd00:1::2", "fd00:2::2", "fd00:1::3", "fd00:2::3"]
    assert not seen.after("route del fd10::/32 via fd00:2::2")
    assert hops(seen, "fd10::/32") == ["fd00:1::2", "fd00:1::3", "fd00:2::3"]
    assert not seen.after("route replace fd10::/32 via fd00:1::9")
    assert hops(seen, "fd10::/32") == ["fd00:1::9"]
    assert not seen.after("route append fd10::/32 dev e2")
    assert [len(path.nexthops) for path in held(seen, "fd10::/32")] == [1, 1]


def test_trap_11_an_ipv6_hop_appended_by_another_owner_is_notified_under_its_name(seen: Followed) -> None:
    assert not seen.after(
        "route add fd10::/32 via fd00:1::2 proto static mtu 1300", "route append fd10::/32 via fd00:2::2 proto 121"
    )
    assert [(path.protocol, path.mtu) for path in held(seen, "fd10::/32")] == [(4, 1300)]
    assert seen.after("route del fd10::/32 via fd00:1::2") == whole("main", family="ipv6")
    assert [(path.protocol, path.mtu) for path in held(seen, "fd10::/32")] == [(121, None)]


@pytest.mark.parametrize("verb", ["append", "prepend"])
def test_trap_11_an_ipv6_hop_put_to_a_dead_one_leaves_the_route_its_owner(seen: Followed, verb: str) -> None:
    seen.machine.sysctl("net.ipv6.conf.e2.ignore_routes_with_linkdown", 1)
    seen.after("link set p2 down", until=lambda: not carrier(seen, "e2"))
    assert not seen.after("route add fd10::/32 via fe80::9 dev e2 proto static")
    assert hops(seen, "fd10::/32") == []
    assert seen.after(f"route {verb} fd10::/32 via fd00:1::2 proto 121") == whole("main", family="ipv6")
    assert [path.protocol for path in held(seen, "fd10::/32")] == [4]
    assert hops(seen, "fd10::/32") == ["fd00:1::2"]


def test_trap_12_ipv4_append_and_prepend_are_certain_and_replace_is_read_again(seen: Followed) -> None:
    assert not seen.after(
        "route add 10.1.0.0/16 via 192.0.2.2",
        "route append 10.1.0.0/16 via 192.0.2.3",
        "route prepend 10.1.0.0/16 via 192.0.2.4",
        "route add 10.1.0.0/16 via 192.0.2.9 metric 4278198272",
    )
    assert hops(seen, "10.1.0.0/16") == ["192.0.2.4", "192.0.2.2", "192.0.2.3", "192.0.2.9"]
    assert seen.after("route replace 10.1.0.0/16 via 192.0.2.5") == whole("main")
    assert hops(seen, "10.1.0.0/16") == ["192.0.2.5", "192.0.2.2", "192.0.2.3", "192.0.2.9"]


@pytest.mark.parametrize("prefix", ["10.1.0.0/16", "fd10::/32"])
def test_trap_13_replace_takes_another_owners_route_and_adds_one_of_another_metric(seen: Followed, prefix: str) -> None:
    gateway = "192.0.2." if "." in prefix else "fd00:1::"
    seen.after(f"route add {prefix} via {gateway}2 proto static metric 50")
    assert not seen.after(f"route replace {prefix} via {gateway}3 proto 121 metric 50")
    assert [path.protocol for path in held(seen, prefix)] == [121]
    assert not seen.after(f"route replace {prefix} via {gateway}4 proto 121 metric 60")
    assert [path.metric for path in held(seen, prefix)] == [50, 60]


# -- what gets lost, and what a dump says


def test_trap_14_after_an_overrun_everything_is_read(machine: Namespace) -> None:
    with follow(machine, receive_buffer=4096) as seen:
        seen.requests.asked.clear()
        seen.run([f"route add 10.{number}.0.0/16 via 192.0.2.2" for number in range(200)])
        seen.settle()
        assert seen.follower.overruns == 1
        assert {"links", "addresses", "rules", *whole("main", "100")} <= set(seen.requests.asked)
        assert len(seen.replica.rib.tables[AF_INET, MAIN]) >= 200


def test_trap_14_an_overrun_while_tables_are_read_is_handled_at_once(machine: Namespace) -> None:
    with follow(machine, receive_buffer=4096) as seen:
        bursts = [[f"route add 10.{number}.0.0/16 via 192.0.2.2" for number in range(200)]]

        def meanwhile(asked: str) -> None:
            if bursts and asked in whole("main"):
                seen.run(bursts.pop())

        seen.requests.before = meanwhile
        seen.replica.rib.ask()
        seen.follower.look()
        seen.settle()
        assert not bursts
        assert seen.follower.overruns == 1
        assert len(seen.replica.rib.tables[AF_INET, MAIN]) >= 200


def test_trap_15_routes_that_change_during_a_dump_are_corrected_by_queued_notifications(machine: Namespace) -> None:
    machine.run(
        "ip", "-batch", "-", stdin="".join(f"route add 10.{n >> 8}.{n & 255}.0/24 dev e1\n" for n in range(4000))
    )
    with follow(machine) as seen:
        changes = [f"route replace 10.{n >> 8}.{n & 255}.0/24 dev e2" for n in range(0, 4000, 3)]
        changes += [f"route del 10.{n >> 8}.{n & 255}.0/24" for n in range(1, 4000, 3)]
        seen.replica.rib.ask()
        seen.run(["nexthop add id 9 via 192.0.2.2 dev e1", "route add 11.0.0.0/8 nhid 9", "nexthop del id 9"])
        seen.run(changes, beside=True)
        seen.settle()
        assert hops(seen, "10.0.0.0/24") == ["e2"]
        assert held(seen, "10.0.1.0/24") == ()


def test_trap_16_a_strict_dump_has_one_table_and_an_absent_one_is_empty(seen: Followed) -> None:
    seen.after("route add 10.1.0.0/16 via 192.0.2.2", "route add 10.2.0.0/16 via 192.0.2.2 table 100")
    reader = RouteReader()

    def dumped(table: int) -> set[str]:
        chunks = seen.requests.dump(rtnetlink.route_dump_request(AF_INET, table))
        found = (message for chunk in chunks for message in reader.routes(chunk))
        return {str(Prefix.from_key(AF_INET, message.key)) for message in found}

    assert dumped(OTHER) == {"10.2.0.0/16"}
    assert "10.1.0.0/16" in dumped(MAIN)
    assert dumped(4242) == set()


def test_trap_17_odd_encodings_are_read(seen: Followed) -> None:
    assert (
        not seen.after(
            "route add unreachable fd10::/32",
            "route add unreachable default metric 4278198272 table 100",
            "route add 10.1.0.0/16 via inet6 fe80::9 dev e1",
            "route add 10.2.0.0/16 via 10.99.0.1 dev e1 onlink",
            "rule add iif e1 lookup 4000000001",
            "route add 10.3.0.0/16 dev e1 table 4000000001",
        )
        - whole("4000000001")
        - whole("4000000001", family="ipv6")
    )
    assert held(seen, "fd10::/32")[0].nexthops == ()  # oif lo is none
    assert held(seen, "0.0.0.0/0", OTHER)[0].metric == 4278198272
    assert hops(seen, "10.1.0.0/16") == ["fe80::9"]
    assert held(seen, "10.2.0.0/16")[0].nexthops[0].onlink
    assert hops(seen, "10.3.0.0/16", 4000000001) == ["e1"]


def test_trap_18_nexthop_objects_that_were_never_notified_are_fetched(machine: Namespace) -> None:
    machine.sysctl("net.ipv4.nexthop_compat_mode", 0)  # a route says the object's number and no more
    for command in (
        "nexthop add id 1 via 192.0.2.2 dev e1",
        "nexthop add id 2 via 198.51.100.2 dev e2",
        "nexthop add id 3 group 1,3/2",
        "nexthop add id 7 group 1/2 type resilient buckets 8",
        "route add 10.1.0.0/16 nhid 3",
        "route add 10.2.0.0/16 nhid 7 table 100",
    ):
        machine.ip(command)
    with follow(machine) as seen:
        assert hops(seen, "10.1.0.0/16") == ["192.0.2.2", "198.51.100.2"]
        assert [hop.weight for hop in held(seen, "10.1.0.0/16")[0].nexthops] == [3, 1]
        # Known from an event, it needs no fetch; the object of the group changes with no event for its routes.
        assert not seen.after("nexthop add id 4 via fd00:1::2 dev e1", "route add fd10::/32 nhid 4")
        assert hops(seen, "fd10::/32") == ["fd00:1::2"]
        assert seen.after("nexthop replace id 1 via 192.0.2.9 dev e1") == whole("main", "100")
        assert hops(seen, "10.2.0.0/16", OTHER) == ["192.0.2.9", "198.51.100.2"]
        # The carrier takes the object along and the group shrinks, both in silence; then a route names that group.
        assert {"nexthop object 3", "nexthop object 7"} <= seen.after("link set p1 down")
        assert hops(seen, "10.1.0.0/16") == hops(seen, "10.2.0.0/16", OTHER) == ["198.51.100.2"]
        assert not seen.after("route add 10.3.0.0/16 nhid 3 table 100")
        assert hops(seen, "10.3.0.0/16", OTHER) == ["198.51.100.2"]


def test_trap_19_what_others_install_is_recognised_by_its_protocol(seen: Followed) -> None:
    seen.after("route add 10.1.0.0/16 via 192.0.2.2 proto 121", "route append 10.1.0.0/16 via 192.0.2.3 proto static")
    assert [path.protocol for path in held(seen, "10.1.0.0/16")] == [121, 4]
    seen.after("route del 10.1.0.0/16 proto 121")
    assert [path.protocol for path in held(seen, "10.1.0.0/16")] == [4]


def test_trap_20_a_link_whose_mtu_changes_changes_that_of_its_ipv6_routes_in_silence(seen: Followed) -> None:
    seen.after("route add fd10::/32 mtu 1400 via fd00:1::2", "route add 10.1.0.0/16 mtu 1400 via 192.0.2.2")
    reads = {read for read in by(index(seen, "e1")) if read.startswith("ipv6")}
    assert seen.after("link set e1 mtu 1300") == reads
    assert [path.mtu for path in held(seen, "fd10::/32") + held(seen, "10.1.0.0/16")] == [1300, 1400]


def test_trap_21_an_ipv6_address_that_goes_is_no_source_any_more_by_whichever_link(seen: Followed) -> None:
    e1, e2 = index(seen, "e1"), index(seen, "e2")
    seen.after(
        "address add fd00:1::7/64 dev e1 nodad",
        "route add fd10::/32 via fd00:2::2 src fd00:1::7",
        "route add fd20::/32 via fd00:2::2 src fd00:1::7 table 100",
        "route add fd30::/32 via fd00:2::2 src fd00:1::1",
    )
    assert seen.after("address del fd00:1::7/64 dev e1") == by(e1) | by(e2, family="ipv6")
    assert [path.src for path in held(seen, "fd10::/32") + held(seen, "fd20::/32", OTHER)] == [None, None]
    assert [str(path.src) for path in held(seen, "fd30::/32")] == ["fd00:1::1"]


def test_trap_21_also_of_routes_that_leave_by_no_link(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after("route add blackhole fd10::/32 src fd00:1::1 table 100")
    reads = by(e1) - by(e1, table="100", family="ipv6") | whole("100", family="ipv6")
    assert seen.after("address del fd00:1::1/64 dev e1") == reads
    assert [path.src for path in held(seen, "fd10::/32", OTHER)] == [None]


def test_trap_23_routes_without_carrier_are_used_or_not_by_a_sysctl(seen: Followed) -> None:
    e1 = index(seen, "e1")
    seen.after("route add 10.1.0.0/16 via 192.0.2.2", "link set p1 down", until=lambda: not carrier(seen, "e1"))
    assert [path.extras for path in held(seen, "10.1.0.0/16")] == [("dead",)]
    reads = {"e1": by(e1, family="ipv4"), "all": whole("main", "100")}
    for link, value in (("e1", 0), ("all", 1), ("all", 0), ("e1", 1)):
        seen.machine.sysctl(f"net.ipv4.conf.{link}.ignore_routes_with_linkdown", value)
        assert seen.after() == reads[link]
        assert [path.extras for path in held(seen, "10.1.0.0/16")] == [("dead",) if value else ()]


def test_trap_24_discards_of_ipv6_go_with_lo_in_silence_where_it_is_set_so(machine: Namespace) -> None:
    machine.sysctl("net.ipv6.route.skip_notify_on_dev_down", 1)
    with follow(machine) as seen:
        seen.after("route add unreachable fd10::/32", "route add blackhole fd20::/32 table 100")
        assert held(seen, "fd10::/32") != ()
        assert seen.after("link set lo down") >= whole("main", "100", family="ipv6")
        assert held(seen, "fd10::/32") == held(seen, "fd20::/32", OTHER) == ()
