# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a peer names: what is remembered for it ends somewhere, and what it stopped using makes room."""

from __future__ import annotations

import tracemalloc

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.admission import Admission
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.limits import HostMemory
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.agent import AgentConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.host_policy import ROUTES
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.audit import Buckets, Digester
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.inference import Mapper, Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.lpm import Lpm
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.path_cache import ByPath
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
    TableKey,
)

SCOPE = (AF_INET, 254)
DPU = Address.parse("192.168.101.1")
WIDE = 8000


def path(number: int, hops: int = 1) -> Path:
    """A path of its own for each number."""
    first = NextHop(Address(AF_INET, number + 1), 2)
    return Path(AF_INET, metric=number, nexthops=(first, *[NextHop(DPU, 2)] * (hops - 1)))


def test_by_default_a_host_is_limited_and_nobody_has_to_ask_until_it_is_there() -> None:
    config = AgentConfig.from_dict({"plaintext": True, "hosts": ["host1", {"name": "host2", "vrfs": ["b"]}]})
    assert ROUTES >= 2 * 1_000_000  # twice what one full table has
    for host in ("host1", "host2"):
        assert config.policy_of(host).routes == ROUTES
    admission = Admission("host1", config.policy_of("host1"), {})
    assert admission.memory == ROUTES
    assert not admission.needed


@pytest.mark.parametrize(
    ("limit", "memory"), [(1, 16386), (100_000, 216_384), (1_500_000, ROUTES), (3_000_000, 3_000_000)]
)
def test_what_is_remembered_goes_with_the_limit_and_is_never_less(limit: int, memory: int) -> None:
    config = AgentConfig.from_dict({"plaintext": True, "host_defaults": {"routes": limit}})
    admission = Admission("host1", config.host_defaults, {})
    assert admission.memory == memory
    assert admission.counts == (limit < memory)


def test_so_many_prefixes_fit_and_not_one_more() -> None:
    tables: dict[TableKey, dict[int, Path]] = {SCOPE: dict.fromkeys(range(990), path(0))}
    memory = HostMemory(1000, tables)
    assert memory.room(28) is None  # one message cannot fill it
    assert memory.room(65535) == 10
    tables[AF_INET, 100] = dict.fromkeys(range(15), path(0))
    assert memory.room(28) == 0
    assert "1000 prefixes, 65786 next hops" in str(memory)


def test_paths_fit_by_their_next_hops_and_those_that_no_route_has_make_room() -> None:
    routes: dict[int, Path] = {}
    memory = HostMemory(0, {SCOPE: routes})
    for number in range(8):  # 65536 next hops, and a path counts as one itself
        routes[number] = path(number, WIDE)
        assert memory.fits(routes[number], now=0.0)
    wide, narrow = path(8, WIDE), path(9)
    assert not memory.fits(wide, now=0.0)
    assert memory.fits(narrow, now=0.0)
    assert memory.fits(routes[3], now=0.0)  # as many routes as one likes
    assert not memory.may_have_room(now=1.0)
    del routes[0], routes[1]
    assert memory.fits(wide, now=20.0)
    assert not memory.fits(path(10, 3 * WIDE), now=20.0)


def test_what_a_host_has_when_its_limit_changes_is_counted_from_the_start() -> None:
    memory = HostMemory(0, {SCOPE: {number: path(number, WIDE) for number in range(8)}})
    assert not memory.fits(path(8, WIDE), now=0.0)


def test_counting_again_and_again_is_not_the_price_of_paths_that_do_not_fit() -> None:
    routes: dict[int, Path] = {}
    memory = HostMemory(0, {SCOPE: routes})
    for number in range(8):
        routes[number] = path(number, WIDE)
        memory.fits(routes[number], now=0.0)
    routes.update(dict.fromkeys(range(100, 200_000), routes[0]))
    assert not memory.fits(path(8, WIDE), now=100.0)
    routes.update(dict.fromkeys(range(1, 8), routes[0]))
    assert not memory.fits(path(8, WIDE), now=101.0)
    assert memory.fits(path(8, WIDE), now=111.0)


def test_values_by_path_are_forgotten_when_there_are_too_many_or_too_wide_ones() -> None:
    values: ByPath[int] = ByPath(most=100, most_hops=1000)
    for number in range(1000):
        assert values.keep(path(number), number) == number
        assert values[path(number)] == number
        assert len(values) <= 100
    for number in range(1000, 1100):
        values.keep(path(number, 400), number)
        assert sum(len(kept.nexthops) for kept in values) < 1000 + 400


def _mapper() -> Mapper:
    """VRF a has the gateway and thousands of routes of its own; b gets what goes there."""
    table = Lpm(AF_INET)
    for number in range(5000):
        table.set(Prefix(AF_INET, 10 << 24 | number << 8, 24).key, Path(AF_INET, 10, nexthops=(NextHop(None, 3),)))
    links = {number: Link(number, f"eth{number}", True, True) for number in (1, 2, 3, 4)}
    vrfs = (Vrf("a", 10, frozenset((1, 3))), Vrf("b", 20, frozenset((2, 4))))
    return Mapper(View(vrfs, links, {DPU: (1,)}, {(AF_INET, 10): table}), Policy())


def test_gateways_that_are_ever_new_fill_no_memory_and_that_of_the_dpu_is_kept() -> None:
    mapper = _mapper()
    mapper.rule(Path(AF_INET, nexthops=(NextHop(DPU, 2),)))
    for number in range(70_000):
        mapper._learn(path(number))
    assert len(mapper.gateways) < 65_537
    assert DPU in mapper.gateways
    assert mapper.host_links == {1}


def test_outcomes_that_are_ever_new_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.inference._MAX_OUTCOMES", 2000
    )
    mapper = _mapper()
    tracemalloc.start()
    try:
        for metric in range(20):
            rule = mapper.rule(Path(AF_INET, metric=metric, nexthops=(NextHop(DPU, 2),)))
            for number in range(500):
                assert rule.outcome(Prefix(AF_INET, 10 << 24 | number << 8, 24).key).targets
            if metric == 3:
                before = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] < before + 100_000
    finally:
        tracemalloc.stop()


def test_digests_of_paths_that_are_ever_new_fill_no_memory() -> None:
    digester = Digester()
    digester.of(AF_INET, [(number, path(number, WIDE)) for number in range(60)])
    assert sum(len(kept.nexthops) for kept in digester._marks) < 300_000


def test_prefixes_that_come_and_go_while_an_answer_is_awaited_fill_no_memory() -> None:
    buckets = Buckets(SCOPE, 257)
    table = {(1 << 40) + number: path(0) for number in range(300)}
    for number in range(100):
        buckets.touch([*range(number * 5000, number * 5000 + 5000), *(list(table) if number == 0 else ())])
        buckets.forget_gone(table)
    assert len(buckets._touched) <= 2 * 65536 + 5000
    assert table.keys() <= buckets._touched
