# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ekho lab as its role describes it, and traces in it as the module traceroute returns them."""

from __future__ import annotations

from typing import Any

from .tools import CHECKOUT

DAY = "2026-01-02T03:04:05Z"
# From each end host to the other: the answers on the slow path over the host, and on the fast path.
SLOW = {
    ("ekho-host-a", "192.168.12.2"): ["192.168.11.1", "192.168.101.2", "192.168.102.1", "192.168.12.2"],
    ("ekho-host-a", "fd00:12::2"): ["fd00:11::1", "fd00:101::2", "fd00:102::1", "fd00:12::2"],
    ("ekho-host-b", "192.168.11.2"): ["192.168.12.1", "192.168.102.2", "192.168.101.1", "192.168.11.2"],
    ("ekho-host-b", "fd00:11::2"): ["fd00:12::1", "fd00:102::2", "fd00:101::1", "fd00:11::2"],
}
FAST = {way: [answers[0], answers[-1]] for way, answers in SLOW.items()}


def role_facts(**changed: Any) -> dict[str, Any]:
    """The filter lab_report's description of the lab, from the role's variables."""
    import yaml

    defaults, variables = (
        yaml.safe_load((CHECKOUT / "roles" / "ekho_lab" / folder / "main.yml").read_text())
        for folder in ("defaults", "vars")
    )
    facts = {"name": "ekho", "backend": "netns", "vrf": "rules", "kernel": "Linux 6.1.0"}
    facts |= {"hosts": defaults["ekho_lab_hosts"], "links": defaults["ekho_lab_links"]}
    return {**facts, "groups": variables["ekho_lab_groups"], **changed}


def trace(source: str, destination: str, answers: list[str | None], measured: str = DAY) -> dict[str, Any]:
    """A trace; hop number N took N tenths of a millisecond."""
    hops = [
        {"hop": n, "address": address, "rtt_ms": n / 10 if address else None} for n, address in enumerate(answers, 1)
    ]
    return {"source": source, "destination": destination, "measured": measured, "hops": hops}


def traces(answers: dict[tuple[str, str], list[str]], measured: str = DAY) -> list[dict[str, Any]]:
    """All of SLOW or FAST."""
    return [trace(*way, [*addresses], measured) for way, addresses in answers.items()]
