# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small daemon behind the real HTTP interface, on a thread of its own: what tests of api, client and cli talk to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.common import HttpConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.api import ApiError, serve

MIRRORED: dict[str, Any] = {
    "prefix": "192.168.11.0/24",
    "announced": {"nexthops": [{"gateway": "192.168.101.1"}], "protocol": "static", "metric": 0},
    "state": "offloaded",
    "reason": None,
    "installed": [{"vrf": "b", "table": "20", "nexthops": [{"dev": "eth3"}], "protocol": "ynl_mirror", "metric": 0}],
}
SLOW_PATH: dict[str, Any] = {
    "prefix": "0.0.0.0/0",
    "table": "100",
    "nexthops": [{"gateway": "10.0.0.1", "dev": "eth1", "weight": 1}, {"dev": "eth2", "weight": 2}],
    "protocol": "bgp",
    "metric": 20,
    "state": "slow_path",
    "reason": "no gateway of this machine",
    "agents": {"one": {"state": "pending", "reason": None}, "two": {"state": "failed", "reason": "full"}},
}


class Listener:
    """What a listener shows: two routes, one of them without a place."""

    name = "listener"

    def __init__(self) -> None:
        self.is_ready = True
        self.many = 0
        self.queues: list[asyncio.Queue[dict[str, Any]]] = []

    def ready(self) -> bool:
        return self.is_ready

    def status(self) -> dict[str, Any]:
        return {"name": self.name, "version": "0.1.0", "routes": 2, "agents": [{"address": "192.0.2.1", "up": True}]}

    def routes(self, prefix: str | None = None, state: str | None = None) -> Iterator[dict[str, Any]]:
        if prefix == "broken":
            raise ApiError(400, "query prefix: 'broken' is no prefix")
        for number in range(self.many):
            yield {"prefix": f"10.{number >> 8 & 255}.{number & 255}.0/24", "state": "offloaded", "reason": None}
        for route in (MIRRORED, SLOW_PATH):
            if prefix in (None, route["prefix"]) and state in (None, route["state"]):
                yield dict(route)

    def explain(self, prefix: str) -> dict[str, Any]:
        if "/" not in prefix:
            raise ValueError(f"query prefix: {prefix!r} is no prefix")
        found = next((route for route in (MIRRORED, SLOW_PATH) if route["prefix"] == prefix), None)
        if found is None:
            return {"prefix": prefix, "state": None, "reason": "the host has no such route", "steps": [], "routes": []}
        told = {name: found[name] for name in ("prefix", "state", "reason")}
        return {**told, "routes": [found], "steps": ["gateway 192.168.101.1 is on eth1, VRF a", "VRF a leaves by eth3"]}

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        yield "ynl_mirror_routes", "Announced routes, by state", "gauge", {"state": "offloaded"}, 1.0
        yield "ynl_mirror_routes", "Announced routes, by state", "gauge", {"state": "slow_path"}, 1.0
        yield "ynl_mirror_netlink_overruns_total", "Overruns of the netlink socket", "counter", {}, 3.0

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.queues.append(queue)
        try:
            yield queue
        finally:
            self.queues.remove(queue)


class Agent(Listener):
    """What an agent shows besides: routes of its kernel, kept in a list here."""

    name = "agent"

    def __init__(self) -> None:
        super().__init__()
        self.kernel: list[dict[str, Any]] = []

    def kernel_routes(self) -> list[dict[str, Any]]:
        return self.kernel

    def manual_add(self, route: dict[str, Any]) -> None:
        self.kernel.append(route)

    def manual_del(self, route: dict[str, Any]) -> None:
        if route not in self.kernel:
            raise ApiError(404, f"no route to {route['rta-dst']} of protocol 122")
        self.kernel.remove(route)


class Served:
    """A daemon served on a loop in a thread; `addresses` are its TCP addresses."""

    def __init__(self, daemon: Listener, control_socket: str, http: HttpConfig | None = None) -> None:
        self.daemon = daemon
        self.addresses: list[tuple[str, int]] = []
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event  # made in the loop: Python 3.9 binds it to the loop of the thread that makes it
        self._up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(control_socket, http))

    def _run(self, control_socket: str, http: HttpConfig | None) -> None:
        async def main() -> None:
            self._stop = asyncio.Event()
            async with serve(self.daemon, control_socket, http) as self.addresses:
                self._up.set()
                await self._stop.wait()

        try:
            self._loop.run_until_complete(main())
        except BaseException as error:
            self._error = error
        finally:
            self._loop.close()
            self._up.set()

    def call(self, function: Any, *args: Any) -> None:
        """Run a function on the daemon's loop, as all of a daemon's work is."""
        self._loop.call_soon_threadsafe(function, *args)

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._up.wait(10)
        if self._error is not None:
            self._thread.join(10)
            raise self._error
        return self

    def __exit__(self, *_error: object) -> None:
        self.call(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
