# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""State replaced: per destination, what the task names and nothing else of ours."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router


@pytest.fixture
def router(namespaces: NamespaceFactory) -> Router:
    return Router.make(namespaces("router"))


def test_other_routes_of_ours_to_the_destination_are_removed(router: Router) -> None:
    router.task(
        "merged",
        {"dst": "10.0.0.0/8", "dev": "eth1", "metric": 5},
        {"dst": "10.0.0.0/8", "dev": "eth1", "tos": 4},
        {"dst": "11.0.0.0/8", "dev": "eth1", "metric": 5},
        {"dst": "fd09::/16", "dev": "eth1", "metric": 5},
    )
    router.namespace.ip("route add 10.0.0.0/8 dev eth2 metric 6 table 10")
    result = router.twice(
        "replaced", {"dst": "10.0.0.0/8", "dev": "eth2"}, {"dst": "fd09::/16", "gateway": "fd00:2::2"}
    )
    assert result["stats"] == {"added": 2, "replaced": 0, "deleted": 3, "unchanged": 0, "failed": 0, "skipped": 0}
    assert [command.split("route ")[1].split()[0] for command in result["commands"]] == ["add"] * 2 + ["del"] * 3
    assert sorted(router.show()) == [
        "10.0.0.0/8 dev eth2 proto 121 scope link",
        "10.0.0.0/8 dev eth2 scope link metric 6",
        "11.0.0.0/8 dev eth1 proto 121 scope link metric 5",
        "fd09::/16 via fd00:2::2 dev eth2 proto 121 metric 1024",
    ]


def test_the_destination_is_reachable_all_the_time(router: Router) -> None:
    """A move to another metric adds before it removes; one within the metric is a single message."""
    router.task("merged", {"dst": "10.0.0.0/8", "dev": "eth1"})
    monitor = router.namespace.start("ip", "-o", "monitor", "route")
    router.namespace.run("sh", "-c", "sleep 0.5")
    router.task("replaced", {"dst": "10.0.0.0/8", "dev": "eth2"})
    router.task("replaced", {"dst": "10.0.0.0/8", "dev": "eth1", "metric": 5})
    router.namespace.run("sh", "-c", "sleep 0.5")
    monitor.terminate()
    assert monitor.stdout is not None
    seen = [" ".join(line.split()) for line in monitor.stdout.read().splitlines() if "table 10" in line]
    assert seen == [
        "10.0.0.0/8 dev eth2 table 10 proto 121 scope link",
        "10.0.0.0/8 dev eth1 table 10 proto 121 scope link metric 5",
        "Deleted 10.0.0.0/8 dev eth2 table 10 proto 121 scope link",
    ]


def test_ipv6_multipath_shrinks_and_grows_to_exactly_the_wanted_hops(router: Router) -> None:
    gateways = ("fd00:1::2", "fd00:1::3", "fd00:2::2")
    for count in (3, 1, 2, 3, 2):
        item = {"dst": "fd09::/16", "nexthops": [{"gateway": gateway} for gateway in gateways[:count]]}
        router.twice("replaced", item)
        [line] = router.show()
        assert [gateway in line for gateway in gateways] == [number < count for number in range(3)]
    router.twice("replaced", {"dst": "fd09::/16", "dev": "eth1"})
    assert router.show() == ["fd09::/16 dev eth1 proto 121 metric 1024"]
