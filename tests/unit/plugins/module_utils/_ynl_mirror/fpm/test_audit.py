# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests tell equal content from any other, on both sides alike; buckets hold each route once, whatever changes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.audit import (
    BEGIN,
    CHECK,
    DIGEST,
    END,
    FETCH,
    MOST_BUCKETS,
    OPEN,
    Buckets,
    Digester,
    Message,
    buckets_for,
    decode,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    RouteReader,
    RouteWriter,
)

SCOPE = (AF_INET, 254)
GATEWAY = Address.parse("192.0.2.1")
BASE = Path(AF_INET, protocol=4, nexthops=(NextHop(GATEWAY, 3),))
HOP = BASE.nexthops[0]
OTHERS = [
    replace(BASE, type=6, nexthops=()),
    replace(BASE, protocol=5),
    replace(BASE, scope=253),
    replace(BASE, tos=4),
    replace(BASE, metric=1),
    replace(BASE, src=GATEWAY),
    replace(BASE, mtu=1400),
    replace(BASE, nexthops=()),
    replace(BASE, nexthops=(replace(HOP, oif=4),)),
    replace(BASE, nexthops=(replace(HOP, onlink=True),)),
    replace(BASE, nexthops=(replace(HOP, gateway=None),)),
    replace(BASE, nexthops=(replace(HOP, gateway=Address.parse("192.0.2.2")),)),
    replace(BASE, nexthops=(replace(HOP, gateway=Address(AF_INET6, GATEWAY.value)),)),
    replace(BASE, nexthops=(HOP, replace(HOP, oif=4))),
    replace(BASE, nexthops=(HOP, replace(HOP, oif=4, weight=2))),
    replace(BASE, nexthops=(replace(HOP, oif=4), HOP)),
]
#: The digest of the routes of test_a_digest_is_the_same_in_another_process: what is on the wire must not move.
KNOWN = "c04600084ca5f4b20c18046a8cf3168f"


def keys(count: int, length: int = 24) -> list[int]:
    return [(length << 32) + (10 << 16) + number for number in range(count)]


def digest(routes: list[tuple[int, Path]], family: int = AF_INET) -> bytes:
    return Digester().of(family, routes)


