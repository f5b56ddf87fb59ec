# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mirror writes is what it reads back: for every kind of egress, over restarts, replacements and refusals."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.host_session import HostSession
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.installer import Installer
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import frames
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View, address_owners
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    RouteReader,
    RouteWriter,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import (
    Requests,
    read_addresses,
    read_links,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import best_path
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import MirrorLab
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

A, B, C = 10, 20, 300
MAIN = 254
HOST = {
    AF_INET: Path(AF_INET, MAIN, protocol=4, nexthops=(NextHop(Address.parse("192.0.2.1"), 9),)),
    AF_INET6: Path(AF_INET6, MAIN, protocol=4, nexthops=(NextHop(Address.parse("fd00:99::1"), 9),)),
}
#: The host's address on e0.
TO_HOST = {AF_INET: "192.0.2.2", AF_INET6: "fd00:99::2"}
PREFIX = {AF_INET: Prefix.parse("10.0.0.0/8"), AF_INET6: Prefix.parse("fd10::/16")}
#: The source VRF's way to a prefix, as next hops over e1 and e2.
IPV4_WAYS = (
    "@e1",
    "198.51.100.7@e1",
    "203.0.113.7@e1",  # in no subnet of the link
    "fd00:1::7@e1",
    "fe80::7@e1",
    "198.51.100.7@e1*3 198.51.100.8@e1*2",
    "198.51.100.7@e1*256 198.18.0.7@e2",
    "198.51.100.7@e1 fd00:2::8@e2*5",
    "@e1*3 @e2*256",
    "@e1*3 198.51.100.7@e1",
)
IPV6_WAYS = (
    "@e1",
    "fd00:1::7@e1",
    "fd99::7@e1",
    "fe80::7@e1",
    "fd00:1::7@e1*3 fd00:2::8@e2*2",
    "fd00:1::7@e1*3 fd00:2::8@e2*2 fe80::7@e2*7",
)
#: What the kernel refuses in another VRF (or anywhere).
REFUSED_WAYS = ("@e1*3 @e2", "@e1 fd00:1::7@e1")
ALL = [(AF_INET, way) for way in IPV4_WAYS] + [(AF_INET6, way) for way in IPV6_WAYS]


@dataclass
class Dpu:
    """A machine with the host behind link e0 (VRF b), egresses e1 and e2 (VRF b too); VRFs a and c send to the host."""

    machine: Namespace
    requests: Requests
    view: View

    def know(self, family: int, way: str, prefix: Prefix | None = None) -> None:
        """The source VRF reaches the prefix this way from now on."""
        hops = []
        for hop in way.split():
            text, _star, weight = hop.partition("*")
            gateway, _at, link = text.partition("@")
            index = next(i for i, known in self.view.links.items() if known.name == link)
            hops.append(NextHop(Address.parse(gateway) if gateway else None, index, int(weight or 1)))
        self.view.lpm(family, B).set((prefix or PREFIX[family]).key, Path(family, B, nexthops=tuple(hops)))

    def mirror(self, policy: Policy | None = None, others: Rib | None = None) -> Installer:
        """An installer as after the start of an agent: it has read its routes back."""
        made = Installer(self.requests, Mapper(self.view, policy or Policy()), (MAIN,), others or Rib((A, B, C)))
        self.audit(made)
        return made

    def audit(self, mirror: Installer) -> set[tuple[int, int]]:
        """Read back; (family, table) of what was believed to be otherwise."""
        found: dict[tuple[int, int], dict[int, Path]] = {}
        for family in (AF_INET, AF_INET6):
            for chunk in self.requests.dump(rtnetlink.route_dump_request(family, protocol=121)):
                for message in RouteReader().routes(chunk):
                    found.setdefault((family, message.path.table), {})[message.key] = message.path
        scopes = {*found, *mirror.installed}
        return {scope for scope in scopes if mirror.found(*scope, found.get(scope, {}))}

    def sync(
        self, mirror: Installer, family: int, routes: Iterable[Prefix] | None = None, path: Path | None = None
    ) -> None:
        """The host announces these prefixes (the one of these tests unless given), by *path* or else the usual one."""
        prefixes = [PREFIX[family]] if routes is None else list(routes)
        mirror.announced[family, MAIN] = {prefix.key: path or HOST[family] for prefix in prefixes}
        mirror.mapper = Mapper(self.view, mirror.mapper.policy)
        mirror.sync(family, {PREFIX[family].key, *(prefix.key for prefix in prefixes)})


@pytest.fixture
def dpu(namespaces: NamespaceFactory) -> Iterator[Dpu]:
    machine = namespaces("dpu")
    for name, ipv4, ipv6 in (
        ("e0", "192.0.2.1/24", "fd00:99::1/64"),
        ("e1", "198.51.100.1/24", "fd00:1::1/64"),
        ("e2", "198.18.0.1/24", "fd00:2::1/64"),
    ):
        machine.ip(f"link add {name} type veth peer name p-{name}")
        for end in (name, f"p-{name}"):
            machine.sysctl(f"net.ipv6.conf.{end}.accept_dad", 0)
            machine.ip(f"link set {end} up")
        machine.ip(f"address add {ipv4} dev {name}")
        machine.ip(f"address add {ipv6} dev {name} nodad")
    with machine.entered():
        requests = Requests()
    with requests:
        links = {link.index: link for link in read_links(requests)}
        members = frozenset(index for index, link in links.items() if link.name in ("e0", "e1", "e2"))
        vrfs = (Vrf("a", A), Vrf("b", B, members), Vrf("c", C))
        view = View(vrfs, links, address_owners(read_addresses(requests)))
        (uplink,) = (index for index, link in links.items() if link.name == "e0")
        for table in (A, C):
            for family, gateway in TO_HOST.items():
                view.lpm(family, table).set(
                    Prefix(family, 0, 0).key,
                    Path(family, table, protocol=4, nexthops=(NextHop(Address.parse(gateway), uplink),)),
                )
        yield Dpu(machine, requests, view)


def counts(mirror: Installer) -> tuple[int, int, int]:
    return mirror.writer.added, mirror.writer.replaced, mirror.writer.deleted


@pytest.mark.parametrize(("family", "way"), ALL)
def test_an_agent_that_starts_again_finds_its_routes_as_it_wrote_them(dpu: Dpu, family: int, way: str) -> None:
    dpu.know(family, way)
    mirror = dpu.mirror()
    dpu.sync(mirror, family)
    assert mirror.refused[family] == {}
    assert counts(mirror) == (2, 0, 0)
    assert dpu.audit(mirror) == set()
    successor = dpu.mirror()
    dpu.sync(successor, family)
    assert counts(successor) == (0, 0, 0)
    dpu.sync(successor, family, [])
    assert counts(successor) == (0, 0, 2)
    assert dpu.machine.ip_json("route show table 10") == dpu.machine.ip_json("-6 route show table 300") == []


@pytest.mark.parametrize("metric", [None, 50])
def test_every_egress_can_replace_every_other(dpu: Dpu, metric: int | None) -> None:
    mirror = dpu.mirror(Policy(metric=metric))
    chance = random.Random(0)
    before: dict[int, str] = {}
    for family, way in [*ALL, *chance.choices(ALL, k=60)]:
        expected = mirror.writer.replaced + (2 if before.get(family) not in (None, way) else 0)
        dpu.know(family, way)
        dpu.sync(mirror, family)
        assert mirror.refused[family] == {}
        assert dpu.audit(mirror) == set(), f"{before.get(family)} -> {way}"
        assert mirror.writer.replaced == expected
        before[family] = way
    assert counts(mirror)[0] == 4
    assert counts(mirror)[2] == 0


def test_another_metric_moves_a_route(dpu: Dpu) -> None:
    for family in (AF_INET, AF_INET6):
        dpu.know(family, "@e1")
        dpu.sync(dpu.mirror(), family)
        for metric in (50, 7, None):
            mirror = dpu.mirror(Policy(metric=metric))
            dpu.sync(mirror, family)
            assert counts(mirror) == (2, 0, 2)
            assert dpu.audit(mirror) == set()
        shown = dpu.machine.ip_json(f"-{'4' if family == AF_INET else '6'} route show table {C}")
        assert [route.get("metric") for route in shown] == [None if family == AF_INET else 1024]


@pytest.mark.parametrize("way", REFUSED_WAYS)
def test_a_refused_replacement_leaves_no_route_that_nobody_wants(dpu: Dpu, way: str) -> None:
    dpu.know(AF_INET6, "fd00:1::7@e1")
    mirror = dpu.mirror()
    dpu.sync(mirror, AF_INET6)
    dpu.know(AF_INET6, way)
    dpu.sync(mirror, AF_INET6)
    refusal = mirror.refused[AF_INET6][PREFIX[AF_INET6].key]
    assert refusal.state == "failed"
    assert "Device only routes can not be added for IPv6" in refusal.reason
    assert dpu.machine.ip_json(f"-6 route show table {A}") == dpu.machine.ip_json(f"-6 route show table {C}") == []
    assert dpu.audit(mirror) == set()
    dpu.know(AF_INET6, "@e2")
    dpu.sync(mirror, AF_INET6)
    assert mirror.refused[AF_INET6] == {}
    assert dpu.audit(mirror) == set()


def test_a_replay_forgets_what_it_does_not_name_installed_or_not(dpu: Dpu) -> None:
    mirror = dpu.mirror()
    dpu.know(AF_INET, "@e1", Prefix.parse("10.0.0.0/9"))
    dpu.know(AF_INET, "@e1", Prefix.parse("10.128.0.0/9"))
    mapped, not_mapped = ["10.0.0.0/9", "10.128.0.0/9"], ["172.16.0.0/12", "192.168.0.0/16"]
    asyncio.run(replay(mirror, [*mapped, *not_mapped]))
    assert len(mirror.installed[AF_INET, A]) == len(mirror.refused[AF_INET]) == 2
    asyncio.run(replay(mirror, [mapped[0], not_mapped[0]]))
    assert list(mirror.installed[AF_INET, A]) == [Prefix.parse(mapped[0]).key]
    assert list(mirror.refused[AF_INET]) == [Prefix.parse(not_mapped[0]).key]
    assert list(mirror.announced[AF_INET, MAIN]) == [Prefix.parse(text).key for text in (mapped[0], not_mapped[0])]
    assert dpu.audit(mirror) == set()


async def replay(mirror: Installer, prefixes: list[str]) -> None:
    """One connection of a host that names these prefixes, says that this is all, and leaves."""
    writer = RouteWriter(rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE)
    messages = writer.batch([(Prefix.parse(text).key, HOST[AF_INET]) for text in prefixes])
    ours, theirs = socket.socketpair()
    reader, out = await asyncio.open_connection(sock=ours)
    far_reader, far = await asyncio.open_connection(sock=theirs)
    session = HostSession("host", mirror, 5.0, asyncio.Lock())
    task = asyncio.ensure_future(session.run(reader, out))
    far.writelines(frames([*messages, rtnetlink.encode_done()]))
    far.write_eof()
    answers = await far_reader.read(1)
    await asyncio.wait_for(task, 5)
    assert answers
    for end in (out, far):
        end.close()
        await end.wait_closed()


def test_a_trap_route_is_read_back_as_it_was_written(dpu: Dpu) -> None:
    for family, prefix, slow in ((AF_INET, "10.0.0.0/8", "10.1.0.0/16"), (AF_INET6, "fd10::/16", "fd10:1::/32")):
        dpu.know(family, "@e1")
        mirror = dpu.mirror()
        around, inner = Prefix.parse(prefix), Prefix.parse(slow)
        mirror.announced[family, MAIN] = {around.key: HOST[family], inner.key: Path(family, MAIN, RTN_BLACKHOLE)}
        mirror.sync(family, [around.key, inner.key])
        assert mirror.state(family, inner.key) == (
            "slow_path",
            "blackhole routes are not mirrored: they have no egress",
        )
        assert dpu.audit(mirror) == set()
        shown = dpu.machine.ip_json(f"-{'4' if family == AF_INET else '6'} route show table {C}")
        assert {route["dst"]: (route.get("gateway"), route["dev"]) for route in shown} == {
            prefix: (None, "e1"),
            slow: (TO_HOST[family], "e0"),
        }
        del mirror.announced[family, MAIN][around.key]
        mirror.sync(family, [around.key])
        assert dpu.machine.ip_json(f"-{'4' if family == AF_INET else '6'} route show table {C}") == []
        assert dpu.audit(mirror) == set()


def test_a_mirrored_route_stands_in_front_of_one_that_leads_to_the_host_and_leaves_it_there(dpu: Dpu) -> None:
    """Same prefix, same metric, another owner: the kernel uses the first of them."""
    prefix = PREFIX[AF_INET]
    own = f"{prefix} via {TO_HOST[AF_INET]} dev e0 proto static"
    dpu.machine.ip(f"route add {own} table {A}")
    others = Rib((A, B, C))
    for chunk in dpu.requests.dump(rtnetlink.route_dump_request(AF_INET, table=A)):
        for _kind, _flags, start, end in rtnetlink.messages(chunk):
            others.apply(chunk[start:end])
    dpu.view.lpm(AF_INET, A).set(prefix.key, best_path(others.tables[AF_INET, A][prefix.key]) or HOST[AF_INET])
    dpu.know(AF_INET, "198.51.100.7@e1")
    mirror = dpu.mirror(others=others)
    dpu.sync(mirror, AF_INET)
    assert mirror.state(AF_INET, prefix.key) == ("offloaded", None)
    shown = dpu.machine.ip_json(f"route show table {A}")
    assert [route["dev"] for route in shown] == ["e1", "e0"]
    assert dpu.audit(mirror) == set()
    dpu.know(AF_INET, "@e2")  # cannot be replaced: the kernel would replace whatever is the first
    dpu.sync(mirror, AF_INET)
    assert [route["dev"] for route in dpu.machine.ip_json(f"route show table {A}")] == ["e2", "e0"]
    dpu.sync(mirror, AF_INET, [])
    assert [route["dev"] for route in dpu.machine.ip_json(f"route show table {A}")] == ["e0"]


def test_a_refused_trap_route_blocks_the_offload_that_it_would_protect_from(dpu: Dpu) -> None:
    """The kernel refuses an IPv6 route whose gateway is an address of the DPU."""
    around, inner = Prefix.parse("fd10::/16"), Prefix.parse("fd10:1::/32")
    dpu.know(AF_INET6, "fd00:1::7@e1")
    dpu.know(AF_INET6, "fd00:1::1@e1", inner)
    mirror = dpu.mirror()
    dpu.sync(mirror, AF_INET6, [around, inner])
    assert mirror.state(AF_INET6, inner.key)[0] == "failed"
    assert mirror.state(AF_INET6, around.key) == (
        "slow_path",
        "fd10:1::/32 inside of it cannot be installed in VRF c",
    )
    assert dpu.machine.ip_json(f"-6 route show table {C}") == []
    dpu.know(AF_INET6, "fd00:1::8@e1", inner)
    mirror.mapper = Mapper(dpu.view, mirror.mapper.policy, mirror.mapper.facts)
    mirror.sync(AF_INET6, {inner.key, *mirror.unblock(AF_INET6)})
    assert mirror.state(AF_INET6, around.key) == mirror.state(AF_INET6, inner.key) == ("offloaded", None)
    assert dpu.audit(mirror) == set()


def test_a_link_that_turns_out_to_lead_to_the_host_is_no_egress_from_then_on(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.9.0.0/16 via 192.168.11.9 dev eth3 table 20")
    lab.host.ip("route add 10.9.0.0/16 via 192.168.102.1")
    mirror = lab.mirror()
    until(lab.mirrored, {"a": ["10.9.0.0/16 via 192.168.11.9 dev eth3"], "b": []})
    lab.host.ip("route add 192.0.2.0/24 via 192.168.11.1 dev eth1 onlink")
    until(lab.mirrored, {"a": [], "b": []}, seconds=5)
    assert "leads back to the host" in mirror.agent.state("10.9.0.0/16")[1]
