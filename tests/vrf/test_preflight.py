# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a DPU with VRF devices: found by preflight, and real."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import PeerAddress
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.look_network import (
    kernel_vrf,
    reach,
)
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.peers.preflight import LAST, Findings, look, only

ADDRESS = "192.0.2.1"


@pytest.fixture
def machines(namespaces: NamespaceFactory) -> tuple[Namespace, Namespace]:
    """A DPU that is ready, 192.0.2.1 on eth1 in VRF a, and the host 192.0.2.2 on the other side of eth1."""
    dpu, host = namespaces.pair("dpu", "host")
    dpu.ip("link add eth2 type veth peer name peer2")
    dpu.ip("link set peer2 up")
    for vrf, table, link in (("a", 10, "eth1"), ("b", 70_000, "eth2")):
        dpu.ip(f"link add name {vrf} type vrf table {table}")
        dpu.ip(f"link set dev {vrf} up")
        dpu.ip(f"link set dev {link} master {vrf}")
        dpu.ip(f"link set dev {link} up")
        for family in ("-4", "-6"):
            dpu.ip(f"{family} route add unreachable default {LAST} vrf {vrf}")
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.tcp_l3mdev_accept"):
        dpu.sysctl(name, 1)
    for link in ("all", "default", "eth1", "eth2"):
        dpu.sysctl(f"net.ipv4.conf.{link}.rp_filter", 0)
    return dpu, host


@pytest.fixture
def dpu(machines: tuple[Namespace, Namespace]) -> Namespace:
    return machines[0]


def on_dpu(dpu: Namespace, **agent: Any) -> Findings:
    return look(dpu, agent={"plaintext": True, **agent}, expected=[{"address": ADDRESS}])


def test_a_ready_dpu_has_no_findings_but_ok(dpu: Namespace) -> None:
    assert on_dpu(dpu) == {}
    assert kernel_vrf() == "yes"


def test_a_single_vrf_is_a_problem(dpu: Namespace) -> None:
    dpu.ip("link delete dev b")
    assert only(on_dpu(dpu), "vrfs", "problem")["found"] == "only VRF a; the mirror needs two VRFs or more"


def test_a_vrf_without_links_is_a_warning(dpu: Namespace) -> None:
    dpu.ip("link set eth2 nomaster")
    finding = only(on_dpu(dpu), "vrfs", "warning")
    assert finding["found"] == "VRF b (table 70000) has no link"
    assert finding["fix"] == "ip link set dev LINK master b"


def test_a_missing_unreachable_default_leaks_into_main_and_the_fix_works(dpu: Namespace) -> None:
    dpu.ip(f"-6 route delete unreachable default {LAST} vrf b")
    finding = only(on_dpu(dpu), "unreachable default", "warning")
    assert finding["found"].startswith("VRF b, ipv6: destinations that its table lacks are looked up in table main")
    dpu.ip("-6 route add fd00:9::/64 dev lo")
    assert "dev lo" in dpu.ip("-6 route get fd00:9::1 vrf b")
    dpu.run(*finding["fix"].split())
    assert on_dpu(dpu) == {}


def test_a_missing_l3mdev_rule_is_a_problem_whose_fix_works(dpu: Namespace) -> None:
    dpu.ip("rule delete l3mdev pref 1000")
    finding = only(on_dpu(dpu), "rules", "problem")
    assert finding["found"] == "no l3mdev rule for ipv4: packets are not looked up in their VRF's table"
    dpu.run(*finding["fix"].split())
    assert on_dpu(dpu) == {}


def test_without_tcp_l3mdev_accept_the_agent_is_unreachable_through_a_vrf_and_the_fix_works(
    machines: tuple[Namespace, Namespace],
) -> None:
    dpu, host = machines

    def answer() -> str:
        [found] = host.call(reach, [PeerAddress(ADDRESS)], 2.0)
        return found.answer

    with dpu.entered(), socket.create_server(("::", 2620), family=socket.AF_INET6, dualstack_ipv6=True):
        assert answer() == "connected"
        dpu.sysctl("net.ipv4.tcp_l3mdev_accept", 0)
        assert answer() != "connected"
    finding = only(on_dpu(dpu), "address", "problem")
    assert finding["found"] == f"hosts reach it at {ADDRESS} in VRF a, where the agent accepts no connection"
    dpu.run(*finding["fix"].split())
    assert on_dpu(dpu) == {}


def test_an_address_in_a_vrf_cannot_be_bound_and_is_a_problem(dpu: Namespace) -> None:
    with dpu.entered(), pytest.raises(OSError, match="Cannot assign requested address"):
        socket.create_server((ADDRESS, 2620))
    finding = only(on_dpu(dpu, listen=[{"address": ADDRESS, "port": 2620}]), "listen", "problem")
    assert finding["found"] == f"{ADDRESS} port 2620 is in VRF a; the agent cannot bind to it"


def test_routes_with_the_mirrors_protocol_are_a_problem_without_an_agent(dpu: Namespace) -> None:
    dpu.ip("route add 10.0.0.0/8 dev eth2 proto 121 vrf b")
    finding = only(on_dpu(dpu), "ownership", "problem")
    assert finding["found"].startswith("VRF b has 1 route with protocol 121")
    assert "vrf_route vrf=b protocol=121 state=deleted" in finding["fix"]
