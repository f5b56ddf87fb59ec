# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agent and listener on a DPU with VRF devices: nothing is configured, all is found, and what people do is followed.

One lab lives through the whole file, for a guest takes seconds to start a daemon: each test leaves it as it found it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import NOTHING, OFFLOADED, Pair, RouteMonitor, batch
from ansible_collections.ekho.ynl_mirror.tests.support.labs.vrf import MIRRORED, VrfLab, ends, traps, vrf
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

A_ROUTES, B_ROUTES = MIRRORED["a"], MIRRORED["b"]
#: In a VRF that has neither end host, and reaches the host by VRF a's link.
BOTH = sorted([*OFFLOADED["a"], *OFFLOADED["b"], *traps(11, 101), *traps(12, 101)])


class Life:
    """The lab and its daemons; made again when a test has not left them as it found them."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._made: tuple[VrfLab, Pair] | None = None

    def get(self) -> tuple[VrfLab, Pair]:
        """All four routes are offloaded, and the DPU's addresses inside of them stay on the slow path."""
        if self._made is None:
            lab = VrfLab(self._folders.mktemp("lab"))
            try:
                lab.deploy()
                # The rule of equal prefixes would find a link's subnet in whatever VRF it is moved to.
                self._made = lab, lab.mirror(agent={"inference": ["nexthop"]})
                until(lab.mirrored, MIRRORED)
            except BaseException:
                lab.close()
                raise
        return self._made

    def close(self) -> None:
        """End it."""
        if self._made is not None:
            self._made[0].close()
            self._made = None


