# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of one path and one region share a decision: it is the one that each of them would get, whatever there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import (
    INFERENCES,
    MappingRule,
    Policy,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_UNREACHABLE,
    Address,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    LAB_OF_THREE,
    LINKS,
    THREE_VRFS,
    UPLINKS,
    VRFS,
    A,
    B,
    C,
    host,
    lab_mapper,
    own,
    reason,
    told,
    view,
)


@pytest.mark.parametrize("order", [("nexthop", "prefix", "static"), ("nexthop", "static", "prefix")])
def test_routes_of_one_path_share_no_egress_that_another_inference_found(order: tuple[str, ...]) -> None:
    # No gateway of these is the DPU's on one link alone; only the first two prefixes are known elsewhere.
    seen = view((C, "10.1.0.0/16", "192.168.11.9@3"), routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    seen.owners = {**seen.owners, Address.parse("192.0.2.1"): (1, 2)}
    rule = MappingRule("b", "eth4", prefix=Prefix.parse("10.2.0.0/16"))
    mapper = lab_mapper(seen, Policy(inference=order, static=(rule,)))
    assert told(mapper.map(*host("10.1.0.0/16", "192.0.2.1@9"))) == {A: "192.168.11.9@3!", B: "192.168.11.9@3!"}
    assert told(mapper.map(*host("10.2.0.0/16", "192.0.2.1@9"))) == {A: "@4", C: "@4"}
    words = reason(mapper.map(*host("10.3.0.0/16", "192.0.2.1@9")))
    assert "no VRF has a route of its own to this prefix" in words


PLACES = ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/10", "10.192.0.0/10", "10.0.0.0/32")
WAYS = ("@3", "@4", "192.168.11.9@3", "192.168.12.9@4", "192.168.101.2@1", "192.168.102.2@2", "@4*2 @3", "@77", "@8")
DEVICE_OF_B = Link(8, "b", kind="vrf", vrf_table=B)
GATEWAYS = ("192.168.101.1", "192.168.102.1", "192.168.103.1", "192.168.99.1", "192.168.11.1")
KINDS = (1, 1, 1, 1, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_LOCAL)


@st.composite
def views(draw: st.DrawFn) -> View:
    others = []
    for _number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(KINDS))
        way = draw(st.sampled_from(WAYS)) if kind in (1, RTN_LOCAL) else ""
        others.append(own(draw(st.sampled_from((A, B, C))), draw(st.sampled_from(PLACES)), way, type=kind))
    down = draw(st.sampled_from((None, None, 3, 4)))
    links = {index: replace(link, up=index != down) for index, link in {**LINKS, 8: DEVICE_OF_B}.items()}
    routes = draw(st.sampled_from(((), LAB_OF_THREE)))
    return view(routes=routes, others=others, vrfs=draw(st.sampled_from((VRFS, THREE_VRFS))), links=links)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rule = MappingRule(
        draw(st.sampled_from(("a", "b", "x"))), "eth3", prefix=Prefix.parse(draw(st.sampled_from(PLACES)))
    )
    return Policy(
        inference=tuple(draw(st.permutations(INFERENCES))[: draw(st.integers(1, 3))]),
        static=draw(st.sampled_from(((), (rule,)))),
        imports=draw(st.sampled_from(({}, {"a": ("b",)}, {"a": (), "c": ("b",)}))),
        host_links=draw(st.sampled_from(((), UPLINKS, ("eth4",)))),
    )


routes_of_a_host = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=2).map(" ".join),
        st.sampled_from((0, 0, 0, 16)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150)
@given(views(), policies(), routes_of_a_host)
def test_a_shared_decision_never_differs_from_one_of_its_own(
    seen: View, policy: Policy, routes: list[tuple[str, str, int]]
) -> None:
    shared, alone = Mapper(seen, policy), Mapper(seen, policy)
    for prefix, way, tos in routes:
        key, path = host(prefix, way, tos=tos)
        outcome = shared.map(key, path)
        assert outcome._replace(parts=()) == alone.trace(key, path), prefix
        assert set(outcome.parts) == set(alone.parts(path.family, key))
        assert shared.host_links == alone.host_links
        assert shared.learnt == alone.learnt


@given(views(), policies(), routes_of_a_host)
def test_no_target_is_a_source_a_loop_or_a_link_that_is_down(
    seen: View, policy: Policy, routes: list[tuple[str, str, int]]
) -> None:
    mapper = Mapper(seen, policy)
    for prefix, way, tos in routes:
        outcome = mapper.map(*host(prefix, way, tos=tos))
        assert (outcome.reason is None) == bool(outcome.targets)
        for table, path in outcome.targets.items():
            assert table == path.table
            assert table in {vrf.table for vrf in seen.vrfs}
            assert path.oifs
            assert not path.oifs & mapper.host_links
            assert all(seen.links[index].up for index in path.oifs)
            assert table in outcome.ways
