# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The follower on a real kernel: whatever happens, once it is quiet the replica is what a fresh dump shows."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils import wire
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.entry import paths_of, winner
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.kernel import Monitor, Requests
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.routes import AF_INET, AF_INET6, Path, Prefix
from ansible_collections.ekho.ynl_mirror.tests.support.netns import Namespace, NamespaceFactory

TABLES = (254, 100)
QUIET = 10.0  # seconds that the replica has to catch up
Tables = dict[str, tuple[Path, ...]]


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    """e1 and e2 with an address of each family, their other ends p1 and p2 in the same namespace."""
    made = namespaces("replica")
    for number, network in ((1, "192.0.2"), (2, "198.51.100")):
        made.ip(f"link add e{number} type veth peer name p{number}")
        for name in (f"e{number}", f"p{number}"):
            made.sysctl(f"net.ipv6.conf.{name}.accept_dad", 0)
            made.ip(f"link set {name} up")
        made.ip(f"address add {network}.1/24 dev e{number}")
        made.ip(f"address add fd00:{number}::1/64 dev e{number} nodad")
        # So that the loss of a carrier takes IPv4 hops out of use, without an event.
        made.sysctl(f"net.ipv4.conf.e{number}.ignore_routes_with_linkdown", 1)
    return made


@dataclass
class Following:
    """A replica with all that feeds it; *told* collects what it says has changed."""

    machine: Namespace
    monitor: Monitor
    requests: Requests
    replica: Replica
    told: dict[str, Path | None]

    def on_change(self) -> None:
        for (family, table), keys in self.replica.rib.take_changed().items():
            for key in keys:
                entry = self.replica.rib.tables.get((family, table), {}).get(key)
                self.told[f"{Prefix.from_key(family, key)} table {table}"] = winner(entry)

    def kernel(self) -> Tables:
        """What a fresh dump shows."""
        rib = Rib(TABLES)
        for family in (AF_INET, AF_INET6):
            for table in TABLES:
                reading = rib.reading(Reread(family, table))
                for chunk in self.requests.dump(wire.route_dump_request(family, table)):
                    reading.feed(chunk)
                reading.finish()
        return shown(rib)

    def differences(self) -> list[str]:
        kernel, replica = self.kernel(), shown(self.replica.rib)
        lines = [
            f"{where}: kernel {kernel.get(where)}, replica {replica.get(where)}"
            for where in sorted({*kernel, *replica})
            if kernel.get(where) != replica.get(where)
        ]
        best = {where: winner(paths) for where, paths in kernel.items()}
        lines += [
            f"{where}: kernel uses {best.get(where)}, told {self.told.get(where)}"
            for where in sorted({*best, *self.told})
            if best.get(where) != self.told.get(where)
        ]
        return lines

    async def settled(self, history: list[str]) -> None:
        """Wait until the replica is what the kernel has, and what was told of changes as well."""
        loop = asyncio.get_running_loop()
        end = loop.time() + QUIET
        while (differences := self.differences()) and loop.time() < end:  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.01)
        assert not differences, "\n".join([*history, "leaves:", *differences])


def shown(rib: Rib) -> Tables:
    """All paths that carry packets, by prefix and table; a route of dead hops alone may go without a trace."""
    found = {}
    for (family, table), entries in rib.tables.items():
        for key, entry in entries.items():
            living = tuple(path for path in paths_of(entry) if "dead" not in path.extras)
            if living:
                found[f"{Prefix.from_key(family, key)} table {table}"] = living
    return found


@contextmanager
def following(machine: Namespace, receive_buffer: int) -> Iterator[tuple[Following, Follower]]:
    with machine.entered():
        monitor, requests, truth = Monitor(receive_buffer), Requests(), Requests()
    with closing(monitor), requests, truth:
        replica = Replica(Rib(TABLES))
        replica.rib.recording = True
        made = Following(machine, monitor, truth, replica, {})
        yield made, Follower(replica, monitor, requests, made.on_change)


async def live_through(
    machine: Namespace, rounds: Callable[[], Iterator[list[str]]], receive_buffer: int = 1 << 20
) -> Follower:
    """Follow while the commands of each round run in one `ip -batch`; the replica has to be right after each."""
    with following(machine, receive_buffer) as (state, follower):
        await follower.load()
        state.on_change()
        task = asyncio.ensure_future(follower.run())
        try:
            await state.settled(["the first dump"])
            for commands in rounds():
                batch = "\n".join(commands) + "\n"
                if len(commands) % 2:  # dumps and notifications in any order
                    await asyncio.to_thread(machine.run, "ip", "-force", "-batch", "-", check=False, stdin=batch)
                else:  # nobody listens meanwhile: what happens is found in the queue, or lost
                    machine.run("ip", "-force", "-batch", "-", check=False, stdin=batch)
                assert not task.done()
                await state.settled(commands)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return follower


