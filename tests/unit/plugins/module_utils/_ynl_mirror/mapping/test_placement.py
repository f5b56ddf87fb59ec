# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each VRF does with an announced prefix: nothing, offload or trap, with parts, metric and MTU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping import placement
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.host import HostFacts
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import MappingRule, Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, Vrf
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
    RTN_XRESOLVE,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    LAB,
    LAB_OF_THREE,
    LINKS,
    THREE_VRFS,
    UPLINKS,
    VRFS,
    A,
    B,
    C,
    Own,
    hops_of,
    host,
    lab_mapper,
    mapped,
    own,
    placed,
    reason,
    told,
    view,
)

BY_B = "192.168.102.1@9"
#: VRF b reaches these behind a router.
BEHIND_B = (B, "10.0.0.0/8", "192.168.12.9@4")
OFFLOAD = "192.168.12.9@4!"
#: How VRF a keeps a prefix on the slow path.
TRAP = "192.168.101.2@1!"
#: The devices of the VRFs b and c, as links.
DEVICES = {8: Link(8, "b", kind="vrf", vrf_table=B), 9: Link(9, "c", kind="vrf", vrf_table=C)}
NOBODY = "no VRF sends packets for this prefix to the host"


# -- rule 1: only what comes to the host


@pytest.mark.parametrize(
    ("way", "fields"),
    [
        ("@3", {}),
        ("192.168.11.9@3", {}),
        ("192.168.101.2@1 192.168.11.9@3", {}),  # half of it does not
        ("@1", {}),  # any neighbour on the uplink
        ("", {"type": RTN_BLACKHOLE}),
        ("@1", {"type": RTN_LOCAL}),
        ("192.168.101.2@1", {"extras": ("encap",)}),
    ],
)
def test_a_vrf_that_does_not_send_to_the_host_gets_nothing(way: str, fields: dict[str, object]) -> None:
    for metric in (0, 100):
        others = [own(A, "10.0.0.0/8", way, metric=metric, **fields)]
        assert reason(mapped("10.0.0.0/8", BY_B, view(BEHIND_B, others=others))) == NOBODY
        assert reason(mapped("10.1.0.0/16", BY_B, view(BEHIND_B, others=others))) == NOBODY


def test_a_vrf_without_a_route_gets_nothing() -> None:
    routes = [route for route in LAB if route[:2] != (A, "0.0.0.0/0")]
    assert reason(mapped("10.0.0.0/8", BY_B, view(BEHIND_B, routes=routes))) == NOBODY


def test_another_machine_on_the_uplink_is_not_the_host() -> None:
    facts = HostFacts()
    facts.note(AF_INET, *host("192.168.101.2/32", "@1", type=RTN_LOCAL))
    for gateway, expected in (("192.168.101.2", {A: OFFLOAD}), ("192.168.101.9", {})):
        mapper = Mapper(view(BEHIND_B, (A, "10.0.0.0/8", f"{gateway}@1")), Policy(host_links=UPLINKS), facts)
        assert told(mapper.map(*host("10.0.0.0/8", BY_B))) == expected


def test_what_the_host_does_not_forward_is_not_forwarded_by_the_dpu_either() -> None:
    mapper = lab_mapper(view(BEHIND_B))
    mapper.facts.note(AF_INET, *host("192.168.101.0/24", "@7"))
    mapper.facts.forwarding = {(AF_INET, 7): False}
    mapper.look_at_host()
    steps: list[str] = []
    assert mapper.trace(*host("10.0.0.0/8", BY_B), steps.append).reason == NOBODY
    assert "VRF a: the host does not forward what comes by eth1" in "\n".join(steps)


@pytest.mark.parametrize("table", [0, 253, 254, 255])
def test_the_tables_that_every_machine_has_are_never_written(table: int) -> None:
    seen = view((table, "0.0.0.0/0", "192.168.103.2@5"), vrfs=(*VRFS, Vrf("whole", table, frozenset((5,)))))
    assert told(mapped("192.168.12.0/24", BY_B, seen)) == {A: "@4"}


# -- rule 3: offload


