# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener's filters: which routes are announced, with which path, and the reason for those that are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.filters import Filters
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_UNREACHABLE,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.filters import Selection

LINKS = {3: Link(3, "eth1"), 4: Link(4, "eth2")}
STATIC = Path(AF_INET, protocol=4, nexthops=(NextHop(Address.parse("192.0.2.1"), 3),))
ANY = Prefix.parse("10.0.0.0/8")


def selection(**filters: Any) -> Selection:
    return Selection(Filters.from_dict(filters), LINKS)


def verdict(chosen: Selection, path: Path = STATIC, prefix: Prefix = ANY) -> str | None:
    """Why a route is left out, checked against the two halves that the FIB view asks."""
    reason = chosen.reason(prefix.family, prefix.key, path)
    if not path.extras:
        assert reason == (chosen.path_reason(path) or chosen.prefix_reason(prefix.family, prefix.key))
    return reason


def test_without_filters_no_route_is_left_out() -> None:
    assert verdict(selection()) is None
    assert not selection().by_route


def test_a_route_that_the_wire_format_cannot_express_is_not_announced() -> None:
    path = Path(AF_INET, protocol=4, nexthops=STATIC.nexthops, extras=("encap", "newdst"))
    assert verdict(selection(), path) == "the wire format cannot express encap, newdst"


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"protocols": ["bgp", 11]}, "filtered: protocol static is not in filters.protocols"),
        ({"protocols": ["static"]}, None),
        ({"exclude_protocols": ["static"]}, "filtered: protocol static is in filters.exclude_protocols"),
        ({"exclude_protocols": ["kernel"]}, None),
        ({"types": ["blackhole"]}, "filtered: type unicast is not in filters.types"),
        ({"types": ["unicast", "unreachable"]}, None),
        ({"interfaces": ["eth2"]}, "filtered: no next hop uses an interface of filters.interfaces"),
        ({"interfaces": ["eth2", "eth1"]}, None),
        ({"prefixes": ["10.0.0.0/8"]}, None),
        ({"prefixes": ["10.0.0.0/7", "fd00::/8"]}, None),
        ({"prefixes": ["10.0.0.0/9"]}, "filtered: the prefix matches none of filters.prefixes"),
        ({"prefixes": ["fd00::/8"]}, "filtered: the prefix matches none of filters.prefixes"),
        ({"exclude_prefixes": ["0.0.0.0/0"]}, "filtered: the prefix matches filters.exclude_prefixes (0.0.0.0/0)"),
        ({"exclude_prefixes": ["exact 0.0.0.0/0", "10.0.0.0/9", "::/0"]}, None),
        (
            {"exclude_prefixes": ["exact 10.0.0.0/8"]},
            "filtered: the prefix matches filters.exclude_prefixes (exact 10.0.0.0/8)",
        ),
        (
            {"prefixes": ["10.0.0.0/8"], "exclude_prefixes": ["10.0.0.0/8"]},
            "filtered: the prefix matches filters.exclude_prefixes (10.0.0.0/8)",
        ),
    ],
)
def test_each_filter_and_its_reason(filters: dict[str, list[Any]], words: str | None) -> None:
    assert verdict(selection(**filters)) == words


def test_a_multipath_route_passes_by_any_of_its_links_and_a_discard_route_by_none() -> None:
    chosen = selection(interfaces=["eth2"])
    both = Path(AF_INET, protocol=4, nexthops=(NextHop(None, 3), NextHop(None, 4)))
    assert verdict(chosen, both) is None
    assert verdict(chosen, Path(AF_INET, type=RTN_UNREACHABLE)) is not None
    assert verdict(chosen, Path(AF_INET, nexthops=(NextHop(None, 99),))) is not None


def test_path_filters_apply_to_every_prefix_and_prefix_filters_to_every_path() -> None:
    chosen = selection(protocols=["static"], exclude_prefixes=["10.1.0.0/16"])
    other = Path(AF_INET, protocol=11, nexthops=STATIC.nexthops)
    inside = Prefix.parse("10.1.2.0/24")
    assert verdict(chosen, STATIC, ANY) is None
    assert verdict(chosen, STATIC, inside) is not None
    assert verdict(chosen, other, ANY) == "filtered: protocol zebra is not in filters.protocols"
    assert verdict(chosen, other, inside) == "filtered: protocol zebra is not in filters.protocols"


@given(st.data(), st.sampled_from((AF_INET, AF_INET6)))
def test_a_prefix_filter_passes_the_prefixes_that_it_covers(data: st.DataObject, family: int) -> None:
    def prefix() -> Prefix:
        length = data.draw(st.sampled_from((0, 1, 2, 8, WIDTH[family])))
        return Prefix(family, data.draw(st.integers(0, min(3, 2**length - 1))) << (WIDTH[family] - length), length)

    wanted, inside, outside = prefix(), prefix(), prefix()
    chosen = selection(prefixes=[str(inside)], exclude_prefixes=[str(outside)])
    path = Path(family, protocol=4, nexthops=STATIC.nexthops)
    assert (verdict(chosen, path, wanted) is None) == (inside.covers(wanted) and not outside.covers(wanted))
