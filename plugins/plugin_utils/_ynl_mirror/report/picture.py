# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws a lab: its machines and cables, and the paths of packets before and after the mirror. Pure.

A report in, the text of an SVG file out; the same report gives the same text. The file needs no font, script or other
file, has a light and a dark theme, and describes its content for screen readers (`<title>`, `<desc>`).
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree as ET

from .layout import (
    HOST_HEIGHT,
    HOST_TOP,
    LANE,
    MARGIN,
    SIDE_GAP,
    SIDE_WIDTH,
    Box,
    Edge,
    Layout,
    lay_out,
    line_of,
    way_of,
)
from .report import Hop, Kind, Lab, Path, Port, Report, Role
from .svg import Point, add, line, root, text

BADGE = 9
CORNER = 12  # radius of a way's bends
ROW = 25  # of the table
BACKENDS = {"netns": "network namespaces", "qemu": "QEMU virtual machines"}
VRF_KINDS = {"device": "VRF devices", "rules": "policy rules as VRFs"}
# Class: property, its light and its dark colour. No custom properties, which many viewers do not support.
COLOURS = {
    "paper": ("fill", "#ffffff", "#0d1117"),
    "box": ("fill", "#f6f8fa", "#151b23"),
    "ink": ("fill", "#1f2328", "#f0f6fc"),
    "quiet": ("fill", "#59636e", "#9198a1"),
    "edge": ("stroke", "#818b98", "#656c76"),
    "rule": ("stroke", "#d1d9e0", "#3d444d"),
    "before": ("fill", "#bc4c00", "#f0883e"),
    "after": ("fill", "#0969da", "#58a6ff"),
    "before-line": ("stroke", "#bc4c00", "#f0883e"),
    "after-line": ("stroke", "#0969da", "#58a6ff"),
}
STYLE = """
text { font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif }
.mono { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.strong { font-weight: 600 }
.title { font-size: 18px }
.big { font-size: 30px }
.end { text-anchor: end }
.middle { text-anchor: middle }
.edge { stroke-width: 1.5 }
.way { fill: none; stroke-width: 3.5; stroke-linecap: round; stroke-linejoin: round }
.before-line { stroke-dasharray: 6 7 }
"""


class Look(NamedTuple):
    """How a kind of path is shown: style, lane on the cables, name and description."""

    style: str
    lane: float
    name: str
    words: str


def draw(report: Report) -> str:
    """The picture of a report as SVG. Raises ReportError for a lab that cannot be drawn."""
    lab, layout = report.lab, lay_out(report.lab)
    looks = _looks(lab)
    shown = _shown(report)
    rows = sorted({(path.family, path.source, path.address) for path in report.paths if path.kind in looks})
    table = layout.height + 40
    height = table + ROW * (len(rows) + 1) + 34
    svg = root(layout.width, height, f"Paths between the end hosts of lab {lab.name}", _description(report, looks))
    add(svg, "style", _style())
    add(svg, "rect", cls="paper rule", x=0.5, y=0.5, width=layout.width - 1, height=height - 1, rx=10)
    _heading(svg, lab, shown)
    _machines(svg, lab, layout, next((path.family for path in shown.values()), "ipv4"))
    for kind, look in looks.items():
        if kind in shown:
            _way(svg, shown[kind], look if len(shown) > 1 else look._replace(lane=0), lab, layout)
    _cards(svg, layout, shown, looks)
    _table(svg, layout.width, table, report, looks, rows)
    text(svg, MARGIN, height - 16, _footer(report), "quiet")
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="unicode")


def _looks(lab: Lab) -> dict[Kind, Look]:
    names = {machine.role: machine.name for machine in lab.machines}
    return {
        Kind.SLOW_PATH: Look("before", -LANE, "Before", f"slow path over {names[Role.HOST]}"),
        Kind.FAST_PATH: Look("after", LANE, "After", f"fast path, {names[Role.DPU]} alone"),
    }


def _shown(report: Report) -> dict[Kind, Path]:
    """The paths to draw: one of each kind, from the first pair of end hosts that was measured (IPv4 first)."""
    paths = [path for path in report.paths if path.kind is not Kind.UNCLEAR]
    both = {path.place[:3] for path in paths if path.kind is Kind.FAST_PATH}
    both &= {path.place[:3] for path in paths if path.kind is Kind.SLOW_PATH}
    first = min(both or {path.place[:3] for path in paths}, default=None)
    return {path.kind: path for path in paths if path.place[:3] == first}


