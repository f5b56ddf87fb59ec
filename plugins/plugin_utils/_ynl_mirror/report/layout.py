# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions in the picture of a lab. Pure geometry: a lab in, boxes, ports and lines out; units are pixels.

The host is above the DPU, the end hosts are at the sides, each beside its VRF. The DPU's VRFs are compartments of its
box, side by side. Nothing depends on a machine's name.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from .report import Interface, Lab, Machine, Path, Port, ReportError, Role, Vrf
from .svg import Point

MARGIN = 24
SIDE_WIDTH = 160  # of an end host's box
SIDE_GAP = 66  # a cable between an end host and the DPU
CELL_WIDTH = 210  # of a VRF's compartment
HOST_TOP, HOST_HEIGHT = 92, 100
DPU_TOP = 258
LANE = 10  # distance of a path from the middle of a cable: two paths are drawn side by side
ROW_HEIGHT = 134  # of a compartment, and of every end host beside it
ROW_MIDDLE = 72  # from the top of a row to the cable
STRIP = 28  # of the DPU's name, under the compartments
PORT_INSET = 85  # from a compartment's outer edge to its port to the host
PORT_STEP = 34
HOST_INSET = 50  # the host's box is narrower than the DPU's
SIDE_INSET = 20  # from the top of a row to an end host's box
ARCH = 52  # how far a path extends into the host's box
OTHER_VRF = 3  # the cost of crossing VRFs inside the DPU, where all else costs 1: the slow path must cost more


class Edge(Enum):
    """Which edge of its box a port is on."""

    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Spot:
    """The position of a port; ``left`` is the half of the picture for its text."""

    x: float
    y: float
    edge: Edge
    left: bool

    def point(self, lane: float = 0) -> Point:
        """The port's point for a path ``lane`` off the middle; cables to the host carry one path only."""
        return (self.x, self.y + lane) if self.edge in (Edge.LEFT, Edge.RIGHT) else (self.x, self.y)


@dataclass(frozen=True)
class Cell:
    """A compartment of the DPU: a VRF, or the interfaces in none."""

    vrf: Vrf | None
    interfaces: tuple[Interface, ...]
    left: bool
    box: Box


@dataclass(frozen=True)
class Layout:
    """All positions: boxes by machine name, the DPU's compartments, and ports with a cable."""

    width: float
    height: float
    boxes: dict[str, Box]
    cells: list[Cell]
    spots: dict[Port, Spot]


def lay_out(lab: Lab) -> Layout:
    """The layout of a lab with one DPU, one host and any number of end hosts. Raises ReportError for another lab."""
    dpu, host = _only(lab, Role.DPU), _only(lab, Role.HOST)
    peers = {one: other for cable in lab.cables for one, other in (cable, cable[::-1])}
    cells = _cells(dpu)
    beside = _beside(lab, dpu, cells, peers)
    height = (1 + max((row for _left, row in beside.values()), default=0)) * ROW_HEIGHT
    cells = [replace(cell, box=cell.box._replace(height=height)) for cell in cells]
    left, right = cells[0].box.x, cells[-1].box.x + cells[-1].box.width
    boxes = {
        dpu.name: Box(left, DPU_TOP, right - left, height + STRIP),
        host.name: Box(left + HOST_INSET, HOST_TOP, right - left - 2 * HOST_INSET, HOST_HEIGHT),
    }
    for name, (at_left, row) in beside.items():
        x = MARGIN if at_left else right + SIDE_GAP
        boxes[name] = Box(x, DPU_TOP + row * ROW_HEIGHT + SIDE_INSET, SIDE_WIDTH, ROW_HEIGHT - SIDE_INSET)
    spots: dict[Port, Spot] = {}
    for cell in cells:
        spots.update(_cell_spots(dpu, cell, peers, beside, host))
    for port, peer in peers.items():
        if port.machine != dpu.name and peer in spots:
            spots[port] = _facing(spots[peer], boxes[port.machine])
    return Layout(right + SIDE_GAP + SIDE_WIDTH + MARGIN, DPU_TOP + height + STRIP, boxes, cells, spots)


def _only(lab: Lab, role: Role) -> Machine:
    found = [machine for machine in lab.machines if machine.role is role]
    if len(found) != 1:
        raise ReportError(
            f"the picture needs a lab with one machine of role {role.value}, and this lab has {len(found)}"
        )
    return found[0]


def _cells(dpu: Machine) -> list[Cell]:
    """The DPU's compartments from left to right, all of one height."""
    names = {vrf.name for vrf in dpu.vrfs}
    members: list[tuple[Vrf | None, tuple[Interface, ...]]] = [
        (vrf, tuple(one for one in dpu.interfaces if one.vrf == vrf.name)) for vrf in dpu.vrfs
    ]
    outside = tuple(one for one in dpu.interfaces if one.vrf not in names)
    if outside or not members:
        members.append((None, outside))
    width = max(CELL_WIDTH, 2 * CELL_WIDTH / len(members))
    start = MARGIN + SIDE_WIDTH + SIDE_GAP
    return [
        Cell(vrf, interfaces, 2 * number < len(members), Box(start + number * width, DPU_TOP, width, ROW_HEIGHT))
        for number, (vrf, interfaces) in enumerate(members)
    ]


