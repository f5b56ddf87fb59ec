# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses and rules of a real kernel, read by the link codec and by pyroute2."""

from __future__ import annotations

from contextlib import closing

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, Prefix
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import (
    Monitor,
    Requests,
    read_links,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.oracle import PAIRS, compare_with_kernel
from ansible_collections.ekho.ynl_mirror.tests.support.labs.links import make_links
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

NAMES = {
    rtnetlink.RTM_NEWLINK: "link",
    rtnetlink.RTM_DELLINK: "link",
    rtnetlink.RTM_NEWADDR: "address",
    rtnetlink.RTM_DELADDR: "address",
    rtnetlink.RTM_NEWRULE: "rule",
    rtnetlink.RTM_DELRULE: "rule",
}


def test_dumps_of_links_addresses_and_rules_are_read_as_pyroute2_reads_them(netns: Namespace) -> None:
    made = make_links(netns)
    with netns.entered(), Requests() as requests:
        found = compare_with_kernel(requests)
    links = {link.name: link for link in found["link"]}
    assert {link.kind for link in found["link"]} >= made
    assert (links["v0"].mtu, links["v0"].up, links["v0"].carrier) == (9000, True, False)
    assert not links["v1"].up
    assert links["member"].master == links["br0"].index
    assert links["member"].carrier
    assert len(found["address"]) >= 7  # with those of lo
    assert Prefix.parse("198.51.100.0/24") in [rule.source for rule in found["rule"]]
    assert [rule.priority for rule in found["rule"] if rule.family == AF_INET] == [0, 5, 6, 7, 8, 9, 10, 32766, 32767]
    assert [rule.l3mdev for rule in found["rule"] if rule.priority == 1000] == [True]


def test_notifications_are_read_as_pyroute2_reads_them(netns: Namespace) -> None:
    with netns.entered():
        monitor = Monitor(1 << 22)
    with closing(monitor):
        make_links(netns)
        for link in ("member", "br0", "v0"):
            netns.ip(f"link del {link}")
        netns.ip("rule flush")
        seen: dict[int, int] = {}
        while batch := monitor.receive(4096):
            for datagram in batch:
                for kind, _flags, start, end in rtnetlink.messages(datagram):
                    if kind in NAMES:
                        seen[kind] = seen.get(kind, 0) + 1
                        ours, theirs = PAIRS[NAMES[kind]]
                        assert ours(datagram[start:end]) == theirs(datagram[start:end]), datagram.hex()
    assert seen.keys() == NAMES.keys()
    assert seen[rtnetlink.RTM_NEWLINK] > 20


def test_link_names_that_are_no_utf8_stay_distinct(netns: Namespace) -> None:
    for byte in (b"\xfe", b"\xff"):
        netns.run(*("ip", "link", "add", "name", (b"x" + byte).decode(errors="surrogateescape"), "type", "bridge"))
    with netns.entered(), Requests() as requests:
        assert [link.name for link in read_links(requests)] == ["lo", "x\\xfe", "x\\xff"]
