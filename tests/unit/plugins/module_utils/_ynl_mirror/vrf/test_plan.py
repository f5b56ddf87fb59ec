# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: ownership, order, and what a delete names. What the kernel makes of it is tests/integration's business."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    RTN_UNREACHABLE,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import decode_route
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf import plan
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.plan import (
    ADD,
    DELETE,
    REPLACE,
    Operation,
)

OURS, THEIRS = 121, 4
G1, G2 = Address.parse("192.0.2.1"), Address.parse("192.0.2.2")
V1, V2 = Address.parse("fd00::1"), Address.parse("fd00::2")


def route(dst: str, *hops: NextHop, **path: Any) -> Route:
    prefix = Prefix.parse(dst)
    path = {"table": 10, "protocol": OURS, **path}
    return Route(prefix, plan.canonical(Path(prefix.family, nexthops=hops, **path)))


def settle(held: list[Route], want: Route | None) -> list[tuple[str, Route]]:
    operations, conflict = plan.settle(held, want, OURS)
    assert conflict is None
    return [(operation.action, operation.route) for operation in operations]


# -- the form in which routes compare


def test_a_route_to_a_link_has_link_scope_in_ipv4_only() -> None:
    assert route("10.0.0.0/8", NextHop(None, 2)).path.scope == 253
    assert route("10.0.0.0/8", NextHop(G1, 2)).path.scope == 0
    assert route("10.0.0.0/8", type=RTN_BLACKHOLE).path.scope == 0
    assert route("fd00::/8", NextHop(None, 2)).path.scope == 0


def test_the_default_metric_is_the_kernels() -> None:
    assert route("10.0.0.0/8", NextHop(G1)).path.metric == 0
    assert route("fd00::/8", NextHop(V1)).path.metric == 1024
    assert route("fd00::/8", NextHop(V1), metric=5).path.metric == 5


def test_a_single_hop_has_no_weight() -> None:
    assert route("10.0.0.0/8", NextHop(G1, 2, 7)).path.nexthops == (NextHop(G1, 2, 1),)


@pytest.mark.parametrize(
    ("have", "want", "equal"),
    [
        ((NextHop(G1, 2),), (NextHop(G1),), True),  # the kernel chose the link
        ((NextHop(G1, 2),), (NextHop(G1, 3),), False),
        ((NextHop(G1, 2),), (NextHop(G2),), False),
        ((NextHop(G1, 2),), (NextHop(None, 2),), False),
        ((NextHop(G1, 2, 1, True),), (NextHop(G1, 2),), False),
        ((NextHop(G1, 2, 1), NextHop(G2, 2, 2)), (NextHop(G2, None, 2), NextHop(G1, None, 1)), True),  # any order
        ((NextHop(G1, 2, 1), NextHop(G2, 2, 2)), (NextHop(G1, 2, 2), NextHop(G2, 2, 1)), False),
        # A hop that names its link must not be robbed of it by one that takes any.
        ((NextHop(G1, 2), NextHop(G1, 3)), (NextHop(G1), NextHop(G1, 2)), True),
        ((NextHop(G1, 2),), (NextHop(G1, 2), NextHop(G2, 2)), False),
    ],
)
def test_hops_are_the_same_in_any_order_and_without_a_link_on_any(
    have: tuple[NextHop, ...], want: tuple[NextHop, ...], equal: bool
) -> None:
    assert plan.same_hops(have, want) is equal


@pytest.mark.parametrize(
    "change", [{"mtu": 1400}, {"src": G2}, {"tos": 4}, {"metric": 9}, {"extras": ("encap",)}, {"type": 8}]
)
def test_paths_that_differ_in_any_option_differ(change: dict[str, Any]) -> None:
    path = route("10.0.0.0/8", NextHop(G1, 2)).path
    assert plan.same(path, path)
    assert not plan.same(replace(path, **change), path)
    assert plan.same(replace(path, scope=7, nh_id=3), path)  # what no option can set does not


# -- one key


def test_a_new_key_is_added() -> None:
    want = route("10.0.0.0/8", NextHop(G1))
    assert settle([], want) == [(ADD, want)]
    assert settle([], None) == []


def test_a_single_route_of_ours_is_replaced() -> None:
    have, want = route("10.0.0.0/8", NextHop(G1, 2)), route("10.0.0.0/8", NextHop(G2))
    assert settle([have], want) == [(REPLACE, want)]
    assert settle([have], route("10.0.0.0/8", NextHop(G1))) == []
    assert settle([have], None) == [(DELETE, have)]


def test_a_route_of_another_owner_is_a_conflict_even_if_equal() -> None:
    have = route("10.0.0.0/8", NextHop(G1, 2), protocol=THEIRS)
    want = route("10.0.0.0/8", NextHop(G1, 2))
    assert plan.settle([have], want, OURS) == ([], plan.Conflict(want, have))
    assert settle([have], None) == []


def test_ours_beside_a_route_of_another_owner_is_kept_or_removed_but_never_replaced() -> None:
    theirs = route("10.0.0.0/8", NextHop(G1, 2), protocol=THEIRS)
    ours, other = route("10.0.0.0/8", NextHop(G2, 2)), route("10.0.0.0/8", NextHop(G2, 3))
    assert settle([theirs, ours], ours) == []
    assert settle([theirs, ours], None) == [(DELETE, ours)]
    assert plan.settle([ours, theirs], other, OURS) == ([], plan.Conflict(other, theirs))


