# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""State merged: what the task names becomes so, all else stays."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router


@pytest.fixture
def router(namespaces: NamespaceFactory) -> Router:
    return Router.make(namespaces("router"))


#: An item, the line that `ip route show` prints for it, and an item that differs in one option and has the same key.
EVERY_OPTION = [
    (
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.2"},
        "10.0.0.0/8 via 192.0.2.2 dev eth1 proto 121",
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.3"},
    ),
    (
        {"dst": "10.0.0.0/8", "dev": "eth1"},
        "10.0.0.0/8 dev eth1 proto 121 scope link",
        {"dst": "10.0.0.0/8", "dev": "eth2"},
    ),
    (
        {"dst": "10.0.0.0/8", "type": "blackhole"},
        "blackhole 10.0.0.0/8 proto 121",
        {"dst": "10.0.0.0/8", "type": "prohibit"},
    ),
    (
        {"dst": "default", "gateway": "192.0.2.2", "metric": 77},
        "default via 192.0.2.2 dev eth1 proto 121 metric 77",
        {"dst": "0.0.0.0/0", "type": "unreachable", "metric": 77},
    ),
    (
        {"dst": "10.0.0.1", "gateway": "192.0.2.2", "src": "198.51.100.1"},
        "10.0.0.1 via 192.0.2.2 dev eth1 proto 121 src 198.51.100.1",
        {"dst": "10.0.0.1", "gateway": "192.0.2.2", "src": "192.0.2.1"},
    ),
    (
        {"dst": "10.0.0.0/8", "gateway": "203.0.113.1", "dev": "eth1", "onlink": True},
        "10.0.0.0/8 via 203.0.113.1 dev eth1 proto 121 onlink",
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.2", "dev": "eth1"},
    ),
    (
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.2", "mtu": 1400},
        "10.0.0.0/8 via 192.0.2.2 dev eth1 proto 121 mtu 1400",
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.2", "mtu": 65520},
    ),
    (
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.2", "tos": 4},
        "10.0.0.0/8 tos 0x04 via 192.0.2.2 dev eth1 proto 121",
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.3", "tos": "0x4"},
    ),
    (
        {"dst": "10.0.0.0/8", "gateway": "fd00:1::2"},
        "10.0.0.0/8 via inet6 fd00:1::2 dev eth1 proto 121",
        {"dst": "10.0.0.0/8", "gateway": "fe80::2", "dev": "eth1"},
    ),
    (
        {"dst": "10.0.0.0/8", "nexthops": [{"gateway": "192.0.2.2", "weight": 256}, {"dev": "eth2"}]},
        "10.0.0.0/8 proto 121 nexthop via 192.0.2.2 dev eth1 weight 256 nexthop dev eth2 weight 1",
        {"dst": "10.0.0.0/8", "nexthops": [{"gateway": "192.0.2.2", "weight": 2}, {"dev": "eth2"}]},
    ),
    (
        {"dst": "10.0.0.0/8", "nexthops": [{"gateway": "203.0.113.1", "dev": "eth2", "onlink": True, "weight": 3}]},
        "10.0.0.0/8 via 203.0.113.1 dev eth2 proto 121 onlink",
        {"dst": "10.0.0.0/8", "nexthops": [{"gateway": "198.51.100.2"}, {"gateway": "198.51.100.3"}]},
    ),
    (
        {"dst": "fd09::/16", "gateway": "fd00:1::2"},
        "fd09::/16 via fd00:1::2 dev eth1 proto 121 metric 1024",
        {"dst": "fd09::/16", "gateway": "fd00:2::2", "metric": 1024},
    ),
    (
        {"dst": "fd09::/16", "dev": "eth1", "mtu": 1400},
        "fd09::/16 dev eth1 proto 121 metric 1024 mtu 1400",
        {"dst": "fd09::/16", "gateway": "fd00:1::2"},
    ),
    (
        {"dst": "fd09::/16", "gateway": "fe80::2", "dev": "eth1", "metric": 5, "src": "fd00:2::1"},
        "fd09::/16 via fe80::2 dev eth1 proto 121 src fd00:2::1 metric 5",
        {"dst": "fd09::/16", "dev": "eth2", "metric": 5},
    ),
    (
        {"dst": "::/0", "type": "unreachable", "metric": 4278198272},
        "unreachable default dev lo proto 121 metric 4278198272",
        {"dst": "::/0", "gateway": "fd00:1::2", "metric": 4278198272},
    ),
    (
        {
            "dst": "fd09::/16",
            "nexthops": [{"gateway": "fd00:1::2", "weight": 2}, {"gateway": "fd00:2::2", "weight": 9}],
            "metric": 7,
        },
        "fd09::/16 proto 121 metric 7 nexthop via fd00:1::2 dev eth1 weight 2 nexthop via fd00:2::2 dev eth2 weight 9",
        {
            "dst": "fd09::/16",
            "nexthops": [{"gateway": "fd00:1::2"}, {"gateway": "fd00:1::3"}, {"gateway": "fd00:2::2"}],
            "metric": 7,
        },
    ),
    (
        {"dst": "fd09::/16", "gateway": "fd00:99::2", "dev": "eth1", "onlink": True},
        "fd09::/16 via fd00:99::2 dev eth1 proto 121 metric 1024 onlink",
        {"dst": "fd09::/16", "type": "blackhole"},
    ),
]


