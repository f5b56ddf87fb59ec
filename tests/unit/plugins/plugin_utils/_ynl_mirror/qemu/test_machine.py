# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab's machines are to QEMU: cards, cables, command lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import Topology, parse_topology
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import (
    SOCKET_PATH_BYTES,
    Accelerator,
    Machine,
    Software,
    command,
    mac,
    machines,
    wrong,
)

pytestmark = pytest.mark.controller

SOFTWARE = Software(Accelerator.TCG, 384, "/cache/vmlinuz", "/cache/initrd")
RUN = "/run/lab"


def topology(*names: str, interfaces: int = 1) -> Topology:
    """Hosts in a row, each with cables to the next one."""
    cards = {name: [f"eth{number}" for number in range(1, 2 * interfaces + 1)] for name in names}
    links = [
        [f"{one}:eth{number}", f"{two}:eth{interfaces + number}"]
        for one, two in zip(names, names[1:])
        for number in range(1, interfaces + 1)
    ]
    ends = {end for link in links for end in link}
    hosts: list[dict[str, Any]] = [
        {"name": name, "interfaces": [{"name": card} for card in cards[name] if f"{name}:{card}" in ends]}
        for name in names
    ]
    return parse_topology("lab", hosts, links)


def option(words: list[str], name: str) -> list[str]:
    return [value for word, value in zip(words, words[1:]) if word == name]


def test_the_two_ends_of_a_cable_are_each_others_sockets() -> None:
    left, right = machines("lab", topology("left", "right"), RUN)
    assert (left.nics[0].local, left.nics[0].remote) == (right.nics[0].remote, right.nics[0].local)
    assert left.nics[0].local == "/run/lab/cables/left:eth1"
    assert left.name == "ekho-left"


def test_cards_come_in_the_order_of_the_interfaces() -> None:
    """The kernel numbers them by their place on the bus, so a mistake here swaps eth1 and eth2."""
    one = machines("lab", topology("left", "right", interfaces=3), RUN)[0]
    places = [(nic.name, int(nic.device()["addr"], 16)) for nic in one.nics]
    assert [name for name, _place in places] == ["eth1", "eth2", "eth3"]
    assert [place for _name, place in places] == sorted({place for _name, place in places})
    words = command(one, SOFTWARE)
    others = [int(word.rpartition("addr=")[2].split(",")[0], 16) for word in words if ",addr=0x" in word]
    assert max(others) < min(place for _name, place in places)


def test_addresses_of_cards_are_stable_distinct_and_unicast() -> None:
    addresses = [mac(lab, host, card) for lab in ("a", "b") for host in ("a", "ab") for card in ("eth1", "b")]
    assert len(set(addresses)) == len(addresses)
    assert addresses == [mac(lab, host, card) for lab in ("a", "b") for host in ("a", "ab") for card in ("eth1", "b")]
    assert all(int(address[:2], 16) & 0b11 == 0b10 for address in addresses)  # local, not multicast


def test_a_machine_that_goes_on_gets_its_cards_later() -> None:
    """They differ from machine to machine, and the saved one had none."""
    one = machines("lab", topology("left", "right"), RUN)[0]
    cold, warm = command(one, SOFTWARE), command(one, SOFTWARE, "/cache/it's/state")
    assert [json.loads(card)["id"] for card in option(cold, "-device") if card.startswith("{")] == ["card-eth1"]
    assert not [card for card in option(warm, "-device") if card.startswith("{")]
    assert option(warm, "-incoming") == ["exec:cat '/cache/it'\"'\"'s/state'"]
    assert warm[: len(warm) - 2] == cold[: len(warm) - 2]


def test_a_comma_in_a_path_ends_no_option() -> None:
    words = command(Machine("ekho-left", "/tmp/a,b"), SOFTWARE)
    assert [word for word in words if "a,b" in word] == ["/tmp/a,b/pid"]  # this one is a path and nothing else
    assert "if=none,id=root,file=/tmp/a,,b/disk.qcow2,format=qcow2,discard=unmap,cache=unsafe" in words


def test_management_reaches_nothing_but_the_machine_itself() -> None:
    words = command(machines("lab", topology("left", "right"), RUN)[0], SOFTWARE)
    assert "user,id=management,restrict=on" in option(words, "-netdev")
    assert not [word for word in words if "tap" in word or "bridge" in word]


@pytest.mark.parametrize(
    ("made", "run_dir", "why"),
    [
        (topology("left", "right"), RUN, None),
        (topology("Left", "right"), RUN, "host 'Left'"),
        (topology("a;reboot", "right"), RUN, "host 'a;reboot'"),
        (topology("keys", "right"), RUN, "has a folder of that name"),
        (topology("left", "right", interfaces=16), RUN, None),
        (topology("left", "right", interfaces=17), RUN, "at most 16 interfaces"),
        (topology("left", "right"), "/" + "x" * 90, "is too long for a socket"),
    ],
)
def test_what_cannot_be_is_named(made: Topology, run_dir: str, why: str | None) -> None:
    found = wrong(made, run_dir, machines("lab", made, run_dir))
    assert found is None if why is None else why in (found or "")


def test_the_longest_folder_that_is_accepted_has_room_for_every_socket() -> None:
    made = topology("left", "right")
    longest = max(
        size for size in range(2, 120) if not wrong(made, "/" + "x" * size, machines("l", made, "/" + "x" * size))
    )
    run_dir = "/" + "x" * longest
    sockets = [path for one in machines("l", made, run_dir) for path in (one.monitor, one.agent, one.nics[0].local)]
    assert max(map(len, [*sockets, f"{run_dir}/ssh/0123456789.0123456789012345"])) == SOCKET_PATH_BYTES


def test_software_survives_its_note() -> None:
    given = Software(Accelerator.KVM, 512, None, None, "", cloud=True)
    assert Software.from_json(given.to_json()) == given


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accelerator": "abacus"}', '{"accelerator": "tcg"}'])
def test_an_invalid_note_is_recognised(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Software.from_json(text)
