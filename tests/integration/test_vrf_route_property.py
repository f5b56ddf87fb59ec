# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any task on any table: what is wanted is there, what is others' is untouched, and a second run changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import encode_route
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Requests
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.items import ItemReader, LinkNames
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import TABLE, Router

GATEWAYS = {4: ("192.0.2.2", "198.51.100.2"), 6: ("fd00:1::2", "fd00:2::2")}
DESTINATIONS = {4: ("10.0.0.0/8", "10.0.0.0/16", "default"), 6: ("fd09::/16", "fd09:1::/32")}
APPEND = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_APPEND


@st.composite
def items(draw: Any) -> dict[str, Any]:
    version = draw(st.sampled_from((4, 6)))
    item: dict[str, Any] = {"dst": draw(st.sampled_from(DESTINATIONS[version]))}
    if draw(st.booleans()):
        item["metric"] = draw(st.sampled_from((5, 1024)))
    shape = draw(st.sampled_from(("dev", "gateway", "several", "discard")))
    if shape == "dev":
        item["dev"] = draw(st.sampled_from(("eth1", "eth2")))
    elif shape == "gateway":
        item["gateway"] = draw(st.sampled_from(GATEWAYS[version]))
    elif shape == "several":
        item["nexthops"] = [{"gateway": g, "weight": draw(st.integers(1, 3))} for g in GATEWAYS[version]]
    else:
        item["type"] = draw(st.sampled_from(("blackhole", "unreachable", "prohibit")))
    if draw(st.booleans()):
        item["mtu"] = 1400
    return item


def key(item: dict[str, Any]) -> tuple[str, int]:
    return item["dst"], item.get("metric", 1024 if ":" in item["dst"] else 0)


def is_ipv6_gateway(item: dict[str, Any]) -> bool:
    return ":" in item["dst"] and ("gateway" in item or "nexthops" in item)


OURS = st.lists(items(), max_size=6)
# To the kernel an IPv6 gateway beside another of the same metric is one multipath route with the owner of the first.
# Half of it cannot have another owner. Therefore the IPv6 routes of others are only those that stay apart.
THEIRS = st.lists(items().filter(lambda item: not is_ipv6_gateway(item)), max_size=4)
WANTED = st.lists(items(), max_size=5, unique_by=key)


def hides(ours: list[dict[str, Any]]) -> bool:
    """Whether the kernel's dump leaves a route out: one that stands between two gateways at its key."""
    kinds: dict[tuple[str, int], list[bool]] = {}
    for item in ours:
        if ":" in item["dst"]:
            kinds.setdefault(key(item), []).append(is_ipv6_gateway(item))
    return any(False in found[found.index(True) :] for found in kinds.values() if found.count(True) > 1)


def install(router: Router, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Fill the table; appended, so that there may be several at one key. What the kernel refuses is not there."""
    router.namespace.ip(f"route flush table {TABLE}", check=False)
    router.namespace.ip(f"-6 route flush table {TABLE}", check=False)
    with router.namespace.entered(), Requests() as requests:
        names = LinkNames(router.indexes)
        for protocol, group in ((121, ours), (4, theirs)):
            for route in ItemReader(names, TABLE, protocol).routes(group, unique=False):
                requests.write([encode_route(route, rtnetlink.RTM_NEWROUTE, APPEND)])


@pytest.mark.timeout(400)  # a failure takes its time to be made small
def test_any_task_on_any_table_reaches_its_state_and_spares_other_owners(namespaces: NamespaceFactory) -> None:
    router = Router.make(namespaces("router"))

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(OURS, THEIRS, WANTED, st.sampled_from(("merged", "replaced", "overridden")))
    def check(
        ours: list[dict[str, Any]], theirs: list[dict[str, Any]], wanted: list[dict[str, Any]], state: str
    ) -> None:
        install(router, ours, theirs)
        others = [line for line in router.show() if "proto static" in line]
        predicted = router.task(state, *wanted, continue_on_error=True, check=True)
        result = router.task(state, *wanted, continue_on_error=True)
        assert [line for line in router.show() if "proto static" in line] == others
        assert {entry["errno"] for entry in result["failed_routes"]} <= {17}
        if not hides(ours):
            for name in ("changed", "stats", "commands", "failed_routes"):
                assert predicted[name] == result[name], name
            assert len(predicted["after"]) == len(result["after"])
        again = router.task(state, *wanted, continue_on_error=True)
        assert not again["changed"], (again["commands"], router.show())
        assert again["stats"]["unchanged"] + again["stats"]["failed"] == len(wanted)
        if state == "overridden":
            held = len(wanted) - again["stats"]["failed"]
            assert len([line for line in router.show() if "proto 121" in line]) >= held
        router.task("deleted", routes=None)
        assert [line for line in router.show() if "proto static" in line] == others
        assert not [line for line in router.show() if "proto 121" in line]

    check()