@pytest.mark.parametrize(("item", "line", "other"), EVERY_OPTION)
def test_every_option_is_installed_kept_and_replaced(router: Router, item: object, line: str, other: object) -> None:
    result = router.twice("merged", item)
    assert router.show() == [line]
    assert result["stats"]["added"] == 1
    result = router.twice("merged", other)
    assert result["stats"]["replaced"] == 1
    assert len(router.show()) == 1
    assert router.twice("merged", item)["stats"]["replaced"] == 1
    assert router.show() == [line]


def test_what_the_task_does_not_name_stays(router: Router) -> None:
    router.namespace.ip("route add 10.0.0.0/8 dev eth2 metric 9 proto 121 table 10")
    router.namespace.ip("route add 11.0.0.0/8 dev eth2 proto 121 table 10")
    router.namespace.ip("route add 12.0.0.0/8 dev eth2 table 10")
    result = router.twice("merged", {"dst": "10.0.0.0/8", "dev": "eth1"})
    assert result["before"] == [{"dst": "10.0.0.0/8", "type": "unicast", "dev": "eth2", "metric": 9}]
    assert [item["metric"] for item in result["after"]] == [0, 9]
    assert len(router.show()) == 4


def test_routes_that_others_need_are_added_first(router: Router) -> None:
    result = router.twice(
        "merged", {"dst": "default", "gateway": "203.0.113.1"}, {"dst": "203.0.113.1", "dev": "eth1"}, table="main"
    )
    assert [command.split()[3] for command in result["commands"]] == ["203.0.113.1/32", "0.0.0.0/0"]


def test_a_route_of_another_owner_is_reported_and_left(router: Router) -> None:
    router.namespace.ip("route add 10.0.0.0/8 dev eth2 proto bird table 10")
    router.namespace.ip("-6 route add fd09::/16 dev eth2 proto bird table 10")
    before = router.show()
    mine = [
        {"dst": "11.0.0.0/8", "dev": "eth1"},
        {"dst": "10.0.0.0/8", "dev": "eth1"},
        {"dst": "fd09::/16", "dev": "eth1"},
    ]
    error = router.refused("merged", *mine)
    assert "routes[1] (10.0.0.0/8): protocol bird owns this route (10.0.0.0/8 dev eth2 proto bird), which stays" in str(
        error
    )
    assert "; 1 more failed" in str(error)
    assert [entry["index"] for entry in error.details["failed_routes"]] == [1, 2]
    assert error.details["failed_routes"][0]["errno"] == 17
    assert error.details["stats"]["skipped"] == 1
    assert router.show() == before  # nothing was changed at all

    result = router.task("merged", *mine, continue_on_error=True)
    assert result["changed"]
    assert result["stats"] == {"added": 1, "replaced": 0, "deleted": 0, "unchanged": 0, "failed": 2, "skipped": 0}
    assert sorted(router.show()) == sorted([*before, "11.0.0.0/8 dev eth1 proto 121 scope link"])


