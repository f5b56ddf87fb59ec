# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a lab: the paths that packets took through it. Pure: data to values and back, no I/O, no clock.

A report has the lab (machines and cables) and the latest trace of each kind between every pair of end hosts. The kind
follows from the hops that answered, never from what was expected. `docs/lab.md` has the fields of ``report.json``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

SCHEMA = "ekho.ynl_mirror.lab_report"
VERSION = 1


class ReportError(ValueError):
    """The input is not a report, a lab or a trace; the message names the item."""


class Role(Enum):
    """The role of a machine in the lab."""

    END_HOST = "end_host"
    DPU = "dpu"
    HOST = "host"


# The inventory groups of the playbooks.
ROLE_OF_GROUP = {"ekho_lab_end_hosts": Role.END_HOST, "dpu_agents": Role.DPU, "mirror_listeners": Role.HOST}


class Kind(Enum):
    """How packets were forwarded."""

    SLOW_PATH = "slow_path"  # over the host
    FAST_PATH = "fast_path"  # by the DPU alone
    UNCLEAR = "unclear"  # a hop did not answer, or is not in the lab


class Port(NamedTuple):
    """An interface of a machine."""

    machine: str
    interface: str


@dataclass(frozen=True)
class Interface:
    """An interface; addresses such as ``192.0.2.1/24``."""

    name: str
    vrf: str | None
    addresses: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]

    def address(self, family: str) -> str:
        """The first address of the family (``ipv4`` or ``ipv6``) with prefix length; empty without one."""
        return next((str(one) for one in self.addresses if f"ipv{one.version}" == family), "")


@dataclass(frozen=True)
class Vrf:
    """A VRF and the number of its table."""

    name: str
    table: int


@dataclass(frozen=True)
class Machine:
    """A machine; its name is that in the inventory."""

    name: str
    role: Role
    vrfs: tuple[Vrf, ...]
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True)
class Lab:
    """The lab that was measured: ``backend`` and ``vrf`` are the kinds of machines and VRFs, ``kernel`` the DPU's."""

    name: str
    backend: str
    vrf: str
    kernel: str
    machines: tuple[Machine, ...]
    cables: tuple[tuple[Port, Port], ...]

    def port(self, address: str | None) -> Port | None:
        """The owner of an address; None if it is not in this lab."""
        for machine in self.machines:
            for interface in machine.interfaces:
                if address in [str(one.ip) for one in interface.addresses]:
                    return Port(machine.name, interface.name)
        return None

    def role(self, port: Port | None) -> Role | None:
        """The role of a port's machine."""
        return next((machine.role for machine in self.machines if port and machine.name == port.machine), None)


@dataclass(frozen=True)
class Hop:
    """The address that answered at this distance (None: no answer), and the shortest round trip in milliseconds."""

    number: int
    address: str | None
    rtt_ms: float | None


