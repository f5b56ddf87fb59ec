# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The follower on a real kernel: whatever happens, once it is quiet the replica is what a fresh dump shows."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Monitor, Requests
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import joined
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import MAIN, QUIET, follow


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    """e1 and e2 with an address of each family, their other ends p1 and p2 in the same namespace."""
    return joined(namespaces("replica"))


def live_through(machine: Namespace, rounds: Iterable[list[str]], receive_buffer: int = 1 << 20) -> int:
    """Follow while the commands of each round run in one `ip -batch`; the replica has to be right after each.

    How often the buffer overran.
    """
    with follow(machine, receive_buffer) as seen:
        for commands in rounds:
            # Beside: dumps and notifications in any order. Else nobody listens meanwhile: what happens is found in the
            # queue, or lost.
            seen.run(commands, beside=bool(len(commands) % 2))
            try:
                seen.settle()
            except AssertionError as error:
                raise AssertionError("\n".join([*commands, "leaves:", str(error)])) from None
        return seen.follower.overruns


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


def random_rounds(seed: int) -> Iterator[list[str]]:
    chance = random.Random(seed)
    yield [line for line in SILENT if line.startswith("nexthop add")]
    for _round in range(40):
        commands = [route_command(chance) for _command in range(chance.randint(1, 12))]
        if chance.random() < 0.5:
            commands.insert(chance.randint(0, len(commands)), chance.choice(SILENT))
        yield commands


@pytest.mark.parametrize("seed", range(6))
def test_a_random_history_ends_in_the_kernels_state(machine: Namespace, seed: int) -> None:
    live_through(machine, random_rounds(seed))


def test_a_random_history_that_overruns_the_buffer_ends_in_the_kernels_state(machine: Namespace) -> None:
    def rounds() -> Iterator[list[str]]:
        chance = random.Random(0)
        for _round in range(5):
            yield [route_command(chance) for _command in range(400)]
            yield [f"route replace 10.{n}.0.0/16 via 192.0.2.{chance.randint(2, 9)}" for n in range(300)]

    assert live_through(machine, rounds(), receive_buffer=4096)


def test_a_table_followed_because_of_the_last_event_is_read_without_another_event(machine: Namespace) -> None:
    """A VRF may come while a re-read is under way; then its table has to be read although the kernel falls silent."""
    machine.ip("route add 10.1.0.0/16 via 192.0.2.2 table 300")

    async def live(monitor: Monitor, requests: Requests) -> None:
        replica = Replica(Rib((MAIN,)))
        happens = iter(["link set p1 down", "link add late type veth peer name later"])

        def on_change() -> None:
            for command in itertools.islice(happens, 1):
                machine.ip(command)
            if any(link.name == "late" for link in replica.links.values()):
                replica.rib.follow((MAIN, 300))

        follower = Follower(replica, monitor, requests, on_change)
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

    with machine.entered():
        monitor, requests = Monitor(1 << 20), Requests()
    with closing(monitor), requests:
        asyncio.run(live(monitor, requests))