def test_a_route_appended_by_another_owner_beside_ours_keeps_both(router: Router) -> None:
    router.task("merged", {"dst": "10.0.0.0/8", "dev": "eth1"})
    router.namespace.ip("route append 10.0.0.0/8 dev eth2 proto bird table 10")
    assert not router.task("merged", {"dst": "10.0.0.0/8", "dev": "eth1"})["changed"]
    before = router.show()
    router.refused("merged", {"dst": "10.0.0.0/8", "dev": "eth1", "mtu": 1400})
    assert router.show() == before


def test_several_of_ours_at_one_key_become_one(router: Router) -> None:
    router.namespace.ip("route add 10.0.0.0/8 dev eth1 proto 121 table 10")
    router.namespace.ip("route append 10.0.0.0/8 via 192.0.2.2 proto 121 table 10")
    router.namespace.ip("-6 route add fd09::/16 via fd00:1::2 proto 121 table 10")
    router.namespace.ip("-6 route append fd09::/16 dev eth1 proto 121 table 10")
    router.namespace.ip("-6 route append unreachable fd09::/16 proto 121 table 10")
    assert len(router.show()) == 5
    router.twice("merged", {"dst": "10.0.0.0/8", "dev": "eth1"}, {"dst": "fd09::/16", "dev": "eth1"})
    assert router.show() == [
        "10.0.0.0/8 dev eth1 proto 121 scope link",
        "fd09::/16 dev eth1 proto 121 metric 1024",
    ]


SANDWICH = ("via fd00:2::2 proto 121", "dev eth1 proto {}", "via fd00:1::2 proto 121")


def test_a_route_of_ours_that_a_dump_hides_between_two_hops_is_found(router: Router) -> None:
    for part in SANDWICH:
        router.namespace.ip(f"-6 route append fd09::/16 {part.format(121)} table 10")
    assert len(router.show()) == 1  # there are two: the dump jumps from the first hop to the last
    assert router.task("merged", {"dst": "fd09::/16", "dev": "eth2"})["failed_routes"] == []
    assert router.show() == ["fd09::/16 dev eth2 proto 121 metric 1024"]
    assert not router.task("merged", {"dst": "fd09::/16", "dev": "eth2"})["changed"]


@pytest.mark.parametrize("state", ["merged", "replaced", "overridden", "deleted"])
def test_a_route_of_another_owner_that_a_dump_hides_is_spared(router: Router, state: str) -> None:
    for part in SANDWICH:
        router.namespace.ip(f"-6 route append fd09::/16 {part.format('bird')} table 10")
    assert len(router.show()) == 1
    message = str(
        router.refused(state, {"dst": "fd09::/16", "dev": "eth2"} if state != "deleted" else {"dst": "fd09::/16"})
    )
    assert "protocol bird owns this route (fd09::/16 dev eth1 proto bird metric 1024)" in message
    assert router.show() == ["fd09::/16 dev eth1 proto bird metric 1024"]


def test_a_route_whose_link_is_down_is_unchanged(router: Router) -> None:
    item = {"dst": "10.0.0.0/8", "nexthops": [{"gateway": "192.0.2.2"}, {"gateway": "198.51.100.2"}]}
    router.task("merged", item)
    router.namespace.ip("link set eth2 down")
    assert "dead linkdown" in router.show()[0]
    assert not router.task("merged", item)["changed"]
    assert router.twice("deleted", {"dst": "10.0.0.0/8"})["stats"]["deleted"] == 1
    assert router.show() == []