@dataclass(frozen=True)
class Path:
    """A trace that reached its destination; ``measured`` is its time in UTC (ISO 8601)."""

    source: str
    address: str
    kind: Kind
    measured: str
    hops: tuple[Hop, ...]

    @property
    def family(self) -> str:
        """``ipv4`` or ``ipv6``."""
        return f"ipv{ipaddress.ip_address(self.address).version}"

    @property
    def rtt_ms(self) -> float | None:
        """The round trip to the destination."""
        return self.hops[-1].rtt_ms

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The key of a path in a report, which is sorted by it."""
        return (self.family, self.source, self.address, self.kind.value)


@dataclass(frozen=True)
class Report:
    """A lab and the paths through it, in the order of `Path.place`."""

    lab: Lab
    paths: tuple[Path, ...]


def kind_of(hops: Iterable[Hop], address: str, lab: Lab) -> Kind:
    """The kind of a path to ``address``: slow if the host answered, fast if only the DPU and the destination did."""
    *between, last = (lab.port(hop.address) for hop in hops)
    roles = {lab.role(port) for port in between}
    if Role.HOST in roles:
        return Kind.SLOW_PATH
    arrived = last is not None and last == lab.port(address)
    return Kind.FAST_PATH if arrived and roles == {Role.DPU} else Kind.UNCLEAR


def lab_from_role(facts: Mapping[str, Any]) -> Lab:
    """The lab, from the variables of the role ekho_lab.

    Keys: ``name``, ``backend``, ``vrf``, ``kernel``, ``hosts`` and ``links`` (as in the role's defaults), and
    ``groups``, the inventory groups of each host. Raises ReportError.
    """
    with _reading("the lab"):
        machines = []
        for host in facts["hosts"]:
            roles = [ROLE_OF_GROUP[group] for group in facts["groups"].get(host["name"], []) if group in ROLE_OF_GROUP]
            if not roles:
                raise ReportError(
                    f"host {host['name']!r} is in none of the groups {', '.join(ROLE_OF_GROUP)}; add it to one"
                )
            machines.append({**host, "name": f"ekho-{host['name']}", "role": roles[0].value})
        links = [[f"ekho-{end}" for end in link] for link in facts["links"]]
        return _lab({**facts, "hosts": machines, "links": links})


def path_from_trace(trace: Mapping[str, Any], lab: Lab) -> Path:
    """A path, from a result of the module traceroute with ``source`` and ``measured``. Raises ReportError."""
    with _reading("a trace"):
        hops = tuple(
            Hop(int(hop["hop"]), hop["address"] and str(ipaddress.ip_address(hop["address"])), hop["rtt_ms"])
            for hop in trace["hops"]
        )
        if not hops:
            raise ReportError("a trace has no hops")
        address = str(ipaddress.ip_address(trace["destination"]))
        return Path(str(trace["source"]), address, kind_of(hops, address, lab), str(trace["measured"]), hops)


def merged(previous: Report | None, lab: Lab, paths: Iterable[Path]) -> Report:
    """The report with further measurements: the latest path of each kind.

    Paths that were measured in another lab or on another kernel cannot be compared, and are dropped.
    """
    known = list(previous.paths) if previous and previous.lab == lab else []
    latest = {path.place: path for path in sorted([*known, *paths], key=lambda path: path.measured)}
    return Report(lab, tuple(latest[place] for place in sorted(latest)))


def report_from(values: Any) -> Report | None:
    """A report from the values of a ``report.json``; None if it has another version. Raises ReportError."""
    if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
        raise ReportError(f'this is not a lab report: "schema" is not "{SCHEMA}"')
    if values.get("version") != VERSION:
        return None
    with _reading("the report"):
        lab = _lab(values["lab"])
        paths = [path_from_trace({**path, "destination": path["address"]}, lab) for path in values["paths"]]
    return merged(None, lab, paths)


def report_values(report: Report) -> dict[str, Any]:
    """The values of ``report.json``; `report_from` reads them back."""
    lab = report.lab
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "lab": {
            "name": lab.name,
            "backend": lab.backend,
            "vrf": lab.vrf,
            "kernel": lab.kernel,
            "hosts": [_machine_values(machine) for machine in lab.machines],
            "links": [[f"{port.machine}:{port.interface}" for port in cable] for cable in lab.cables],
        },
        "paths": [_path_values(path, lab) for path in report.paths],
    }


def _machine_values(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "role": machine.role.value,
        "vrfs": [{"name": vrf.name, "table": vrf.table} for vrf in machine.vrfs],
        "interfaces": [
            {"name": one.name, "vrf": one.vrf, "addresses": [str(address) for address in one.addresses]}
            for one in machine.interfaces
        ],
    }


def _path_values(path: Path, lab: Lab) -> dict[str, Any]:
    return {
        "source": path.source,
        "destination": _port_values(lab.port(path.address))["host"],
        "address": path.address,
        "family": path.family,
        "kind": path.kind.value,
        "measured": path.measured,
        "hop_count": path.hops[-1].number,
        "rtt_ms": path.rtt_ms,
        "hops": [
            {"hop": hop.number, "address": hop.address, **_port_values(lab.port(hop.address)), "rtt_ms": hop.rtt_ms}
            for hop in path.hops
        ],
    }


def _port_values(port: Port | None) -> dict[str, str | None]:
    return {"host": port.machine if port else None, "interface": port.interface if port else None}


def _lab(values: Mapping[str, Any]) -> Lab:
    cables = [[Port(*end.split(":", 1)) for end in link] for link in values["links"]]
    machines = tuple(_machine(host) for host in values["hosts"])
    ports = {Port(machine.name, interface.name) for machine in machines for interface in machine.interfaces}
    for port in (end for cable in cables for end in cable):
        if port not in ports:
            raise ReportError(f"a cable ends at {port.machine}:{port.interface}, which is not an interface of the lab")
    name, backend, vrf, kernel = (str(values[key]) for key in ("name", "backend", "vrf", "kernel"))
    return Lab(name, backend, vrf, kernel, machines, tuple((one, other) for one, other in cables))


def _machine(values: Mapping[str, Any]) -> Machine:
    return Machine(
        str(values["name"]),
        Role(values["role"]),
        tuple(Vrf(str(vrf["name"]), int(vrf["table"])) for vrf in values.get("vrfs", [])),
        tuple(
            Interface(
                str(one["name"]), one.get("vrf"), tuple(ipaddress.ip_interface(text) for text in one["addresses"])
            )
            for one in values["interfaces"]
        ),
    )


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Convert errors in foreign data to a ReportError that names what was read."""
    try:
        yield
    except KeyError as error:
        raise ReportError(f"{what} cannot be read: {error} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{what} cannot be read: {error}") from None
