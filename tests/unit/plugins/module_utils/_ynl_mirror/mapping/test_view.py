# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the DPU knows about itself: which VRFs there are, and which routes are its own."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import discover_vrfs, own_routes
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, Rule, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6, NextHop
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_NEWROUTE,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import LINKS, VRFS, A, B, own


def test_vrf_devices_are_found_with_their_links() -> None:
    links = {
        1: Link(1, "lo"),
        2: Link(2, "b", kind="vrf", vrf_table=20),
        3: Link(3, "a", kind="vrf", vrf_table=10),
        4: Link(4, "eth1", master=3),
        5: Link(5, "eth2", master=2),
        6: Link(6, "br0", kind="bridge", master=2),
        7: Link(7, "port", master=6),
    }
    assert discover_vrfs(links, (), {}) == (Vrf("b", 20, frozenset((5, 6))), Vrf("a", 10, frozenset((4,))))


def test_named_vrfs_have_the_links_that_the_user_or_the_rules_give_them() -> None:
    rules = [Rule(AF_INET, 1, 10, "eth1"), Rule(AF_INET6, 1, 10, "eth3"), Rule(AF_INET, 2, 20), Rule(AF_INET, 0, 255)]
    found = discover_vrfs(LINKS, rules, {"a": (10, ()), "b": (20, ("eth2", "eth4", "gone"))})
    assert found == (Vrf("a", 10, frozenset((1, 3))), Vrf("b", 20, frozenset((2, 4))))


def test_the_dpus_own_routes_are_its_best_paths_in_the_vrfs_tables() -> None:
    rib = Rib([A, 99])
    writer = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    append = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND)
    prefix, best = own(A, "10.0.0.0/8", "@3", metric=5)
    rib.apply(writer.message(prefix.key, best))
    rib.apply(writer.message(prefix.key, replace(best, metric=9)))
    rib.apply(writer.message(prefix.key, replace(best, tos=16)))
    rib.apply(append.message(prefix.key, best.with_nexthops(NextHop(None, 4))))
    elsewhere, far = own(99, "10.0.0.0/8", "@4")
    rib.apply(writer.message(elsewhere.key, far))
    tables = own_routes(rib, VRFS)
    assert set(tables) == {(AF_INET, A), (AF_INET6, A), (AF_INET, B), (AF_INET6, B)}
    assert tables[AF_INET, A].exact(prefix.key) == best
    assert sum(map(len, tables.values())) == 1
