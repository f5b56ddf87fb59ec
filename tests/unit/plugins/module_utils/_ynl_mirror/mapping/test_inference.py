# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping: the lab's two routes in both families, every route that must stay on the slow path, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import (
    INFERENCES,
    MappingRule,
    Policy,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import address_owners
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    PROTO_MIRROR,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_UNREACHABLE,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    ADDRESSES,
    LAB,
    LAB_OF_THREE,
    LINKS,
    THREE_VRFS,
    VRFS,
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


def test_a_mirrored_route_is_written_as_the_kernel_will_report_it() -> None:
    (path,) = mapped("192.168.12.0/24", "192.168.102.1@9").targets.values()
    assert path == Path(AF_INET, A, protocol=PROTO_MIRROR, scope=RT_SCOPE_LINK, nexthops=(NextHop(None, 4),))
    (path,) = mapped("fd00:12::/64", "fd00:102::1@9").targets.values()
    assert path == Path(AF_INET6, A, protocol=PROTO_MIRROR, metric=1024, nexthops=(NextHop(None, 4),))
    behind = view((B, "10.0.0.0/8", "192.168.12.9@4"))
    (path,) = mapped("10.0.0.0/8", "192.168.102.1@9", behind).targets.values()
    assert path.scope == RT_SCOPE_UNIVERSE


def test_owner_and_metric_of_mirrored_routes_are_the_users() -> None:
    policy = Policy(protocol=77, metric=50)
    for prefix, gateway in (("192.168.12.0/24", "192.168.102.1"), ("fd00:12::/64", "fd00:102::1")):
        (path,) = mapped(prefix, gateway, policy=policy).targets.values()
        assert (path.protocol, path.metric) == (77, 50)


def test_equal_outcomes_are_one_object() -> None:
    mapper = lab_mapper()
    first = mapper.map(*host("192.168.12.0/25", "192.168.102.1@9"))
    again = mapper.map(*host("192.168.12.128/25", "192.168.102.1@9"))
    assert first.targets[A] is again.targets[A]
    other = mapper.map(*host("192.168.12.0/26", "192.168.102.1@9", metric=3))
    assert other.targets[A] is first.targets[A]


# -- what has no egress


def test_a_default_route_of_the_dpu_that_points_at_the_host_is_a_loop() -> None:
    words = reason(mapped("10.9.0.0/16", "192.168.102.1@9"))
    assert "nexthop: egress link eth2 leads back to the host" in words


def test_the_default_route_of_the_host_covers_subnets_that_leave_another_way() -> None:
    for default, gateway in (("0.0.0.0/0", "192.168.102.1"), ("::/0", "fd00:102::1")):
        words = reason(mapped(default, gateway))
        assert "nexthop: ambiguous: VRF b has a more specific route" in words
        assert f"prefix: ambiguous: several VRFs have {default}: a, b" in words


def test_a_link_to_the_host_that_the_user_names_is_no_egress_either() -> None:
    assert "egress link eth4 leads back to the host" in reason(
        mapped("192.168.12.0/24", "192.168.102.1@9", policy=Policy(host_links=("eth4",)))
    )


def test_a_link_to_the_host_is_learnt_late_and_what_was_mapped_before_is_mapped_again() -> None:
    # A route to the host's other uplink: until a gateway on eth2 is seen, eth2 looks like any other link.
    detour = host("192.168.102.0/24", "192.168.101.1@9")
    by_static = Policy(static=(MappingRule("b", "eth2", prefix=Prefix.parse("192.168.102.0/24")),))
    mapper = Mapper(view(), by_static)
    assert told(mapper.map(*detour)) == {A: "@2"}
    assert mapper.learnt  # eth1
    mapper.learnt = False
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@8"))
    assert not mapper.learnt
    mapper.map(*host("192.168.12.0/24", "192.168.102.1@9"))
    assert mapper.learnt
    assert mapper.host_links == {1, 2}
    assert "egress link eth2 leads back to the host" in reason(mapper.map(*detour))


def test_an_egress_found_by_nexthop_before_its_link_was_learnt_is_not_cached() -> None:
    mapper = Mapper(view((B, "10.0.0.0/8", "192.168.101.9@1")), Policy())
    route = host("10.0.0.0/8", "192.168.102.1@9")
    assert told(mapper.map(*route)) == {A: "192.168.101.9@1!"}
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@9"))
    assert "egress link eth1 leads back to the host" in reason(mapper.map(*route))


def test_nor_is_one_that_a_rule_for_the_gateway_gave() -> None:
    rule = MappingRule("a", "eth1", gateway=Address.parse("192.168.99.1"))
    mapper = Mapper(view(), Policy(static=(rule,)))
    assert told(mapper.map(*host("10.0.0.0/8", "192.168.99.1@9"))) == {B: "@1"}
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@9"))
    assert "egress link eth1 leads back to the host" in reason(mapper.map(*host("10.0.0.0/8", "192.168.99.1@9")))


