# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pcapng: a written file reads back equal, and of a damaged file everything before the damage is read."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture import pcapng
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.pcapng import (
    CutOff,
    Damaged,
    Packet,
    Section,
)

HEADER = Section("ynl-mirror 0", "Linux 6", '{"über": 1}')
NAMES = ("notifications", "requests")
PACKETS = [Packet(0, 1_700_000_000_000_001, b"abc"), Packet(1, 2**63, b""), Packet(0, 0, bytes(range(256)))]
FILE = pcapng.section(HEADER, NAMES) + b"".join(pcapng.packet(*packet) for packet in PACKETS)


def _read(data: bytes) -> tuple[list[Section | Packet], Damaged | None]:
    found: list[Section | Packet] = []
    try:
        for item in pcapng.read(io.BytesIO(data)):
            found += [item]
    except Damaged as error:
        return found, error
    return found, None


@given(
    st.builds(Section, st.text(max_size=50), st.text(max_size=50), st.text(max_size=500)),
    st.lists(st.builds(Packet, st.integers(0, 1), st.integers(0, 2**64 - 1), st.binary(max_size=100))),
)
def test_a_written_file_reads_back_equal(header: Section, packets: list[Packet]) -> None:
    data = pcapng.section(header, NAMES) + b"".join(pcapng.packet(*packet) for packet in packets)
    assert _read(data) == ([header, *packets], None)


def test_a_second_section_has_its_own_interfaces() -> None:
    other = Section("x", "y", "z")
    data = FILE + pcapng.section(other, ("one",)) + pcapng.packet(0, 5, b"")
    assert _read(data) == ([HEADER, *PACKETS, other, Packet(0, 5, b"")], None)
    found, error = _read(data + pcapng.packet(1, 6, b""))
    assert (len(found), str(error)) == (6, f"byte {len(data)}: packet of interface 1, which is not a netlink interface")


def test_a_file_truncated_anywhere_yields_all_complete_blocks() -> None:
    ends = [offset for offset, _kind, _body in pcapng.blocks(io.BytesIO(FILE))] + [len(FILE)]
    for size in range(4, len(FILE)):
        found, error = _read(FILE[:size])
        if size in ends:
            assert error is None
        else:
            assert isinstance(error, CutOff)
            assert error.offset == max(end for end in ends if end <= size)
        assert found == [HEADER, *PACKETS][: len(found)]


def test_blocks_of_unknown_types_are_skipped() -> None:
    names = struct.pack("=IIII", 4, 16, 0, 16)  # a name resolution block, empty
    first = len(pcapng.section(HEADER, ()))
    assert _read(FILE[:first] + names + FILE[first:] + names) == ([HEADER, *PACKETS], None)


def test_files_without_netlink_packets_are_refused() -> None:
    classic = struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 253)
    for data in (classic, b"#!/bin/sh\nexit\n", bytes(100), b"x", FILE[1:]):
        assert str(_read(data)[1]) == "byte 0: not a pcapng file"
    swapped = b"".join(FILE[at : at + 4][::-1] for at in range(0, 28, 4))
    assert "written on a machine that is not" in str(_read(swapped)[1])
    ethernet = FILE.replace(struct.pack("=HH", 253, 0), struct.pack("=HH", 1, 0))
    assert "which is not a netlink interface" in str(_read(ethernet)[1])


@given(st.data())
def test_random_damage_raises_nothing_but_damaged(data: st.DataObject) -> None:
    broken = bytearray(FILE)
    for _byte in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(FILE) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Damaged):
        list(pcapng.read(io.BytesIO(broken)))


@pytest.mark.parametrize("length", [0, 8, 13, (1 << 24) + 4])
def test_an_invalid_block_length_is_damage(length: int) -> None:
    found, error = _read(FILE + struct.pack("=III", 6, length, 0) + bytes(64))
    assert found == [HEADER, *PACKETS]
    assert str(error) == f"byte {len(FILE)}: block with an invalid length of {length} bytes"
