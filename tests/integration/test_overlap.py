# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of one prefix come, go and change places while their table is read: notifications are older than the dump."""

from __future__ import annotations

import random

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import joined
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import Followed, follow

GATEWAYS = {4: ("192.0.2.2", "192.0.2.3", "198.51.100.2"), 6: ("fd00:1::2", "fd00:1::3", "fd00:2::2")}
PREFIX = {4: "10.1.0.0/16", 6: "fd10::/32"}


@pytest.fixture
def machine(namespaces: NamespaceFactory) -> Namespace:
    return joined(namespaces("overlap"))


def told_after_the_dump(seen: Followed, family: int, commands: list[str]) -> None:
    """Run commands between the moment that the follower has heard all there was, and its dump of the table."""
    waiting = [commands]

    def late(asked: str) -> None:
        if waiting and asked == f"ipv{family} routes of table main":
            seen.run(waiting.pop())

    seen.requests.before = late
    seen.replica.rib.ask()
    seen.follower.look()
    while waiting:
        seen.settle()
    seen.settle()


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
