# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of `routes` -> values and back, and the errors of invalid ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.items import (
    ItemErrors,
    ItemReader,
    ItemWriter,
    LinkNames,
    expressible,
)

LINKS = {"lo": 1, "eth1": 2, "eth2": 3}


def reader(**options: Any) -> ItemReader:
    return ItemReader(LinkNames(LINKS), table=10, **options)


def read(**item: Any) -> Route:
    return reader().routes([item])[0]


def errors(*items: Any, **options: Any) -> list[str]:
    with pytest.raises(ItemErrors) as caught:
        reader(**options).routes(items)
    return caught.value.errors


def test_every_option_becomes_a_value() -> None:
    route = read(
        dst="10.0.0.0/8", gateway="192.0.2.1", dev="eth1", metric=5, src="192.0.2.9", mtu=1400, tos=8, onlink=True
    )
    assert route == Route(
        Prefix.parse("10.0.0.0/8"),
        Path(
            AF_INET,
            table=10,
            protocol=121,
            tos=8,
            metric=5,
            src=Address.parse("192.0.2.9"),
            mtu=1400,
            nexthops=(NextHop(Address.parse("192.0.2.1"), 2, 1, True),),
        ),
    )


def test_numbers_and_flags_may_be_strings_as_templates_make_them() -> None:
    plain = read(dst="10.0.0.0/8", gateway="192.0.2.1", dev="eth1", metric=16, tos=16, onlink=True, mtu=None)
    assert read(dst=" 10.0.0.0/8", gateway="192.0.2.1", dev="eth1", metric="16", tos="0x10", onlink="yes") == plain


@pytest.mark.parametrize(
    ("item", "dst"),
    [
        ({"gateway": "192.0.2.1"}, "0.0.0.0/0"),
        ({"gateway": "fd00::1"}, "::/0"),
        ({"nexthops": [{"dev": "eth2"}, {"gateway": "192.0.2.1"}]}, "0.0.0.0/0"),
        ({"nexthops": [{"gateway": "fd00::2"}, {"gateway": "fd00::1"}]}, "::/0"),
        ({"dev": "eth1", "src": "fd00::1"}, "::/0"),
        ({"type": "unreachable"}, "0.0.0.0/0"),
    ],
)
def test_default_takes_the_family_of_the_first_address(item: dict[str, Any], dst: str) -> None:
    assert str(read(dst="default", **item).prefix) == dst


def test_default_takes_the_family_of_the_task() -> None:
    [route] = reader(family=AF_INET6).routes([{"dst": "default", "type": "unreachable"}])
    assert str(route.prefix) == "::/0"