def test_prefixes_that_nothing_names_share_one_reason() -> None:
    mapper = Mapper(view(), Policy())
    for gateway in ("192.168.99.1@9", "192.168.102.1@9"):
        first, second = (mapper.map(*host(prefix, gateway)) for prefix in ("10.1.0.0/16", "10.2.0.0/16"))
        assert first.reason is second.reason
        assert reason(first)


def test_gateways_are_handed_on_to_the_mapper_of_the_next_view() -> None:
    gateways: set[Address] = set()
    Mapper(view(), Policy(), gateways).map(*host("192.168.12.0/24", "192.168.102.1@9"))
    after = Mapper(view(), Policy(), gateways)
    assert after.host_links == {2}
    assert not after.learnt


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


# -- more-specific routes of the source VRF


def test_a_part_that_leaves_another_way_makes_the_route_ambiguous() -> None:
    crowded = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "10.1.0.0/16", "192.168.12.8@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.102.1", crowded, Policy(inference=("nexthop",))))
    assert words == "nexthop: ambiguous: VRF b has a more specific route 10.1.0.0/16 with another next hop"
    assert told(mapped("10.1.0.0/16", "192.168.102.1", crowded)) == {A: "192.168.12.8@4!"}
    assert told(mapped("10.2.0.0/16", "192.168.102.1", crowded)) == {A: "192.168.12.9@4!"}


def test_a_part_that_leaves_the_same_way_does_not() -> None:
    crowded = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "10.1.0.0/16", "192.168.12.9@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", crowded)) == {A: "192.168.12.9@4!"}


@pytest.mark.parametrize("kind", [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT])
def test_a_part_that_the_source_vrf_discards_makes_the_route_ambiguous(kind: int) -> None:
    hole = own(B, "10.1.0.0/16", "", type=kind)
    seen = view((B, "10.0.0.0/8", "192.168.12.9@4"), others=[hole])
    assert "ambiguous: VRF b has a more specific route 10.1.0.0/16" in reason(
        mapped("10.0.0.0/8", "192.168.102.1", seen, Policy(inference=("nexthop",)))
    )


def test_the_dpus_own_addresses_in_a_subnet_do_not() -> None:
    # The table of a VRF device holds its local and broadcast routes.
    address = own(B, "192.168.12.1/32", "@4", type=RTN_LOCAL)
    assert told(mapped("192.168.12.0/24", "192.168.102.1", view(others=[address]))) == {A: "@4"}


# -- gateways, several hops, several VRFs


def test_a_gateway_egress_is_onlink_since_the_other_vrf_has_no_route_to_it() -> None:
    behind = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "fd99::/16", "fd00:12::9@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", behind)) == {A: "192.168.12.9@4!"}
    assert told(mapped("fd99::/16", "fd00:102::1", behind)) == {A: "fd00:12::9@4!"}


def test_a_multipath_egress_keeps_its_weights() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4*3 192.168.12.8@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", spread)) == {A: "192.168.12.9@4*3! 192.168.12.8@4!"}


