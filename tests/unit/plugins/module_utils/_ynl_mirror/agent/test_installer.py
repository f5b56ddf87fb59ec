# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the installer decides itself: pins, policies of parts, what a batch shows about the host.

That what it writes changes no packet's fate is in mapping/test_same_fate.py, and how a kernel takes it in
tests/integration/test_mirror_writes.py.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.admission import Admission
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.installer import Installer
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.host_policy import HostPolicy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    RT_TABLE_MAIN,
    RTN_BLACKHOLE,
    Address,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.fate_worlds import Kernel
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    LAB_OF_THREE,
    THREE_VRFS,
    UPLINKS,
    A,
    B,
    C,
    hops_of,
    host,
    view,
)

BY_B = "192.168.102.1@9"
OFFLOAD, PART, TRAP = "192.168.12.9@4!", "192.168.12.8@4!", "192.168.101.2@1!"


class Dpu:
    """The lab's DPU with three VRFs; VRF b has 10.0.0.0/8 behind a router, and 10.1.0.0/16 behind another one."""

    def __init__(self, policy: Policy | None = None, **admission: Any) -> None:
        own = ((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "10.1.0.0/16", "192.168.12.8@4"))
        seen = view(*own, routes=LAB_OF_THREE, vrfs=THREE_VRFS)
        mapper = Mapper(seen, policy or Policy(host_links=UPLINKS))
        self.installer = Installer(Kernel(), mapper, (RT_TABLE_MAIN,), Rib(()))
        if admission:
            self.installer.admission = Admission("host1", HostPolicy.from_dict(admission), {})

    def announce(self, *routes: tuple[int, Path]) -> None:
        self.installer.announced.setdefault((AF_INET, RT_TABLE_MAIN), {}).update(routes)
        self.installer.sync(AF_INET, [key for key, _path in routes])

    def pin(self, address: str) -> None:
        for family, keys in self.installer.pin(Address.parse(address)).items():
            self.installer.sync(family, keys)

    def has(self, table: int) -> dict[str, str]:
        routes = self.installer.installed[AF_INET, table]
        return {str(Prefix.from_key(AF_INET, key)): hops_of(path) for key, path in routes.items()}

    def state(self, prefix: str) -> tuple[str, str | None]:
        return self.installer.state(AF_INET, Prefix.parse(prefix).key)


def test_the_mirrors_own_connection_stays_on_the_slow_path() -> None:
    dpu = Dpu()
    dpu.announce(host("10.1.0.0/16", BY_B))
    dpu.pin("10.1.2.3")
    assert dpu.has(A) == {"10.1.0.0/16": PART, "10.1.2.3/32": TRAP}
    assert dpu.installer.pin(Address.parse("10.1.2.3")) == {}
    dpu.announce(host("10.1.2.3/32", BY_B))
    assert dpu.has(A) == {"10.1.0.0/16": PART, "10.1.2.3/32": TRAP}
    assert dpu.state("10.1.2.3/32") == ("slow_path", "the connection between host and DPU uses this address")
    dpu.pin("10.1.2.4")  # the host has connected again
    assert dpu.has(A) == {"10.1.0.0/16": PART, "10.1.2.3/32": PART, "10.1.2.4/32": TRAP}


def test_a_batch_learns_which_links_lead_to_the_host_before_it_is_placed() -> None:
    """VRF b's uplink is known by the gateway of the shorter prefix only, and so is its trap route."""
    dpu = Dpu(Policy())
    dpu.announce(host("10.1.2.0/24", "", type=RTN_BLACKHOLE), host("192.168.11.0/24", "192.168.101.1@8"))
    assert (dpu.has(A), dpu.has(B)) == ({}, {})
    dpu.announce(host("192.168.11.7/32", "", type=RTN_BLACKHOLE), host("192.168.12.0/24", BY_B))
    assert dpu.has(A) == {"192.168.12.0/24": "@4"}
    dpu.announce(host("192.168.11.7/32", "", type=RTN_BLACKHOLE), host("192.168.11.0/24", "192.168.101.1@8"))
    assert dpu.has(B) == {"192.168.11.0/24": "@3", "192.168.11.7/32": "192.168.102.2@2!"}


def test_what_was_slow_before_its_vrfs_way_was_known_is_trapped_with_the_offload_around_it() -> None:
    dpu = Dpu(Policy())
    dpu.announce(host("10.1.2.0/24", "", type=RTN_BLACKHOLE))
    dpu.announce(host("192.168.11.0/24", "192.168.101.1@8"))  # from now on eth1 leads to the host, for VRF a
    dpu.announce(host("10.1.0.0/16", BY_B))
    assert dpu.has(A) == {"10.1.0.0/16": PART, "10.1.2.0/24": TRAP}


def test_parts_of_what_a_host_may_not_install_are_not_installed_either() -> None:
    for policy in (
        {"exclude_prefixes": ["10.0.0.0/8"]},
        {"prefixes": ["10.1.0.0/16", "192.168.12.0/24"]},
        {"types": ["blackhole"]},
        {"routes": 1},
    ):
        dpu = Dpu(**policy)
        dpu.announce(host("192.168.12.0/24", BY_B), host("10.0.0.0/8", BY_B))
        assert dpu.state("10.0.0.0/8")[0] == "failed", policy
        assert dpu.has(A).keys() <= {"192.168.12.0/24"}, policy


def test_a_part_goes_only_into_the_vrfs_that_its_host_may_fill() -> None:
    dpu = Dpu(vrfs=["c"])
    dpu.announce(host("10.0.0.0/8", BY_B))
    assert (dpu.has(A), dpu.has(C)) == ({}, {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": PART})


def test_parts_take_no_places() -> None:
    dpu = Dpu(routes=1)
    dpu.announce(host("10.0.0.0/8", BY_B))
    assert dpu.has(A) == {"10.0.0.0/8": OFFLOAD, "10.1.0.0/16": PART}
    dpu.announce(host("192.168.12.0/24", BY_B))
    assert dpu.state("192.168.12.0/24")[0] == "failed"
