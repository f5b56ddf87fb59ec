# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The egress of an announced route: the lab's routes in both families, every reason to have none, every veto."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.host import HostFacts
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import (
    INFERENCES,
    MappingRule,
    Policy,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View, address_owners
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_UNREACHABLE,
    RTN_XRESOLVE,
    Address,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    ADDRESSES,
    LAB,
    LAB_OF_THREE,
    LINKS,
    THREE_VRFS,
    UPLINKS,
    A,
    B,
    C,
    host,
    lab_mapper,
    mapped,
    own,
    reason,
    told,
    view,
)

# -- the lab


@pytest.mark.parametrize(
    ("prefix", "gateway", "expected"),
    [
        ("192.168.11.0/24", "192.168.101.1", {B: "@3"}),
        ("192.168.12.0/24", "192.168.102.1", {A: "@4"}),
        ("fd00:11::/64", "fd00:101::1", {B: "@3"}),
        ("fd00:12::/64", "fd00:102::1", {A: "@4"}),
        ("192.168.12.0/25", "192.168.102.1", {A: "@4"}),  # a part of what the DPU knows
        ("fd00:12::7/128", "fd00:102::1", {A: "@4"}),
        ("192.168.12.0/24", "fd00:102::1", {A: "@4"}),  # an IPv6 gateway for an IPv4 prefix (RFC 8950)
    ],
)
def test_the_labs_routes_land_in_the_other_vrf(prefix: str, gateway: str, expected: dict[int, str]) -> None:
    assert told(mapped(prefix, f"{gateway}@9")) == expected


# -- what has no egress


def test_a_default_route_of_the_dpu_that_points_at_the_host_is_a_loop() -> None:
    words = reason(mapped("10.9.0.0/16", "192.168.102.1@9"))
    assert "nexthop: egress link eth2 leads back to the host" in words


def test_a_link_to_the_host_that_the_user_names_is_no_egress_either() -> None:
    assert "egress link eth4 leads back to the host" in reason(
        mapped("192.168.12.0/24", "192.168.102.1@9", policy=Policy(host_links=("eth4",)))
    )


def test_a_connected_route_of_the_host_is_not_mirrored() -> None:
    assert reason(mapped("192.168.102.0/24", "@9")) == "connected route of the host: no gateway"
    assert reason(mapped("10.0.0.0/8", "192.168.102.1@9 @8")) == "connected route of the host: no gateway"


@pytest.mark.parametrize("kind", [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_LOCAL])
def test_a_route_that_forwards_nothing_has_no_egress(kind: int) -> None:
    assert "routes are not mirrored: they have no egress" in reason(mapped("192.168.12.0/24", "", type=kind))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tos": 16}, "routes with a tos (0x10) are not mirrored"),
        ({"extras": ("encap", "newdst")}, "cannot be mirrored: encap, newdst"),
    ],
)
def test_what_the_dpu_cannot_express_is_said_and_not_dropped(fields: dict[str, object], words: str) -> None:
    assert words in reason(mapped("192.168.12.0/24", "192.168.102.1@9", **fields))


def test_a_route_that_the_host_keeps_for_itself_says_why() -> None:
    assert reason(mapped("10.0.0.0/8", "", type=RTN_XRESOLVE, reason="rule 5: tun")) == "rule 5: tun"
    assert reason(mapped("10.0.0.0/8", "", type=RTN_XRESOLVE)) == "the host does not say how it forwards these packets"


def test_a_route_without_next_hops_says_so() -> None:
    assert reason(mapped("10.0.0.0/8", "")) == "no next hop"
    assert reason(mapped("10.0.0.0/8", "", nh_id=7)) == "next hops of nexthop object 7 unknown"


