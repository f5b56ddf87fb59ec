# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of one prefix come, go and change places while their table is read: notifications are older than the dump."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.following import Followed, follow, words
from ansible_collections.ekho.ynl_mirror.tests.support.netns import Namespace, NamespaceFactory

GATEWAYS = {4: ("192.0.2.2", "192.0.2.3", "198.51.100.2"), 6: ("fd00:1::2", "fd00:1::3", "fd00:2::2")}
PREFIX = {4: "10.1.0.0/16", 6: "fd10::/32"}


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    made = namespaces("overlap")
    made.sysctl("net.ipv6.conf.default.accept_dad", 0)
    for number, network in ((1, "192.0.2"), (2, "198.51.100")):
        made.ip(f"link add e{number} type veth peer name p{number}")
        made.ip(f"link set e{number} up")
        made.ip(f"link set p{number} up")
        made.ip(f"address add {network}.1/24 dev e{number}")
        made.ip(f"address add fd00:{number}::1/64 dev e{number} nodad")
    return made


def told_after_the_dump(seen: Followed, family: int, commands: list[str]) -> None:
    """Run commands between the moment that the follower has heard all there was, and its dump of the table."""
    waiting, dump = [commands], seen.requests.dump

    def late(message: bytes) -> Iterator[bytes]:
        if waiting and words(message) == f"ipv{family} routes of table main":
            seen.run(waiting.pop())
        return dump(message)

    seen.requests.dump = late  # type: ignore[method-assign]
    seen.replica.rib.ask()
    seen.follower.look()
    while waiting:
        seen.settle()
    seen.settle()
    seen.requests.dump = dump  # type: ignore[method-assign]


@pytest.mark.parametrize("family", [4, 6])
def test_paths_end_in_the_kernels_order_when_they_change_before_a_dump_and_are_heard_after(
    machine: Namespace, family: int
) -> None:
    choice = random.Random(family).choice
    verbs = ("add", "append", "prepend", "replace", "del", "del")
    with follow(machine) as seen:
        for _round in range(60):
            ways = [f"{choice(verbs)} {PREFIX[family]} via {choice(GATEWAYS[family])}" for _number in range(8)]
            told_after_the_dump(seen, family, [f"{'-6 ' if family == 6 else ''}route {way}" for way in ways])