def test_host_hops_into_several_vrfs_leave_only_the_others_to_install_in() -> None:
    both = view(
        (A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"), routes=LAB_OF_THREE, vrfs=THREE_VRFS
    )
    way = "192.168.101.1@8*3 192.168.102.1@9*2"
    assert told(mapped("10.0.0.0/8", way, both)) == {C: "192.168.11.9@3*3! 192.168.12.9@4*2!"}
    only_two = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"))
    assert reason(mapped("10.0.0.0/8", way, only_two)) == "no other VRF imports from VRF a, b"


def test_equal_exits_of_several_host_hops_are_one() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4*3 192.168.12.8@4*2"))
    way = "192.168.102.1@9*2 192.168.102.1@8*3"
    assert told(mapped("10.0.0.0/8", way, spread)) == {A: "192.168.12.9@4*3! 192.168.12.8@4*2!"}
    assert told(mapped("192.168.12.0/24", way)) == {A: "@4"}


@pytest.mark.parametrize(
    ("way_a", "way_b", "host_weights", "expected"),
    [
        ("192.168.11.9@3", "192.168.12.9@4", (1, 1), (1, 1)),
        ("192.168.11.9@3 192.168.11.8@3", "192.168.12.9@4", (1, 1), (1, 1, 2)),
        ("192.168.11.9@3*2 192.168.11.8@3", "192.168.12.9@4", (1, 2), (2, 1, 6)),
        ("192.168.11.9@3*100 192.168.11.8@3*50", "192.168.12.9@4", (100, 100), (2, 1, 3)),
        ("192.168.11.9@3*256 192.168.11.8@3*1", "192.168.12.9@4", (1, 1), (255, 1, 256)),
    ],
)
def test_what_a_host_hop_carries_is_divided_among_the_hops_of_its_egress(
    way_a: str, way_b: str, host_weights: tuple[int, int], expected: tuple[int, ...]
) -> None:
    both = view((A, "10.0.0.0/8", way_a), (B, "10.0.0.0/8", way_b), routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    outcome = mapped("10.0.0.0/8", "192.168.101.1@8*{} 192.168.102.1@9*{}".format(*host_weights), both)
    assert tuple(one.weight for one in outcome.targets[C].nexthops) == expected


def test_one_hop_without_an_egress_leaves_the_whole_route_on_the_slow_path() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.102.1@9 192.168.99.1@9", spread, Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.99.1 is not an address of the DPU"


def test_every_other_vrf_imports_unless_a_policy_says_from_whom() -> None:
    seen = view(routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    route = ("192.168.12.0/24", "192.168.102.1@9")
    assert told(mapped(*route, seen)) == {A: "@4", C: "@4"}
    assert told(mapped(*route, seen, Policy(imports={"c": ("a",)}))) == {A: "@4"}
    assert told(mapped(*route, seen, Policy(imports={"c": ("a", "b"), "a": ()}))) == {C: "@4"}
    nobody = Policy(imports={"a": (), "c": ()})
    assert reason(mapped(*route, seen, nobody)) == "no other VRF imports from VRF b"


#: The devices of the VRFs b and c, as links.
DEVICES = {8: Link(8, "b", kind="vrf", vrf_table=B), 9: Link(9, "c", kind="vrf", vrf_table=C)}


@pytest.mark.parametrize(("prefix", "gateway"), [("10.1.0.0/16", "192.168.101.1"), ("fd10:1::/32", "fd00:101::1")])
def test_a_route_leaked_into_a_vrf_through_its_device_is_no_route_of_that_vrf(prefix: str, gateway: str) -> None:
    leaked = ((A, "10.0.0.0/8", "@8"), (A, "fd10::/16", "@8"))
    seen = view(*leaked, routes=LAB_OF_THREE, vrfs=THREE_VRFS, links={**LINKS, **DEVICES})
    assert told(mapped(prefix, f"{gateway}@9", seen)) == {C: "@8"}
    words = reason(mapped(prefix, f"{gateway}@9", view(*leaked, links={**LINKS, **DEVICES})))
    assert words == "egress dev b leads into a VRF, and no other VRF imports from VRF a"


def test_an_address_of_a_vrfs_device_is_in_that_vrf() -> None:
    """Its loopback, as routing daemons call it."""
    address = LinkAddress(8, Address.parse("192.0.2.1"), 32)
    seen = replace(view(links={**LINKS, **DEVICES}), owners=address_owners((*ADDRESSES, address)))
    assert told(mapped("192.168.12.0/24", "192.0.2.1@9", seen)) == {A: "@4"}


@pytest.mark.parametrize("table", [0, 253, 254, 255])
def test_the_tables_that_every_machine_has_are_never_written(table: int) -> None:
    seen = view(vrfs=(*VRFS, Vrf("whole", table, frozenset((5,)))))
    assert told(mapped("192.168.12.0/24", "192.168.102.1@9", seen)) == {A: "@4"}


# -- prefix and static


def test_a_dpu_route_to_the_same_prefix_names_the_source_vrf_where_the_gateway_does_not() -> None:
    assert told(mapped("192.168.12.0/24", "192.168.99.1@9")) == {A: "@4"}
    assert told(mapped("192.168.12.0/24", "192.168.99.1@9", view(routes=LAB_OF_THREE, vrfs=THREE_VRFS))) == {
        A: "@4",
        C: "@4",
    }
    words = reason(mapped("192.168.12.0/25", "192.168.99.1@9"))
    assert "prefix: no VRF has a route of its own to this prefix" in words


def test_the_same_prefix_in_two_vrfs_is_ambiguous() -> None:
    both = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.99.1@9", both))
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
    seen = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/7", "192.168.12.9@4"))
    rule = MappingRule("b", "eth4", prefix=Prefix.parse("10.0.0.0/8"))
    route = ("10.0.0.0/8", "192.168.102.1@9")
    expected = {"nexthop": {A: "192.168.12.9@4!"}, "prefix": {B: "192.168.11.9@3!"}, "static": {A: "@4"}}
    for first in INFERENCES:
        order = (first, *(name for name in INFERENCES if name != first))
        assert told(mapped(*route, seen, Policy(inference=order, static=(rule,)))) == expected[first]


def test_the_reason_names_every_inference_that_was_tried() -> None:
    words = reason(mapped("10.0.0.0/8", "192.168.99.1@9"))
    assert [part.split(":")[0] for part in words.split("; ")] == list(INFERENCES)


def test_trace_reports_each_step() -> None:
    steps: list[str] = []
    Mapper(view(), Policy()).trace(*host("192.168.12.0/24", "192.168.102.1@9"), steps.append)
    assert steps == [
        "nexthop: gateway 192.168.102.1 is on eth2 in VRF b (table 20)",
        "nexthop: longest match in VRF b: 192.168.12.0/24 dev eth4 proto static",
        "nexthop: egress dev eth4 in VRF b",
        "imported into VRF a: every importing VRF except the source",
    ]