def test_an_unknown_gateway_is_named() -> None:
    words = reason(mapped("192.168.12.0/24", "192.168.99.1@9", policy=Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.99.1 is not an address of the DPU"


def test_a_gateway_on_a_link_outside_all_vrfs_is_named() -> None:
    words = reason(mapped("192.168.12.0/24", "192.168.103.1@9", policy=Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.103.1 is on eth5, which is in no VRF"


def test_a_link_local_gateway_says_where_only_when_one_link_owns_it() -> None:
    assert told(mapped("fd00:11::/64", "fe80::101@9")) == {B: "@3"}
    words = reason(mapped("fd00:10::/64", "fe80::1@9"))
    assert "gateway fe80::1 is an address of several links: eth1, eth3" in words


@pytest.mark.parametrize("state", [{"up": False}, {"carrier": False}])
def test_an_egress_link_that_is_down_is_no_egress(state: dict[str, bool]) -> None:
    links = {**LINKS, 4: replace(LINKS[4], **state)}
    assert "egress link eth4 is down" in reason(mapped("192.168.12.0/24", "192.168.102.1@9", view(links=links)))


def test_a_missing_egress_link_is_no_egress() -> None:
    links = {index: link for index, link in LINKS.items() if index != 4}
    words = reason(mapped("192.168.12.0/24", "192.168.102.1@9", view(links=links)))
    assert "the egress link does not exist" in words


def test_the_unreachable_default_of_a_vrf_table_is_no_egress() -> None:
    routes = [route for route in LAB if "/0" not in route[1]]
    for default, gateway, wanted in (
        ("0.0.0.0/0", "192.168.102.1", "10.0.0.0/8"),
        ("::/0", "fd00:102::1", "fd99::/16"),
    ):
        stop = own(B, default, "", type=RTN_UNREACHABLE, metric=4278198272)
        words = reason(mapped(wanted, gateway, view(routes=routes, others=[stop])))
        assert f"nexthop: VRF b has unreachable {default}" in words


def test_a_route_of_the_dpu_with_an_encap_or_without_hops_is_no_egress() -> None:
    for fields in ({"extras": ("encap",)}, {"nexthops": ()}):
        prefix, path = own(B, "10.0.0.0/8", "@4")
        words = reason(mapped("10.0.0.0/8", "192.168.102.1", view(others=[(prefix, replace(path, **fields))])))
        assert "nexthop: the route 10.0.0.0/8 of VRF b has no plain next hop" in words


# -- gateways, and several hops


def test_a_gateway_egress_is_onlink_since_the_other_vrf_has_no_route_to_it() -> None:
    behind = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "fd99::/16", "fd00:12::9@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", behind)) == {A: "192.168.12.9@4!"}
    assert told(mapped("fd99::/16", "fd00:102::1", behind)) == {A: "fd00:12::9@4!"}


def test_a_multipath_egress_keeps_its_weights() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4*3 192.168.12.8@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", spread)) == {A: "192.168.12.9@4*3! 192.168.12.8@4!"}


def test_equal_exits_of_several_host_hops_are_one() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4*3 192.168.12.8@4*2"))
    way = "192.168.102.1@9*2 192.168.102.1@8*3"
    assert told(mapped("10.0.0.0/8", way, spread)) == {A: "192.168.12.9@4*3! 192.168.12.8@4*2!"}
    assert told(mapped("192.168.12.0/24", way)) == {A: "@4"}


def test_one_hop_without_an_egress_leaves_the_whole_route_on_the_slow_path() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.102.1@9 192.168.99.1@9", spread, Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.99.1 is not an address of the DPU"


# -- the link by which the host sends


def paired(*subnets: tuple[str, int], seen: View | None = None, policy: Policy | None = None) -> Mapper:
    """A mapper that knows which subnets the host's links are in."""
    facts = HostFacts()
    for subnet, oif in subnets:
        facts.note(AF_INET6 if ":" in subnet else AF_INET, *host(subnet, f"@{oif}"))
    return Mapper(seen or view(), policy or Policy(host_links=UPLINKS), facts)


ANYCAST = tuple(LinkAddress(index, Address.parse("192.0.2.1"), 32) for index in (1, 2))


def test_a_gateway_that_several_links_have_is_on_the_one_that_the_host_sends_by() -> None:
    seen = replace(view(), owners=address_owners((*ADDRESSES, *ANYCAST)))
    route = host("192.168.12.0/24", "192.0.2.1@9")
    words = "nexthop: gateway 192.0.2.1 is an address of several links: eth1, eth2"
    assert reason(paired(seen=seen).map(*route)) == words
    assert reason(paired(("192.168.101.0/24", 7), seen=seen).map(*route)) == words
    assert told(paired(("192.168.102.0/24", 9), seen=seen).map(*route)) == {A: "@4"}
    assert told(paired(("fd00:102::/64", 9), seen=seen).map(*route)) == {A: "@4"}  # a cable has no family


def test_a_gateway_of_another_link_than_the_one_that_the_host_sends_by_is_a_veto() -> None:
    mapper = paired(("192.168.101.0/24", 9), policy=Policy(inference=INFERENCES, host_links=UPLINKS))
    words = reason(mapper.map(*host("192.168.12.0/24", "192.168.102.1@9")))
    assert words == "nexthop: gateway 192.168.102.1 is an address of eth2, but the host sends by the link to eth1"


def test_so_is_one_whose_link_is_the_other_end_of_another_link_of_the_hosts() -> None:
    mapper = paired(("192.168.102.0/24", 8))
    words = reason(mapper.map(*host("192.168.12.0/24", "192.168.102.1@9")))
    assert words == "nexthop: gateway 192.168.102.1 is an address of eth2, but the host sends elsewhere"


def test_an_address_of_a_vrfs_device_is_in_that_vrf() -> None:
    """Its loopback, as routing daemons call it."""
    device = {8: Link(8, "b", kind="vrf", vrf_table=B)}
    address = LinkAddress(8, Address.parse("192.0.2.1"), 32)
    seen = replace(view(links={**LINKS, **device}), owners=address_owners((*ADDRESSES, address)))
    for mapper in (paired(seen=seen), paired(("192.168.102.0/24", 9), seen=seen)):
        assert told(mapper.map(*host("192.168.12.0/24", "192.0.2.1@9"))) == {A: "@4"}
    words = reason(paired(("192.168.101.0/24", 9), seen=seen).map(*host("192.168.12.0/24", "192.0.2.1@9")))
    assert words == "nexthop: gateway 192.0.2.1 is an address of b, but the host sends by the link to eth1"


# -- prefix and static


GUESS = Policy(inference=("nexthop", "prefix"))
#: A gateway that is on several links: `nexthop` does not know, and asks the next one.
UNCLEAR = "fe80::1"


def test_a_dpu_route_to_the_same_prefix_names_the_source_vrf_where_the_gateway_does_not() -> None:
    route = ("192.168.12.0/24", f"{UNCLEAR}@9")
    assert told(mapped(*route, policy=GUESS)) == {A: "@4"}
    assert told(mapped(*route, view(routes=LAB_OF_THREE, vrfs=THREE_VRFS), GUESS)) == {A: "@4", C: "@4"}
    words = reason(mapped("192.168.12.0/25", f"{UNCLEAR}@9", policy=GUESS))
    assert "prefix: no VRF has a route of its own to this prefix" in words


def test_nobody_guesses_unless_asked_to() -> None:
    words = reason(mapped("192.168.12.0/24", f"{UNCLEAR}@9"))
    assert words == "nexthop: gateway fe80::1 is an address of several links: eth1, eth3"


@pytest.mark.parametrize(
    ("prefix", "gateway", "veto"),
    [
        ("192.168.12.0/24", "192.168.99.1", "gateway 192.168.99.1 is not an address of the DPU"),
        ("192.168.102.0/24", "192.168.102.1", "egress link eth2 leads back to the host"),
        ("192.168.11.0/24", "192.168.102.1", "egress link eth2 leads back to the host"),
        ("192.168.13.0/24", "192.168.102.1", "VRF b has blackhole 192.168.13.0/24"),
        ("fd99::/16", "fd00:102::1", "VRF b has no route to this prefix"),
    ],
)
def test_a_veto_is_an_answer_and_no_guess_overrides_it(prefix: str, gateway: str, veto: str) -> None:
    known = own(A, prefix, "@3")
    hole = own(B, "192.168.13.0/24", "", type=RTN_BLACKHOLE)
    routes = [route for route in LAB if route[1] != "::/0"]
    rule = MappingRule("b", "eth4", prefix=Prefix.parse("0.0.0.0/0"))
    policy = Policy(inference=("nexthop", "static", "prefix"), static=(rule,))
    words = reason(mapped(prefix, f"{gateway}@9", view(routes=routes, others=[known, hole]), policy))
    assert words == f"nexthop: {veto}"


def test_the_same_prefix_in_two_vrfs_is_ambiguous() -> None:
    both = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"))
    words = reason(mapped("10.0.0.0/8", f"{UNCLEAR}@9", both, GUESS))
    assert "prefix: ambiguous: several VRFs have 10.0.0.0/8: a, b" in words


def test_static_rules_match_by_prefix_or_gateway_and_the_first_one_counts() -> None:
    rules = (
        MappingRule("b", "eth4", prefix=Prefix.parse("10.1.0.0/16"), via=Address.parse("192.168.12.9")),
        MappingRule("a", "eth3", gateway=Address.parse("192.168.99.1")),
        MappingRule("b", "eth4", prefix=Prefix.parse("0.0.0.0/0")),
    )
    policy = Policy(inference=("static",), static=rules)
    assert told(mapped("10.1.2.0/24", "192.168.99.1@9", policy=policy)) == {A: "192.168.12.9@4!"}
    assert told(mapped("10.0.0.0/8", "192.168.99.1@9", policy=policy)) == {B: "@3"}
    assert told(mapped("10.0.0.0/8", "192.168.98.1@9", policy=policy)) == {A: "@4"}
    assert reason(mapped("fd99::/16", "fd00:98::1@9", policy=policy)) == "static: no static rule matches"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            MappingRule("x", "eth4", prefix=Prefix.parse("10.0.0.0/8")),
            "VRF x of the matching static rule does not exist",
        ),
        (
            MappingRule("b", "eth9", prefix=Prefix.parse("10.0.0.0/8")),
            "link eth9 of the matching static rule does not exist",
        ),
    ],
)
def test_a_rule_about_what_does_not_exist_says_so(rule: MappingRule, words: str) -> None:
    assert words in reason(mapped("10.0.0.0/8", "192.168.99.1@9", policy=Policy(static=(rule,))))


