# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of an SVG file, with ElementTree, which escapes all texts and attributes. Pure; units are pixels."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

Point = tuple[float, float]

# Characters that XML 1.0 cannot represent, not even escaped.
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Font size, and the largest average width of a character, for text and for class "mono" (see `picture.STYLE`).
TEXT_SIZE, TEXT_WIDTH = 13, 7.0
MONO_SIZE, MONO_WIDTH = 11, 6.7
STRONG = 1.15  # the factor for the width of class "strong"


def root(width: float, height: float, title: str, description: str) -> ET.Element:
    """The document, with title and description for screen readers."""
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-labelledby": "title desc"})
    svg.attrib.update(_attributes(width=width, height=height, viewBox=f"0 0 {_number(width)} {_number(height)}"))
    add(svg, "title", title, id="title")
    add(svg, "desc", description, id="desc")
    return svg


def add(parent: ET.Element, tag: str, content: str | None = None, **attributes: float | str) -> ET.Element:
    """Add an element to ``parent``; ``cls`` is its class."""
    element = ET.SubElement(parent, tag, _attributes(**attributes))
    element.text = None if content is None else NO_XML.sub("\ufffd", content)
    return element


def text(parent: ET.Element, x: float, y: float, content: str, style: str, room: float | None = None) -> None:
    """Add a line of text, in a smaller font if it probably needs more than ``room``."""
    element = add(parent, "text", content, cls=style, x=x, y=y)
    size, width = (MONO_SIZE, MONO_WIDTH) if "mono" in style.split() else (TEXT_SIZE, TEXT_WIDTH)
    need = len(content) * width * (STRONG if "strong" in style.split() else 1)
    if room is not None and need > room:
        element.set("style", f"font-size: {_number(size * room / need)}px")


def line(points: list[Point], radius: float = 0) -> str:
    """The `d` of a path through these points, with rounded bends."""
    steps = [f"M {_pair(points[0])}"]
    for before, here, after in zip(points, points[1:], points[2:]):
        turn = (here[0] - before[0]) * (after[1] - here[1]) - (here[1] - before[1]) * (after[0] - here[0])
        if radius and turn:
            start, end = _towards(here, before, radius), _towards(here, after, radius)
            steps.append(f"L {_pair(start)} Q {_pair(here)} {_pair(end)}")
        else:
            steps.append(f"L {_pair(here)}")
    return " ".join([*steps, f"L {_pair(points[-1])}"])


def _attributes(**attributes: float | str) -> dict[str, str]:
    return {
        {"cls": "class"}.get(name, name): value if isinstance(value, str) else _number(value)
        for name, value in attributes.items()
    }


def _towards(point: Point, other: Point, distance: float) -> Point:
    """The point ``distance`` from ``point`` towards ``other``, at most half way."""
    across, down = other[0] - point[0], other[1] - point[1]
    part = min(distance / (across**2 + down**2) ** 0.5, 0.5)
    return (point[0] + across * part, point[1] + down * part)


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """At most two digits after the point, and none that are zero."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
