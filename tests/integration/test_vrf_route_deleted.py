# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""State deleted: what the items select, of ours."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router


@pytest.fixture
def router(namespaces: NamespaceFactory) -> Router:
    return Router.make(namespaces("router"))


ROUTES = [
    {"dst": "10.0.0.0/8", "gateway": "192.0.2.2"},
    {"dst": "10.0.0.0/8", "gateway": "192.0.2.2", "metric": 5},
    {"dst": "10.0.0.0/8", "type": "blackhole", "metric": 9, "mtu": 1400},
    {"dst": "10.0.0.0/8", "dev": "eth2", "tos": 4},
    {"dst": "fd09::/16", "nexthops": [{"gateway": "fd00:1::2"}, {"gateway": "fd00:1::3"}]},
    {"dst": "fd09::/16", "type": "prohibit", "metric": 5},
]


@pytest.mark.parametrize(
    ("selector", "gone"),
    [
        ({"dst": "10.0.0.0/8"}, [0, 1, 2, 3]),
        ({"dst": "10.0.0.0/8", "metric": 5}, [1]),
        ({"dst": "10.0.0.0/8", "metric": 0}, [0, 3]),
        ({"dst": "10.0.0.0/8", "gateway": "192.0.2.2"}, [0, 1]),
        ({"dst": "10.0.0.0/8", "type": "blackhole"}, [2]),
        ({"dst": "10.0.0.0/8", "dev": "eth2"}, [3]),
        ({"dst": "10.0.0.0/8", "gateway": "192.0.2.9"}, []),
        ({"dst": "10.0.0.0/9"}, []),
        ({"dst": "fd09::/16", "nexthops": [{"gateway": "fd00:1::3"}, {"gateway": "fd00:1::2"}]}, [4]),
        ({"dst": "fd09::/16", "nexthops": [{"gateway": "fd00:1::3"}]}, []),
        ({"dst": "fd09::/16", "type": "prohibit"}, [5]),
        ({"dst": "fd09::/16"}, [4, 5]),
    ],
)
def test_an_item_selects_by_the_options_that_it_gives(router: Router, selector: object, gone: list[int]) -> None:
    router.task("merged", *ROUTES)
    result = router.twice("deleted", selector)
    assert result["stats"]["deleted"] == len(gone)
    # What is left is exactly the others: naming them again changes nothing.
    left = [route for index, route in enumerate(ROUTES) if index not in gone]
    assert not router.task("overridden", *left)["changed"]


def test_without_routes_all_of_ours_are_deleted(router: Router) -> None:
    router.task("merged", *ROUTES)
    router.namespace.ip("route add 12.0.0.0/8 dev eth2 table 10")
    assert router.twice("deleted", routes=None)["stats"]["deleted"] == 6
    assert router.show() == ["12.0.0.0/8 dev eth2 scope link"]
    assert "set force: true" in str(router.refused("deleted", routes=None, table="main"))


def test_an_empty_list_deletes_nothing(router: Router) -> None:
    router.task("merged", *ROUTES)
    assert not router.task("deleted")["changed"]


def test_a_route_of_another_owner_is_reported_and_left(router: Router) -> None:
    router.namespace.ip("route add 10.0.0.0/8 dev eth2 table 10")
    router.task("merged", {"dst": "10.0.0.0/8", "dev": "eth1", "metric": 5}, {"dst": "11.0.0.0/8", "dev": "eth1"})
    before = router.show()
    error = router.refused("deleted", {"dst": "11.0.0.0/8"}, {"dst": "10.0.0.0/8"})
    assert "routes[1] (10.0.0.0/8): protocol boot owns this route (10.0.0.0/8 dev eth2 proto boot), which stays" in str(
        error
    )
    assert "set protocol: boot" in str(error)
    assert router.show() == before
    assert router.task("deleted", {"dst": "10.0.0.0/8"}, {"dst": "11.0.0.0/8"}, continue_on_error=True)["changed"]
    assert router.show() == ["10.0.0.0/8 dev eth2 scope link"]
    assert router.twice("deleted", {"dst": "10.0.0.0/8"}, protocol="boot")["changed"]
    assert router.show() == []


def test_one_of_several_at_one_ipv6_key_is_deleted_alone(router: Router) -> None:
    """The kernel's match for a delete ignores the type: without more it would take the first of that metric."""
    router.namespace.ip("-6 route add fd09::/16 via fd00:1::2 proto 121 table 10")
    router.namespace.ip("-6 route append unreachable fd09::/16 proto 121 table 10")
    assert router.twice("deleted", {"dst": "fd09::/16", "type": "unreachable"})["stats"]["deleted"] == 1
    assert router.show() == ["fd09::/16 via fd00:1::2 dev eth1 proto 121 metric 1024"]


def test_an_ipv6_connected_route_is_deleted_and_one_through_a_gateway_on_that_link_stays(router: Router) -> None:
    router.namespace.ip("-6 route add fd09::/16 via fd00:1::2 proto 121 table 10")
    router.namespace.ip("-6 route append fd09::/16 dev eth1 mtu 1400 proto 121 table 10")
    result = router.twice("deleted", {"dst": "fd09::/16", "mtu": 1400})
    assert result["stats"]["failed"] == 0
    assert router.show() == ["fd09::/16 via fd00:1::2 dev eth1 proto 121 metric 1024"]


def test_routes_through_a_nexthop_object_are_deleted_too(router: Router) -> None:
    router.namespace.ip("nexthop add id 7 via 192.0.2.2 dev eth1")
    router.namespace.ip("nexthop add id 8 via fd00:1::2 dev eth1")
    router.namespace.ip("route add 10.0.0.0/8 nhid 7 proto 121 table 10")
    router.namespace.ip("-6 route add fd09::/16 nhid 8 proto 121 table 10")
    assert not router.task("merged", {"dst": "10.0.0.0/8", "gateway": "192.0.2.2"})["changed"]
    assert router.twice("deleted", routes=None)["stats"]["deleted"] == 2
    assert router.show() == []
