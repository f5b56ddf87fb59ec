# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump of IPv6 routes skips some when others are deleted meanwhile, and the kernel does not say so.

No notification names such a route later either, since nothing happened to it: a follower that trusts the dump loses it
for good. Dumps of IPv4 go on by prefix, and skip nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET6, Prefix
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink, sockets
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteReader
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Monitor, Requests
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica import follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import paths_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

SCOPE = (AF_INET6, 254)
STAYS = [f"fd01:1:{number:x}::/48" for number in range(2, 4000, 2)]
COMES_AND_GOES = [f"fd01:1:{number:x}::/48" for number in range(1, 4000, 2)]


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    made = Router.make(namespaces("machine")).namespace
    made.run("ip", "-batch", "-", stdin="".join(f"route add {prefix} dev eth1\n" for prefix in STAYS))
    return made


@contextmanager
def churn(machine: Namespace) -> Iterator[None]:
    """Routes come and go between those that stay."""
    end, begun = threading.Event(), threading.Event()
    lines = [f"route {verb} {prefix} dev eth2\n" for verb in ("add", "del") for prefix in COMES_AND_GOES]

    def run() -> None:
        while not end.is_set():
            machine.run("ip", "-force", "-batch", "-", stdin="".join(lines), check=False)
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(30)
    try:
        yield
    finally:
        end.set()
        thread.join()


def dumped(requests: Requests) -> set[str]:
    reader = RouteReader()
    chunks = requests.dump(rtnetlink.route_dump_request(*SCOPE))
    return {str(Prefix.from_key(AF_INET6, found.key)) for chunk in chunks for found in reader.routes(chunk)}


def followed(rib: Rib) -> set[str]:
    return {str(Prefix.from_key(AF_INET6, key)) for key in rib.tables.get(SCOPE, {})}


async def equal(rib: Rib, requests: Requests) -> None:
    """Wait until the replica is what the kernel has."""
    for _round in range(600):
        if followed(rib) == dumped(requests):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not equal: {sorted(followed(rib) ^ dumped(requests))[:5]}")


def test_the_kernel_does_skip_routes_and_does_not_flag_it(machine: Namespace) -> None:
    """Should it learn to, this says so."""
    with machine.entered():
        requests = Requests()
    with churn(machine):
        until(lambda: set(STAYS) <= dumped(requests), False)
    assert set(STAYS) <= dumped(requests)
    requests.close()


def test_a_follower_has_every_route_that_nobody_touched(machine: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_TORN_LATER", 0.2)
    with machine.entered():
        monitor, requests = Monitor(32 << 20), Requests()
    replica = Replica(Rib((254,)))

    async def play() -> None:
        made = Follower(replica, monitor, requests, lambda: None)
        with churn(machine):
            await made.load()
            assert set(STAYS) <= followed(replica.rib)
        following = asyncio.ensure_future(made.run())
        await equal(replica.rib, requests)
        following.cancel()

    asyncio.run(play())
    with machine.entered(), Requests() as fresh:
        assert followed(replica.rib) == dumped(fresh)
    entries = replica.rib.tables[SCOPE]
    assert all(len(paths_of(entries[Prefix.parse(prefix).key])) == 1 for prefix in STAYS)
    monitor.close()
    requests.close()


def test_a_link_that_is_read_again_in_the_midst_of_it_takes_no_route_along(machine: Namespace) -> None:
    with machine.entered():
        monitor, requests = Monitor(32 << 20), Requests()
    rib = Rib((254,))
    index = machine.ip_json("link show eth1")[0]["ifindex"]

    async def play() -> None:
        made = Follower(Replica(rib), monitor, requests, lambda: None)
        await made.load()
        assert set(STAYS) <= followed(rib)
        with churn(machine):
            for _time in range(3):
                rib.ask(index)
                await made._reread()
                assert set(STAYS) <= followed(rib)

    asyncio.run(play())
    monitor.close()
    requests.close()


def test_notifications_lost_during_a_dump_lead_to_a_resync(machine: Namespace) -> None:
    with machine.entered():
        monitor, requests = Monitor(4096), Requests()
    replica = Replica(Rib((254,)))

    async def play() -> None:
        made = Follower(replica, monitor, requests, lambda: None)
        with churn(machine):
            while not made._overran:
                await made.load()
        following = asyncio.ensure_future(made.run())
        await equal(replica.rib, kernel_side)
        assert made.overruns > 0
        following.cancel()

    with machine.entered(), sockets.Requests() as kernel_side:
        asyncio.run(play())
        assert followed(replica.rib) == dumped(kernel_side)
    monitor.close()
    requests.close()
