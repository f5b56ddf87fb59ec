# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The netlink sockets on a real kernel: dumps, batches with failures, overruns, and deafness to one's own echo."""

from __future__ import annotations

import errno
import os
import select
import time

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink, sockets
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    RouteReader,
    RouteWriter,
    encode_route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import (
    KernelError,
    Monitor,
    Overrun,
    Requests,
)
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router

ADD = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL
FAR = Address.parse("203.0.113.9")


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    return Router.make(namespaces("machine")).namespace


def adds(count: int, path: Path, first: int = 10) -> list[bytes]:
    writer = RouteWriter(rtnetlink.RTM_NEWROUTE, ADD)
    return writer.batch([(Prefix(AF_INET, (first << 24) + (n << 8), 24).key, path) for n in range(count)])


def link_path(machine: Namespace, **options: object) -> Path:
    index = machine.ip_json("link show eth1")[0]["ifindex"]
    return Path(AF_INET, table=10, protocol=121, scope=253, nexthops=(NextHop(None, index),), **options)  # type: ignore[arg-type]


def heard(monitor: Monitor, seconds: float = 1.0) -> list[tuple[int, str]]:
    """Type and destination of the routes heard until there was silence for a while."""
    reader = RouteReader()
    out: list[tuple[int, str]] = []
    while select.select([monitor], [], [], seconds)[0]:
        for buffer in monitor.receive(1000):
            out += [(m.type, str(Prefix.from_key(m.path.family, m.key))) for m in reader.routes(buffer)]
        seconds = 0.3
    return out


# -- batches


def test_every_message_of_many_batches_is_carried_out(machine: Namespace) -> None:
    with machine.entered(), Requests() as requests:
        assert requests.write(adds(5000, link_path(machine))) == []
        assert sum(1 for _route in sockets.read_routes(requests, AF_INET, 10)) == 5000


def test_refused_messages_are_reported_by_index_and_the_others_applied(machine: Namespace) -> None:
    good = adds(3000, link_path(machine))
    bad = adds(3000, Path(AF_INET, table=10, protocol=121, nexthops=(NextHop(FAR),)), first=20)
    places = [0, 1, 700, 1499, 2998, 2999]
    for place in places:
        good[place] = bad[place]
    good[1500] = good[3]  # there already by then
    with machine.entered(), Requests() as requests:
        failures = requests.write(good)
        assert [failure.index for failure in failures] == [0, 1, 700, 1499, 1500, 2998, 2999]
        texts = {failure.index: (failure.errno, failure.text) for failure in failures}
        assert texts[700] == (errno.ENETUNREACH, "Nexthop has invalid gateway")
        assert texts[1500] == (errno.EEXIST, "")  # the kernel has no words for it
        assert sum(1 for _route in sockets.read_routes(requests, AF_INET, 10)) == 3000 - len(places) - 1


def test_a_batch_in_which_all_fail_reports_each(machine: Namespace) -> None:
    bad = adds(4000, Path(AF_INET, table=10, protocol=121, nexthops=(NextHop(FAR),)))
    with machine.entered(), Requests() as requests:
        assert [failure.index for failure in requests.write(bad)] == list(range(4000))
        assert requests.write(adds(1, link_path(machine))) == []  # the socket is still in step


def _write_as_nobody(count: int) -> list[sockets.Failure]:
    os.setgroups([])
    os.setuid(65534)
    with Requests() as requests:
        return requests.write(adds(count, Path(AF_INET, table=10, protocol=121, nexthops=(NextHop(None, 1),))))


def test_missing_privilege_is_reported_for_each_route(machine: Namespace) -> None:
    """Without root the receive buffer is small as well, and the refusals have to fit all the same."""
    failures = machine.call(_write_as_nobody, 3000)
    assert {failure.errno for failure in failures} == {errno.EPERM}
    assert [failure.index for failure in failures] == list(range(3000))


