# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is stored for one host: routes and paths up to its limit, with room again for what it withdraws."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.admission import Admission
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.limits import HostMemory
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.agent import AgentConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.host_policy import ROUTES
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    TableKey,
)

SCOPE = (AF_INET, 254)
GATEWAY = Address.parse("192.168.101.1")
WIDE = 8000


def path(number: int, hops: int = 1) -> Path:
    """A different path for each number."""
    first = NextHop(Address(AF_INET, number + 1), 2)
    return Path(AF_INET, metric=number, nexthops=(first, *[NextHop(GATEWAY, 2)] * (hops - 1)))


def test_by_default_a_host_has_a_route_limit_that_needs_no_admission() -> None:
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
def test_memory_for_a_host_follows_its_limit_and_is_never_less(limit: int, memory: int) -> None:
    config = AgentConfig.from_dict({"plaintext": True, "host_defaults": {"routes": limit}})
    admission = Admission("host1", config.host_defaults, {})
    assert admission.memory == memory
    assert admission.counts == (limit < memory)


def test_prefixes_up_to_the_limit_fit_and_no_more() -> None:
    tables: dict[TableKey, dict[int, Path]] = {SCOPE: dict.fromkeys(range(990), path(0))}
    memory = HostMemory(1000, tables)
    assert memory.room(28) is None  # one message cannot fill it
    assert memory.room(65535) == 10
    tables[AF_INET, 100] = dict.fromkeys(range(15), path(0))
    assert memory.room(28) == 0
    assert "1000 prefixes, 65786 next hops" in str(memory)


def test_paths_are_limited_by_their_next_hops_and_unused_ones_make_room() -> None:
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


def test_routes_present_when_the_limit_changes_are_counted() -> None:
    memory = HostMemory(0, {SCOPE: {number: path(number, WIDE) for number in range(8)}})
    assert not memory.fits(path(8, WIDE), now=0.0)


def test_paths_that_do_not_fit_cause_no_recount_each() -> None:
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