def ways(chance: random.Random, family: int) -> str:
    """Next hops: one gateway, two, an object, or none."""
    gateways = {
        AF_INET: ("via 192.0.2.2", "via 192.0.2.3", "via 198.51.100.2", "via 203.0.113.9 dev e1 onlink"),
        AF_INET6: ("via fd00:1::2", "via fd00:1::3", "via fd00:2::2", "via fe80::9 dev e2"),
    }[family]
    kind = chance.random()
    if kind < 0.15:
        return "nhid " + chance.choice(("1", "2", "3") if family == AF_INET else ("4", "5"))
    if kind < 0.4:
        return " ".join(
            f"nexthop {way} weight {chance.randint(1, 4)}" for way in chance.sample(gateways, chance.randint(2, 3))
        )
    if kind < 0.5 and family == AF_INET:
        return chance.choice(("dev e1", "dev e2", "via inet6 fd00:2::9 dev e2"))
    return chance.choice(gateways)


def route_command(chance: random.Random) -> str:
    family = chance.choice((AF_INET, AF_INET6))
    prefix = chance.choice(("10.1.0.0/16", "10.2.0.0/24") if family == AF_INET else ("fd10::/32", "fd20::/64"))
    metric = chance.choice(("", "", "", " metric 7"))
    way = ways(chance, family)
    if family == AF_INET6 and way.startswith("nhid"):
        metric = " metric 5"  # a dump hides such a route where it stands between the hops of a multipath one
    table = chance.choice(("", " table 100"))
    verb = chance.choice(("add", "append", "prepend", "replace", "change", "del", "del"))
    tos = chance.choice(("", "", "", " tos 0x10")) if family == AF_INET else ""
    # A table and a metric have to stand before `nexthop`.
    where = f"{prefix}{tos}{table}{metric}"
    if verb == "del" and chance.random() < 0.5:
        return f"route del {where}"
    if chance.random() < 0.08:
        return f"route {verb} blackhole {prefix} metric 9{table}"
    return f"route {verb} {where} {way}"


SILENT = (
    "link set e1 down",
    "link set e1 up",
    "link set e2 down",
    "link set e2 up",
    "link set p1 down",
    "link set p1 up",
    "address del 192.0.2.1/24 dev e1",
    "address add 192.0.2.1/24 dev e1",
    "address add fd00:1::1/64 dev e1 nodad",
    "address add fd00:2::1/64 dev e2 nodad",
    "nexthop add id 1 via 192.0.2.9 dev e1",
    "nexthop add id 2 via 198.51.100.9 dev e2",
    "nexthop add id 3 group 1,3/2",
    "nexthop add id 4 via fd00:1::9 dev e1",
    "nexthop add id 5 via fd00:2::9 dev e2",
    "nexthop replace id 1 via 192.0.2.8 dev e1",
    "nexthop del id 1",
    "nexthop del id 2",
    "nexthop del id 4",
)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_history_ends_in_the_kernels_state(machine: Namespace, seed: int) -> None:
    def rounds() -> Iterator[list[str]]:
        chance = random.Random(seed)
        yield [line for line in SILENT if line.startswith("nexthop add")]
        for _round in range(40):
            commands = [route_command(chance) for _command in range(chance.randint(1, 12))]
            if chance.random() < 0.5:
                commands.insert(chance.randint(0, len(commands)), chance.choice(SILENT))
            yield commands

    asyncio.run(live_through(machine, rounds))


def test_a_random_history_that_overruns_the_buffer_ends_in_the_kernels_state(machine: Namespace) -> None:
    def rounds() -> Iterator[list[str]]:
        chance = random.Random(0)
        for _round in range(5):
            yield [route_command(chance) for _command in range(400)]
            yield [f"route replace 10.{n}.0.0/16 via 192.0.2.{chance.randint(2, 9)}" for n in range(300)]

    follower = asyncio.run(live_through(machine, rounds, receive_buffer=4096))
    assert follower.overruns


def test_a_table_followed_because_of_the_last_event_is_read_without_another_event(machine: Namespace) -> None:
    """A VRF may come while a re-read is under way; then its table has to be read although the kernel falls silent."""
    machine.ip("route add 10.1.0.0/16 via 192.0.2.2 table 300")

    async def live() -> None:
        with following(machine, 1 << 20) as (state, _follower):
            replica = state.replica
            happens = iter(["link set p1 down", "link add late type veth peer name later"])

            def on_change() -> None:
                for command in itertools.islice(happens, 1):
                    machine.ip(command)
                if any(link.name == "late" for link in replica.links.values()):
                    replica.rib.follow((*TABLES, 300))

            follower = Follower(replica, state.monitor, state.requests, on_change)
            await follower.load()
            task = asyncio.ensure_future(follower.run())
            try:
                end = asyncio.get_running_loop().time() + QUIET
                while not replica.rib.tables.get((AF_INET, 300)):
                    assert asyncio.get_running_loop().time() < end, "table 300 was never read"
                    await asyncio.sleep(0.01)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(live())