def _heading(svg: ET.Element, lab: Lab, shown: dict[Kind, Path]) -> None:
    path = next(iter(shown.values()), None)
    if path is None:
        text(svg, MARGIN, 42, "No path has been measured yet", "title strong ink")
        return
    end = lab.port(path.address)
    text(svg, MARGIN, 42, f"From {path.source} to {end.machine if end else path.address}", "title strong ink")
    names = {machine.role: machine.name for machine in lab.machines}
    text(svg, MARGIN, 62, f"before and after {names[Role.DPU]} mirrors the routes of {names[Role.HOST]}", "quiet")


def _machines(svg: ET.Element, lab: Lab, layout: Layout, family: str) -> None:
    for cable in lab.cables:
        ends = [layout.spots[port].point() for port in cable if port in layout.spots]
        if len(ends) == 2:
            add(svg, "path", cls="edge", d=line(ends))
    for machine in lab.machines:
        box = layout.boxes[machine.name]
        add(svg, "rect", cls="box edge", rx=8, **box._asdict())
        if machine.role is Role.DPU:
            _cells(svg, layout, machine.name, box)
        else:
            text(svg, box.x + box.width / 2, box.y + 24, machine.name, "strong ink middle", room=box.width - 16)
        for one in machine.interfaces:
            port = Port(machine.name, one.name)
            if port in layout.spots:
                _port(svg, layout, port, one.address(family))


def _cells(svg: ET.Element, layout: Layout, name: str, box: Box) -> None:
    """The DPU's compartments, and its name below them."""
    bottom = layout.cells[0].box.y + layout.cells[0].box.height
    for cell in layout.cells:
        x, side = (cell.box.x + 12, "") if cell.left else (cell.box.x + cell.box.width - 12, " end")
        text(svg, x, cell.box.y + 22, f"VRF {cell.vrf.name}" if cell.vrf else "no VRF", f"strong ink{side}", room=64)
        if cell.vrf:
            text(svg, x, cell.box.y + 38, f"table {cell.vrf.table}", f"quiet mono{side}", room=64)
        if cell.box.x > box.x:
            add(svg, "path", cls="rule", d=line([(cell.box.x, cell.box.y), (cell.box.x, bottom)]))
    add(svg, "path", cls="rule", d=line([(box.x, bottom), (box.x + box.width, bottom)]))
    text(svg, box.x + box.width / 2, bottom + 19, name, "strong ink middle", room=box.width - 16)


def _port(svg: ET.Element, layout: Layout, port: Port, address: str) -> None:
    """An interface: a small square on the machine's edge, name and address inside the box."""
    spot = layout.spots[port]
    add(svg, "rect", cls="quiet", x=spot.x - 4, y=spot.y - 4, width=8, height=8, rx=1)
    outer = spot.edge in (Edge.LEFT, Edge.RIGHT)
    to_right = spot.edge is Edge.LEFT if outer else spot.left
    x = spot.x + (12 if to_right else -12)
    y = {Edge.TOP: spot.y + 22, Edge.BOTTOM: spot.y - 28}.get(spot.edge, spot.y + LANE + 22)
    side = "" if to_right else " end"
    text(svg, x, y, port.interface, f"strong mono ink{side}", room=110)
    text(svg, x, y + 15, address, f"mono quiet{side}", room=136 if outer else 112)


def _way(svg: ET.Element, path: Path, look: Look, lab: Lab, layout: Layout) -> None:
    """The line of a path, with an arrow on every cable and a numbered badge at each hop that answered."""
    way = way_of(path, lab)
    corners = list(line_of(way, layout, look.lane))
    if len(corners) > 1:
        add(svg, "path", cls=f"way {look.style}-line", d=line(corners, CORNER))
    for start, end in zip(way, way[1:]):
        if start.machine != end.machine and {start, end} <= set(layout.spots):
            _arrow(svg, layout.spots[start].point(look.lane), layout.spots[end].point(look.lane), look.style)
    for hop in path.hops:
        port = lab.port(hop.address)
        if port in layout.spots:
            x, y = layout.spots[port].point(look.lane)
            badge = add(svg, "g")
            add(badge, "title", f"{look.name}, hop {hop.number}: {_answer(hop, lab)}")
            add(badge, "circle", cls=look.style, cx=x, cy=y, r=BADGE)
            text(badge, x, y + 4, str(hop.number), "mono strong paper middle")


def _arrow(svg: ET.Element, start: Point, end: Point, style: str) -> None:
    """A triangle in the middle of a cable, which is horizontal or vertical."""
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    along_x, along_y = ((end[0] > start[0]) - (end[0] < start[0])), ((end[1] > start[1]) - (end[1] < start[1]))
    tip = (x + 7 * along_x, y + 7 * along_y)
    wings = [(x - 5 * along_x + turn * along_y, y - 5 * along_y + turn * along_x) for turn in (7, -7)]
    add(svg, "path", cls=style, d=line([tip, *wings]) + " Z")