@given(st.lists(st.integers(0, 2**24 - 1), unique=True, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_routes_means_nothing(numbers: list[int], draw: random.Random) -> None:
    routes = [((24 << 32) + number, draw.choice(OTHERS)) for number in numbers]
    shuffled = routes[:]
    draw.shuffle(shuffled)
    assert digest(routes) == digest(shuffled)


def test_every_kind_of_difference_makes_another_digest() -> None:
    one, two = keys(2)
    contents: list[list[tuple[int, Path]]] = [[], [(one, BASE)], [(two, BASE)], [(one, BASE), (two, BASE)]]
    contents += [[(one, path)] for path in OTHERS]
    contents += [[(one, BASE), (two, OTHERS[0])], [(one, OTHERS[0]), (two, BASE)]]
    contents.append([(keys(1, 25)[0], BASE)])
    assert len({digest(routes) for routes in contents}) == len(contents)


@given(st.sets(st.integers(0, 5000)), st.sets(st.integers(0, 5000)))
def test_other_prefixes_make_another_digest(one: set[int], other: set[int]) -> None:
    of = [digest([((64 << 128) + key, BASE) for key in which], AF_INET6) for which in (one, other)]
    assert (of[0] == of[1]) == (one == other)


@pytest.mark.parametrize("path", [BASE, *OTHERS[:7], *OTHERS[8:12], OTHERS[13], OTHERS[14]])
def test_a_route_has_the_digest_that_it_has_on_the_other_side_of_the_wire(path: Path) -> None:
    (key,) = keys(1)
    message = RouteWriter(rtnetlink.RTM_NEWROUTE, 0).message(key, path)
    (found,) = RouteReader().routes(message)
    assert digest([(key, path)]) == digest([(found.key, found.path)])


def test_a_digest_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        f"from {__name__} import digest, keys, OTHERS\n"
        "print(digest([(key, path) for key in keys(3) for path in OTHERS[-1:]]).hex())"
    )
    path = os.environ["ANSIBLE_COLLECTIONS_PATH"]
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {KNOWN}


def test_new_paths_all_the_time_do_not_fill_memory() -> None:
    digester = Digester()
    digester.of(AF_INET, [(number, replace(BASE, metric=number, nexthops=(HOP,) * 8000)) for number in range(60)])
    assert sum(len(kept.nexthops) for kept in digester._marks) < 300_000


# -- buckets


@pytest.mark.parametrize(("routes", "number"), [(0, 1), (256, 1), (257, 17), (16384, 17), (16385, 257), (10**7, 257)])
def test_a_larger_table_is_cut_into_more_buckets(routes: int, number: int) -> None:
    assert buckets_for(routes) == number <= MOST_BUCKETS


def filled(count: int, number: int) -> Buckets:
    made = Buckets(SCOPE, number)
    for _slice in made.fill(keys(count)):
        pass
    return made


@pytest.mark.parametrize("step", [1, 2, 16, 17, 256])
def test_routes_spread_over_the_buckets_whatever_their_pattern(step: int) -> None:
    made = Buckets(SCOPE, 257)
    for _slice in made.fill([(24 << 32) + number * step for number in range(25700)]):
        pass
    assert {len(made.keys(bucket)) for bucket in range(257)} == {100}


def test_each_bucket_says_what_the_table_has_now() -> None:
    table = dict.fromkeys(keys(500), BASE)
    made = filled(500, 17)
    gone, new, moved = keys(500)[7], keys(501)[500], keys(500)[8]
    del table[gone]
    table[new], table[moved] = BASE, OTHERS[0]
    made.touch([gone, new, moved])
    found = [route for bucket in range(17) for route in made.routes(bucket, table)]
    assert len(found) == len(table)
    assert dict(found) == table
    for bucket in range(17):
        assert all(key % 17 == bucket for key, _path in made.routes(bucket, table))


def test_a_touch_while_the_buckets_are_filled_counts() -> None:
    made = Buckets(SCOPE, 1)
    filling = made.fill(keys(40000))
    next(filling)
    made.touch([5])
    for _slice in filling:
        pass
    assert 5 in made.keys(0)


def test_buckets_are_stale_when_more_changed_than_is_worth_keeping() -> None:
    made = filled(10, 1)
    made.touch(range(65536))
    assert not made.stale
    made.touch([70000])
    assert made.stale


def test_prefixes_that_come_and_go_during_an_audit_do_not_fill_memory() -> None:
    buckets = Buckets(SCOPE, 257)
    table = {(1 << 40) + number: BASE for number in range(300)}
    for number in range(100):
        buckets.touch([*range(number * 5000, number * 5000 + 5000), *(list(table) if number == 0 else ())])
        buckets.forget_gone(table)
    assert len(buckets._touched) <= 2 * 65536 + 5000
    assert table.keys() <= buckets._touched


# -- messages


@pytest.mark.parametrize("what", [OPEN, CHECK, DIGEST, FETCH, BEGIN, END])
def test_a_message_comes_back_equal_from_the_wire(what: int) -> None:
    sent = Message(what, (AF_INET6, 2**32 - 1), 257, 256, bytes(range(16)))
    raw = sent.encode()
    ((kind, _flags, start, end),) = rtnetlink.messages(raw)
    assert (kind, decode(raw, start, end)) == (0x7901, sent)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 2), (1, 0), (1, 7), (2, 3), (11, 0), (10, 2), (15, 17)],
    ids=["version", "no question", "unknown question", "family", "no buckets", "too many buckets", "no such bucket"],
)
def test_a_message_that_cannot_be_is_passed_over(at: int, value: int) -> None:
    raw = bytearray(Message(CHECK, SCOPE, 17, 3).encode())
    raw[16 + at] = value
    assert decode(bytes(raw), 0, len(raw)) is None
    assert decode(bytes(raw[:-1]), 0, len(raw) - 1) is None
