# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that Debian's traceroute 2.1 printed, and what they say."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.traceroute.output import (
    Probe,
    TracerouteError,
    parse,
)

FOUR_HOPS = """\
traceroute to 192.168.12.2 (192.168.12.2), 30 hops max, 60 byte packets
 1  192.168.11.1  0.044 ms  0.006 ms  0.016 ms
 2  192.168.101.2  0.017 ms  0.009 ms  0.009 ms
 3  192.168.102.1  0.015 ms  0.010 ms  0.011 ms
 4  192.168.12.2  0.017 ms  0.013 ms  0.012 ms
"""


def trace(*lines: str, dest: str = "192.0.2.9", name: str = "") -> str:
    return "\n".join([f"traceroute to {name or dest} ({dest}), 30 hops max, 60 byte packets", *lines, ""])


def test_four_hops() -> None:
    found = parse(FOUR_HOPS)
    assert [(hop.number, hop.answer.address) for hop in found.hops] == [
        (1, "192.168.11.1"),
        (2, "192.168.101.2"),
        (3, "192.168.102.1"),
        (4, "192.168.12.2"),
    ]
    assert found.hops[0].best_rtt_ms == 0.006
    assert [probe.rtt_ms for probe in found.hops[0].probes] == [0.044, 0.006, 0.016]
    assert found.reached
    assert found.address == "192.168.12.2"


def test_ipv6() -> None:
    found = parse(trace(" 1  fd00:11::1  0.08 ms", " 2  fd00:12::2  0.05 ms !X", dest="fd00:12:0::2", name="b.example"))
    assert found.name == "b.example"
    assert found.reached, "another spelling of the same address, and an answer although one that refuses"
    assert found.hops[1].annotation == "!X"


def test_nobody_answers() -> None:
    found = parse(trace(" 1  * * *", " 2  * * *"))
    assert [hop.probes for hop in found.hops] == [(Probe(), Probe(), Probe())] * 2
    assert found.hops[0].best_rtt_ms is None
    assert found.hops[0].annotation is None
    assert not found.reached


def test_some_probes_are_lost() -> None:
    (hop,) = parse(trace(" 1  * 192.0.2.9  0.5 ms *")).hops
    assert hop.probes == (Probe(), Probe("192.0.2.9", None, 0.5), Probe())
    assert hop.answer.address == "192.0.2.9"


def test_several_routers_at_one_hop() -> None:
    line = " 1  one.example (192.0.2.1)  0.3 ms  0.2 ms two.example (192.0.2.2)  0.4 ms"
    (hop,) = parse(trace(line)).hops
    assert hop.probes == (
        Probe("192.0.2.1", "one.example", 0.3),
        Probe("192.0.2.1", "one.example", 0.2),
        Probe("192.0.2.2", "two.example", 0.4),
    )
    assert hop.best_rtt_ms == 0.2


def test_address_in_the_place_of_a_name() -> None:
    (hop,) = parse(trace(" 1  192.0.2.1 (192.0.2.1)  0.3 ms")).hops
    assert hop.answer == Probe("192.0.2.1", None, 0.3)


@pytest.mark.parametrize("note", ["!H", "!N", "!P", "!S", "!F-1400", "!X", "!V", "!C", "!<13>", "!10"])
def test_notes_belong_to_the_probe_before(note: str) -> None:
    (hop,) = parse(trace(f" 1  192.0.2.1  15.5 ms {note}  0.4 ms *")).hops
    assert [probe.annotation for probe in hop.probes] == [note, None, None]
    assert hop.annotation == note


@pytest.mark.parametrize("note", ["!H", "!N"])
def test_sender_that_gives_up_on_itself_has_not_reached_itself(note: str) -> None:
    assert not parse(trace(f" 1  192.0.2.9  3072.7 ms {note}")).reached


def test_a_router_that_refuses_is_not_the_destination() -> None:
    found = parse(trace(" 1  192.0.2.1  0.1 ms", " 2  192.0.2.5  0.1 ms !X"))
    assert not found.reached


def test_no_hop_at_all() -> None:
    found = parse(trace())
    assert found.hops == ()
    assert not found.reached


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"\(nothing\)"),
        ("traceroute: command not found", "command not found"),
        (trace("x  192.0.2.1  0.1 ms"), "its number"),
        (trace(" 1"), "no probe"),
        (trace(" 1  192.0.2.1  0.1"), "an incomplete one"),
        (trace(" 1  192.0.2.1  0.1 seconds"), "'seconds'"),
    ],
)
def test_other_text_is_refused_with_the_line(text: str, told: str) -> None:
    with pytest.raises(TracerouteError, match=told):
        parse(text)
