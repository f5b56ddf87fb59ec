# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping on plain data, with the facts of the ekho lab's DPU."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import TRAP_METRIC
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import PROTO_MIRROR
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.map_facts import map_facts, policy_from


def link(index: int, name: str, vrf: str | None = None, carrier: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "index": index,
        "kind": "veth",
        "up": True,
        "carrier": carrier,
        "master": None,
        "vrf": vrf,
        "table": None,
        "mtu": 1500,
        "lower": None,
        **more,
    }


def route(dst: str, table: int, protocol: str = "kernel", metric: int = 0, **hop: Any) -> dict[str, Any]:
    family = "ipv6" if ":" in dst else "ipv4"
    return {
        "dst": dst,
        "type": "unicast",
        "metric": metric,
        "family": family,
        "table": table,
        "protocol": protocol,
        **hop,
    }


DPU: dict[str, Any] = {
    "vrfs": [
        {"name": "a", "table": 10, "links": ["eth1", "eth3"], "device": False},
        {"name": "b", "table": 20, "links": ["eth2", "eth4"], "device": False},
        {"name": "c", "table": 30, "links": [], "device": False},
    ],
    "links": [link(1, "lo"), link(2, "eth1", "a"), link(3, "eth2", "b"), link(4, "eth3", "a"), link(5, "eth4", "b")],
    "addresses": [
        {"address": "192.168.101.1", "prefix_length": 24, "link": "eth1"},
        {"address": "192.168.102.1", "prefix_length": 24, "link": "eth2"},
        {"address": "192.168.11.1", "prefix_length": 24, "link": "eth3"},
        {"address": "192.168.12.1", "prefix_length": 24, "link": "eth4"},
    ],
    "routes": [
        route("0.0.0.0/0", 10, "boot", gateway="192.168.101.2", dev="eth1"),
        route("0.0.0.0/0", 20, "boot", gateway="192.168.102.2", dev="eth2"),
        route("192.168.11.0/24", 10, dev="eth3"),
        route("192.168.12.0/24", 20, dev="eth4"),
        route("192.168.12.0/24", 20, "bird", 50, gateway="192.168.102.2", dev="eth2"),
        {**route("192.168.11.1/32", 10, dev="eth3"), "type": "local"},
    ],
}
HOST = [
    {"dst": "192.168.11.0/24", "gateway": "192.168.101.1", "dev": "eth1", "type": "unicast", "metric": 0},
    {"dst": "192.168.12.0/24", "gateway": "192.168.102.1", "dev": "eth2", "type": "unicast", "metric": 0},
]
TO_A = {"dst": "192.168.12.0/24", "type": "unicast", "dev": "eth4", "metric": 0}
TO_B = {"dst": "192.168.11.0/24", "type": "unicast", "dev": "eth3", "metric": 0}
_BY_HOST = {"type": "unicast", "onlink": True, "metric": TRAP_METRIC}
TRAP_IN_A = {**_BY_HOST, "gateway": "192.168.101.2", "dev": "eth1"}
#: VRF a has an address of the DPU's own in there.
TRAP_IN_B = {"dst": "192.168.11.1/32", **_BY_HOST, "gateway": "192.168.102.2", "dev": "eth2"}


def test_the_labs_two_routes_go_into_the_other_vrf_that_leads_to_the_host() -> None:
    assert map_facts(HOST, DPU, policy_from({})) == {
        "vrfs": {
            "a": {"table": 10, "routes": [TO_A]},
            "b": {"table": 20, "routes": [TO_B, TRAP_IN_B]},
            "c": {"table": 30, "routes": []},
        },
        "slow_path": [],
    }


def test_a_slow_prefix_inside_an_offloaded_one_gets_a_trap_route() -> None:
    hole = {"dst": "192.168.12.2/32", "type": "blackhole"}
    elsewhere = {"dst": "192.168.12.128/25", "gateway": "203.0.113.1", "dev": "eth1"}
    mapped = map_facts([*HOST, hole, elsewhere], DPU, policy_from({}))
    assert mapped["vrfs"]["a"]["routes"] == [
        TO_A,
        {"dst": "192.168.12.2/32", **TRAP_IN_A},
        {"dst": "192.168.12.128/25", **TRAP_IN_A},
    ]
    assert mapped["vrfs"]["b"]["routes"] == [TO_B, TRAP_IN_B]
    assert {item["route"]["dst"]: item["reason"] for item in mapped["slow_path"]} == {
        "192.168.12.2/32": "blackhole routes are not mirrored: they have no egress",
        "192.168.12.128/25": "nexthop: gateway 203.0.113.1 is not an address of the DPU",
    }


def test_a_part_that_the_source_vrf_sends_elsewhere_is_a_route_of_its_own() -> None:
    dpu = deepcopy(DPU)
    dpu["routes"] += [
        route("192.168.12.64/26", 20, "static", gateway="192.168.12.9", dev="eth4"),
        {**route("192.168.12.128/26", 20, "static"), "type": "blackhole"},
    ]
    mapped = map_facts(HOST, dpu, policy_from({}))
    assert [(item["dst"], item.get("gateway")) for item in mapped["vrfs"]["a"]["routes"]] == [
        ("192.168.12.0/24", None),
        ("192.168.12.64/26", "192.168.12.9"),
        ("192.168.12.128/26", "192.168.101.2"),
    ]
    assert mapped["slow_path"] == []


