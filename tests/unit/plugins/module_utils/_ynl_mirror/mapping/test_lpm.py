# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Longest-prefix match: whatever is put in and taken out, the answers are those of a slow and simple search."""

from __future__ import annotations

import ipaddress
from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.lpm import Lpm
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    WIDTH,
    NextHop,
    Path,
    Prefix,
)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@st.composite
def crowded(draw: st.DrawFn, family: int) -> Prefix:
    """A prefix in a small corner of the address space, so that prefixes meet; sometimes the default route."""
    width = WIDTH[family]
    length = draw(st.sampled_from((0, 1, width - 4, width - 3, width - 2, width - 1, width)))
    value = draw(st.sampled_from((0, 1 << (width - 1)))) | draw(st.integers(0, 15))
    return Prefix(family, value >> (width - length) << (width - length), length)


def path(family: int, number: int) -> Path:
    return Path(family, nexthops=(NextHop(None, number),))


def build(family: int, operations: list[tuple[bool, Prefix, int]]) -> tuple[Lpm, dict[Network, Path]]:
    """The table after *operations* (put or take out, prefix, path number), and a plain dictionary after the same."""
    lpm, plain = Lpm(family), {}
    for put, prefix, number in operations:
        network = ipaddress.ip_network(str(prefix))
        if put:
            lpm.set(prefix.key, path(family, number))
            plain[network] = path(family, number)
        else:
            lpm.remove(prefix.key)
            plain.pop(network, None)
        lpm.inside(Prefix(family, 0, 0).key)  # builds the sorted list, which the next change has to notice
    return lpm, plain


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, list[tuple[bool, Prefix, int]], Prefix]:
    family = draw(st.sampled_from((AF_INET, AF_INET6)))
    step = st.tuples(st.sampled_from((True, True, False)), crowded(family), st.integers(1, 9))
    return family, draw(st.lists(step, max_size=25)), draw(crowded(family))


@given(cases())
def test_covering_is_the_longest_supernet(case: tuple[int, list[tuple[bool, Prefix, int]], Prefix]) -> None:
    family, operations, wanted = case
    lpm, plain = build(family, operations)
    network = ipaddress.ip_network(str(wanted))
    above = [other for other in plain if network.subnet_of(other)]  # type: ignore[arg-type]
    found = lpm.covering(wanted.key)
    if not above:
        assert found is None
        return
    best = max(above, key=lambda other: other.prefixlen)
    assert found is not None
    assert (str(Prefix.from_key(family, found[0])), found[1]) == (str(best), plain[best])


@given(cases())
def test_inside_is_every_longer_subnet_in_order(case: tuple[int, list[tuple[bool, Prefix, int]], Prefix]) -> None:
    family, operations, wanted = case
    lpm, plain = build(family, operations)
    network = ipaddress.ip_network(str(wanted))
    below = [other for other in plain if other != network and other.subnet_of(network)]  # type: ignore[arg-type]
    found = [(str(Prefix.from_key(family, key)), way) for key, way in lpm.inside(wanted.key)]
    expected = sorted(below, key=lambda other: (int(other.network_address), other.prefixlen))
    assert found == [(str(other), plain[other]) for other in expected]


@given(cases())
def test_the_number_inside_is_never_too_small(case: tuple[int, list[tuple[bool, Prefix, int]], Prefix]) -> None:
    family, operations, wanted = case
    lpm, _plain = build(family, operations)
    inside = len(lpm.inside(wanted.key))
    assert inside <= lpm.number_inside(wanted.key) <= len(lpm)
    assert lpm.number_inside(Prefix(family, 0, 0).key) == len(lpm.inside(Prefix(family, 0, 0).key))


@given(cases())
def test_exact_and_every_prefix(case: tuple[int, list[tuple[bool, Prefix, int]], Prefix]) -> None:
    family, operations, wanted = case
    lpm, plain = build(family, operations)
    assert lpm.exact(wanted.key) == plain.get(ipaddress.ip_network(str(wanted)))
    assert sorted(str(Prefix.from_key(family, key)) for key in lpm.every()) == sorted(map(str, plain))
    assert len(lpm) == len(plain)


@pytest.mark.parametrize(("family", "default"), [(AF_INET, "0.0.0.0/0"), (AF_INET6, "::/0")])
def test_an_empty_table_knows_nothing_and_a_default_route_everything(family: int, default: str) -> None:
    lpm = Lpm(family)
    last = Prefix(family, (1 << WIDTH[family]) - 1, WIDTH[family])
    assert lpm.covering(last.key) is None
    assert lpm.inside(0) == []
    lpm.remove(last.key)
    lpm.set(Prefix.parse(default).key, path(family, 1))
    assert lpm.covering(last.key) == (Prefix.parse(default).key, path(family, 1))
    lpm.set(last.key, path(family, 2))
    assert lpm.inside(Prefix.parse(default).key) == [(last.key, path(family, 2))]
    assert lpm.covering(last.key) == (last.key, path(family, 2))
