# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a lab: what is wanted, what is seen, and the lines in between."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import (
    LabError,
    VrfKind,
    missing,
    observed,
    parse_topology,
    peers,
    wanted,
    wanted_sysctls,
)

LINKS = [["left:eth1", "right:eth2"]]


def hosts(**right: Any) -> list[dict[str, Any]]:
    return [
        {"name": "left", "interfaces": [{"name": "eth1", "addresses": ["192.0.2.1/24"]}]},
        {
            "name": "right",
            "vrfs": [{"name": "a", "table": 10}],
            "interfaces": [{"name": "eth2", "vrf": "a", "addresses": ["192.0.2.2/24", "fd00::2/64"]}],
            **right,
        },
    ]


def lines(kind: VrfKind, **right: Any) -> list[str]:
    host = parse_topology("lab", hosts(**right), LINKS).host("right")
    return [f"{option} {line}".strip() for option, some in missing(wanted(host, kind), set()).items() for line in some]


def test_namespaces_carry_the_name_of_the_lab() -> None:
    topology = parse_topology("second", hosts(), LINKS)
    assert [host.namespace for host in topology.hosts] == ["second-left", "second-right"]


def test_vrf_device() -> None:
    plan = lines(VrfKind.DEVICE, routes=[{"dst": "default", "gateway": "192.0.2.1", "vrf": "a"}])
    assert plan == [
        "link set dev lo up",
        "link add name a type vrf table 10",
        "link set dev a up",
        "link set dev eth2 master a",
        "link set dev eth2 up",
        "address replace 192.0.2.2/24 dev eth2",
        "address replace fd00::2/64 dev eth2 nodad",
        "route replace 0.0.0.0/0 via 192.0.2.1 dev eth2 proto static table 10",
        "route replace unreachable 0.0.0.0/0 metric 4278198272 table 10",
        "route replace unreachable ::/0 metric 4278198272 table 10",
    ]


def test_vrf_by_rules_does_what_the_device_would() -> None:
    plan = lines(VrfKind.RULES)
    assert "link add" not in " ".join(plan)
    assert "address replace 192.0.2.2/24 dev eth2 noprefixroute" in plan, "the main table stays empty"
    assert "route replace 192.0.2.0/24 dev eth2 proto kernel scope link src 192.0.2.2 table 10" in plan
    assert "route replace fd00::/64 dev eth2 proto kernel metric 256 table 10" in plan
    assert "-4 rule add pref 1000 iif eth2 lookup 10" in plan
    assert "-6 rule add pref 1000 oif eth2 lookup 10" in plan
    # A packet that passes through with such a source must go by the link it came in on: that rule is looked at first.
    assert "-4 rule add pref 1001 from 192.0.2.2 lookup 10" in plan
    assert "-6 rule add pref 1001 from fd00::2 lookup 10" in plan


@pytest.mark.parametrize(
    ("kind", "key"), [(VrfKind.DEVICE, "net.ipv4.tcp_l3mdev_accept"), (VrfKind.RULES, "net.ipv4.conf.all.accept_local")]
)
def test_kernel_settings_of_the_kind_come_with_vrfs_only(kind: VrfKind, key: str) -> None:
    topology = parse_topology("lab", hosts(sysctls={"net.ipv4.ip_forward": 1}), LINKS)
    assert wanted_sysctls(topology.host("right"), kind)[key] == "1"
    assert wanted_sysctls(topology.host("right"), kind)["net.ipv4.ip_forward"] == "1"
    assert wanted_sysctls(topology.host("left"), kind) == {}


