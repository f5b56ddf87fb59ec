# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions and prefixes inside of others: the answers are those of a slow and simple search."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.regions import Prefixes, Regions
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    WIDTH,
    Prefix,
)


@st.composite
def crowded(draw: st.DrawFn, family: int) -> Prefix:
    """A prefix in a small corner of the address space, so that prefixes meet; sometimes the default route."""
    width = WIDTH[family]
    length = draw(st.sampled_from((0, 1, width - 4, width - 3, width - 2, width - 1, width)))
    value = draw(st.sampled_from((0, 1 << (width - 1), (1 << width) - 16))) | draw(st.integers(0, 15))
    return Prefix(family, value >> (width - length) << (width - length), length)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, list[Prefix], list[Prefix]]:
    family = draw(st.sampled_from((AF_INET, AF_INET6)))
    prefixes = st.lists(crowded(family), max_size=12)
    return family, draw(prefixes), draw(prefixes)


def around(prefix: Prefix, named: list[Prefix]) -> set[str]:
    return {str(other) for other in named if other.covers(prefix)}


@given(cases())
def test_prefixes_of_one_region_have_the_same_prefixes_around_them_and_none_inside(
    case: tuple[int, list[Prefix], list[Prefix]],
) -> None:
    family, named, asked = case
    regions = Regions(family, [prefix.key for prefix in named])
    by_number: dict[int, set[str]] = {}
    for prefix in asked:
        number = regions.of(prefix.key)
        divided = [other for other in named if prefix.covers(other)]
        assert (number is None) == bool(divided), prefix
        if number is not None:
            assert by_number.setdefault(number, around(prefix, named)) == around(prefix, named)


@given(cases())
def test_a_span_is_what_the_prefix_covers(case: tuple[int, list[Prefix], list[Prefix]]) -> None:
    family, named, _asked = case
    for prefix in named:
        network = ipaddress.ip_network(str(prefix))
        first = int(network.network_address)
        assert Regions(family, ()).span(prefix.key) == (first, first + network.num_addresses)


@given(cases(), st.lists(st.booleans(), max_size=12))
def test_within_is_every_longer_prefix(case: tuple[int, list[Prefix], list[Prefix]], gone: list[bool]) -> None:
    family, added, asked = case
    prefixes, plain = Prefixes(family), set()
    for number, prefix in enumerate(added):
        prefixes.add(prefix.key)
        plain.add(prefix)
        if number % 3 == 0:
            prefixes.within([0])  # sorts, which the next change has to notice
        if number < len(gone) and gone[number]:
            prefixes.discard(added[number // 2].key)
            plain.discard(added[number // 2])
    assert (len(prefixes), set(prefixes)) == (len(plain), {prefix.key for prefix in plain})
    assert all((prefix.key in prefixes) == (prefix in plain) for prefix in asked)
    expected = {one.key for one in plain if any(other != one and other.covers(one) for other in asked)}
    for many in ((), range(WIDTH[family] - 8 << WIDTH[family], (WIDTH[family] - 8 << WIDTH[family]) + 40)):
        # Few are asked for one by one, many at once by the prefixes that there are.
        keys = [prefix.key for prefix in asked] + [key | 1 << 20 for key in many]
        assert prefixes.within(keys) == expected
