# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An IPv6 route between the hops of a multipath one of its metric: a dump leaves it out (fib6_dump_node).

The multipath route has the packets as long as it is there. What counts is who gets them when it goes.
"""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import Prefix
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import best_path
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import joined
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import MAIN, Followed, follow

PREFIX = "fd10::/32"
HIDDEN = f"{PREFIX} dev e2 metric 1024"
FIRST, SECOND = f"{PREFIX} via fd00:1::2", f"{PREFIX} via fd00:3::2"


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    """Three links with an address each, and the hidden route between the hops by the first and the third."""
    return joined(namespaces("hidden"), "e1", "e2", "e3")


def hide(seen: Followed) -> None:
    """The three routes in their order; the dump has no word of the middle one any more."""
    seen.after(f"route add {FIRST}", f"route append {HIDDEN}", f"route append {SECOND}")
    shown = seen.machine.ip_json(f"-6 route show {PREFIX}")
    assert [len(route.get("nexthops", [])) for route in shown] == [2], shown


def read_all_again(seen: Followed) -> None:
    """A dump of every table."""
    rereads = seen.follower.rereads
    seen.replica.rib.ask()
    seen.follower.look()
    seen.settle()
    assert seen.follower.rereads > rereads


def link_of_the_best_path(seen: Followed) -> str | None:
    prefix = Prefix.parse(PREFIX)
    path = best_path(seen.replica.rib.tables[prefix.family, MAIN].get(prefix.key))
    assert path == seen.told.get(f"{prefix} table main")
    return None if path is None else seen.replica.links[path.nexthops[0].oif or 0].name


@pytest.mark.parametrize(
    "deletes",
    [
        (f"-6 route del {PREFIX} nexthop via fd00:1::2 nexthop via fd00:3::2",),
        (f"route del {SECOND}", f"route del {FIRST}"),
        (f"route del {FIRST}", f"route del {SECOND}"),
    ],
    ids=["at once", "the last hop first", "the first hop first"],
)
def test_a_route_that_dumps_hid_gets_the_packets_once_the_hops_are_gone(
    machine: Namespace, deletes: tuple[str, ...]
) -> None:
    with follow(machine) as seen:
        hide(seen)
        read_all_again(seen)
        assert link_of_the_best_path(seen) == "e1"
        seen.after(*deletes)
        assert link_of_the_best_path(seen) == "e2"


def test_a_dump_by_the_hidden_routes_link_does_not_lose_it(machine: Namespace) -> None:
    with follow(machine) as seen:
        hide(seen)
        asked = seen.after("address add fd00:22::1/64 dev e2 nodad", "address del fd00:22::1/64 dev e2")
        assert any(read.startswith("ipv6") and "by link" in read for read in asked)
        seen.after(f"route del {SECOND}", f"route del {FIRST}")
        assert link_of_the_best_path(seen) == "e2"


def test_a_hidden_route_that_outlives_its_link_is_followed(machine: Namespace) -> None:
    with follow(machine) as seen:
        hide(seen)
        seen.after("link set e2 down")  # the kernel passes the route over here as well (fib6_clean_node)
        seen.after(f"route del {SECOND}", f"route del {FIRST}")
        left = machine.ip_json(f"-6 route show {PREFIX}")
        assert link_of_the_best_path(seen) == (left[0]["dev"] if left else None)


def test_a_hidden_route_that_went_unheard_does_not_come_back(machine: Namespace) -> None:
    with follow(machine, receive_buffer=8192) as seen:
        hide(seen)
        burst = [f"route add 10.1.{number}.0/24 via inet6 fe80::9 dev e1" for number in range(250)]
        seen.run([*burst, f"-6 route del {HIDDEN}"])
        seen.settle()
        assert seen.follower.overruns
        assert link_of_the_best_path(seen) == "e1"
        seen.after(f"route del {SECOND}", f"route del {FIRST}")
        assert link_of_the_best_path(seen) is None
