# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket for requests that stays in step with the kernel: answers that are lost, late, or nobody's any more.

Every one of these made a daemon wait for ever, or take the answer to one question for that to another.
"""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink, sockets
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import (
    KernelError,
    LostAnswers,
    Requests,
)
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router

ADD = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL
FAR = Address.parse("203.0.113.9")
COUNT = 5000


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    return Router.make(namespaces("machine")).namespace


def adds(count: int, *hops: NextHop) -> list[bytes]:
    path = Path(AF_INET, table=10, protocol=121, scope=0 if hops[0].gateway else 253, nexthops=hops)
    writer = RouteWriter(rtnetlink.RTM_NEWROUTE, ADD)
    return writer.batch([(Prefix(AF_INET, (10 << 24) + (n << 8), 24).key, path) for n in range(count)])


def link(machine: Namespace) -> NextHop:
    return NextHop(None, machine.ip_json("link show eth1")[0]["ifindex"])


def count(requests: Requests, table: int = 10) -> int:
    return sum(1 for _route in sockets.read_routes(requests, AF_INET, table))


def narrow(requests: Requests) -> None:
    """Take the room for answers away: what a machine short of memory does."""
    requests._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


def test_answers_that_do_not_fit_are_reported_lost_and_the_socket_stays_in_step(machine: Namespace) -> None:
    with machine.entered(), Requests() as requests:
        narrow(requests)
        with pytest.raises(LostAnswers, match="No buffer space available") as caught:
            requests.write(adds(COUNT, NextHop(FAR)) + adds(10, link(machine)))
        known = [failure.index for failure in caught.value.failures]
        assert 0 < len(known) < COUNT
        assert known == sorted(set(known))
        assert {failure.errno for failure in caught.value.failures} == {errno.ENETUNREACH}
        assert count(requests) == 10  # all of them were sent
        assert [failure.errno for failure in requests.write(adds(1, link(machine)))] == [errno.EEXIST]
        with pytest.raises(KernelError, match="File exists"):
            requests.call(adds(1, link(machine))[0])


def test_a_small_buffer_takes_the_answers_of_smaller_batches(
    machine: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a daemon in a container gets, that may write routes and may not have more than net.core.rmem_max."""
    monkeypatch.setattr(sockets, "_ANSWER_BUFFER", 212_992)
    with machine.entered(), Requests() as requests:
        failures = requests.write(adds(COUNT, NextHop(FAR)))
        assert [failure.index for failure in failures] == list(range(COUNT))


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    machine: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_ANSWER_TIME", 1)
    [good] = adds(1, link(machine))
    with machine.entered(), Requests() as requests:
        # The kernel throws the rest of a datagram away, the end marker with it, at a length that cannot be.
        with pytest.raises(LostAnswers, match="timed out"):
            requests.write([struct.pack("=I", 1 << 20) + good[4:]])
        assert requests.write([good]) == []
        assert count(requests) == 1


def test_a_dump_that_was_left_in_the_middle_is_not_taken_for_the_next(machine: Namespace) -> None:
    with machine.entered(), Requests() as requests:
        assert requests.write(adds(COUNT, link(machine))) == []
        other = Path(AF_INET, table=11, protocol=121, scope=253, nexthops=(link(machine),))
        message = RouteWriter(rtnetlink.RTM_NEWROUTE, ADD).batch([(Prefix(AF_INET, 20 << 24, 8).key, other)])
        for next_one in (lambda: count(requests, 11), lambda: len(requests.write(message)), lambda: count(requests)):
            dump = requests.dump(rtnetlink.route_dump_request(AF_INET, 10))
            next(dump)
            before = next_one()
            dump.close()
            assert before in (0, COUNT)
        assert count(requests, 11) == 1
        assert len(sockets.read_links(requests)) == len(machine.ip_json("link show"))


def test_a_dump_that_another_question_broke_off_is_no_whole_one(
    machine: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_ANSWER_TIME", 1)
    with machine.entered(), Requests() as requests:
        requests.write(adds(COUNT, link(machine)))
        dump = requests.dump(rtnetlink.route_dump_request(AF_INET, 10))
        next(dump)
        assert count(requests, 11) == 0
        with pytest.raises(LostAnswers):
            list(dump)
        assert count(requests) == COUNT


def test_a_late_acknowledgement_does_not_end_a_dump(machine: Namespace) -> None:
    """It was taken for the end, and the table for an empty one."""
    with machine.entered(), Requests() as requests:
        requests.write(adds(100, link(machine)))
        late = rtnetlink.request(rtnetlink.NLMSG_NOOP, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK, seq=4711)
        requests._sock.send(late)
        assert count(requests) == 100
        requests._sock.send(late)
        assert requests.write(adds(1, link(machine)))[0].errno == errno.EEXIST


def test_the_end_of_a_dump_is_seen_behind_routes_whatever_flags_it_carries() -> None:
    """With NLM_F_ACK_TLVS, an end that brings words of the kernel along, it was not, and the next one waited for."""
    family = AF_INET6
    path = Path(family, table=10, protocol=121, nexthops=(NextHop(None, 1),))
    [route] = RouteWriter(rtnetlink.RTM_NEWROUTE, 2).batch([(Prefix(family, 0xFD << 120, 8).key, path)])
    words = rtnetlink.attribute(1, b"Interrupted\0")
    for flags in (0, 0x10, 0x20, 0x30):
        for more in (0, rtnetlink.NLM_F_ACK_TLVS):
            done = rtnetlink.request(
                rtnetlink.NLMSG_DONE, 2 | flags | more, struct.pack("=i", 0) + (words if more else b"")
            )
            assert sockets._end_of_dump(route + done) == len(route)
    failed = rtnetlink.request(rtnetlink.NLMSG_DONE, 0x202, struct.pack("=i", -errno.EBUSY) + words)
    with pytest.raises(KernelError, match="Interrupted"):
        sockets._end_of_dump(route + failed)