def test_call_raises_the_kernels_words(machine: Namespace) -> None:
    [bad] = adds(1, Path(AF_INET, table=10, protocol=121, nexthops=(NextHop(FAR),)))
    with (
        machine.entered(),
        Requests() as requests,
        pytest.raises(KernelError, match="Nexthop has invalid gateway") as e,
    ):
        requests.call(bad)
    assert e.value.errno == errno.ENETUNREACH


# -- dumps


def test_dumps_are_filtered_by_the_kernel(machine: Namespace) -> None:
    machine.ip("route add 10.0.0.0/8 dev eth1 proto 121 table 10")
    machine.ip("route add 11.0.0.0/8 dev eth2 proto 4 table 10")
    machine.ip("route add 12.0.0.0/8 dev eth1 proto 121 table 11")
    index = machine.ip_json("link show eth2")[0]["ifindex"]
    with machine.entered(), Requests() as requests:

        def destinations(*arguments: int | None) -> list[str]:
            return [str(route.prefix) for route in sockets.read_routes(requests, AF_INET, *arguments)]

        assert destinations(10) == ["10.0.0.0/8", "11.0.0.0/8"]
        assert destinations(10, 121) == ["10.0.0.0/8"]
        assert destinations(None, 121) == ["10.0.0.0/8", "12.0.0.0/8"]
        assert destinations(10, 0, index) == ["11.0.0.0/8"]
        assert destinations(4711) == []  # ENOENT means empty
        assert destinations(10, 0, 4711) == []  # and so does ENODEV
        assert list(sockets.read_routes(requests, AF_INET6, 10)) == []


def test_what_is_written_is_read_back(machine: Namespace) -> None:
    index = machine.ip_json("link show eth1")[0]["ifindex"]
    near, other = Address.parse("192.0.2.2"), Address.parse("192.0.2.3")
    paths = [
        Path(AF_INET, 10, 1, 121, 0, 8, 5, Address.parse("198.51.100.1"), 1400, (NextHop(near, index),)),
        Path(AF_INET, 10, 1, 121, 0, nexthops=(NextHop(near, index, 256), NextHop(other, index, 1))),
        Path(AF_INET, 10, 1, 121, 0, nexthops=(NextHop(FAR, index, 1, True),)),
        Path(AF_INET, 4294967295, 1, 121, 0, nexthops=(NextHop(Address.parse("fe80::1"), index),)),
        Path(AF_INET, 10, 7, 121, 0, metric=7),
    ]
    routes = [Route(Prefix(AF_INET, (10 + n) << 24, 8), path) for n, path in enumerate(paths)]
    with machine.entered(), Requests() as requests:
        assert requests.write([encode_route(route, rtnetlink.RTM_NEWROUTE, ADD) for route in routes]) == []
        assert set(sockets.read_routes(requests, AF_INET, protocol=121)) == set(routes)
        assert requests.write([encode_route(route, rtnetlink.RTM_DELROUTE, 1) for route in routes]) == []
        assert list(sockets.read_routes(requests, AF_INET, protocol=121)) == []


@pytest.mark.parametrize(
    ("family", "dst", "gateway"), [(AF_INET, "10.0.0.0/8", "203.0.0.1"), (AF_INET6, "fd09::/16", "fd05::1")]
)
def test_the_first_dump_of_a_socket_shows_a_route_of_500_next_hops_and_those_behind_it(
    machine: Namespace, family: int, dst: str, gateway: str
) -> None:
    index = machine.ip_json("link show eth1")[0]["ifindex"]
    first = Address.parse(gateway)
    hops = tuple(NextHop(Address(family, first.value + n), index, 1, True) for n in range(500))
    wide = Path(family, table=10, protocol=121, nexthops=hops)
    behind = Prefix.parse("11.0.0.0/8" if family == AF_INET else "fd0a::/16")
    with machine.entered(), Requests() as requests:
        narrow = Path(family, table=10, protocol=121, nexthops=(NextHop(None, index),))
        for route in (Route(Prefix.parse(dst), wide), Route(behind, narrow)):
            requests.call(encode_route(route, rtnetlink.RTM_NEWROUTE, ADD))
    with machine.entered(), Requests() as requests:
        found = list(sockets.read_routes(requests, family, 10))
    assert [(str(route.prefix), len(route.path.nexthops)) for route in found] == [(dst, 500), (str(behind), 1)]