def test_several_of_ours_are_deleted_and_one_is_added() -> None:
    one, two = route("10.0.0.0/8", NextHop(G1, 2)), route("10.0.0.0/8", NextHop(G2, 2))
    want = route("10.0.0.0/8", NextHop(G2, 2))
    assert settle([one, two], want) == [(DELETE, one), (DELETE, two), (ADD, want)]


def test_an_ipv6_route_to_a_link_goes_after_those_with_a_gateway() -> None:
    """A delete that names only the link would match a gateway route on it just as well."""
    link, through = route("fd01::/64", NextHop(None, 2)), route("fd01::/64", NextHop(V1, 2))
    assert settle([link, through], None) == [(DELETE, through), (DELETE, link)]


# -- a whole plan


def test_additions_come_first_and_links_before_gateways() -> None:
    gateway, link = route("0.0.0.0/0", NextHop(G1)), route("192.0.2.1/32", NextHop(None, 2))
    old, older = route("10.0.0.0/8", NextHop(None, 2)), route("10.1.0.0/16", NextHop(G2, 2))
    made = plan.plan([old, older], [gateway, link], OURS, lambda _route: True)
    assert [(o.action, o.route) for o in made.operations] == [
        (ADD, link),
        (ADD, gateway),
        (DELETE, older),
        (DELETE, old),
    ]


def test_only_owned_routes_that_remove_selects_are_deleted() -> None:
    one, two = route("10.0.0.0/8", NextHop(G1, 2)), route("11.0.0.0/8", NextHop(G1, 2))
    made = plan.plan([one, two], [], OURS, lambda route: route is two)
    assert [o.route for o in made.operations] == [two]


KEYS = st.tuples(
    st.sampled_from(("10.0.0.0/8", "10.0.0.0/16", "0.0.0.0/0", "fd00::/8", "::/0")), st.sampled_from((0, 5))
)


@st.composite
def any_route(draw: Any, owners: tuple[int, ...] = (OURS, THEIRS)) -> Route:
    dst, metric = draw(KEYS)
    family = AF_INET6 if ":" in dst else AF_INET
    gateways = (None, V1, V2) if family == AF_INET6 else (None, G1, G2)
    hop = NextHop(draw(st.sampled_from(gateways)), draw(st.sampled_from((2, 3))))
    return route(
        dst, hop, metric=metric, protocol=draw(st.sampled_from(owners)), mtu=draw(st.sampled_from((None, 1400)))
    )


@given(
    st.lists(any_route(), max_size=8),
    st.lists(any_route((OURS,)), max_size=5, unique_by=lambda r: r.key),
    st.booleans(),
)
def test_a_plan_reaches_what_is_wanted_and_touches_no_route_of_others(
    have: list[Route], want: list[Route], sweep: bool
) -> None:
    made = plan.plan(have, want, OURS, lambda _route: sweep)
    after = plan.predicted(have, made.operations)
    theirs = [r for r in have if r.path.protocol == THEIRS]
    assert Counter(r for r in after if r.path.protocol == THEIRS) == Counter(theirs)
    assert {o.route.path.protocol for o in made.operations} <= {OURS}
    held = {r.key for r in theirs}
    assert all(o.action == DELETE for o in made.operations if o.route.key in held)
    refused = {conflict.route.key for conflict in made.conflicts}
    assert all(r in after for r in want if r.key not in refused)
    assert refused <= held
    if sweep:
        wanted = {r.key for r in want}
        assert all(r.key in wanted for r in after if r.path.protocol == OURS)
    again = plan.plan(after, want, OURS, lambda _route: sweep)
    assert again.operations == []
    assert len(again.conflicts) == len(made.conflicts)


# -- messages


def test_the_flags_of_a_message_limit_what_it_may_overwrite() -> None:
    one = route("10.0.0.0/8", NextHop(G1, 2))
    messages = plan.encode([Operation(ADD, one), Operation(REPLACE, one, one), Operation(DELETE, one)])
    found = [next(rtnetlink.messages(message))[:2] for message in messages]
    assert found == [
        (rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL),
        (rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE),
        (rtnetlink.RTM_DELROUTE, rtnetlink.NLM_F_REQUEST),
    ]


def test_a_delete_names_owner_type_metric_and_hops() -> None:
    one = route("10.0.0.0/8", NextHop(G1, 2), NextHop(G2, 3, 5), metric=7, tos=8)
    [message] = plan.encode([Operation(DELETE, one)])
    prefix, path = decode_route(message, 0, len(message))
    assert Route(prefix, path) == one


def test_the_delete_of_an_ipv6_discard_route_names_the_loopback() -> None:
    one = route("fd00::/8", type=RTN_UNREACHABLE)
    [message] = plan.encode([Operation(DELETE, one)])
    assert rtnetlink.attribute(rtnetlink.RTA_OIF, b"\1\0\0\0") in message
    four = route("10.0.0.0/8", type=RTN_UNREACHABLE)
    [message] = plan.encode([Operation(DELETE, four)])
    assert rtnetlink.attribute(rtnetlink.RTA_OIF, b"\1\0\0\0") not in message
