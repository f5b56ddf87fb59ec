# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of the tests that follow a kernel: e1, e2 and e3, with their other ends p1, p2 and p3 beside them."""

from __future__ import annotations

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

#: By link: the first three bytes of its IPv4 network, and the first half of its IPv6 network. It has address 1 of each.
NETWORK = {"e1": ("192.0.2", "fd00:1::"), "e2": ("198.51.100", "fd00:2::"), "e3": ("203.0.113", "fd00:3::")}
#: What a namespace is set to before its links are made.
SYSCTLS = {
    "net.ipv6.conf.default.accept_dad": 0,
    # So that the loss of a carrier takes IPv4 hops out of use, without an event.
    "net.ipv4.conf.default.ignore_routes_with_linkdown": 1,
}


def link_made(name: str) -> list[str]:
    """The commands that make a link with its other end, an address of each family, and up."""
    ipv4, ipv6 = NETWORK[name]
    other = name.replace("e", "p")
    return [
        f"link add {name} type veth peer name {other}",
        f"link set {name} up",
        f"link set {other} up",
        f"address add {ipv4}.1/24 dev {name}",
        f"address add {ipv6}1/64 dev {name} nodad",
    ]


def joined(machine: Namespace, *names: str) -> Namespace:
    """Make e1 and e2, or these links, in a namespace, and wait for the kernel to have said that they are up."""
    for key, value in SYSCTLS.items():
        machine.sysctl(key, value)
    commands = [command for name in names or ("e1", "e2") for command in link_made(name)]
    machine.run("ip", "-batch", "-", stdin="".join(f"{command}\n" for command in commands))
    until(lambda: [link for link in machine.ip_json("link show type veth") if link["operstate"] != "UP"], [])
    return machine