def test_links_addresses_and_rules_are_read(machine: Namespace) -> None:
    machine.ip("link set eth2 down")
    machine.ip("rule add iif eth1 lookup 10 priority 1000")
    machine.ip("-6 rule add from fd00:1::/64 lookup 4711 priority 1001")
    with machine.entered(), Requests() as requests:
        links = {link.name: link for link in sockets.read_links(requests)}
        addresses = sockets.read_addresses(requests)
        rules = sockets.read_rules(requests)
    assert list(links) == ["lo", *(name for name in links if name != "lo")]
    assert (links["eth1"].up, links["eth1"].carrier, links["eth1"].kind) == (True, True, "veth")
    assert (links["eth2"].up, links["eth2"].carrier) == (False, False)
    assert (links["peer2"].up, links["peer2"].carrier) == (True, False)
    found = {(str(a.address), a.length, a.index) for a in addresses}
    assert ("192.0.2.1", 24, links["eth1"].index) in found
    assert ("fd00:1::1", 64, links["eth1"].index) in found
    assert [(r.family, r.priority, r.table, r.iif, str(r.source)) for r in rules if r.priority in (1000, 1001)] == [
        (AF_INET, 1000, 10, "eth1", "None"),
        (AF_INET6, 1001, 4711, "", "fd00:1::/64"),
    ]


def test_a_refused_dump_raises(machine: Namespace) -> None:
    bad = rtnetlink.request(
        rtnetlink.RTM_GETROUTE,
        rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP,
        rtnetlink.RTMSG.pack(AF_INET, 1, *[0] * 7),
    )
    with machine.entered(), Requests() as requests:
        with pytest.raises(KernelError, match="Invalid values in header"):
            list(requests.dump(bad))
        assert len(sockets.read_links(requests)) == 5  # the socket is still in step


# -- notifications


def test_a_monitor_hears_others_but_not_the_port_it_is_deaf_to(machine: Namespace) -> None:
    with machine.entered(), Requests() as mine, Requests() as other:
        monitor = Monitor(1 << 20, deaf_to=mine.port, groups=(sockets.RTNLGRP_IPV4_ROUTE,))
        path = link_path(machine)
        mine.write(adds(1, path))
        other.write(adds(1, path, first=20))
        machine.ip("route del 10.0.0.0/24 table 10")  # what I wrote, deleted by somebody else
        found = heard(monitor)
        monitor.close()
    assert found == [(rtnetlink.RTM_NEWROUTE, "20.0.0.0/24"), (rtnetlink.RTM_DELROUTE, "10.0.0.0/24")]


def test_an_overrun_is_reported_once_and_then_the_monitor_goes_on(machine: Namespace) -> None:
    with machine.entered(), Requests() as requests:
        monitor = Monitor(4096, groups=(sockets.RTNLGRP_IPV4_ROUTE,))
        requests.write(adds(3000, link_path(machine)))
        with pytest.raises(Overrun):
            monitor.receive(10)
        assert 0 < monitor.drain() < 3000
        assert monitor.receive(10) == []
        requests.write(adds(1, link_path(machine), first=20))
        assert heard(monitor) == [(rtnetlink.RTM_NEWROUTE, "20.0.0.0/24")]
        monitor.close()


def test_a_large_buffer_is_granted_and_holds_a_burst(machine: Namespace) -> None:
    with machine.entered(), Requests() as requests:
        monitor = Monitor(64 << 20, groups=(sockets.RTNLGRP_IPV4_ROUTE,))
        assert monitor.granted >= 64 << 20
        requests.write(adds(20000, link_path(machine)))
        time.sleep(0.1)
        assert monitor.drain() == 20000
        monitor.close()


def _granted_to_nobody() -> int:
    os.setgroups([])
    os.setuid(65534)
    return Monitor(64 << 20).granted


def test_a_clamped_buffer_says_what_was_granted(machine: Namespace) -> None:
    assert machine.call(_granted_to_nobody) < 64 << 20