def test_the_link_by_which_the_host_sends_tells_the_vrf() -> None:
    """Both uplinks have the gateway 192.0.2.1; the connected routes of the host show which is which."""
    dpu = deepcopy(DPU)
    dpu["addresses"] += [{"address": "192.0.2.1", "prefix_length": 32, "link": name} for name in ("eth1", "eth2")]
    connected = [{"dst": f"192.168.10{number}.0/24", "dev": f"eth{number}"} for number in (1, 2)]
    host = [{**item, "gateway": "192.0.2.1", "onlink": True} for item in HOST]
    alone = map_facts(host, dpu, policy_from({}))
    assert [item["reason"] for item in alone["slow_path"]] == [
        "nexthop: gateway 192.0.2.1 is an address of several links: eth1, eth2"
    ] * 2
    mapped = map_facts([*host, *connected], dpu, policy_from({}))
    assert mapped["vrfs"] == map_facts(HOST, DPU, policy_from({}))["vrfs"]


def test_the_smallest_mtu_on_the_way_over_the_host_is_that_of_the_route() -> None:
    dpu = deepcopy(DPU)
    for item in dpu["links"]:
        item["mtu"] = {"eth1": 1400, "eth2": 1450}.get(item["name"], 9000)
    mapped = map_facts(HOST, dpu, policy_from({}))
    assert mapped["vrfs"]["a"]["routes"] == [{**TO_A, "mtu": 1400}]


def test_routes_that_are_mirrored_already_do_not_change_the_mapping() -> None:
    dpu = deepcopy(DPU)
    dpu["routes"] += [
        route("192.168.12.0/24", 10, "ynl_mirror", dev="eth4"),
        route("192.168.11.0/24", 20, str(PROTO_MIRROR), dev="eth3"),
    ]
    assert map_facts(HOST, dpu, policy_from({})) == map_facts(HOST, DPU, policy_from({}))


def test_a_route_that_stays_on_the_slow_path_has_a_reason() -> None:
    host = [
        {"dst": "10.0.0.0/8", "gateway": "192.168.101.1", "dev": "eth1"},
        {"dst": "192.168.101.0/24", "dev": "eth1"},
        {"dst": "10.1.0.0/16", "gateway": "203.0.113.1", "dev": "eth1"},
    ]
    mapped = map_facts(host, DPU, policy_from({"inference": ["nexthop"]}))
    assert all(vrf["routes"] == [] for vrf in mapped["vrfs"].values())
    reasons = {item["route"]["dst"]: item["reason"] for item in mapped["slow_path"]}
    assert "egress link eth1 leads back to the host" in reasons["10.0.0.0/8"]
    assert "no gateway" in reasons["192.168.101.0/24"]
    assert "203.0.113.1 is not an address of the DPU" in reasons["10.1.0.0/16"]


def test_a_later_gateway_still_shows_which_link_leads_to_the_host() -> None:
    """The first route alone would leave by eth1; the second shows that eth1 leads to the host."""
    dpu = deepcopy(DPU)
    dpu["routes"] += [route("10.0.0.0/8", 20, gateway="192.168.101.2", dev="eth1")]
    host = [
        {"dst": "10.0.0.0/8", "gateway": "192.168.102.1", "dev": "eth2"},
        {"dst": "192.168.11.0/24", "gateway": "192.168.101.1", "dev": "eth1"},
    ]
    mapped = map_facts(host, dpu, policy_from({"inference": ["nexthop"]}))
    assert [item["route"]["dst"] for item in mapped["slow_path"]] == ["10.0.0.0/8"]


def test_the_best_path_of_several_announced_ones_is_mapped() -> None:
    worse = {**HOST[0], "gateway": "192.168.102.1", "metric": 9}
    better = [worse, *HOST]
    assert map_facts(better, DPU, policy_from({})) == map_facts(HOST, DPU, policy_from({}))


def test_options_reach_the_mapping() -> None:
    rule = {"vrf": "b", "dev": "eth4", "via": "192.168.12.9", "prefix": "10.0.0.0/8"}
    options = {"inference": ["static"], "static": [rule], "imports": {"c": ["a"]}, "metric": 7}
    mapped = map_facts([{**HOST[0], "dst": "10.1.0.0/16"}], DPU, policy_from(options))
    [item] = mapped["vrfs"]["a"]["routes"]
    assert (item["gateway"], item["dev"], item["metric"], item["onlink"]) == ("192.168.12.9", "eth4", 7, True)
    assert mapped["vrfs"]["c"]["routes"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inference": ["guess"]}, "inference: unknown 'guess'; choose from: static, nexthop, prefix"),
        ({"static": [{"vrf": "a", "dev": "eth1"}]}, "static[0]: matches no announced route; set prefix or gateway"),
        ({"static": [{"prefix": "10.0.0.0/8"}]}, "static[0]: no egress; set vrf and dev"),
        (
            {"static": [{"vrf": "a", "dev": "eth1", "prefix": "10.0.0.1/8"}]},
            "static[0]: '10.0.0.1/8' has host bits",
        ),
        ({"static": [{"vrf": "a", "dev": "eth1", "prefx": "10.0.0.0/8"}]}, "static[0]: unknown option 'prefx'"),
        ({"protocol": "nobody"}, "'nobody' is not a protocol"),
    ],
)
def test_an_invalid_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
        map_facts(HOST, DPU, policy_from(options))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("routes", "dpu", "message"),
    [
        ([{"dst": "10.0.0.1/8"}], DPU, "announced routes[0] (10.0.0.1/8): host bits are set"),
        (HOST, {"vrfs": []}, "no 'links' in the DPU's facts"),
        (HOST, "x", "the DPU's facts are not a result of vrf_info"),
        (HOST, {**DPU, "links": [1]}, "the DPU's facts are not a result of vrf_info"),
    ],
)
def test_invalid_routes_or_facts_are_named(routes: Any, dpu: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
        map_facts(routes, dpu, policy_from({}))
    assert message in str(caught.value)