def test_a_mirrored_route_is_written_as_the_kernel_will_report_it() -> None:
    (path,) = mapped("192.168.12.0/24", BY_B).targets.values()
    assert path == Path(AF_INET, A, protocol=PROTO_MIRROR, scope=RT_SCOPE_LINK, nexthops=(NextHop(None, 4),))
    (path,) = mapped("fd00:12::/64", "fd00:102::1@9").targets.values()
    assert path == Path(AF_INET6, A, protocol=PROTO_MIRROR, metric=1024, nexthops=(NextHop(None, 4),))
    (path,) = mapped("10.0.0.0/8", BY_B, view(BEHIND_B)).targets.values()
    assert path.scope == RT_SCOPE_UNIVERSE


def test_owner_and_metric_of_mirrored_routes_are_the_users() -> None:
    policy = Policy(protocol=77, metric=50)
    for prefix, gateway in (("192.168.12.0/24", "192.168.102.1"), ("fd00:12::/64", "fd00:102::1")):
        (path,) = mapped(prefix, gateway, policy=policy).targets.values()
        assert (path.protocol, path.metric) == (77, 50)


def test_equal_outcomes_are_one_object() -> None:
    mapper = lab_mapper()
    first = mapper.map(*host("192.168.12.0/25", BY_B))
    again = mapper.map(*host("192.168.12.128/25", BY_B))
    assert first.targets[A] is again.targets[A]
    other = mapper.map(*host("192.168.12.0/26", BY_B, metric=3))
    assert other.targets[A] is first.targets[A]


