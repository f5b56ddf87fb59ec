# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel changes silently, on the host or on the DPU, is mirrored within a second, by the real daemons.

No audit runs. A second is many times what it takes, yet less than what waits for a retry. A busy machine may take it
away once all the same, so each event happens up to three times, and once it has to be fast.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import MirrorLab, batch
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

WITHIN = 1.0
ROUTE = "10.1.0.0/16"
OFF = {"audit_interval": 0}
EXIT = "192.168.11.2 dev eth3"
MIRRORED = f"{ROUTE} via {EXIT}"
CONNECTED = "route add 192.168.11.0/24 dev eth3 proto kernel scope link src 192.168.11.1 table 10"


class Event(NamedTuple):
    """What happens in silence: what has to be there first, what takes the route away, and what brings it back."""

    before: tuple[str, ...]
    goes: tuple[str, ...]
    comes: tuple[str, ...]


ON_THE_HOST = (
    Event(
        (f"route add {ROUTE} via 192.168.101.1",),
        ("link set eth1 down",),
        ("link set eth1 up", f"route add {ROUTE} via 192.168.101.1"),
    ),
    Event(
        (),
        ("address del 192.168.101.2/24 dev eth1",),
        ("address add 192.168.101.2/24 dev eth1", f"route add {ROUTE} via 192.168.101.1"),
    ),
    Event(
        ("nexthop add id 1 via 192.168.101.1 dev eth1", f"route replace {ROUTE} nhid 1"),
        ("nexthop del id 1",),
        ("nexthop add id 1 via 192.168.101.1 dev eth1", f"route add {ROUTE} nhid 1"),
    ),
)
ON_THE_DPU = (
    Event(
        (f"route add 10.0.0.0/8 via {EXIT} table 10",),
        ("link set eth3 down",),
        ("link set eth3 up", CONNECTED, f"route add 10.0.0.0/8 via {EXIT} table 10"),
    ),
    Event(
        (f"nexthop add id 1 via {EXIT}", "route replace 10.0.0.0/8 nhid 1 table 10"),
        ("nexthop del id 1",),
        (f"nexthop add id 1 via {EXIT}", "route add 10.0.0.0/8 nhid 1 table 10"),
    ),
)


def _seconds(lab: MirrorLab, machine: Namespace, commands: tuple[str, ...], wanted: list[str]) -> float:
    """How long it takes after these commands until VRF b has these mirrored routes."""
    batch(machine, *commands)
    began = time.monotonic()
    until(lambda: lab.mirrored()["b"], wanted)
    return time.monotonic() - began


def _happens(lab: MirrorLab, machine: Namespace, event: Event) -> None:
    """Let the route go and come; both have to be mirrored within a second, once in three times."""
    _seconds(lab, machine, event.before, [MIRRORED])
    gone, back = [], []
    for _time in range(3):
        gone.append(_seconds(lab, machine, event.goes, []))
        back.append(_seconds(lab, machine, event.comes, [MIRRORED]))
        if min(gone) <= WITHIN and min(back) <= WITHIN:
            return
    raise AssertionError(f"{event.goes}: gone after {gone} s, back after {back} s")


@pytest.mark.parametrize("side", ["host", "dpu"])
def test_what_happens_in_silence_is_mirrored_within_a_second(lab: MirrorLab, side: str) -> None:
    # By the host's other link, since one goes down.
    lab.mirror(agent=OFF, listener={"agents": [{"address": "192.168.102.1"}], **OFF})
    other, machine, events = (lab.dpu, lab.host, ON_THE_HOST) if side == "host" else (lab.host, lab.dpu, ON_THE_DPU)
    batch(other, *(ON_THE_DPU if side == "host" else ON_THE_HOST)[0].before)
    for event in events:
        _happens(lab, machine, event)