def test_an_address_is_a_host_prefix_and_an_ipv6_gateway_serves_ipv4() -> None:
    assert str(read(dst="10.0.0.1", gateway="fe80::1", dev="eth1").prefix) == "10.0.0.1/32"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"dst": "10.0.0.1/8"}, "routes[0] (10.0.0.1/8): host bits are set; did you mean 10.0.0.0/8?"),
        ({"dst": "10.0.0.0/33"}, "is not a prefix"),
        ({"dst": "fd00::1/8"}, "did you mean fd00::/8?"),
        ({}, "routes[0]: no dst: set a prefix"),
        ({"dst": "10.0.0.0/8", "gatway": "192.0.2.1"}, "unknown option 'gatway'; did you mean 'gateway'?"),
        ({"dst": "10.0.0.0/8"}, "no next hop: set gateway, dev or nexthops"),
        ({"dst": "10.0.0.0/8", "gateway": "192.0.2.1/24"}, "gateway: '192.0.2.1/24' is not an IP address"),
        ({"dst": "10.0.0.0/8", "gateway": "0.0.0.0"}, "is not a unicast address"),
        ({"dst": "10.0.0.0/8", "gateway": "224.0.0.5", "dev": "eth1"}, "224.0.0.5 is not a unicast address"),
        ({"dst": "10.0.0.0/8", "gateway": "255.255.255.255", "dev": "eth1"}, "is not a unicast address"),
        ({"dst": "fd00::/8", "gateway": "ff02::1", "dev": "eth1"}, "ff02::1 is not a unicast address"),
        ({"dst": "fe80::%eth1/64", "dev": "eth2"}, "names a link; write fe80::/64 and give the link separately (dev)"),
        ({"dst": "fd00::/8", "gateway": "fe80::1%eth1", "dev": "eth2"}, "names a link; write fe80::1 and give"),
        ({"dst": "fd00::/8", "dev": "eth2", "src": "fe80::1%eth2"}, "src: 'fe80::1%eth2' names a link; write fe80::1"),
        ({"dst": "10.0.0.0/8", "nexthops": [{"dev": "eth1"}] * 1001}, "nexthops: 1001 are too many"),
        ({"dst": "fd00::/8", "gateway": "192.0.2.1"}, "gateway 192.0.2.1 is an IPv4 address, but the destination"),
        ({"dst": "fd00::/8", "gateway": "fe80::1"}, "link-local; set its dev"),
        ({"dst": "10.0.0.0/8", "dev": "eth3"}, "no link 'eth3' on this machine; did you mean 'eth2'?"),
        ({"dst": "10.0.0.0/8", "dev": "wlan0"}, "no link 'wlan0' on this machine; choose from: eth1, eth2, lo"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "onlink": True}, "onlink needs gateway and dev"),
        ({"dst": "10.0.0.0/8", "type": "blackhole", "dev": "eth1"}, "dev cannot be combined with type blackhole"),
        ({"dst": "10.0.0.0/8", "type": "local", "dev": "eth1"}, "type 'local' is not supported; choose from: unicast"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "metric": -1}, "metric: expected a whole number from 0 to 4294967295"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "metric": True}, "metric: expected a whole number"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "mtu": 67}, "mtu 67: the minimum for ipv4 is 68"),
        ({"dst": "fd00::/8", "dev": "eth1", "mtu": 1279}, "mtu 1279: the minimum for ipv6 is 1280"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "mtu": 65521}, "mtu: expected a whole number from 0 to 65520"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "tos": 3}, "tos 0x3: the lowest two bits"),
        ({"dst": "fd00::/8", "dev": "eth1", "tos": 4}, "tos: IPv6 routes have none"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "src": "fd00::1"}, "src fd00::1 is not an ipv4 address"),
        ({"dst": "10.0.0.0/8", "dev": "eth1", "onlink": "maybe"}, "onlink: expected true or false, got 'maybe'"),
        ({"dst": "10.0.0.0/8", "nexthops": []}, "nexthops: expected a list of at least one next hop"),
        ({"dst": "10.0.0.0/8", "nexthops": "eth1"}, "nexthops: expected a list"),
        ({"dst": "10.0.0.0/8", "nexthops": [{"weight": 2}]}, "nexthops[0]: no next hop: set gateway, dev or both"),
        ({"dst": "10.0.0.0/8", "nexthops": [{"dev": "eth1", "weight": 257}]}, "weight: expected a whole number from 1"),
        (
            {"dst": "10.0.0.0/8", "nexthops": [{"dev": "eth1"}, {"dev": "eth1"}]},
            "nexthops[1]: same gateway and dev",
        ),
        ({"dst": "10.0.0.0/8", "nexthops": [{"dev": "eth1"}], "dev": "eth1"}, "dev cannot be combined with nexthops"),
        (
            {"dst": "fd00::/8", "nexthops": [{"dev": "eth1"}, {"gateway": "fd01::1"}]},
            "an IPv6 multipath route needs a gateway on each next hop",
        ),
        ("10.0.0.0/8", "routes[0]: expected a dictionary such as {dst: ...}, got '10.0.0.0/8'"),
    ],
)
def test_an_error_names_the_item_and_the_fix(item: Any, message: str) -> None:
    [error] = errors(item)
    assert error.startswith("routes[0]")
    assert message in error


def test_every_invalid_item_is_named() -> None:
    good = {"dst": "10.0.0.0/8", "dev": "eth1"}
    found = errors(good, {"dst": "x"}, good, {**good, "metric": 1}, {"dst": "11.0.0.0/8", "dev": "ehh1"})
    assert [error.split(":")[0] for error in found] == [
        "routes[1] (x)",
        "routes[2] (10.0.0.0/8)",
        "routes[4] (11.0.0.0/8)",
    ]
    assert "same dst, metric and tos as routes[0]" in found[1]
    with pytest.raises(ItemErrors, match=r"^routes\[0\] \(x\): .* \(and 1 more\)$"):
        reader().routes([{"dst": "x"}, {"dst": "y"}])


def test_the_default_metric_counts_for_duplicates() -> None:
    item = {"dst": "fd00::/8", "dev": "eth1"}
    assert "same dst" in errors(item, {**item, "metric": 1024})[0]
    assert len(reader().routes([item, {**item, "metric": 1}])) == 2