def test_the_kernels_error_text_is_reported_and_the_batch_is_finished(router: Router) -> None:
    items = [
        {"dst": "10.0.0.0/8", "dev": "eth1"},
        {"dst": "11.0.0.0/8", "gateway": "203.0.113.9"},
        {"dst": "12.0.0.0/8", "gateway": "192.0.2.2", "src": "203.0.113.9"},
        {"dst": "13.0.0.0/8", "dev": "eth1"},
    ]
    error = router.refused("merged", *items)
    assert "routes[1] (11.0.0.0/8): Nexthop has invalid gateway; no subnet of a link contains the gateway" in str(error)
    assert "2 changes made, 0 not attempted" in str(error)
    failures = [(entry["index"], entry["errno"], entry["error"]) for entry in error.details["failed_routes"]]
    assert [(index, number) for index, number, _text in failures] == [(1, 101), (2, 22)]
    assert failures[1][2] == "Invalid prefsrc address; src has to be an address of this machine in this VRF"
    assert error.details["changed"]
    assert [line.split()[0] for line in router.show()] == ["10.0.0.0/8", "13.0.0.0/8"]
    assert [item["dst"] for item in error.details["after"]] == ["10.0.0.0/8", "13.0.0.0/8"]


def test_a_failure_stops_later_batches_and_removals_without_continue_on_error(router: Router) -> None:
    router.namespace.ip("route add 10.0.0.0/8 dev eth2 metric 9 proto 121 table 10")
    items = [{"dst": f"11.{n >> 8}.{n & 255}.0/24", "dev": "eth1"} for n in range(1500)]
    items.insert(3, {"dst": "12.0.0.0/8", "dev": "eth1", "src": "203.0.113.9"})
    items.append({"dst": "10.0.0.0/8", "dev": "eth1"})
    error = router.refused("replaced", *items)
    stats = {"added": 999, "replaced": 0, "deleted": 0, "unchanged": 0, "failed": 1, "skipped": 503}
    assert error.details["stats"] == stats
    assert "10.0.0.0/8 dev eth2 proto 121 scope link metric 9" in router.show()
    result = router.task("replaced", *items, continue_on_error=True)
    assert result["stats"] == {"added": 502, "replaced": 0, "deleted": 1, "unchanged": 999, "failed": 1, "skipped": 0}
    assert "routes[3] (12.0.0.0/8)" in result["warnings"][0]


def test_every_item_is_validated_before_anything_changes(router: Router) -> None:
    error = router.refused("merged", {"dst": "10.0.0.0/8", "dev": "eth1"}, {"dst": "11.0.0.1/8", "dev": "eth1"})
    assert error.details == {"errors": ["routes[1] (11.0.0.1/8): host bits are set; did you mean 11.0.0.0/8?"]}
    assert router.show() == []


def test_the_owner_and_the_table_may_be_others(router: Router) -> None:
    router.twice("merged", {"dst": "10.0.0.0/8", "dev": "eth1"}, protocol="static", table="main")
    assert "10.0.0.0/8 dev eth1 proto static scope link" in router.show("table main")
    assert "protocol static owns this route" in str(
        router.refused("merged", {"dst": "10.0.0.0/8", "dev": "eth2"}, table=254)
    )


def test_return_routes_false_leaves_the_routes_out_of_the_result(router: Router) -> None:
    result = router.task("merged", {"dst": "10.0.0.0/8", "dev": "eth1"}, return_routes=False)
    assert result["stats"]["added"] == 1
    assert not {"before", "after", "commands", "diff"} & set(result)


@pytest.mark.parametrize(
    ("dst", "way"), [("10.0.0.0/8", "203.0.{}.{}"), ("10.0.0.0/8", "fd05::{}:{}"), ("fd09::/16", "fd05::{}:{}")]
)
def test_the_most_next_hops_hide_neither_their_route_nor_those_after_it(router: Router, dst: str, way: str) -> None:
    hops = [{"gateway": way.format(n >> 7, 1 + (n & 127)), "dev": "eth1", "onlink": True} for n in range(1000)]
    behind = {"dst": "11.0.0.0/8" if "." in dst else "fd0a::/16", "dev": "eth2"}
    result = router.twice("merged", {"dst": dst, "nexthops": hops}, behind)
    assert result["stats"]["added"] == 2
    gathered = router.task("gathered", routes=None)["gathered"]  # where `ip route` shows neither
    assert [(route["dst"], len(route.get("nexthops", []))) for route in gathered] == [(dst, 1000), (behind["dst"], 0)]
    error = router.refused("merged", {"dst": dst, "nexthops": [*hops, {"dev": "eth2"}]})
    assert "nexthops: 1001 are too many" in str(error)