def _beside(lab: Lab, dpu: Machine, cells: list[Cell], peers: dict[Port, Port]) -> dict[str, tuple[bool, int]]:
    """For every end host, whether it is on the left, like the compartment that it is cabled to, and its row."""
    left_of = {peers.get(Port(dpu.name, one.name)): cell.left for cell in cells for one in cell.interfaces}
    sides = {port.machine: left for port, left in left_of.items() if port}
    rows = {True: 0, False: 0}
    found = {}
    for machine in lab.machines:
        if machine.role is Role.END_HOST:
            left = sides.get(machine.name, True)
            found[machine.name] = (left, rows[left])
            rows[left] += 1
    return found


def _cell_spots(
    dpu: Machine, cell: Cell, peers: dict[Port, Port], beside: dict[str, tuple[bool, int]], host: Machine
) -> dict[Port, Spot]:
    """The ports of one compartment: those to the host on its top edge, the others on its outer edge."""
    box, left = cell.box, cell.left
    spots: dict[Port, Spot] = {}
    ups = 0
    for port in (Port(dpu.name, one.name) for one in cell.interfaces):
        peer = peers.get(port)
        if peer and peer.machine == host.name:
            inset = PORT_INSET + PORT_STEP * ups
            ups += 1
            spots[port] = Spot(box.x + inset if left else box.x + box.width - inset, box.y, Edge.TOP, left)
        elif peer and peer.machine in beside:
            y = box.y + beside[peer.machine][1] * ROW_HEIGHT + ROW_MIDDLE
            spots[port] = Spot(box.x if left else box.x + box.width, y, Edge.LEFT if left else Edge.RIGHT, left)
    return spots


def _facing(spot: Spot, box: Box) -> Spot:
    """The other end of a straight cable from ``spot``, on the edge of ``box``."""
    if spot.edge is Edge.TOP:
        return Spot(spot.x, box.y + box.height, Edge.BOTTOM, spot.left)
    if spot.edge is Edge.LEFT:
        return Spot(box.x + box.width, spot.y, Edge.RIGHT, spot.left)
    return Spot(box.x, spot.y, Edge.LEFT, spot.left)


def way_of(path: Path, lab: Lab) -> list[Port]:
    """The ports of a path: the shortest way over the lab's cables from each answer to the next."""
    graph = _graph(lab)
    way: list[Port] = []
    for answer in filter(None, (lab.port(hop.address) for hop in path.hops)):
        starts = way[-1:] or [port for port in graph if port.machine == path.source]
        way += [port for port in _shortest(graph, starts, answer) if port not in way[-1:]]
    return way


def _graph(lab: Lab) -> dict[Port, list[tuple[int, Port]]]:
    """For every port its neighbours, over a cable or inside a machine, with their cost."""
    graph: dict[Port, list[tuple[int, Port]]] = {}
    for machine in lab.machines:
        for one in machine.interfaces:
            graph[Port(machine.name, one.name)] = [
                (1 if one.vrf == other.vrf else OTHER_VRF, Port(machine.name, other.name))
                for other in machine.interfaces
                if other is not one
            ]
    for start, end in lab.cables:
        graph[start].append((1, end))
        graph[end].append((1, start))
    return graph


def _shortest(graph: dict[Port, list[tuple[int, Port]]], starts: list[Port], goal: Port) -> list[Port]:
    """The cheapest way including both ends; only ``goal`` if no cable leads there."""
    heap = [(0, [start]) for start in starts]
    heapq.heapify(heap)
    seen = set()
    while heap:
        cost, way = heapq.heappop(heap)
        if way[-1] == goal:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            for more, port in graph[way[-1]]:
                heapq.heappush(heap, (cost + more, [*way, port]))
    return [goal]


def line_of(way: list[Port], layout: Layout, lane: float) -> Iterator[Point]:
    """The corners of a way, ``lane`` pixels off the middle of horizontal cables."""
    drawn = [port for port in way if port in layout.spots]
    for before, port in zip([None, *drawn], drawn):
        spot = layout.spots[port]
        if before is not None and before.machine == port.machine:
            yield from _bends(layout.spots[before], spot, lane)
        yield spot.point(lane)


def _bends(start: Spot, end: Spot, lane: float) -> list[Point]:
    """The corners between two ports of one machine."""
    (x, y), (to_x, to_y) = start.point(lane), end.point(lane)
    flat, to_flat = (spot.edge in (Edge.LEFT, Edge.RIGHT) for spot in (start, end))
    if flat and to_flat:
        return [] if y == to_y else [((x + to_x) / 2, y), ((x + to_x) / 2, to_y)]
    if flat:
        return [(to_x, y)]
    if to_flat:
        return [(x, to_y)]
    deep = y - ARCH if start.edge is Edge.BOTTOM else y + ARCH
    return [(x, deep), (to_x, deep)]