@pytest.fixture(scope="module")
def life(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    made = Life(tmp_path_factory)
    yield made
    made.close()


@pytest.fixture
def mirror(lab: VrfLab, life: Life) -> Pair:
    return life.get()[1]


@pytest.fixture
def lab(life: Life, request: pytest.FixtureRequest) -> Iterator[VrfLab]:
    """Whatever a test does, in the end the same routes are offloaded, and everybody else's are there."""
    lab, mirror = life.get()
    before, failed = lab.others(), request.session.testsfailed
    try:
        yield lab
        if request.session.testsfailed == failed:
            until(lab.mirrored, MIRRORED)
            until(lab.others, before)
            assert "Traceback" not in mirror.agent.log()
            failed = -1
    finally:
        if failed != -1:
            life.close()


def on_slow_path(mirror: Pair, prefix: str, reason: str) -> None:
    state, told = until(lambda: mirror.agent.state(prefix), lambda found: found[0] == "slow_path")
    assert reason in str(told), told
    assert state == "slow_path"


def test_vrfs_are_found_and_packets_go_straight(lab: VrfLab, mirror: Pair) -> None:
    vrfs = {found["vrf"]: (found["table"], found["links"]) for found in mirror.agent.status()["vrfs"]}
    assert vrfs == {"a": (10, ["eth1", "eth3"]), "b": (20, ["eth2", "eth4"])}
    steps = "\n".join(mirror.agent.explain("192.168.11.0/24")["steps"])
    assert "gateway 192.168.101.1 is on eth1 in VRF a (table 10)" in steps
    assert "VRF b: offload, dev eth3" in steps
    assert lab.hops() == ["192.168.11.1", "192.168.12.2"]
    assert lab.hops("fd00:12::2") == ["fd00:11::1", "fd00:12::2"]


def test_the_dpus_addresses_in_the_other_vrf_answer_as_without_the_mirror(lab: VrfLab, mirror: Pair) -> None:
    """They are inside of what is offloaded, and stay on the way over the host."""
    expect_the_other_sides_addresses(lab)
    lab.withdraw()
    until(lab.mirrored, NOTHING)
    expect_the_other_sides_addresses(lab)
    lab.deploy()


def expect_the_other_sides_addresses(lab: VrfLab) -> None:
    assert lab.hops("192.168.12.1") == ["192.168.11.1", "192.168.101.2", "192.168.12.1"]
    assert lab.hops("fd00:12::1") == ["fd00:11::1", "fd00:101::2", "fd00:12::1"]
    for address in ("192.168.11.1", "fd00:11::1"):
        lab.host_b.run("ping", "-n", "-c", "1", "-W", "10", address)


def test_a_link_moved_from_vrf_to_vrf_takes_its_routes_along(lab: VrfLab, mirror: Pair) -> None:
    lab.dpu.ip("link set dev eth3 master b")
    # In a nothing but the way to the host is left for it, and b holds it as its own.
    until(lab.mirrored, {"a": A_ROUTES, "b": []})
    for prefix in ("192.168.11.0/24", "fd00:11::/64"):
        on_slow_path(mirror, prefix, "egress link eth1 leads back to the host")
    # The host follows the move.
    batch(lab.host, "route replace 192.168.11.0/24 via 192.168.102.1", "route replace fd00:11::/64 via fd00:102::1")
    until(lab.mirrored, {"a": BOTH, "b": []})
    lab.dpu.ip("link set dev eth3 master a")
    until(lab.mirrored, {"a": A_ROUTES, "b": []})
    batch(lab.host, "route replace 192.168.11.0/24 via 192.168.101.1", "route replace fd00:11::/64 via fd00:101::1")


def test_a_link_to_the_host_moved_from_vrf_to_vrf_changes_what_a_gateway_means(lab: VrfLab, mirror: Pair) -> None:
    lab.dpu.ip("link set dev eth1 master b")  # a's default route is lost with it, and nothing of a reaches the host
    until(lab.mirrored, NOTHING)
    on_slow_path(mirror, "192.168.11.0/24", "egress link eth2 leads back to the host")
    lab.dpu.ip("link set dev eth1 master a")
    batch(lab.dpu, *defaults(101, "eth1", 10))


def test_a_link_that_leaves_its_vrf_is_no_egress(lab: VrfLab, mirror: Pair) -> None:
    lab.dpu.ip("link set dev eth4 nomaster")
    until(lab.mirrored, {"a": [], "b": B_ROUTES})
    on_slow_path(mirror, "fd00:12::/64", "leads back to the host")
    lab.dpu.ip("link set dev eth4 master b")


@pytest.mark.parametrize("table", [1000, 100000, 4294967295])
def test_a_vrf_made_again_with_another_table_is_followed(lab: VrfLab, mirror: Pair, table: int) -> None:
    lab.dpu.ip("link del dev b")
    # The kernel leaves the routes over other VRFs' links in the table that is no VRF's any more.
    until(lab.mirrored, {"a": []})
    on_slow_path(mirror, "192.168.12.0/24", "gateway 192.168.102.1 is on eth2, which is in no VRF")
    batch(lab.dpu, *vrf("b", table, "eth2", "eth4"), *ends(table), *defaults(102, "eth2", table))
    until(lab.mirrored, MIRRORED)
    assert {found["vrf"]: found["table"] for found in mirror.agent.status()["vrfs"]} == {"a": 10, "b": table}
    assert lab.hops() == ["192.168.11.1", "192.168.12.2"]
    # All at once, so that the agent wakes up to the other table.
    lines = [*vrf("b", 20, "eth2", "eth4"), *defaults(102, "eth2", 20)]
    batch(lab.dpu, "link del dev b", *ends(table, "del"), *lines)


def test_vrfs_that_swap_their_tables_swap_their_routes(lab: VrfLab, mirror: Pair) -> None:
    """The tables followed are the same as before; all that is in them is another VRF's."""
    for tables in ((20, 10), (10, 20)):
        lines = ["link del dev a", "link del dev b"]
        for name, table, host_link, end_link, subnet in (
            ("a", tables[0], "eth1", "eth3", 101),
            ("b", tables[1], "eth2", "eth4", 102),
        ):
            lines += vrf(name, table, host_link, end_link) + defaults(subnet, host_link, table)
        batch(lab.dpu, *lines)
        until(lab.mirrored, MIRRORED)
        always(lab.mirrored, MIRRORED)


def test_a_vrf_with_another_name_is_the_same_to_its_routes(lab: VrfLab, mirror: Pair) -> None:
    monitor = RouteMonitor(lab.dpu, lab.folder)
    batch(lab.dpu, "link set dev b down", "link set dev b name blue", "link set dev blue up")
    until(lab.mirrored, {"a": A_ROUTES, "blue": B_ROUTES})
    until(lambda: [found["vrf"] for found in mirror.agent.status()["vrfs"]], ["a", "blue"])
    assert mirror.agent.routes()["192.168.11.0/24"]["installed"][0]["vrf"] == "blue"
    batch(lab.dpu, "link set dev blue down", "link set dev blue name b", "link set dev b up")
    until(lambda: [found["vrf"] for found in mirror.agent.status()["vrfs"]], ["a", "b"])
    assert monitor.lines() == []


def test_a_vrf_device_that_is_down_still_forwards_and_stays_mapped(lab: VrfLab, mirror: Pair) -> None:
    remaps = mirror.agent.status()["remaps"]
    lab.dpu.ip("link set dev b down")
    until(lambda: mirror.agent.status()["remaps"] > remaps, True)
    always(lab.mirrored, MIRRORED)
    assert lab.hops() == ["192.168.11.1", "192.168.12.2"]
    lab.dpu.ip("link set dev b up")


def test_the_unreachable_default_of_a_vrf_is_no_egress(lab: VrfLab, mirror: Pair) -> None:
    """It is what a VRF says of all that it has no way to."""
    batch(lab.dpu, "route del default table 10", "route del ::/0 via fd00:101::2 table 10")
    batch(lab.host, "route add 10.9.0.0/16 via 192.168.101.1", "route add fd09::/16 via fd00:101::1")
    on_slow_path(mirror, "10.9.0.0/16", "VRF a has unreachable 0.0.0.0/0")
    on_slow_path(mirror, "fd09::/16", "VRF a has unreachable ::/0")
    batch(lab.dpu, *ends(10, "del"))
    until(lambda: "VRF a has no route to this prefix" in str(mirror.agent.state("10.9.0.0/16")[1]), True)
    until(lambda: "VRF a has no route to this prefix" in str(mirror.agent.state("fd09::/16")[1]), True)
    batch(lab.host, "route del 10.9.0.0/16", "route del fd09::/16")
    batch(lab.dpu, *ends(10), *defaults(101, "eth1", 10))


def test_a_gateway_in_another_vrf_is_reached_over_its_link(lab: VrfLab, mirror: Pair) -> None:
    """No table of the importing VRF knows the gateway; the kernel asks the link's own VRF."""
    batch(lab.host_b, "address add 10.9.0.1/32 dev lo", "address add fd09::1/128 dev lo")
    batch(
        lab.dpu,
        "route add 10.9.0.0/16 via 192.168.12.2 dev eth4 table 20",
        "route add fd09::/16 via fd00:12::2 dev eth4 table 20",
    )
    batch(lab.host, "route add 10.9.0.0/16 via 192.168.102.1", "route add fd09::/16 via fd00:102::1")
    far = ["10.9.0.0/16 via 192.168.12.2 dev eth4", "fd09::/16 via fd00:12::2 dev eth4"]
    until(lab.mirrored, {"a": sorted([*A_ROUTES, *far]), "b": B_ROUTES})
    assert lab.hops("10.9.0.1") == ["192.168.11.1", "10.9.0.1"]
    assert lab.hops("fd09::1") == ["fd00:11::1", "fd09::1"]
    batch(lab.host, "route del 10.9.0.0/16", "route del fd09::/16")
    batch(lab.dpu, "route del 10.9.0.0/16 table 20", "route del fd09::/16 table 20")


def test_a_route_leaked_through_a_vrf_device_goes_into_every_other_vrf_but_that_one(lab: VrfLab, mirror: Pair) -> None:
    """`dev b` in VRF a sends a packet to b's table; the same words in b's own table would send it round for ever."""
    batch(lab.dpu, *vrf("c", 30), *defaults(101, "eth1", 30))
    batch(lab.dpu, "route add 10.9.0.0/16 dev b table 10", "route add fd09::/16 dev b table 10")
    batch(lab.host, "route add 10.9.1.0/24 via 192.168.101.1", "route add fd09:1::/64 via fd00:101::1")
    leaked = ["10.9.1.0/24 dev b", "fd09:1::/64 dev b"]
    until(lambda: lab.mirrored()["c"], sorted([*BOTH, *leaked]))
    assert lab.mirrored() == {**MIRRORED, "c": lab.mirrored()["c"]}
    batch(lab.host, "route del 10.9.1.0/24", "route del fd09:1::/64")
    batch(lab.dpu, "link del dev c", "route del default table 30", "route del ::/0 table 30")
    until(lab.mirrored, MIRRORED)
    batch(lab.dpu, "route del 10.9.0.0/16 dev b table 10", "route del fd09::/16 dev b table 10")


def test_an_address_of_the_vrf_device_is_a_gateway_into_that_vrf(lab: VrfLab, mirror: Pair) -> None:
    """The VRF's loopback, as routing daemons call it."""
    lab.dpu.ip("address add 192.168.109.1/32 dev a")
    lab.host.ip("route replace 192.168.11.0/24 via 192.168.109.1 dev eth1 onlink")
    monitor = RouteMonitor(lab.dpu, lab.folder)
    until(lambda: mirror.agent.routes()["192.168.11.0/24"]["announced"]["nexthops"][0]["gateway"], "192.168.109.1")
    steps = mirror.agent.explain("192.168.11.0/24")["steps"]
    assert "nexthop: gateway 192.168.109.1 is on eth1 in VRF a (table 10)" in steps
    assert lab.mirrored() == MIRRORED
    assert monitor.lines() == []
    lab.host.ip("route replace 192.168.11.0/24 via 192.168.101.1")
    mirror.synced()
    lab.dpu.ip("address del 192.168.109.1/32 dev a")


def test_a_vrf_that_gets_another_table_while_the_agent_is_dead_is_found(lab: VrfLab, mirror: Pair) -> None:
    mirror.agent.end(signal.SIGKILL)
    batch(lab.dpu, "link del dev b", *vrf("b", 1000, "eth2", "eth4"), *defaults(102, "eth2", 1000))
    # What the dead agent has left by other VRFs' links is in a table that is no VRF's now.
    assert lab.mirrored()["20"] == OFFLOADED["b"]
    mirror.agent.start().ready()
    until(lab.mirrored, MIRRORED)
    batch(lab.dpu, "link del dev b", *vrf("b", 20, "eth2", "eth4"), *defaults(102, "eth2", 20))


def test_without_a_vrf_nothing_is_mirrored(lab: VrfLab, mirror: Pair) -> None:
    batch(lab.dpu, "link del dev a", "link del dev b")
    until(lab.mirrored, {})
    until(lambda: mirror.agent.status()["vrfs"], [])
    for name, table, links, subnet in (("a", 10, ("eth1", "eth3"), 101), ("b", 20, ("eth2", "eth4"), 102)):
        batch(lab.dpu, *vrf(name, table, *links), *defaults(subnet, links[0], table))


def defaults(subnet: int, link: str, table: int) -> list[str]:
    """The way to the host that a VRF has; the kernel drops it when the link moves."""
    return [
        f"route replace default via 192.168.{subnet}.2 dev {link} table {table}",
        f"route replace default via fd00:{subnet}::2 dev {link} table {table}",
    ]
