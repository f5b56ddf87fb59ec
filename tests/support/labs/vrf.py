# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ekho lab of the tests with VRF devices on its DPU, which the agent has to find by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import OFFLOADED, MirrorLab, batch, link_addresses

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

NAMES = {10: "a", 20: "b"}


def traps(subnet: int, uplink: int) -> list[str]:
    """The trap routes inside of an end host's subnet: its VRF's local, broadcast and anycast routes, over the host."""
    v4, v6 = f"via 192.168.{uplink}.2 dev eth{uplink - 100}", f"via fd00:{uplink}::2 dev eth{uplink - 100}"
    return [
        *(f"192.168.{subnet}.{last}/32 {v4}" for last in (1, 255)),
        *(f"fd00:{subnet}::{last}/128 {v6}" for last in ("", "1")),
    ]


#: What is mirrored where the VRFs' tables have their addresses: offloads, and trap routes for those inside of them.
MIRRORED = {
    "a": sorted([*OFFLOADED["a"], *traps(12, 101)]),
    "b": sorted([*OFFLOADED["b"], *traps(11, 102)]),
}
#: What the kernel's documentation (networking/vrf) ends a VRF's table with.
LAST = "metric 4278198272"
_SYSCTLS = {
    # The agent, which is in no VRF, accepts what comes in through one.
    "net.ipv4.tcp_l3mdev_accept": 1,
    # The table of an ICMP error is known, and with this it would come from any address of the VRF.
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 0,
    # A link that enters or leaves a VRF goes down and up on its way.
    "net.ipv6.conf.all.keep_addr_on_down": 1,
}


class VrfLab(MirrorLab):
    """VRF a (table 10: eth1, eth3) and VRF b (table 20: eth2, eth4), each ending in an unreachable default."""

    def _build(self) -> None:
        for table, name in NAMES.items():
            batch(self.dpu, *vrf(name, table), *ends(table))
        super()._build()
        for key, value in _SYSCTLS.items():
            self.dpu.sysctl(key, value)

    def _vrf_link(self, link: str, subnet: int, table: int) -> None:
        batch(self.dpu, f"link set dev {link} master {NAMES[table]}", *link_addresses(link, subnet, 1))

    def _third_vrf(self) -> None:
        pass  # two VRFs, which links leave and enter

    def agent(self, start: bool = True, namespace: Namespace | None = None, **config: Any) -> Daemon:
        """An agent whose configuration names no VRF."""
        return self._daemon(namespace or self.dpu, "agent", {"log_level": "debug", **config}, start)

    def tables(self) -> dict[int, str]:
        """The VRF devices that there are, by table."""
        links = self.dpu.ip_json("link show type vrf")
        return {link["linkinfo"]["info_data"]["table"]: link["ifname"] for link in links}


def vrf(name: str, table: int, *links: str) -> list[str]:
    """The lines of `ip -batch` that make a VRF of these links."""
    return [
        f"link add name {name} type vrf table {table}",
        f"link set dev {name} up",
        *(f"link set dev {link} master {name}" for link in links),
    ]


def ends(table: int, verb: str = "add") -> list[str]:
    """The lines that end a VRF's table, so that no look-up goes on to the main table; they outlive the VRF."""
    return [f"route {verb} unreachable {default} table {table} {LAST}" for default in ("default", "::/0")]
