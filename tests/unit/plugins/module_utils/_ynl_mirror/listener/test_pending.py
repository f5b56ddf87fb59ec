# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which prefixes are sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.pending import (
    Pending,
    replay_order,
    spread,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6, WIDTH

KEYS = {
    family: st.sets(st.builds(lambda n, m, w=width: n << w | m, st.integers(8, 32), st.integers(0, 99)), max_size=60)
    for family, width in WIDTH.items()
}


@given(st.integers(0, 5000))
def test_a_replay_in_strides_names_every_route_once_and_neighbours_apart(count: int) -> None:
    strides = list(spread(list(range(count))))
    assert sorted(key for stride in strides for key in stride) == list(range(count))
    assert all(strides)
    for stride in strides:
        assert all(after - before == 1024 for before, after in zip(stride, stride[1:]))
    if count >= 1024:
        assert [stride[0] for stride in strides[:5]] == [0, 512, 256, 768, 128]


@given(KEYS[AF_INET], st.integers(1, 70))
def test_a_replay_names_every_route_once_and_long_prefixes_first(keys: set[int], most: int) -> None:
    batches = list(replay_order(AF_INET, list(keys), most))
    sent = [key for batch in batches for key in batch]
    assert sorted(sent) == sorted(keys)
    assert [key >> 32 for key in sent] == sorted((key >> 32 for key in keys), reverse=True)
    assert all(len(batch) <= most for batch in batches)


@given(st.lists(KEYS[AF_INET]), st.lists(KEYS[AF_INET6]), st.integers(1, 70))
def test_pending_prefixes_are_taken_once_and_long_ones_first(
    first: list[set[int]], second: list[set[int]], most: int
) -> None:
    pending = Pending()
    for family, sets in ((AF_INET, first), (AF_INET6, second)):
        for keys in sets:
            pending.add(family, keys)
            assert all(pending.has(family, key) for key in keys)
    every = {(AF_INET, key) for keys in first for key in keys} | {(AF_INET6, key) for keys in second for key in keys}
    assert len(pending) == len(every)
    assert bool(pending) == bool(every)
    lengths, taken = [], set()
    while pending:
        lengths.append(pending.longest)
        family, keys = pending.take(most)
        assert 0 < len(keys) <= most
        assert {key >> WIDTH[family] for key in keys} == {lengths[-1]}
        taken |= {(family, key) for key in keys}
    assert taken == every
    assert lengths == sorted(lengths, reverse=True)
    assert pending.longest == -1