def test_a_route_of_another_family_than_the_tasks_is_refused() -> None:
    assert "not an ipv4 route" in errors({"dst": "fd00::/8", "dev": "eth1"}, family=AF_INET)[0]


def test_a_single_route_is_named_by_its_destination() -> None:
    assert errors({"dst": "10.0.0.1/8"}, label="") == ["route 10.0.0.1/8: host bits are set; did you mean 10.0.0.0/8?"]


def test_an_error_is_reported_for_each_item_that_shares_it() -> None:
    assert len(errors(*({"dst": f"10.{n}.0.0/16", "dev": "eth9"} for n in range(5)))) == 5


# -- selectors


@pytest.mark.parametrize(
    ("given_", "matches"),
    [
        ({}, True),
        ({"gateway": "192.0.2.1"}, True),
        ({"gateway": "192.0.2.2"}, False),
        ({"dev": "eth1", "metric": 5}, True),
        ({"dev": "eth2"}, False),
        ({"metric": 0}, False),
        ({"type": "unicast", "mtu": 1400}, True),
        ({"type": "blackhole"}, False),
        ({"onlink": True}, False),
        ({"nexthops": [{"gateway": "192.0.2.1"}]}, True),
    ],
)
def test_each_option_narrows_what_is_deleted(given_: dict[str, Any], matches: bool) -> None:
    route = read(dst="10.0.0.0/8", gateway="192.0.2.1", dev="eth1", metric=5, mtu=1400)
    [selector] = reader().selectors([{"dst": "10.0.0.0/8", **given_}])
    assert selector.prefix == route.prefix
    assert selector.matches(route.path) is matches


def test_a_selector_is_validated_too() -> None:
    with pytest.raises(ItemErrors, match="did you mean 'eth1'"):
        reader().selectors([{"dst": "10.0.0.0/8", "dev": "eth11"}])


# -- there and back

GATEWAYS = {4: ("192.0.2.1", "192.0.2.2", "fd00::1"), 6: ("fd00::1", "fd00::2")}


@st.composite
def items(draw: Any) -> dict[str, Any]:
    version = draw(st.sampled_from((4, 6)))
    networks = {4: ("10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0"), 6: ("fd00::/8", "::/0", "fd00::1/128")}
    item: dict[str, Any] = {"dst": draw(st.sampled_from(networks[version])), "type": "unicast"}
    item["metric"] = draw(st.integers(1, 99))
    gateway = st.sampled_from(GATEWAYS[version])
    shape = draw(st.sampled_from(("dev", "gateway", "both", "onlink", "several", "discard")))
    if shape in ("dev", "both", "onlink"):
        item["dev"] = draw(st.sampled_from(("eth1", "eth2")))
    if shape in ("gateway", "both", "onlink"):
        item["gateway"] = draw(gateway)
    if shape == "onlink":
        item["onlink"] = True
    if shape == "several":
        hops = draw(st.lists(gateway, min_size=2, unique=True))
        item["nexthops"] = [{"gateway": hop, "weight": draw(st.integers(1, 256))} for hop in hops]
    if shape == "discard":
        item["type"] = draw(st.sampled_from(("blackhole", "unreachable", "prohibit")))
    if draw(st.booleans()):
        item["mtu"] = draw(st.integers(1280, 65520))
    if draw(st.booleans()):
        item["src"] = draw(st.sampled_from({4: ("192.0.2.9",), 6: ("fd00::9",)}[version]))
    if version == 4 and draw(st.booleans()):
        item["tos"] = 4
    return item


@given(items())
def test_an_item_survives_the_way_to_a_value_and_back(item: dict[str, Any]) -> None:
    links = LinkNames(LINKS)
    [route] = ItemReader(links, 10).routes([item])
    assert expressible(route.path)
    assert ItemWriter(links).items([route]) == [item]


def test_without_links_every_name_is_accepted() -> None:
    links = LinkNames(None)
    routes = ItemReader(links, 10).routes(
        [
            {"dst": "10.0.0.0/8", "dev": "swp1"},
            {"dst": "11.0.0.0/8", "dev": "swp2"},
            {"dst": "12.0.0.0/8", "dev": "swp1"},
        ]
    )
    assert [item["dev"] for item in ItemWriter(links).items(routes)] == ["swp1", "swp2", "swp1"]


def test_a_path_with_other_types_or_attributes_is_not_expressible() -> None:
    assert not expressible(Path(AF_INET, type=2))
    assert not expressible(Path(AF_INET, extras=("encap",)))