ADDRESSES = [
    {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP"], "addr_info": []},
    {
        "ifindex": 3,
        "link_index": 7,
        "ifname": "eth2",
        "flags": ["BROADCAST", "UP"],
        "linkinfo": {"info_kind": "veth"},
        "addr_info": [{"local": "192.0.2.2", "prefixlen": 24}, {"local": "fd00::2", "prefixlen": 64}],
    },
]
ROUTES = {
    4: [
        {"type": "1", "dst": "192.0.2.0/24", "dev": "eth2", "table": "10"},
        {"type": "1", "dst": "default", "gateway": "192.0.2.1", "dev": "eth2", "table": "10"},
        {"type": "7", "dst": "default", "table": "10", "metric": 4278198272},
        {"type": "2", "dst": "192.0.2.2", "dev": "eth2", "table": "255"},
    ],
    6: [
        {"type": "1", "dst": "fd00::/64", "dev": "eth2", "table": "10"},
        {"type": "1", "dst": "fe80::/64", "dev": "eth2", "table": "10"},
        {"type": "7", "dst": "default", "dev": "lo", "table": "10", "metric": 4278198272},
    ],
}
RULES = {
    4: [
        {"priority": 0, "src": "all", "table": "255"},
        {"priority": 1000, "src": "all", "iif": "eth2", "table": "10"},
        {"priority": 1000, "src": "all", "oif": "eth2", "table": "10"},
        {"priority": 1000, "src": "all", "table": "[l3mdev-table]"},
        {"priority": 1001, "src": "192.0.2.2", "table": "10"},
        {"priority": 33000, "src": "all", "table": "200"},
    ],
    6: [
        {"priority": 1000, "src": "all", "iif": "eth2", "table": "10"},
        {"priority": 1000, "src": "all", "oif": "eth2", "table": "10"},
        {"priority": 1001, "src": "fd00::2", "table": "10"},
        {"priority": 33000, "src": "all", "table": "200"},
    ],
}
RIGHT: dict[str, Any] = {
    "routes": [{"dst": "default", "gateway": "192.0.2.1", "vrf": "a"}],
    "rules": [{"priority": 33000, "table": 200}],
}


def test_a_whole_host_needs_nothing() -> None:
    host = parse_topology("lab", hosts(**RIGHT), LINKS).host("right")
    assert missing(wanted(host, VrfKind.RULES), observed(ADDRESSES, ROUTES, RULES)) == {}


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        (lambda a, _r, _u: a[1]["flags"].remove("UP"), {"": ["link set dev eth2 up"]}),
        (
            lambda a, _r, _u: a[1]["addr_info"].pop(),
            {"": ["address replace fd00::2/64 dev eth2 nodad noprefixroute"]},
        ),
        (
            lambda _a, r, _u: r[4].pop(1),
            {"": ["route replace 0.0.0.0/0 via 192.0.2.1 dev eth2 proto static table 10"]},
        ),
        (lambda _a, r, _u: r[6].pop(), {"": ["route replace unreachable ::/0 metric 4278198272 table 10"]}),
        (lambda _a, _r, u: u[6].pop(1), {"-6": ["rule add pref 1000 oif eth2 lookup 10"]}),
        (lambda _a, _r, u: u[4].pop(), {"-4": ["rule add pref 33000 lookup 200"]}),
    ],
)
def test_only_what_is_missing_is_made(damage: Any, repair: dict[str, list[str]]) -> None:
    seen = copy.deepcopy((ADDRESSES, ROUTES, RULES))
    damage(*seen)
    host = parse_topology("lab", hosts(**RIGHT), LINKS).host("right")
    assert missing(wanted(host, VrfKind.RULES), observed(*seen)) == repair


def test_a_rule_that_looks_at_more_is_not_ours() -> None:
    rules = {4: [{"priority": 1000, "src": "192.0.2.0", "srclen": 24, "iif": "eth2", "table": "10"}], 6: []}
    keys = observed([], {}, rules)
    assert keys == {("rule", 4, 1000, (("iif", "eth2"), ("from", "192.0.2.0/24")), 10)}


def test_peers_are_found_by_index() -> None:
    assert peers(ADDRESSES) == {"eth2": (3, 7)}


@pytest.mark.parametrize(
    ("right", "links", "message"),
    [
        ({"vrfs": []}, LINKS, r"interface eth2 of right: VRF 'a' is not in the host's vrfs"),
        ({"routes": [{"dst": "default", "gateway": "198.51.100.1"}]}, LINKS, r"route default of right: gateway"),
        ({"routes": [{"dst": "10.0.0.1/8", "gateway": "192.0.2.1"}]}, LINKS, r"route 10.0.0.1/8 of right: .*host bits"),
        ({"routes": [{"dst": "fd01::/64", "gateway": "192.0.2.1"}]}, LINKS, r"of the other address family"),
        (
            {"routes": [{"dst": "default", "gateway": "192.0.2.1", "vrf": "x"}]},
            LINKS,
            r"VRF 'x' is not in the host's vrfs",
        ),
        ({"interfaces": [{"name": "eth2", "addresses": ["x"]}]}, LINKS, r"interface eth2 of right: 'x'"),
        ({"interfaces": [{"name": "a-name-too-long-for-linux"}]}, LINKS, r"1 to 15 characters"),
        ({"interfaces": [{"name": "eth2"}] * 2}, LINKS, r"interface of right is listed more than once: eth2"),
        ({}, [["left:eth1", "right:eth7"]], r"no interface 'right:eth7'"),
        ({}, [["left:eth1"]], r"a link needs two ends, not 1"),
        ({}, [], r"no link ends at left:eth1, right:eth2"),
        ({}, [*LINKS, ["left:eth1", "right:eth2"]], r"link end is listed more than once: left:eth1, right:eth2"),
        ({"name": "left"}, LINKS, r"host is listed more than once: left"),
    ],
)
def test_contradictions_are_named(right: dict[str, Any], links: list[list[str]], message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse_topology("lab", hosts(**right), links)
