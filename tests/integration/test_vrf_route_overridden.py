# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""State overridden: of ours in the whole table what the task names and nothing else."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router


@pytest.fixture
def router(namespaces: NamespaceFactory) -> Router:
    return Router.make(namespaces("router"))


def fill(router: Router) -> None:
    router.task(
        "merged",
        {"dst": "10.0.0.0/8", "dev": "eth1"},
        {"dst": "11.0.0.0/8", "type": "blackhole"},
        {"dst": "fd09::/16", "gateway": "fd00:1::2"},
        {"dst": "fd0a::/16", "type": "unreachable"},
        {"dst": "fd0b::/16", "nexthops": [{"gateway": "fd00:1::2"}, {"gateway": "fd00:2::2"}]},
    )
    router.namespace.ip("route add 12.0.0.0/8 dev eth2 table 10")
    router.namespace.ip("-6 route add fd0c::/16 dev eth2 table 10")


def test_the_table_has_the_named_routes_and_those_of_others(router: Router) -> None:
    fill(router)
    result = router.twice("overridden", {"dst": "10.0.0.0/8", "dev": "eth1"}, {"dst": "13.0.0.0/8", "dev": "eth2"})
    assert result["stats"] == {"added": 1, "replaced": 0, "deleted": 4, "unchanged": 1, "failed": 0, "skipped": 0}
    assert [item["dst"] for item in result["before"]] == [
        "10.0.0.0/8",
        "11.0.0.0/8",
        "fd09::/16",
        "fd0a::/16",
        "fd0b::/16",
    ]
    assert router.show() == [
        "10.0.0.0/8 dev eth1 proto 121 scope link",
        "12.0.0.0/8 dev eth2 scope link",
        "13.0.0.0/8 dev eth2 proto 121 scope link",
        "fd0c::/16 dev eth2 metric 1024",
    ]


def test_an_empty_list_removes_all_of_ours(router: Router) -> None:
    fill(router)
    assert router.twice("overridden")["stats"]["deleted"] == 5
    assert router.show() == ["12.0.0.0/8 dev eth2 scope link", "fd0c::/16 dev eth2 metric 1024"]


def test_a_family_leaves_the_other_alone(router: Router) -> None:
    fill(router)
    assert router.twice("overridden", family="ipv6")["stats"]["deleted"] == 3
    assert [line.split()[0] for line in router.show()] == ["10.0.0.0/8", "blackhole", "12.0.0.0/8", "fd0c::/16"]


@pytest.mark.parametrize("table", ["main", "local", 253])
def test_the_machines_own_tables_need_force(router: Router, table: object) -> None:
    before = router.show("table all")
    message = str(router.refused("overridden", table=table))
    assert "set force: true" in message
    assert "protocol ynl_mirror" in message
    assert not router.task("overridden", table=table, force=True)["changed"]
    router.twice("overridden", {"dst": "10.0.0.0/8", "dev": "eth1"}, table=table, force=True)
    router.twice("overridden", table=table, force=True)
    assert router.show("table all") == before


def test_an_absent_table_is_empty(router: Router) -> None:
    assert router.task("overridden", table=4294967295)["stats"]["unchanged"] == 0
    result = router.twice("overridden", {"dst": "10.0.0.0/8", "dev": "eth1"}, table=4294967295)
    assert result["table"] == 4294967295
    assert router.show("table 4294967295") == ["10.0.0.0/8 dev eth1 proto 121 scope link"]