def test_every_other_vrf_that_sends_to_the_host_imports_unless_a_policy_says_from_whom() -> None:
    seen = view(routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    route = ("192.168.12.0/24", BY_B)
    assert told(mapped(*route, seen)) == {A: "@4", C: "@4"}
    assert told(mapped(*route, seen, Policy(imports={"c": ("a",)}))) == {A: "@4"}
    assert told(mapped(*route, seen, Policy(imports={"c": ("a", "b"), "a": ()}))) == {C: "@4"}
    nobody = Policy(imports={"a": (), "c": ()})
    assert reason(mapped(*route, seen, nobody)) == "no VRF that sends these packets to the host imports from VRF b"


def test_host_hops_into_several_vrfs_leave_only_the_others_to_install_in() -> None:
    more: tuple[Own, ...] = ((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"))
    both = view(*more, routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    way = "192.168.101.1@8*3 192.168.102.1@9*2"
    assert told(mapped("10.0.0.0/8", way, both)) == {C: "192.168.11.9@3*3! 192.168.12.9@4*2!"}
    assert reason(mapped("10.0.0.0/8", way, view(*more))) == NOBODY


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


@pytest.mark.parametrize(("prefix", "gateway"), [("10.1.0.0/16", "192.168.101.1"), ("fd10:1::/32", "fd00:101::1")])
def test_a_route_leaked_through_the_device_of_a_vrf_is_no_route_of_that_vrf(prefix: str, gateway: str) -> None:
    leaked = ((A, "10.0.0.0/8", "@8"), (A, "fd10::/16", "@8"), (C, "::/0", "fd00:103::2@5"))
    seen = view(*leaked, routes=LAB_OF_THREE, vrfs=THREE_VRFS, links={**LINKS, **DEVICES})
    assert told(mapped(prefix, f"{gateway}@9", seen)) == {C: "@8"}
    words = reason(mapped(prefix, f"{gateway}@9", view(*leaked, links={**LINKS, **DEVICES})))
    assert words == "no VRF that sends these packets to the host imports from VRF a"


# -- rule 4: traps


@pytest.mark.parametrize(
    ("way", "fields"),
    [
        ("", {"type": RTN_BLACKHOLE}),
        ("@1", {"type": RTN_LOCAL}),
        ("@7", {}),
        ("", {"type": RTN_XRESOLVE, "reason": "a rule"}),
        ("192.168.99.1@9", {}),
        ("192.168.101.1@8", {}),  # leads back to the host
        (f"{BY_B} 192.168.99.1@9", {}),
    ],
)
def test_what_stays_slow_inside_an_offloaded_prefix_gets_a_trap_route(way: str, fields: dict[str, object]) -> None:
    around, inner = host("10.0.0.0/8", BY_B), host("10.1.0.0/16", way, **fields)
    assert placed(around, inner, seen=view(BEHIND_B)) == {A: {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": TRAP}}
    assert placed(inner, seen=view(BEHIND_B)) == {}


def test_a_trap_route_is_needed_below_an_offload_only() -> None:
    drop = {"type": RTN_BLACKHOLE}
    routes = [
        host("10.0.0.0/8", "", **drop),
        host("10.0.0.0/9", BY_B),
        host("10.0.0.0/10", "", **drop),
        host("10.0.0.0/11", "", **drop),
        host("10.0.0.0/12", BY_B),
        host("10.0.0.0/32", "", **drop),
        host("10.128.0.0/9", "", **drop),
    ]
    traps = {"10.0.0.0/10": TRAP, "10.0.0.0/32": TRAP}
    assert placed(*routes, seen=view(BEHIND_B)) == {A: {"10.0.0.0/9": OFFLOAD, "10.0.0.0/12": OFFLOAD, **traps}}


def test_an_own_route_that_is_longer_than_the_offload_needs_no_trap_route() -> None:
    routes = (host("10.0.0.0/8", BY_B), host("10.1.2.0/24", "", type=RTN_BLACKHOLE))
    past = view(BEHIND_B, (A, "10.1.0.0/16", "@3"))
    assert placed(*routes, seen=past) == {A: {"10.0.0.0/8": OFFLOAD}}
    to_host = view(BEHIND_B, (B, "10.1.0.0/16", "192.168.102.2@2"), (A, "10.1.0.0/16", "192.168.101.2@1"))
    assert placed(*routes, seen=to_host) == {A: {"10.0.0.0/8": OFFLOAD}}


def test_a_trap_route_has_all_next_hops_of_the_vrfs_own_route() -> None:
    seen = view(BEHIND_B, (A, "0.0.0.0/1", "192.168.101.2@1*2 192.168.103.2@5"), vrfs=THREE_VRFS)
    drop = host("10.1.0.0/16", "", type=RTN_BLACKHOLE)
    found = placed(host("10.0.0.0/8", BY_B), drop, seen=seen)
    assert found == {A: {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": "192.168.101.2@1*2! 192.168.103.2@5!"}}


@pytest.mark.parametrize(("prefix", "policy"), [("10.0.0.0/8", Policy()), ("fd09::/16", Policy(metric=7))])
def test_a_trap_route_gives_way_to_any_route_of_another_owner(prefix: str, policy: Policy) -> None:
    """Addresses that come into the VRF with a link, above all: hidden by a trap route they would be nobody's."""
    found = mapped(prefix, "", policy=policy, type=RTN_BLACKHOLE)
    assert {way.trap.metric for way in found.ways.values()} == {placement.TRAP_METRIC}
    assert placement.TRAP_METRIC > 1 << 31


def test_one_vrf_may_trap_what_another_one_offloads() -> None:
    seen = view(
        BEHIND_B, (B, "10.1.0.0/16", "192.168.102.2@2"), (C, "10.1.0.0/16", "@6"), routes=LAB_OF_THREE, vrfs=THREE_VRFS
    )
    found = placed(host("10.0.0.0/8", BY_B), host("10.1.0.0/16", "192.168.101.1@8"), seen=seen)
    assert found == {A: {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": TRAP}, C: {"10.0.0.0/8": OFFLOAD}}
    only_c = Policy(imports={"a": ()})
    seen = view(BEHIND_B, routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    assert placed(host("10.0.0.0/8", BY_B), seen=seen, policy=only_c) == {C: {"10.0.0.0/8": OFFLOAD}}


# -- rule 5: parts


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (own(B, "10.1.0.0/16", "192.168.12.8@4"), "192.168.12.8@4!"),
        (own(B, "10.1.0.0/16", "192.168.102.2@2"), TRAP),  # leads back to the host
        (own(B, "10.1.0.0/16", "", type=RTN_BLACKHOLE), TRAP),
        (own(B, "10.1.0.0/16", "", type=RTN_UNREACHABLE), TRAP),
        (own(B, "10.1.0.0/16", "", type=RTN_PROHIBIT), TRAP),
        (own(B, "10.1.0.0/16", "@4", type=RTN_LOCAL), TRAP),  # an address of the DPU's
        (own(B, "10.1.0.0/16", "192.168.12.9@4"), None),  # the same way
        (own(A, "10.1.0.0/16", "@3"), None),  # this VRF's packets for it do not come to the host
        (own(A, "10.1.0.0/16", "192.168.101.2@1"), OFFLOAD),  # they do
        (own(A, "10.1.0.0/16", "", type=RTN_BLACKHOLE), None),
    ],
)
def test_an_own_route_inside_is_placed_by_the_decision_about_what_is_around_it(
    part: tuple[Prefix, Path], expected: str | None
) -> None:
    found = placed(host("10.0.0.0/8", BY_B), seen=view(BEHIND_B, others=[part]))
    assert found == {A: {"10.0.0.0/8": OFFLOAD, **({} if expected is None else {"10.1.0.0/16": expected})}}


def test_a_part_belongs_to_the_longest_announced_prefix_around_it() -> None:
    seen = view(BEHIND_B, (B, "10.1.1.0/24", "192.168.12.8@4"))
    drop = host("10.1.0.0/16", "", type=RTN_BLACKHOLE)
    assert placed(host("10.0.0.0/8", BY_B), drop, seen=seen) == {A: {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": TRAP}}


def test_an_announced_part_follows_its_own_decision() -> None:
    seen = view(BEHIND_B, (B, "10.1.0.0/16", "192.168.12.8@4"))
    drop = host("10.1.0.0/16", "", type=RTN_BLACKHOLE)
    assert placed(host("10.0.0.0/8", BY_B), drop, seen=seen) == {A: {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": TRAP}}


def test_a_part_may_be_offloaded_inside_of_what_is_not() -> None:
    """The host's default route, the usual case: it leads back to the host, but for the subnets of the other VRF."""
    for default, gateway, expected in (
        ("0.0.0.0/0", "192.168.102.1", {"192.168.12.0/24": "@4"}),
        ("::/0", "fd00:102::1", {"fd00:12::/64": "@4"}),
    ):
        outcome = mapped(default, gateway)
        assert reason(outcome) == "nexthop: egress link eth2 leads back to the host"
        assert placed(host(default, gateway))[A].items() >= expected.items()


def test_below_an_offloaded_part_there_are_trap_routes_as_well() -> None:
    """No prefix of the part's length is announced, and what is around the part stays slow."""
    drop = host("192.168.12.7/32", "", type=RTN_BLACKHOLE)
    assert placed(host("0.0.0.0/0", BY_B), drop) == {A: {"192.168.12.0/24": "@4", "192.168.12.7/32": TRAP}}


def test_a_part_that_a_vrf_hands_to_another_vrf_is_kept_on_its_way() -> None:
    """VRF a sends 10/8 to the table of VRF c, which has a part of it on a link of its own."""
    links = {**LINKS, **DEVICES}
    more: tuple[Own, ...] = (BEHIND_B, (A, "10.0.0.0/8", "@9"), (C, "10.1.0.0/16", "@6"))
    seen = view(*more, routes=LAB_OF_THREE, vrfs=THREE_VRFS, links=links)
    found = placed(host("10.0.0.0/8", BY_B), seen=seen)
    assert found == {A: {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": "@9"}, C: {"10.0.0.0/8": OFFLOAD}}


CROWD: tuple[Own, ...] = tuple((B, f"10.{number}.0.0/16", "192.168.12.8@4") for number in range(5))


@pytest.fixture
def most_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MOST_PARTS", 4)


@pytest.mark.usefixtures("most_parts")
def test_too_many_parts_are_left_to_the_source_vrf_by_its_device() -> None:
    route = host("10.0.0.0/8", BY_B)
    assert len(placed(route, seen=view(BEHIND_B, *CROWD[:4]))[A]) == 5
    crowded = view(BEHIND_B, *CROWD, links={**LINKS, **DEVICES})
    assert placed(route, seen=crowded) == {A: {"10.0.0.0/8": "@8"}}
    words = reason(mapped("10.0.0.0/8", BY_B, view(BEHIND_B, *CROWD)))
    assert words == "VRF b has more than 4 more specific routes, and no device"
    assert placed(host("10.1.0.0/16", BY_B), seen=view(BEHIND_B, *CROWD)) == {A: {"10.1.0.0/16": "192.168.12.8@4!"}}


@pytest.mark.usefixtures("most_parts")
def test_a_static_rule_needs_no_parts() -> None:
    policy = Policy(static=(MappingRule("b", "eth4", prefix=Prefix.parse("10.0.0.0/8")),))
    assert placed(host("10.0.0.0/8", BY_B), seen=view(BEHIND_B, *CROWD), policy=policy) == {A: {"10.0.0.0/8": "@4"}}


@pytest.mark.usefixtures("most_parts")
def test_too_many_parts_and_a_vrf_that_hands_over_stay_slow() -> None:
    """The parts that VRF c sends another way cannot be placed in VRF a, which hands its packets to it."""
    links = {**LINKS, **DEVICES}
    more = (BEHIND_B, *CROWD, (A, "10.0.0.0/8", "@9"), (C, "10.1.0.0/16", "@6"))
    seen = view(*more, routes=LAB_OF_THREE, vrfs=THREE_VRFS, links=links)
    assert placed(host("10.0.0.0/8", BY_B), seen=seen) == {C: {"10.0.0.0/8": "@8"}}


# -- rule 6: a route of the VRF's own to the very prefix


@pytest.mark.parametrize(
    ("prefix", "gateway", "to_host", "metric", "expected"),
    [
        ("10.0.0.0/8", "192.168.102.1", "192.168.101.2@1", 50, 0),
        ("10.0.0.0/8", "192.168.102.1", "192.168.101.2@1", 0, 0),  # written in front of it
        ("fd10::/16", "fd00:102::1", "fd00:101::2@1", 2000, 1024),
        ("fd10::/16", "fd00:102::1", "fd00:101::2@1", 1024, 1023),  # the kernel would join them
        ("fd10::/16", "fd00:102::1", "fd00:101::2@1", 1, None),
        ("fd10::/16", "fd00:102::1", "fd00:101::2@1", 0, None),
    ],
)
def test_a_mirrored_route_wins_over_its_own_one_or_is_not_placed(
    prefix: str, gateway: str, to_host: str, metric: int, expected: int | None
) -> None:
    behind = (BEHIND_B, (B, "fd10::/16", "fd00:12::9@4"))
    seen = view(*behind, others=[own(A, prefix, to_host, metric=metric)])
    outcome = mapped(prefix, gateway, seen)
    assert [path.metric for path in outcome.targets.values()] == ([] if expected is None else [expected])


def test_the_users_metric_is_lowered_where_it_would_lose() -> None:
    seen = view(BEHIND_B, others=[own(A, "10.0.0.0/8", "192.168.101.2@1", metric=20)])
    assert mapped("10.0.0.0/8", BY_B, seen, Policy(metric=50)).targets[A].metric == 20
    assert mapped("10.1.0.0/16", BY_B, seen, Policy(metric=50)).targets[A].metric == 50
    assert mapped("10.0.0.0/8", BY_B, seen, Policy(metric=7)).targets[A].metric == 7


# -- MTU


@pytest.mark.parametrize(
    ("mtus", "expected"),
    [
        ({}, None),
        ({1: 1500, 2: 1500, 4: 1500}, None),
        ({1: 9000, 2: 9000, 4: 1500}, None),  # the egress decides in any case
        ({1: 1400, 2: 1500, 4: 1500}, 1400),  # the uplink that VRF a sends by
        ({1: 1500, 2: 1380, 4: 1500}, 1380),  # the one that VRF b receives by
        ({2: 1380, 4: 1500}, 1380),
    ],
)
def test_the_smallest_mtu_on_the_way_over_the_host_stays(mtus: dict[int, int], expected: int | None) -> None:
    links = {index: replace(link, mtu=mtus.get(index, 0)) for index, link in LINKS.items()}
    assert mapped("10.0.0.0/8", BY_B, view(BEHIND_B, links=links)).targets[A].mtu == expected


@pytest.mark.parametrize("place", ["announced", "own", "egress"])
def test_so_does_that_of_a_route_on_the_way(place: str) -> None:
    links = {index: replace(link, mtu=1500) for index, link in LINKS.items()}
    others = [
        own(B, "10.0.0.0/8", "192.168.12.9@4", mtu=1300 if place == "egress" else None),
        own(A, "0.0.0.0/0", "192.168.101.2@1", mtu=1300 if place == "own" else None),
    ]
    fields = {"mtu": 1300} if place == "announced" else {}
    assert mapped("10.0.0.0/8", BY_B, view(others=others, links=links), **fields).targets[A].mtu == 1300


def test_a_trap_route_keeps_the_mtu_of_its_own_route() -> None:
    seen = view(BEHIND_B, others=[own(A, "0.0.0.0/0", "192.168.101.2@1", mtu=1300)])
    outcome = mapped("10.0.0.0/8", "", seen, type=RTN_BLACKHOLE)
    assert (outcome.ways[A].trap.mtu, hops_of(outcome.ways[A].trap), outcome.ways[A].length) == (1300, TRAP, 0)
