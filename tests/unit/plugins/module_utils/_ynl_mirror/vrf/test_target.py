# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VRF or table -> the table to work on. From link values, so VRF devices are tested where the kernel has none."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.target import (
    Target,
    TaskError,
    owner,
    resolve,
)

PLAIN = [Link(1, "lo"), Link(2, "eth1", kind="veth")]
VRFS = [*PLAIN, Link(3, "red", kind="vrf", vrf_table=10), Link(4, "blue", kind="vrf", vrf_table=1020)]


def test_a_vrf_is_its_devices_table() -> None:
    assert resolve("blue", None, VRFS) == Target(1020, "blue", "vrf blue")


def test_a_table_tells_its_vrf() -> None:
    assert resolve(None, "1020", VRFS) == Target(1020, "blue", "table 1020")
    assert resolve(None, 77, VRFS) == Target(77, None, "table 77")
    assert resolve(None, "main", PLAIN) == Target(254, None, "table main")


def test_nothing_is_looked_up_without_links() -> None:
    assert resolve("anything", None, None).words == "vrf anything"


@pytest.mark.parametrize(
    ("name", "links", "told"),
    [
        ("green", VRFS, "vrf: no VRF named 'green'; there are: blue (table 1020), red (table 10)"),
        ("eth1", VRFS, "vrf: link eth1 is no VRF device (kind veth); there are: blue"),
        ("red", PLAIN, "no VRF devices at all, so name the routing table by the option table"),
    ],
)
def test_an_unknown_vrf(name: str, links: list[Link], told: str) -> None:
    with pytest.raises(TaskError) as caught:
        resolve(name, None, links)
    assert told in str(caught.value)


@pytest.mark.parametrize("table", ["0", "4294967296", "no-such-table", "-1", None])
def test_no_table(table: object) -> None:
    with pytest.raises(TaskError, match=r"^table: "):
        resolve(None, table, PLAIN)


def test_owners() -> None:
    assert (owner("121"), owner(4), owner("static")) == (121, 4, 4)
    with pytest.raises(TaskError, match=r"^protocol: "):
        owner("statik")
    # To the kernel 0 means everybody's, where it is asked to delete.
    with pytest.raises(TaskError, match=r"^protocol: unspec is nobody's number; take one from 4 to 255"):
        owner("unspec")
