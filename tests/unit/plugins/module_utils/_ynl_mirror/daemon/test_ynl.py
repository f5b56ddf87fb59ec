# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes in YNL rt_route names: every route survives the way there and back, every fault is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.ynl import YnlError, from_ynl, to_ynl
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)

families = st.sampled_from((AF_INET, AF_INET6))


@st.composite
def addresses(draw: st.DrawFn, family: int) -> Address:
    return Address(family, draw(st.integers(1, 2 ** WIDTH[family] - 1)))


@st.composite
def hops(draw: st.DrawFn, family: int, alone: bool) -> NextHop:
    gateway_family = draw(families) if family == AF_INET else AF_INET6
    gateway = draw(st.none() | addresses(gateway_family))
    oif = draw(st.integers(1, 2**31 - 1)) if gateway is None else draw(st.none() | st.integers(1, 2**31 - 1))
    return NextHop(gateway, oif, 1 if alone else draw(st.integers(1, 256)), draw(st.booleans()))


@st.composite
def routes(draw: st.DrawFn) -> Route:
    family = draw(families)
    length = draw(st.integers(0, WIDTH[family]))
    shift = WIDTH[family] - length
    value = draw(st.integers(0, 2**length - 1)) << shift
    route_type = draw(st.sampled_from((1, 6, 7, 8)))
    many = draw(st.lists(hops(family, alone=False), min_size=2, max_size=4))
    nexthops = draw(st.sampled_from(((draw(hops(family, alone=True)),), tuple(many)))) if route_type == 1 else ()
    path = Path(
        family=family,
        table=draw(st.integers(1, 2**32 - 1)),
        type=route_type,
        protocol=122,
        tos=draw(st.integers(0, 255)),
        metric=draw(st.integers(0, 2**32 - 1)),
        src=draw(st.none() | addresses(family)),
        mtu=draw(st.none() | st.integers(1, 65535)),
        nexthops=nexthops,
    )
    return Route(Prefix(family, value, length), path)


@given(routes())
def test_a_route_comes_back_equal_from_its_json(route: Route) -> None:
    assert from_ynl(json.loads(json.dumps(to_ynl(route)))) == route


def test_a_route_of_the_dpu_reads_as_in_the_spec() -> None:
    path = Path(AF_INET, table=1000, protocol=121, nexthops=(NextHop(oif=4),))
    assert to_ynl(Route(Prefix.parse("192.168.11.0/24"), path)) == {
        "rtm-family": 2,
        "rtm-dst-len": 24,
        "rtm-src-len": 0,
        "rtm-tos": 0,
        "rtm-table": 252,
        "rtm-protocol": 121,
        "rtm-scope": 0,
        "rtm-type": "unicast",
        "rtm-flags": 0,
        "rta-table": 1000,
        "rta-dst": "192.168.11.0",
        "rta-oif": 4,
    }


def test_what_is_posted_is_owned_by_the_manual_protocol() -> None:
    route = from_ynl({"rta-dst": "10.0.0.0", "rtm-dst-len": 8, "rtm-table": 10, "rtm-protocol": 4, "rta-oif": 3})
    assert (route.path.protocol, route.path.table, str(route.prefix)) == (122, 10, "10.0.0.0/8")


def test_a_family_may_be_named_and_a_default_route_has_no_destination() -> None:
    route = from_ynl({"rtm-family": "ipv6", "rta-oif": 3})
    assert str(route.prefix) == "::/0"
    assert from_ynl({"rtm-type": RTN_BLACKHOLE}).path.nexthops == ()


GOOD: dict[str, Any] = {"rta-dst": "10.0.0.0", "rtm-dst-len": 8, "rta-oif": 3}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rta-dst": "10.0.0.1"}, "rta-dst: 10.0.0.1 has host bits set for rtm-dst-len 8; write 10.0.0.0"),
        ({"rta-dst": "ten"}, "rta-dst: 'ten' is not an IP address"),
        ({"rta-dst": 10}, "rta-dst: '10' is not an IP address"),
        ({"rta-dst": None}, "rta-dst: missing; add it, or set rtm-dst-len to 0"),
        ({"rtm-dst-len": None}, "rtm-dst-len: missing"),
        ({"rtm-dst-len": 33}, "rtm-dst-len: expected a whole number from 0 to 32, got 33"),
        ({"rtm-family": 10}, "rta-dst: 10.0.0.0 does not belong to rtm-family 10"),
        ({"rtm-family": 7}, "rtm-family: expected 2 (ipv4) or 10 (ipv6), got 7"),
        ({"rta-oif": None}, "no next hop: set rta-oif, rta-gateway or rta-multipath"),
        ({"rta-oif": "eth3"}, "rta-oif: expected a whole number from 1"),
        ({"rta-gateway": "fd00::1"}, "rta-gateway: fd00::1 is not of the route's family; use rta-via"),
        ({"rta-gateway": "10.0.0.1", "rta-via": "fd00::1"}, "rta-via: not allowed together with rta-gateway"),
        ({"rta-multipath": [{"rta-oif": 1}]}, "rta-multipath: not allowed together with rta-oif"),
        ({"rta-oif": None, "rta-multipath": {}}, "rta-multipath: expected a list of next hops"),
        ({"rta-oif": None, "rta-multipath": [{}]}, "rta-multipath[0]: no next hop"),
        ({"rta-oif": None, "rta-multipath": [{"rta-oif": 1, "x": 1}]}, "rta-multipath[0].x: unknown field"),
        ({"rtm-type": "unicorn"}, "rtm-type: unknown value 'unicorn'"),
        ({"rtm-type": "blackhole"}, "rtm-type: a blackhole route has no next hop"),
        ({"rta-oiff": 3}, "rta-oiff: unknown field; did you mean 'rta-oif'?"),
        ({"rta-metrics": {"rtax-window": 1}}, "rta-metrics.rtax-window: unknown field"),
        ({"rta-table": 0}, "rta-table: expected a whole number from 1"),
    ],
)
def test_a_route_with_a_fault_names_it(change: dict[str, Any], told: str) -> None:
    with pytest.raises(YnlError) as caught:
        from_ynl({**GOOD, **change})
    assert told in str(caught.value)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(YnlError, match="the route: expected an object"):
        from_ynl([GOOD])
