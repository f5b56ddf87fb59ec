# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VRF or table -> the table to work on. From link values, which tests VRF devices where the kernel has none."""

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


def test_a_vrf_stands_for_its_devices_table() -> None:
    assert resolve("blue", None, VRFS) == Target(1020, "blue", "vrf blue")


def test_a_table_of_a_vrf_has_its_name() -> None:
    assert resolve(None, "1020", VRFS) == Target(1020, "blue", "table 1020")
    assert resolve(None, 77, VRFS) == Target(77, None, "table 77")
    assert resolve(None, "main", PLAIN) == Target(254, None, "table main")


def test_without_links_any_vrf_is_accepted() -> None:
    assert resolve("anything", None, None).words == "vrf anything"


@pytest.mark.parametrize(
    ("name", "links", "message"),
    [
        ("green", VRFS, "vrf: no VRF named 'green'; choose from: blue (table 1020), red (table 10)"),
        ("eth1", VRFS, "vrf: link eth1 is not a VRF device (kind veth); choose from: blue"),
        ("red", PLAIN, "this machine has no VRF devices; set the option table instead"),
    ],
)
def test_an_unknown_vrf_is_refused_with_those_that_exist(name: str, links: list[Link], message: str) -> None:
    with pytest.raises(TaskError) as caught:
        resolve(name, None, links)
    assert message in str(caught.value)


@pytest.mark.parametrize("table", ["0", "4294967296", "no-such-table", "-1", None])
def test_an_invalid_table_is_refused(table: object) -> None:
    with pytest.raises(TaskError, match=r"^table: "):
        resolve(None, table, PLAIN)


def test_an_owner_is_a_protocol_by_number_or_name_but_not_0() -> None:
    assert (owner("121"), owner(4), owner("static")) == (121, 4, 4)
    with pytest.raises(TaskError, match=r"^protocol: "):
        owner("statik")
    # In a delete 0 matches routes of every owner.
    with pytest.raises(TaskError, match=r"^protocol: unspec cannot own routes; choose one from 4 to 255"):
        owner("unspec")
