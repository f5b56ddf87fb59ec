# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promise of the placement: with the mirrored routes every packet has the fate that it has without them.

Random DPUs and hosts (tests/support/build/fate_worlds.py), and a model of both that was written without the code that
it judges (fates.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping import placement
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.wanted import Wanted
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6
from ansible_collections.ekho.ynl_mirror.tests.support.build.fate_worlds import (
    Kernel,
    announce,
    as_path,
    as_way,
    facts_of,
    installed,
    installer_of,
    key_of,
    network_of,
    some_admission,
    some_announced,
    some_network,
    some_own,
    some_policy,
    some_world,
    view_of,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.fates import (
    Fate,
    Ip,
    Network,
    Table,
    Way,
    World,
    in_words,
)

_Choice = TypeVar("_Choice")
both = pytest.mark.parametrize("family", [AF_INET, AF_INET6])


class Drawn:
    """Chance by hypothesis, which shrinks what fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def choice(self, seq: Sequence[_Choice]) -> _Choice:
        return self._draw(st.sampled_from(seq))


chances = st.composite(Drawn)()


def assert_same_fate(world: World, mirrored: Mapping[int, Table]) -> None:
    for table in world.own:
        for address in world.edges():
            without, having = world.fate(table, address), world.fate(table, address, mirrored)
            assert in_words(without) == in_words(having), f"{address} in table {table}: {mirrored}"


def fates(world: World, addresses: set[Ip], mirrored: Mapping[int, Table] | None = None) -> dict[tuple[int, Ip], Fate]:
    return {(table, address): world.fate(table, address, mirrored) for table in world.own for address in addresses}


@pytest.fixture(params=[1, 4096], ids=["crowded", "roomy"])
def most_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many own routes inside an announced prefix are placed one by one."""
    monkeypatch.setattr(placement, "MOST_PARTS", request.param)


#: The fixture above is the same for all examples.
worlds = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@both
@worlds
@given(chances)
@pytest.mark.usefixtures("most_parts")
def test_no_mirrored_route_changes_a_fate_nor_does_any_part_of_a_replay_or_of_a_withdrawal(
    family: int, chance: Drawn
) -> None:
    world, kernel = some_world(chance, family), Kernel()
    installer = installer_of(family, world, some_policy(chance), kernel)
    installer.admission = some_admission(chance, family)
    announce(installer, family, world.announced)
    assert kernel.mirrored() == {table: routes for table, routes in installed(installer, family).items() if routes}
    announce(installer, family, dict.fromkeys(world.announced))
    assert kernel.mirrored() == {}
    for moment in kernel.moments:
        assert_same_fate(world, moment)


@both
@worlds
@given(chances)
@pytest.mark.usefixtures("most_parts")
def test_changes_one_by_one_leave_what_a_new_start_would_install(family: int, chance: Drawn) -> None:
    world, policy, kernel = some_world(chance, family), some_policy(chance), Kernel()
    installer = installer_of(family, world, policy, kernel)
    announce(installer, family, world.announced)
    for _step in range(chance.choice((1, 2, 3))):
        changes = some_changes(chance, family, world)
        before, world = world, changed(world, changes)
        kernel.moments.clear()
        announce(installer, family, changes)
        assert installed(installer, family) == from_nothing(family, world, policy)
        addresses = {*before.edges(), *world.edges()}
        old, new = fates(before, addresses), fates(world, addresses)
        for moment in kernel.moments:
            # With several next hops some packets may have the old fate still, and others the new one.
            for place, fate in fates(world, addresses, moment).items():
                assert fate.keys() <= {*old[place], *new[place]}, place
    assert_same_fate(world, installed(installer, family))


@both
@worlds
@given(chances)
@pytest.mark.usefixtures("most_parts")
def test_a_change_of_the_dpus_own_routes_leaves_what_a_new_start_would_install(family: int, chance: Drawn) -> None:
    world, policy = some_world(chance, family), some_policy(chance)
    installer = installer_of(family, world, policy)
    announce(installer, family, world.announced)
    own = {table: dict(routes) for table, routes in world.own.items()}
    for _change in range(chance.choice((1, 2))):
        table = chance.choice(sorted(own))
        gone = chance.choice((None, *own[table]))
        if gone is None:
            own[table][some_network(chance, family)] = some_own(chance, family, table)
        else:
            del own[table][gone]
    world = replace(world, own=own)
    installer.mapper = Mapper(view_of(family, world), policy, installer.mapper.facts)
    installer.sync(family, [*installer.announced_keys(family), *installer.stale_keys(family)])
    assert installed(installer, family) == from_nothing(family, world, policy)
    assert_same_fate(world, installed(installer, family))


def some_changes(chance: Drawn, family: int, world: World) -> dict[Network, Way | None]:
    found: dict[Network, Way | None] = {}
    for _change in range(chance.choice((1, 1, 2, 4))):
        known = chance.choice((*world.announced, None))
        net = some_network(chance, family) if known is None else known
        found[net] = chance.choice((None, some_announced(chance, family)))
    return found


def changed(world: World, changes: Mapping[Network, Way | None]) -> World:
    announced = {**world.announced, **changes}
    return replace(world, announced={net: way for net, way in announced.items() if way is not None})


def from_nothing(family: int, world: World, policy: Policy) -> dict[int, Table]:
    announced = {key_of(net): as_path(family, way) for net, way in world.announced.items()}
    mapper = Mapper(view_of(family, world), policy, facts_of(family, world))
    wanted = Wanted(mapper, lambda _family, key: announced.get(key))
    found: dict[int, dict[Network, Way]] = {table: {} for table in world.own}
    for key, paths in wanted.everything(family, announced).items():
        for table, path in paths.items():
            found[table][network_of(family, key)] = as_way(path)
    return {**found}