def test_the_order_of_inferences_is_the_users() -> None:
    seen = view(
        (C, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/7", "192.168.12.9@4"), routes=LAB_OF_THREE, vrfs=THREE_VRFS
    )
    rule = MappingRule("b", "eth4", prefix=Prefix.parse("10.0.0.0/8"))
    route = ("10.0.0.0/8", "192.168.102.1@9")
    expected = {"nexthop": "192.168.12.9@4!", "prefix": "192.168.11.9@3!", "static": "@4"}
    for first in INFERENCES:
        order = (first, *(name for name in INFERENCES if name != first))
        assert told(mapped(*route, seen, Policy(inference=order, static=(rule,))))[A] == expected[first]
    assert told(mapped(*route, seen, Policy(static=(rule,))))[A] == expected["static"]


def test_the_reason_names_every_inference_that_did_not_know() -> None:
    rule = MappingRule("b", "eth4", prefix=Prefix.parse("10.0.0.0/8"))
    words = reason(mapped("192.168.13.0/24", f"{UNCLEAR}@9", policy=Policy(inference=INFERENCES, static=(rule,))))
    assert [part.split(":")[0] for part in words.split("; ")] == list(INFERENCES)
    words = reason(mapped("192.168.13.0/24", f"{UNCLEAR}@9", policy=Policy(inference=INFERENCES)))
    assert [part.split(":")[0] for part in words.split("; ")] == ["nexthop", "prefix"]  # there is no rule to match


def test_trace_reports_each_step() -> None:
    steps: list[str] = []
    lab_mapper().trace(*host("192.168.12.0/24", "192.168.102.1@9"), steps.append)
    assert steps == [
        "VRF a: sends packets to the host: 0.0.0.0/0 via 192.168.101.2 dev eth1 proto static",
        "VRF b: its own route does not lead to the host: 192.168.12.0/24 dev eth4 proto static",
        "nexthop: gateway 192.168.102.1 is on eth2 in VRF b (table 20)",
        "nexthop: longest match in VRF b: 192.168.12.0/24 dev eth4 proto static",
        "nexthop: egress dev eth4 in VRF b",
        "VRF a: offload, dev eth4",
    ]
