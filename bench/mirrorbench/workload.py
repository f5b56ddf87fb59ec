# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of the benchmark: which prefixes, in which order, and where each has to end up.

Pure: no sockets, no clock.  Prefix number i is the /24 at 32.0.0.0 + i * 256.  The DPU's VRF a covers them with one
shorter route per /10 (16,384 prefixes), alternating between two egresses, so the right answer differs by prefix and
a mirror that always answers the same is found out.
"""

from __future__ import annotations

from dataclasses import dataclass

#: 32.0.0.0, and the number of /24 prefixes up to 63.255.255.0.
FIRST_ADDRESS = 32 << 24
MAX_ROUTES = 1 << 21
#: 96.0.0.0: prefixes for single changes, apart from the bulk.
SINGLES_ADDRESS = 96 << 24
MAX_SINGLES = 1 << 15
#: Prefixes per covering /10.
BLOCK = 1 << 14

ORDERS = ("ascending", "bit-reversed")


@dataclass(frozen=True)
class Egress:
    """Where routes leave the DPU: a link of VRF a, its address on the DPU and the gateway behind it."""

    link: str
    address: str
    gateway: str


EGRESSES = (Egress("eth3", "192.168.11.1", "192.168.11.2"), Egress("eth5", "192.168.13.1", "192.168.13.2"))


def egress_for(destination: bytes) -> Egress:
    """Return the egress that VRF a's routes give a destination (4 bytes, network order)."""
    return EGRESSES[destination[1] >> 6 & 1]


def destinations(count: int, order: str = "ascending") -> list[bytes]:
    """Return the ``count`` bulk destinations, 4 bytes each.

    Ascending order is the worst for the kernel's trie, bit-reversed order spares it nearly all rebalancing.
    """
    numbers = range(count) if order == "ascending" else _bit_reversed(count)
    return [(FIRST_ADDRESS + (number << 8)).to_bytes(4, "big") for number in numbers]


def singles(count: int) -> list[bytes]:
    """Return ``count`` destinations for single changes, spread over both egresses."""
    stride = MAX_SINGLES // count
    return [(SINGLES_ADDRESS + (number * stride << 8)).to_bytes(4, "big") for number in range(count)]


def covering(count: int) -> list[tuple[str, Egress]]:
    """Return VRF a's routes over the bulk and the single prefixes: (prefix in CIDR, egress)."""
    starts = [FIRST_ADDRESS + (number << 8) for number in range(0, count, BLOCK)]
    starts += [SINGLES_ADDRESS + (number << 8) for number in range(0, MAX_SINGLES, BLOCK)]
    prefixes = (start.to_bytes(4, "big") for start in starts)
    return [(".".join(map(str, prefix)) + "/10", egress_for(prefix)) for prefix in prefixes]


def text(destination: bytes) -> str:
    """Return a destination as a /24 in CIDR."""
    return ".".join(map(str, destination)) + "/24"


def _bit_reversed(count: int) -> list[int]:
    bits = max(1, (count - 1).bit_length())
    flipped = [0]
    for bit in range(bits):
        step = 1 << (bits - 1 - bit)
        flipped += [number + step for number in flipped]
    # Doubling a list by the highest missing bit yields the bit reversal of 0, 1, 2, ... directly.
    return [number for number in flipped if number < count]
