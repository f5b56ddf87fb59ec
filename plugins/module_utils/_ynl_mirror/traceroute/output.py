# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses the output of Debian's traceroute ("Modern traceroute for Linux", package traceroute). Pure: text to values.

A line is the hop's number and, for every probe, ``*`` or ``1.234 ms`` with a note such as ``!H`` after it. An address
(``10.0.0.1``, or ``name (10.0.0.1)`` unless numeric) stands before the first time and again whenever another host
answered. The notes are those of traceroute(8): !H, !N, !P host, network or protocol unreachable, !S source route
failed, !F needs fragmentation, !X administratively prohibited, !V precedence violation, !C precedence cutoff,
!<num> any other ICMP code.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

HEADER = re.compile(r"^traceroute to (?P<name>\S+) \((?P<address>[^)]+)\), (?P<max>\d+) hops max")
# Sent by a router (or the sender) that cannot forward the probe: not an answer of the destination.
GIVING_UP = ("!H", "!N")


class TracerouteError(ValueError):
    """The text is not the output of traceroute."""


@dataclass(frozen=True)
class Probe:
    """One probe: who answered, and after how many milliseconds; None without an answer."""

    address: str | None = None
    name: str | None = None
    rtt_ms: float | None = None
    annotation: str | None = None


@dataclass(frozen=True)
class Hop:
    """All probes of one distance."""

    number: int
    probes: tuple[Probe, ...]

    @property
    def answer(self) -> Probe:
        """The first probe with an answer, otherwise a probe without one."""
        return next((probe for probe in self.probes if probe.address), Probe())

    @property
    def best_rtt_ms(self) -> float | None:
        """The shortest round trip of all probes."""
        return min((probe.rtt_ms for probe in self.probes if probe.rtt_ms is not None), default=None)

    @property
    def annotation(self) -> str | None:
        """The first note on any probe."""
        return next((probe.annotation for probe in self.probes if probe.annotation), None)


@dataclass(frozen=True)
class Trace:
    """A whole run; ``address`` is the destination's."""

    name: str
    address: str
    hops: tuple[Hop, ...]

    @property
    def reached(self) -> bool:
        """Whether the destination itself answered at the last hop."""
        if not self.hops:
            return False
        target = _same(self.address)
        return any(
            probe.address is not None and _same(probe.address) == target and probe.annotation not in GIVING_UP
            for probe in self.hops[-1].probes
        )


def parse(text: str) -> Trace:
    """Parse the standard output of one run. Raises TracerouteError with the line that cannot be parsed."""
    lines = [line for line in text.splitlines() if line.strip()]
    header = HEADER.match(lines[0]) if lines else None
    if header is None:
        raise TracerouteError(f"not the output of traceroute: {lines[0] if lines else '(nothing)'!r}")
    return Trace(header["name"], header["address"], tuple(_hop(line) for line in lines[1:]))


def _hop(line: str) -> Hop:
    number, *words = line.split()
    if not number.isdigit():
        raise TracerouteError(f"a hop must start with its number: {line!r}")
    probes: list[Probe] = []
    name = address = None
    time = None
    for word in words:
        if word == "*":
            probes.append(Probe())
        elif word == "ms" and time is not None and address is not None:
            probes.append(Probe(address, name, time))
            time = None
        elif word.startswith("!") and probes:
            last = probes.pop()
            probes.append(Probe(last.address, last.name, last.rtt_ms, word))
        elif word.startswith("("):
            name, address = address, word.strip("()")
            name = None if name == address else name  # without a name the address takes its place
        elif re.fullmatch(r"\d+(\.\d+)?", word) and address is not None:
            time = float(word)
        elif time is None:
            name, address = None, word
        else:
            raise TracerouteError(f"unexpected {word!r} in {line!r}")
    if not probes or time is not None:
        raise TracerouteError(f"no probe, or an incomplete one, in {line!r}")
    return Hop(int(number), tuple(probes))


def _same(address: str) -> str:
    """The canonical spelling of an address."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address
