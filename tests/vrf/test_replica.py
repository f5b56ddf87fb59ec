# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The follower on a machine with VRF devices: after every event the replica is what a fresh look at the kernel shows.

It follows the tables of the VRFs that there are, as the agent does, so a VRF that comes, goes or changes its table is
part of what it has to get right.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import discover_vrfs
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6, Prefix
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import (
    Monitor,
    Requests,
    read_addresses,
    read_links,
    read_rules,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import paths_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.oracle import compare_with_kernel
from ansible_collections.ekho.ynl_mirror.tests.support.labs.links import make_links
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.vrf import ends, vrf

QUIET = 30.0  # seconds that the replica has to catch up
State = dict[str, object]


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    """e1 in VRF a (table 10) and e2 in VRF b (table 1000), their other ends p1 and p2 in no VRF."""
    made = namespaces("vrfs")
    made.sysctl("net.ipv6.conf.default.accept_dad", 0)
    lines = [*vrf("a", 10), *vrf("b", 1000)]
    for number, (name, network) in enumerate((("a", "192.0.2"), ("b", "198.51.100")), start=1):
        link, peer = f"e{number}", f"p{number}"
        lines += [f"link add {link} type veth peer name {peer}", f"link set dev {link} master {name}"]
        lines += [f"link set dev {peer} up", f"link set dev {link} up"]
        lines += [f"address add {network}.1/24 dev {link}", f"address add fd00:{number}::1/64 dev {link} nodad"]
    run(made, lines)
    return made


def run(machine: Namespace, commands: Iterable[str], check: bool = True) -> None:
    batch = "".join(f"{line}\n" for line in commands)
    machine.run("ip", "-force", "-batch", "-", check=check, stdin=batch)


@dataclass
class Follow:
    """A replica of the VRFs' tables, and a second pair of eyes."""

    machine: Namespace
    monitor: Monitor
    requests: Requests
    truth: Requests
    replica: Replica = field(default_factory=lambda: Replica(Rib(())))

    def vrfs(self) -> tuple[Vrf, ...]:
        return discover_vrfs(self.replica.links, self.replica.rules, {})

    def on_change(self) -> None:
        self.replica.rib.follow(vrf.table for vrf in self.vrfs())

    def kernel(self) -> State:
        """What there is, read afresh."""
        found = Replica(Rib(()))
        found.load(read_links(self.truth), read_addresses(self.truth), read_rules(self.truth))
        vrfs = discover_vrfs(found.links, found.rules, {})
        tables = {vrf.table for vrf in vrfs}
        found.rib.follow(tables)
        for family in (AF_INET, AF_INET6):
            for table in tables:
                reading = found.rib.reading(Reread(family, table))
                for chunk in self.truth.dump(rtnetlink.route_dump_request(family, table)):
                    reading.feed(chunk)
                reading.finish()
        return shown(found, vrfs)

    async def settled(self, history: list[str]) -> State:
        """Wait until the replica shows what the kernel has; what that is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + QUIET
        while True:
            kernel, replica = self.kernel(), shown(self.replica, self.vrfs())
            if kernel == replica:
                return kernel
            if loop.time() > end:
                break
            await asyncio.sleep(0.1)  # to look costs a guest more
        lines = [
            f"{what}: kernel {kernel.get(what)}, replica {replica.get(what)}"
            for what in sorted({*kernel, *replica})
            if kernel.get(what) != replica.get(what)
        ]
        raise AssertionError("\n".join([*history, "leaves:", *lines]))


def shown(replica: Replica, vrfs: tuple[Vrf, ...]) -> State:
    """VRFs, links, addresses, rules, and the routes that carry packets by prefix and table."""
    found: State = {f"vrf {vrf.name}": vrf for vrf in vrfs}
    found.update({f"link {index}": link for index, link in replica.links.items()})
    found["addresses"] = frozenset(replica.addresses)
    found["rules"] = frozenset(replica.rules)
    for (family, table), entries in replica.rib.tables.items():
        for key, entry in entries.items():
            living = tuple(path for path in paths_of(entry) if "dead" not in path.extras)
            if living:
                found[f"{Prefix.from_key(family, key)} table {table}"] = living
    return found


async def live_through(machine: Namespace, rounds: Iterable[list[str]]) -> list[State]:
    """Follow the machine while each round's commands run in one `ip -batch`; what was there after each."""
    with machine.entered():
        monitor, requests, truth = Monitor(1 << 20), Requests(), Requests()
    states = []
    with closing(monitor), requests, truth:
        state = Follow(machine, monitor, requests, truth)
        follower = Follower(state.replica, monitor, requests, state.on_change)
        await follower.load()
        task = asyncio.ensure_future(follower.run())
        try:
            await state.settled(["the first dump"])
            for commands in rounds:
                await asyncio.to_thread(run, machine, commands, check=False)
                assert not task.done()
                states.append(await state.settled(commands))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return states


A_STATIC = "route add 10.1.0.0/16 via 192.0.2.2 dev e1 table 10"
INTO_A = ["route add 10.2.0.0/16 dev e2 table 10", "route add fd10::/16 via fd00:2::9 dev e2 table 10"]


def test_a_link_that_changes_its_vrf_loses_routes_in_every_table(machine: Namespace) -> None:
    """Its own and those by which another VRF leaves through it; the connected ones stand in the new table."""
    rounds = [
        [A_STATIC, *INTO_A],
        ["link set dev e2 master a"],
        ["link set dev e2 nomaster"],
        ["link set dev e1 master b"],
    ]
    states = asyncio.run(live_through(machine, rounds))
    with_routes, moved, _free, exchanged = states
    assert {"10.1.0.0/16 table 10", "10.2.0.0/16 table 10", "fd10::/16 table 10"} <= with_routes.keys()
    assert "10.1.0.0/16 table 10" in moved
    assert {"10.2.0.0/16 table 10", "fd10::/16 table 10"}.isdisjoint(moved)
    assert "198.51.100.0/24 table 10" in moved
    assert "192.0.2.0/24 table 1000" in exchanged
    assert "10.1.0.0/16 table 10" not in exchanged


def test_a_vrf_deleted_and_made_again_has_nothing_of_what_it_was(machine: Namespace) -> None:
    again = ["link del dev a", *vrf("a", 100000, "e1"), "route add 10.3.0.0/16 via 192.0.2.2 dev e1 table 100000"]
    rounds = [[A_STATIC, *INTO_A, *ends(10)], ["link del dev a"], vrf("a", 10, "e1"), again]
    _before, deleted, back, changed = asyncio.run(live_through(machine, rounds))
    assert not [what for what in deleted if what.endswith("table 10")]
    # The table outlives its VRF, with what leads out by other VRFs' links or to nowhere.
    assert {"10.2.0.0/16 table 10", "0.0.0.0/0 table 10", "192.0.2.0/24 table 10"} <= back.keys()
    assert "10.1.0.0/16 table 10" not in back
    assert {"10.3.0.0/16 table 100000", "192.0.2.0/24 table 100000"} <= changed.keys()
    assert changed["vrf a"] == Vrf("a", 100000, back["vrf a"].links)  # type: ignore[attr-defined]


def test_a_vrf_device_that_goes_down_or_is_renamed_loses_no_route(machine: Namespace) -> None:
    rounds = [[A_STATIC], ["link set dev a down"], ["link set dev a name red"], ["link set dev red up"]]
    before, down, renamed, up = asyncio.run(live_through(machine, rounds))
    for state in (down, renamed, up):
        assert {what for what in state if " table " in what} == {what for what in before if " table " in what}
    assert "vrf red" in renamed
    assert "vrf a" not in renamed


def event(chance: random.Random) -> list[str]:
    """One thing that happens to a machine with VRFs; some make no sense at that moment, as in life."""
    name, link = chance.choice("ab"), chance.choice(("e1", "e2"))
    table = chance.choice((10, 1000, 100000))
    network = {"e1": ("192.0.2.2", "fd00:1::9"), "e2": ("198.51.100.2", "fd00:2::9")}[link]
    return chance.choice(
        [
            [f"link set dev {link} master {name}"],
            [f"link set dev {link} nomaster"],
            [f"link del dev {name}", *vrf(name, table, link)],
            [f"link del dev {name}"],
            vrf(name, table),
            [f"link set dev {name} {chance.choice(('up', 'down'))}"],
            [f"link set dev {link} {chance.choice(('up', 'down'))}"],
            [f"link set dev p{link[1]} {chance.choice(('up', 'down'))}"],
            [f"route add 10.1.0.0/16 via {network[0]} dev {link} onlink table {table}"],
            [f"route add 10.2.0.0/16 dev {chance.choice((link, name))} table {table}"],
            [f"route add fd10::/16 via {network[1]} dev {link} onlink table {table}"],
            [f"route append fd11::/16 dev {chance.choice((link, name))} table {table}"],
            [f"route del 10.2.0.0/16 table {table}", f"route del fd11::/16 table {table}"],
            ends(table, chance.choice(("add", "del"))),
            [f"address add 192.0.2.{chance.randint(1, 3)}/24 dev {chance.choice((link, name))}"],
            [f"address del 192.0.2.{chance.randint(1, 3)}/24 dev {link}"],
            ["link del dev a", "link del dev b", *vrf("a", 1000, "e1"), *vrf("b", 10, "e2")],
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_random_history_of_vrfs_ends_in_the_kernels_state(machine: Namespace, seed: int) -> None:
    chance = random.Random(seed)
    rounds = [[line for _event in range(chance.randint(1, 6)) for line in event(chance)] for _round in range(15)]
    asyncio.run(live_through(machine, rounds))


def test_links_of_every_kind_and_rules_are_read_as_pyroute2_reads_them(machine: Namespace) -> None:
    made = make_links(machine)
    with machine.entered(), Requests() as requests:
        found = compare_with_kernel(requests)
    assert made >= {"vrf", "vlan", "bond", "dummy"}
    assert {link.kind for link in found["link"]} >= made
    links = {link.name: link for link in found["link"]}
    assert links["red"].vrf_table == 4_000_000_000
    assert links["fifteen-letters"].master == links["red"].index
    assert {rule.family for rule in found["rule"] if rule.l3mdev} == {AF_INET, AF_INET6}
