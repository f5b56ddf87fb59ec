# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A case: a DPU, its hosts, what the daemons are set to and what happens to them, as lines of ``ip`` and nothing else.

Lines can be left out one by one, which makes a failing case small, and printed as a script, which anybody can run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

DPU = "dpu"
#: Where cases that differ are left as scripts.
SCRIPTS = Path(__file__).resolve().parent.parent.parent / ".cache" / "equivalence"
#: Links that every lab has; a script makes those that the case names.
UPLINKS = ("u1", "u2", "u3", "u4", "u5", "u6")
SECOND_UPLINKS = ("w1", "w2")
ENDS = tuple(f"e{number}" for number in range(1, 15))
HOST_LINKS = ("d1", "d2", "d3")
MANAGEMENT = "mgmt"
#: Where the other ends of end links are: nobody has to answer there.
VOID = "void"


class Line(NamedTuple):
    """A line of ``ip -FAMILY -batch`` on a machine, or a sysctl (family 0: ``key=value``)."""

    machine: str
    family: int
    text: str

    def shell(self) -> str:
        """As a command."""
        if self.family == 0:
            return f"ip netns exec {self.machine} sysctl -qw {shlex.quote(self.text)}"
        return f"ip -n {self.machine} -{self.family} {self.text}"


class Change(NamedTuple):
    """Something that happens: lines, or the restart of a daemon (``agent``, or the listener of a host by its name)."""

    lines: tuple[Line, ...] = ()
    restart: str = ""

    def __str__(self) -> str:
        return f"restart of {self.restart}" if self.restart else "; ".join(line.shell() for line in self.lines)


@dataclass(frozen=True)
class Vrf:
    """A VRF of the DPU: packets come in by its *ends* with a source of its own, and back by its *uplinks*."""

    name: str
    table: int
    uplinks: tuple[str, ...]
    ends: tuple[str, ...]

    @property
    def links(self) -> tuple[str, ...]:
        """All of them."""
        return self.uplinks + self.ends


@dataclass(frozen=True)
class Case:
    """Everything about a case. *doubts* are settings by which the mirror may leave anything on the slow path."""

    seed: int
    features: tuple[str, ...]
    vrfs: tuple[Vrf, ...]
    lines: tuple[Line, ...]
    hosts: tuple[str, ...] = ("host",)
    changes: tuple[Change, ...] = ()
    agent: Mapping[str, Any] = field(default_factory=dict)
    listeners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What makes it again."""
        return f"seed {self.seed}, {'+'.join(self.features) or 'plain'}"

    def agent_settings(self) -> dict[str, Any]:
        """The agent's configuration."""
        vrfs = {vrf.name: {"table": vrf.table, "links": list(vrf.links)} for vrf in self.vrfs}
        return {"plaintext": True, "vrfs": vrfs, **self.agent}

    def listener_settings(self, host: str) -> dict[str, Any]:
        """A listener's configuration."""
        return {"plaintext": True, **self.listeners[host]}

    # -- as a script

    def script(self, more: Iterable[str] = ()) -> str:
        """A shell script that makes it: machines, routes, daemons, what happens, and *more* commands to look with."""
        lines = [
            "#!/bin/sh",
            f"# {self.name}",
            f"for ns in {' '.join((DPU, *self.hosts, VOID))}; do ip netns add $ns; ip -n $ns link set lo up; done",
            f"for ns in {' '.join((DPU, *self.hosts))}; do ip netns exec $ns sysctl -qw "
            + " ".join(f"{key}={value}" for key, value in ROUTER.items())
            + "; done",
            *self._made_links(),
            *(line.shell() for line in self.lines),
            *self._daemons(),
            "sleep 5",
            *(f"{line}  # change {number}" for number, change in enumerate(self.changes) for line in _shell(change)),
            *more,
        ]
        return "\n".join(lines) + "\n"

    def _made_links(self) -> Iterable[str]:
        used = {word for line in self.lines for word in line.text.split()} | {MANAGEMENT}
        used |= {link for vrf in self.vrfs for link in vrf.links}
        for machine, link, peer in wires():
            if link in used and peer in self.hosts:
                yield f"ip -n {machine} link add {link} type veth peer name {link} netns {peer}"
                yield f"ip -n {machine} link set {link} up; ip -n {peer} link set {link} up"
        for machine, links in ((DPU, ENDS), *((host, HOST_LINKS) for host in self.hosts)):
            for link in links:
                if link in used:
                    end = f"{machine}-{link}"
                    yield f"ip -n {machine} link add {link} type veth peer name {end} netns {VOID}"
                    yield f"ip -n {machine} link set {link} up; ip -n {VOID} link set {end} up"

    def _daemons(self) -> Iterable[str]:
        yield _written("agent.json", {**self.agent_settings(), "control_socket": "/tmp/agent.sock"})
        yield f"ip netns exec {DPU} ynl-mirror agent --config agent.json &"
        for host in self.hosts:
            settings = {**self.listener_settings(host), "control_socket": f"/tmp/listener-{host}.sock"}
            yield _written(f"listener-{host}.json", settings)
            yield f"ip netns exec {host} ynl-mirror listener --config listener-{host}.json &"


def _written(file: str, settings: dict[str, Any]) -> str:
    return f"echo {shlex.quote(json.dumps(settings))} > {file}"


def _shell(change: Change) -> list[str]:
    return [f": restart {change.restart}"] if change.restart else [line.shell() for line in change.lines]


def leave(name: str, script: str) -> Path:
    """Leave a script where it is found, and say where."""
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    file = SCRIPTS / f"{re.sub('[^a-z0-9_]+', '-', name)[:80]}.sh"
    file.write_text(script)
    return file


def wires() -> list[tuple[str, str, str]]:
    """(machine, link, machine): both ends of a wire have the link's name."""
    first = [(DPU, link, "host") for link in (*UPLINKS, MANAGEMENT)]
    return first + [(DPU, link, "host2") for link in SECOND_UPLINKS]


ROUTER = {
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.accept_local": 1,
}
