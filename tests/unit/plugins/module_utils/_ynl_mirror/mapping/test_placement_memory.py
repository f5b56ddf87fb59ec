# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile host that sends new paths all the time: what the mapping remembers of them is bounded."""

from __future__ import annotations

import tracemalloc

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.lpm import Lpm
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
)

DPU, HOST = Address.parse("192.168.101.1"), Address.parse("192.168.102.2")


def _mapper() -> Mapper:
    """VRF a has the gateway and thousands of routes; b gets the announced ones."""
    table = Lpm(AF_INET)
    for number in range(5000):
        table.set(Prefix(AF_INET, 10 << 24 | number << 8, 24).key, Path(AF_INET, 10, nexthops=(NextHop(None, 3),)))
    to_host = Lpm(AF_INET)
    to_host.set(Prefix.parse("0.0.0.0/0").key, Path(AF_INET, 20, nexthops=(NextHop(HOST, 2),)))
    links = {number: Link(number, f"eth{number}", True, True) for number in (1, 2, 3, 4)}
    vrfs = (Vrf("a", 10, frozenset((1, 3))), Vrf("b", 20, frozenset((2, 4))))
    return Mapper(
        View(vrfs, links, {DPU: (1,)}, {(AF_INET, 10): table, (AF_INET, 20): to_host}), Policy(host_links=("eth2",))
    )


def test_new_gateways_all_the_time_do_not_fill_memory_and_the_dpus_is_kept() -> None:
    mapper = _mapper()
    mapper.rule(Path(AF_INET, nexthops=(NextHop(DPU, 2),)))
    for number in range(66_000):
        mapper.rule(Path(AF_INET, metric=number, nexthops=(NextHop(Address(AF_INET, number + 1), 2),)))
    assert len(mapper.facts.gateways) < 65_537
    assert DPU in mapper.facts.gateways
    assert mapper.host_links == {1, 2}


def test_new_outcomes_all_the_time_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement._MAX_OUTCOMES", 800
    )
    mapper = _mapper()
    tracemalloc.start()
    try:
        for metric in range(20):
            rule = mapper.rule(Path(AF_INET, metric=metric, nexthops=(NextHop(DPU, 2),)))
            for number in range(200):
                assert rule.outcome(Prefix(AF_INET, 10 << 24 | number << 8, 24).key).targets
            if metric == 3:
                before = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] < before + 100_000
    finally:
        tracemalloc.stop()
