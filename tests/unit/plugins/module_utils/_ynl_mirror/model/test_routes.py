# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: they survive their text form, equal ones compare equal, and every error quotes its input."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
    protocol_name,
    protocol_number,
    table_name,
    table_number,
)

families = st.sampled_from((AF_INET, AF_INET6))


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    family = draw(families)
    length = draw(st.integers(0, WIDTH[family]))
    return Prefix(family, draw(st.integers(0, 2**length - 1)) << (WIDTH[family] - length), length)


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    family = draw(families)
    return Address(family, draw(st.integers(0, 2 ** WIDTH[family] - 1)))


# -- prefixes


@given(prefixes())
def test_a_prefix_survives_its_text(prefix: Prefix) -> None:
    assert Prefix.parse(str(prefix)) == prefix
    assert Prefix.parse(f" {prefix}\n", prefix.family) == prefix


@given(prefixes())
def test_the_fast_path_for_ipv4_parses_what_ipaddress_parses(prefix: Prefix) -> None:
    network = ipaddress.ip_network(str(prefix))
    assert (prefix.value, prefix.length) == (int(network.network_address), network.prefixlen)
    assert Prefix.parse(network.with_netmask if prefix.family == AF_INET else network.exploded) == prefix


@given(prefixes())
def test_a_prefix_survives_its_key(prefix: Prefix) -> None:
    assert Prefix.from_key(prefix.family, prefix.key) == prefix


@given(prefixes(), prefixes())
def test_two_prefixes_of_a_family_never_share_a_key(one: Prefix, other: Prefix) -> None:
    if one.family == other.family:
        assert (one.key == other.key) == (one == other)


@given(prefixes(), prefixes())
def test_covers_agrees_with_ipaddress_about_supernets(one: Prefix, other: Prefix) -> None:
    outer, inner = ipaddress.ip_network(str(one)), ipaddress.ip_network(str(other))
    expected = outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
    assert one.covers(other) is expected


@given(prefixes())
def test_the_default_route_covers_all_of_its_family_and_a_prefix_covers_itself(prefix: Prefix) -> None:
    assert Prefix(prefix.family, 0, 0).covers(prefix)
    assert prefix.covers(prefix)


@pytest.mark.parametrize(
    ("text", "family", "expected"),
    [
        ("10.0.0.0/8", None, Prefix(AF_INET, 10 << 24, 8)),
        ("192.0.2.1", None, Prefix(AF_INET, 0xC0000201, 32)),
        ("fd00::1", None, Prefix(AF_INET6, 0xFD << 120 | 1, 128)),
        ("default", None, Prefix(AF_INET, 0, 0)),
        ("default", AF_INET6, Prefix(AF_INET6, 0, 0)),
        ("any", AF_INET, Prefix(AF_INET, 0, 0)),
        ("0.0.0.0/0", AF_INET, Prefix(AF_INET, 0, 0)),
        ("::/0", None, Prefix(AF_INET6, 0, 0)),
    ],
)
def test_every_notation_of_a_prefix_is_parsed(text: str, family: int | None, expected: Prefix) -> None:
    assert Prefix.parse(text, family) == expected


@pytest.mark.parametrize(
    ("text", "family", "words"),
    [
        ("10.0.0.1/8", None, r"'10.0.0.1/8' has host bits set; did you mean 10.0.0.0/8\?"),
        ("fd00::1/64", None, r"'fd00::1/64' has host bits set; did you mean fd00::/64\?"),
        ("10.0.0.0/33", None, "'10.0.0.0/33' is not a prefix"),
        ("10.0.0/24", None, "'10.0.0/24' is not a prefix"),
        ("256.0.0.0/8", None, "'256.0.0.0/8' is not a prefix"),
        ("010.0.0.0/8", None, "'010.0.0.0/8' is not a prefix"),
        ("", None, "'' is not a prefix"),
        ("eth1", None, "'eth1' is not a prefix, an address or 'default'"),
        ("10.0.0.0/8", AF_INET6, "'10.0.0.0/8' is not an ipv6 prefix"),
        ("fd00::/8", AF_INET, "'fd00::/8' is not an ipv4 prefix"),
    ],
)
def test_an_invalid_prefix_is_quoted_with_a_suggestion(text: str, family: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Prefix.parse(text, family)


# -- addresses


@given(addresses())
def test_an_address_survives_its_text_and_its_bytes(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert address.packed == ipaddress.ip_address(str(address)).packed


@given(addresses())
def test_link_local_agrees_with_ipaddress(address: Address) -> None:
    assert address.is_link_local is ipaddress.ip_address(str(address)).is_link_local


@pytest.mark.parametrize(
    ("text", "expected"), [("fe80::1", True), ("febf::1", True), ("fec0::1", False), ("169.254.9.9", True)]
)
def test_link_local_at_the_edges_of_its_ranges(text: str, expected: bool) -> None:
    assert Address.parse(text).is_link_local is expected


@pytest.mark.parametrize("text", ["10.0.0.0/8", "", "host", "1.2.3", "12345"])
def test_an_invalid_address_is_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text!r} is not an IP address"):
        Address.parse(text)


# -- paths and routes


def test_equal_paths_are_one_dictionary_key_and_different_ones_are_not() -> None:
    hop = NextHop(Address.parse("192.0.2.1"), 3)
    path = Path(AF_INET, 254, metric=5, nexthops=(hop,))
    again = Path(AF_INET, 254, metric=5, nexthops=(NextHop(Address.parse("192.0.2.1"), 3),))
    assert path == again
    assert hash(path) == hash(again)
    other = path.with_nexthops(NextHop(None, 3))
    assert other != path
    assert other.with_nexthops(hop) == path
    assert hash(other.with_nexthops(hop)) == hash(path)
    assert {path: 1}[other.with_nexthops(hop)] == 1


def test_the_outgoing_links_of_a_path_are_those_of_its_hops() -> None:
    gateway = Address.parse("192.0.2.1")
    path = Path(AF_INET, nexthops=(NextHop(gateway, 3), NextHop(gateway, 3), NextHop(None, 7), NextHop(gateway)))
    assert path.oifs == {3, 7}


def test_protocol_and_next_hops_do_not_identify_a_route() -> None:
    prefix = Prefix.parse("10.0.0.0/8")
    one = Route(prefix, Path(AF_INET, 10, protocol=4, metric=7, nexthops=(NextHop(None, 3),)))
    assert one.key == Route(prefix, Path(AF_INET, 10, protocol=121, metric=7)).key
    assert one.key != Route(prefix, Path(AF_INET, 10, protocol=4, metric=8)).key
    assert one.key != Route(prefix, Path(AF_INET, 11, protocol=4, metric=7)).key
    assert one.key != Route(prefix, Path(AF_INET, 10, protocol=4, metric=7, tos=16)).key


# -- names and numbers


@given(st.integers(0, 255))
def test_a_protocol_survives_its_name(number: int) -> None:
    assert protocol_number(protocol_name(number)) == number
    assert protocol_number(number) == number
    assert protocol_number(str(number)) == number


@given(st.integers(0, 2**32 - 1))
def test_a_table_survives_its_name(number: int) -> None:
    assert table_number(table_name(number)) == number


@pytest.mark.parametrize("value", ["zebro", "", None, True, -1, 256, "256", [], 1.5j])
def test_an_invalid_protocol_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="protocol"):
        protocol_number(value)


def test_a_table_beyond_32_bits_is_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"table 4294967296 is out of range 0\.\.4294967295"):
        table_number(1 << 32)