def _cards(svg: ET.Element, layout: Layout, shown: dict[Kind, Path], looks: dict[Kind, Look]) -> None:
    """Hops and round trip beside the host: before on the left, after on the right."""
    width = SIDE_WIDTH + SIDE_GAP
    for look, kind, x in zip(looks.values(), looks, (MARGIN, layout.width - MARGIN - width)):
        path = shown.get(kind)
        style = look.style if path else "quiet"
        add(svg, "rect", cls=style, x=x, y=HOST_TOP, width=5, height=HOST_HEIGHT, rx=2)
        text(svg, x + 18, HOST_TOP + 16, look.name, f"strong {style}")
        if path is None:
            text(svg, x + 18, HOST_TOP + 52, "not measured", "quiet")
        else:
            text(svg, x + 18, HOST_TOP + 52, _hops(path), f"strong big {style}")
            text(svg, x + 18, HOST_TOP + 76, f"round trip {_time(path.rtt_ms)}", "ink")
            text(svg, x + 18, HOST_TOP + 96, look.words, "quiet", room=width - 14)


def _table(
    svg: ET.Element,
    width: float,
    top: float,
    report: Report,
    looks: dict[Kind, Look],
    rows: list[tuple[str, str, str]],
) -> None:
    """Hops and round trips of all paths, both families."""
    found = {path.place: path for path in report.paths}
    columns = dict(zip(looks, (width * 0.52, width * 0.77)))
    text(svg, MARGIN, top, "Hops and round trips", "strong ink")
    for kind, look in looks.items():
        text(svg, columns[kind], top, look.name, f"strong {look.style}")
    for number, row in enumerate(rows, 1):
        y = top + ROW * number
        family, source, address = row
        add(svg, "path", cls="rule", d=line([(MARGIN, y - 17), (width - MARGIN, y - 17)]))
        text(svg, MARGIN, y, f"{source} to {address}", "ink", room=width * 0.36)
        text(svg, width * 0.42, y, family.replace("ip", "IP"), "quiet")
        for kind in looks:
            path = found.get((*row, kind.value))
            cell = f"{_hops(path)}, {_time(path.rtt_ms)}" if path else "not measured"
            text(svg, columns[kind], y, cell, "ink" if path else "quiet")


def _footer(report: Report) -> str:
    lab = report.lab
    made_of = f"{BACKENDS.get(lab.backend, lab.backend)}, {VRF_KINDS.get(lab.vrf, lab.vrf)}, {lab.kernel}"
    days = sorted({path.measured[:10] for path in report.paths})
    when = f". Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    return f"Lab {lab.name}: {made_of}{when}"


def _description(report: Report, looks: dict[Kind, Look]) -> str:
    """The content of the picture in words."""
    lab = report.lab
    cables = ", ".join(" to ".join(f"{port.machine} {port.interface}" for port in cable) for cable in lab.cables)
    sentences = [f"{_footer(report)}.", f"Cables: {cables}."]
    for path in report.paths:
        if path.kind in looks:
            hops = "; ".join(f"{hop.number} {_answer(hop, lab)}" for hop in path.hops)
            sentences.append(f"{looks[path.kind].name}, from {path.source} to {path.address} in {_hops(path)}: {hops}.")
    missing = [look.name for kind, look in looks.items() if kind not in {path.kind for path in report.paths}]
    return " ".join([*sentences, *(f"{name}: not measured." for name in missing)])


def _answer(hop: Hop, lab: Lab) -> str:
    port = lab.port(hop.address)
    where = f" ({port.machine} {port.interface})" if port else ""
    return f"{hop.address}{where}, {_time(hop.rtt_ms)}" if hop.address else "no answer"


def _hops(path: Path) -> str:
    count = path.hops[-1].number
    return f"{count} hop" if count == 1 else f"{count} hops"


def _time(rtt_ms: float | None) -> str:
    return "no round trip time" if rtt_ms is None else f"{rtt_ms:.3f} ms" if rtt_ms < 10 else f"{rtt_ms:.1f} ms"


def _style() -> str:
    light = [f".{name} {{ {what}: {colour} }}" for name, (what, colour, _dark) in COLOURS.items()]
    dark = [f" .{name} {{ {what}: {colour} }}" for name, (what, _light, colour) in COLOURS.items()]
    return "\n".join([STYLE.rstrip(), *light, "@media (prefers-color-scheme: dark) {", *dark, "}", ""])
