# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes as lines of ip-route(8). That iproute2 takes them is tried in tests/integration/test_vrf_route_gathered.py."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import Route
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.items import ItemReader, LinkNames
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.lines import LineWriter, table_words
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.plan import (
    ADD,
    DELETE,
    REPLACE,
    Operation,
)

LINKS = LinkNames({"eth1": 2, "eth2": 3})
LINES = [
    ({"dst": "10.0.0.0/8", "gateway": "192.0.2.1"}, "10.0.0.0/8 via 192.0.2.1 proto 121"),
    ({"dst": "10.0.0.0/8", "gateway": "fd00::1", "dev": "eth1"}, "10.0.0.0/8 via inet6 fd00::1 dev eth1 proto 121"),
    (
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth1", "onlink": True, "tos": 4, "mtu": 1400, "metric": 5},
        "0.0.0.0/0 tos 0x04 via 192.0.2.1 dev eth1 onlink proto 121 metric 5 mtu 1400",
    ),
    ({"dst": "fd00::/8", "type": "prohibit"}, "prohibit fd00::/8 proto 121 metric 1024"),
    (
        {"dst": "10.0.0.0/8", "nexthops": [{"dev": "eth1"}, {"gateway": "192.0.2.1", "weight": 9}], "src": "192.0.2.9"},
        "10.0.0.0/8 proto 121 src 192.0.2.9 nexthop dev eth1 weight 1 nexthop via 192.0.2.1 weight 9",
    ),
]


def route(item: dict[str, Any], protocol: int = 121) -> Route:
    return ItemReader(LINKS, 10, protocol).routes([item])[0]


@pytest.mark.parametrize(("item", "line"), LINES)
def test_a_line_is_what_ip_route_show_prints(item: dict[str, Any], line: str) -> None:
    assert LineWriter(LINKS.name, "table 10").line(route(item)) == line


def test_commands_name_program_verb_and_table() -> None:
    lines = LineWriter(LINKS.name, table_words(10, "red"))
    four = route({"dst": "10.0.0.0/8", "dev": "eth1", "mtu": 1400})
    six = route({"dst": "fd00::/8", "dev": "eth1"}, protocol=4)
    assert lines.commands([Operation(ADD, four), Operation(REPLACE, six), Operation(DELETE, four)]) == [
        "ip route add 10.0.0.0/8 dev eth1 proto 121 mtu 1400 vrf red",
        "ip -6 route replace fd00::/8 dev eth1 proto static metric 1024 vrf red",
        "ip route del 10.0.0.0/8 dev eth1 proto 121 vrf red",
    ]


def test_the_table_of_a_multipath_command_comes_before_its_hops() -> None:
    command = LineWriter(LINKS.name, "table 10").command(Operation(ADD, route(LINES[-1][0])))
    assert command.startswith("ip route add 10.0.0.0/8 proto 121 src 192.0.2.9 table 10 nexthop dev eth1")


def test_a_link_that_has_gone_is_named_by_its_number() -> None:
    gone = LineWriter(LinkNames({}).name, "table 10").line(route({"dst": "10.0.0.0/8", "dev": "eth2"}))
    assert gone == "10.0.0.0/8 dev if3 proto 121"


def test_a_table_is_named_where_it_has_a_name() -> None:
    assert table_words(254, None) == "table main"
    assert table_words(10, None) == "table 10"
