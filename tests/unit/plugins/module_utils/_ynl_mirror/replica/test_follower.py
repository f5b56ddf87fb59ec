# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the follower does a full resync, on a kernel of canned answers. What a real one does: tests/integration."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Overrun
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.messages import link

MAIN = 254
FULL = [
    *[rtnetlink.RTM_GETNETCONF] * 2,
    *(rtnetlink.RTM_GETLINK, rtnetlink.RTM_GETADDR, rtnetlink.RTM_GETRULE, rtnetlink.RTM_GETRULE),
]


class Monitor:
    """What is queued: notifications, and Overrun where the kernel reports a loss."""

    def __init__(self) -> None:
        self._end, self._other = socket.socketpair()
        self.queue: list[bytes | Overrun] = []

    def fileno(self) -> int:
        return self._end.fileno()

    def receive(self, limit: int) -> list[bytes]:
        found: list[bytes] = []
        while self.queue and len(found) < limit:
            if isinstance(self.queue[0], Overrun):
                if found:
                    break
                raise self.queue.pop(0)  # type: ignore[misc]
            found.append(self.queue.pop(0))  # type: ignore[arg-type]
        return found

    def drain(self) -> int:
        count = sum(isinstance(item, bytes) for item in self.queue)
        self.queue.clear()
        return count

    def close(self) -> None:
        self._end.close()
        self._other.close()


class Requests:
    """An empty kernel: *view* has the type of each dump of all but routes, *routes* counts the others."""

    def __init__(self) -> None:
        self.view: list[int] = []
        self.routes = 0

    def dump_whole(self, message: bytes) -> list[bytes]:
        self.view.append(struct.unpack_from("=H", message, 4)[0])
        return []

    def dump(self, message: bytes) -> Iterator[bytes]:
        self.routes += struct.unpack_from("=H", message, 4)[0] == rtnetlink.RTM_GETROUTE
        return iter(())

    def torn(self) -> None:
        pass

    def caught_up(self) -> None:
        pass


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    made = Monitor()
    yield made
    made.close()


def follow(monitor: Monitor, *queue: bytes | Overrun) -> tuple[Follower, Requests, Replica]:
    """A follower that has loaded and then found these in its socket."""
    replica, requests = Replica(Rib([MAIN])), Requests()
    follower = Follower(replica, monitor, requests, lambda: None)

    async def live() -> None:
        await follower.load()
        assert (requests.view, requests.routes) == (FULL, 2)
        requests.view.clear()
        requests.routes = 0
        monitor.queue += queue
        task = asyncio.ensure_future(follower.run())
        await follower.caught_up()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(live())
    return follower, requests, replica


def test_a_notification_is_applied_without_a_resync(monitor: Monitor) -> None:
    follower, requests, replica = follow(monitor, link(Link(3, "eth1")))
    assert replica.links[3].name == "eth1"
    assert (requests.view, follower.recoveries) == ([], 0)


@pytest.mark.parametrize(
    "malformed",
    [
        link(Link(3, "eth1"))[:-4],
        rtnetlink.request(rtnetlink.RTM_NEWROUTE, 0, bytes(4)),
        rtnetlink.request(rtnetlink.RTM_NEWADDR, 0, bytes(8)),
    ],
    ids=["link", "route", "address"],
)
def test_a_malformed_notification_leads_to_a_full_resync(
    monitor: Monitor, caplog: pytest.LogCaptureFixture, malformed: bytes
) -> None:
    follower, requests, _replica = follow(monitor, malformed)
    assert (requests.view, requests.routes) == (FULL, 2)
    assert (follower.recoveries, follower.overruns) == (1, 0)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["malformed notification, full resync"]


def test_an_overrun_discards_what_is_queued_and_leads_to_a_full_resync(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    follower, requests, replica = follow(monitor, Overrun(), link(Link(3, "eth1")), link(Link(4, "eth2")))
    assert (requests.view, requests.routes) == (FULL, 2)
    assert (follower.recoveries, follower.overruns, replica.links) == (1, 1, {})
    assert [record.message for record in caplog.records] == [
        "receive buffer overrun (ENOBUFS), at least 2 notifications lost, full resync"
    ]
