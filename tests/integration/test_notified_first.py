# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel notifies first and acts afterwards. A read in between shows the old state, and no notification follows.

That is why the follower waits for the lock under which the kernel acts. Without it the route of each test here stays
for good: the kernel takes it away in silence, behind tens of thousands of others.
"""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica import follower
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import joined
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import follow, routes_of

#: The kernel works them off in 30 to 60 ms.
ROUTES = 50_000
#: Nobody follows this table. The kernel comes to it before it comes to main: it goes by the last byte of the number.
ELSEWHERE = 257


@pytest.fixture
def machine(namespaces: NamespaceFactory, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """e1 and e2; a follower reads at once: that it waits for more events first is luck, and not what keeps it right."""
    monkeypatch.setattr(follower, "_SETTLE", 0.0)
    return joined(namespaces("first"))


def _goes_last(machine: Namespace, prefix: str, others: list[str], by: str, event: str) -> None:
    """Let an event take a route of main away, after many others that leave by the same."""
    machine.ip(f"route add {prefix} {by}")
    machine.run("ip", "-batch", "-", stdin="".join(f"route add {other} {by} table {ELSEWHERE}\n" for other in others))
    with follow(machine) as seen:
        seen.run([event], beside=True)
        seen.settle()
        assert f"{prefix} table main" not in routes_of(seen.replica.rib)


def test_ipv4_routes_of_a_deleted_group_go(machine: Namespace) -> None:
    for command in ("id 1 via 192.0.2.2 dev e1", "id 2 via 198.51.100.2 dev e2", "id 3 group 1/2"):
        machine.ip(f"nexthop add {command}")
    others = [f"11.{n >> 8}.{n & 255}.0/24" for n in range(ROUTES)]
    _goes_last(machine, "10.1.0.0/16", others, "nhid 3", "nexthop del id 3")


def test_ipv6_routes_of_an_object_that_is_deleted_where_the_kernel_does_not_report_each(machine: Namespace) -> None:
    machine.sysctl("net.ipv4.nexthop_compat_mode", 0)
    machine.ip("nexthop add id 4 via fd00:1::2 dev e1")
    others = [f"fd20:{n:x}::/48" for n in range(ROUTES)]
    _goes_last(machine, "fd10::/32", others, "nhid 4", "nexthop del id 4")
