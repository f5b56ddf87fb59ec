# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the picture of a lab shows; the structure, not how it looks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.report.layout import lay_out, line_of, way_of
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.report.picture import draw
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.report.report import (
    Lab,
    Report,
    ReportError,
    lab_from_role,
    merged,
    path_from_trace,
    report_from,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.report import FAST, SLOW, role_facts, trace, traces
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT

pytestmark = pytest.mark.controller

SVG = "{http://www.w3.org/2000/svg}"
A_TO_B = ("ekho-host-a", "192.168.12.2")


@pytest.fixture
def lab() -> Lab:
    return lab_from_role(role_facts())


def report(lab: Lab, *given: dict[str, Any]) -> Report:
    return merged(None, lab, [path_from_trace(one, lab) for one in given])


def drawn(lab: Lab, *given: dict[str, Any]) -> ET.Element:
    """The picture as a parser sees it, which proves that it is XML."""
    return ET.fromstring(draw(report(lab, *given)))


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def badges(svg: ET.Element) -> dict[str, tuple[str, str]]:
    """For every numbered hop, by its tooltip, the number and the place."""
    found = {}
    for group in svg.iter(f"{SVG}g"):
        title, circle, number = (group.find(f"{SVG}{tag}") for tag in ("title", "circle", "text"))
        assert title is not None
        assert circle is not None
        assert number is not None
        found[title.text or ""] = (number.text or "", f"{circle.get('cx')} {circle.get('cy')}")
    return found


def ways(svg: ET.Element) -> dict[str, str]:
    """The lines of the ways by their style."""
    lines = ((path.get("class", ""), path.get("d", "")) for path in svg.iter(f"{SVG}path"))
    return {style.removeprefix("way ").removesuffix("-line"): line for style, line in lines if style.startswith("way ")}


def words_outside(svg: ET.Element) -> Iterator[str]:
    """All attributes, which must not refer to other files."""
    for element in svg.iter():
        yield from element.attrib.values()


def test_every_hop_is_numbered(lab: Lab) -> None:
    svg = drawn(lab, *traces(SLOW), *traces(FAST))
    assert {shown: number for shown, (number, _place) in badges(svg).items()} == {
        "Before, hop 1: 192.168.11.1 (ekho-dpu eth3), 0.100 ms": "1",
        "Before, hop 2: 192.168.101.2 (ekho-host eth1), 0.200 ms": "2",
        "Before, hop 3: 192.168.102.1 (ekho-dpu eth2), 0.300 ms": "3",
        "Before, hop 4: 192.168.12.2 (ekho-host-b eth1), 0.400 ms": "4",
        "After, hop 1: 192.168.11.1 (ekho-dpu eth3), 0.100 ms": "1",
        "After, hop 2: 192.168.12.2 (ekho-host-b eth1), 0.200 ms": "2",
    }
    places = [place for _number, place in badges(svg).values()]
    assert len(set(places)) == len(places), "two badges in one place hide one another"


def test_both_paths_are_drawn_with_their_numbers(lab: Lab) -> None:
    svg = drawn(lab, *traces(SLOW), *traces(FAST))
    assert set(ways(svg)) == {"before", "after"}
    assert {"4 hops", "2 hops", "round trip 0.400 ms", "round trip 0.200 ms"} <= set(texts(svg))
    assert "not measured" not in texts(svg)


def test_the_table_has_all_paths_of_both_families(lab: Lab) -> None:
    shown = texts(drawn(lab, *traces(SLOW), *traces(FAST)))
    for source, address in SLOW:
        assert f"{source} to {address}" in shown
    assert shown.count("4 hops, 0.400 ms") == shown.count("2 hops, 0.200 ms") == 4
    assert shown.count("IPv4") == shown.count("IPv6") == 2


def test_the_slow_path_goes_over_the_host(lab: Lab) -> None:
    """It passes the host's interfaces, above the DPU; the fast path is straight."""
    found = report(lab, trace(*A_TO_B, [*SLOW[A_TO_B]]), trace(*A_TO_B, [*FAST[A_TO_B]]))
    ways = {path.kind.value: way_of(path, lab) for path in found.paths}
    assert [":".join(port) for port in ways["slow_path"]] == [
        *("ekho-host-a:eth1", "ekho-dpu:eth3", "ekho-dpu:eth1", "ekho-host:eth1"),
        *("ekho-host:eth2", "ekho-dpu:eth2", "ekho-dpu:eth4", "ekho-host-b:eth1"),
    ]
    assert [":".join(port) for port in ways["fast_path"]] == [
        *("ekho-host-a:eth1", "ekho-dpu:eth3", "ekho-dpu:eth4", "ekho-host-b:eth1"),
    ]
    layout = lay_out(lab)
    up = [y for _x, y in line_of(ways["slow_path"], layout, 0)]
    straight = [y for _x, y in line_of(ways["fast_path"], layout, 0)]
    assert min(up) < layout.boxes["ekho-dpu"].y
    assert len(set(straight)) == 1


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_a_hop_without_an_answer_is_bridged(lab: Lab, silent: int) -> None:
    """The line continues along the only cables, without a badge."""
    answers: list[str | None] = [*SLOW[A_TO_B]]
    expected = ways(drawn(lab, trace(*A_TO_B, answers)))
    answers[silent] = None
    if silent == 1:  # now the answer of another interface proves the slow path
        answers.insert(2, "192.168.102.2")
    svg = drawn(lab, trace(*A_TO_B, answers))
    assert ways(svg) == expected
    assert str(silent + 1) not in [number for number, _place in badges(svg).values()]
    assert f"{silent + 1} no answer" in (svg.findtext(f"{SVG}desc") or "")


def test_machines_and_interfaces_are_those_of_the_role(lab: Lab) -> None:
    shown = texts(drawn(lab, *traces(SLOW)))
    for machine in lab.machines:
        assert machine.name in shown
        for interface in machine.interfaces:
            assert interface.name in shown
            assert interface.address("ipv4") in shown
    assert {"VRF a", "table 10", "VRF b", "table 20"} <= set(shown)
    assert not any("::" in text for text in shown if "/" in text), "the addresses are those of the path that is drawn"


@pytest.mark.parametrize(("answers", "there", "missing"), [(SLOW, "before", "After"), (FAST, "after", "Before")])
def test_one_kind_alone(lab: Lab, answers: dict[tuple[str, str], list[str]], there: str, missing: str) -> None:
    svg = drawn(lab, *traces(answers))
    assert set(ways(svg)) == {there}
    assert texts(svg).count("not measured") == 5  # beside the lab, and in the table
    assert f"{missing}: not measured." in (svg.findtext(f"{SVG}desc") or "")


def test_the_path_with_both_kinds_is_shown(lab: Lab) -> None:
    """Even if the first one, host-a to host-b over IPv4, was measured in one state only."""
    way = ("ekho-host-b", "fd00:11::2")
    svg = drawn(lab, *traces(SLOW), trace(*way, [*FAST[way]]))
    assert set(ways(svg)) == {"before", "after"}
    assert "From ekho-host-b to ekho-host-a" in texts(svg)


def test_ipv6_alone_is_drawn_with_its_addresses(lab: Lab) -> None:
    way = ("ekho-host-a", "fd00:12::2")
    svg = drawn(lab, trace(*way, [*SLOW[way]]))
    assert "fd00:101::1/64" in texts(svg)
    assert not any(text.startswith("192.168.") for text in texts(svg))
    assert len(badges(svg)) == 4


def test_without_measurements_the_picture_says_so(lab: Lab) -> None:
    svg = drawn(lab)
    assert "No path has been measured yet" in texts(svg)
    assert not ways(svg)


def test_an_unclear_path_is_not_drawn(lab: Lab) -> None:
    svg = drawn(lab, trace(*A_TO_B, [None, "192.168.12.2"]))
    assert not ways(svg)
    assert not badges(svg)


def test_names_cannot_break_out() -> None:
    """Names are the user's, not XML: quotes, brackets, an ampersand, and characters that XML cannot represent."""
    name = "<script>\"'&amp;\x00\x1b]]>"
    lab = lab_from_role(role_facts(name=name, kernel=name))
    svg = drawn(lab, *traces(SLOW))
    assert not list(svg.iter(f"{SVG}script"))
    shown = "<script>\"'&amp;\ufffd\ufffd]]>"
    assert svg.findtext(f"{SVG}title") == f"Paths between the end hosts of lab {shown}"


def test_it_is_a_file_of_its_own(lab: Lab) -> None:
    """No script, font, image or link: it looks the same in a README, from a disk, and without a network."""
    svg = drawn(lab, *traces(SLOW), *traces(FAST))
    tags = {element.tag.removeprefix(SVG) for element in svg.iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "path", "circle", "g", "text"}
    style = svg.findtext(f"{SVG}style") or ""
    for word in [*words_outside(svg), style]:
        assert "url(" not in word
        assert "://" not in word
    assert "@import" not in style


def test_both_themes_style_the_same_classes(lab: Lab) -> None:
    svg = drawn(lab, *traces(SLOW), *traces(FAST))
    light, _media, dark = (svg.findtext(f"{SVG}style") or "").partition("@media (prefers-color-scheme: dark)")
    coloured = set(re.findall(r"^\.([\w-]+) \{ (?:fill|stroke): #", light, re.MULTILINE))
    assert set(re.findall(r"^ \.([\w-]+) \{ (?:fill|stroke): #", dark, re.MULTILINE)) == coloured
    used = {name for element in svg.iter() for name in element.get("class", "").split()}
    assert used <= set(re.findall(r"^\.([\w-]+) \{", light, re.MULTILINE)), "a class without a style"


def test_screen_readers_get_the_content(lab: Lab) -> None:
    svg = drawn(lab, *traces(SLOW), *traces(FAST))
    assert svg.get("role") == "img"
    assert [svg.find(f"*[@id='{name}']") is not None for name in svg.get("aria-labelledby", "").split()] == [True, True]
    shown = svg.findtext(f"{SVG}desc") or ""
    for answers in SLOW.values():
        for address in answers:
            assert address in shown


def test_the_same_report_gives_the_same_picture(lab: Lab) -> None:
    given = [*traces(SLOW), *traces(FAST)]
    assert draw(report(lab, *given)) == draw(report(lab, *reversed(given)))


def test_further_end_hosts_are_below_one_another() -> None:
    """Nothing depends on the four names: a third end host in VRF b gets its own row, and the path to it bends."""
    facts = role_facts()
    dpu = {**facts["hosts"][1], "interfaces": [*facts["hosts"][1]["interfaces"]]}
    dpu["interfaces"].append({"name": "eth5", "vrf": "b", "addresses": ["192.168.13.1/24"]})
    third = {"name": "host-c-whose-name-is-long", "interfaces": [{"name": "eth1", "addresses": ["192.168.13.2/24"]}]}
    lab = lab_from_role(
        {
            **facts,
            "hosts": [facts["hosts"][0], dpu, *facts["hosts"][2:], third],
            "links": [*facts["links"], [f"{third['name']}:eth1", "dpu:eth5"]],
            "groups": {**facts["groups"], third["name"]: ["ekho_lab_end_hosts"]},
        }
    )
    boxes = lay_out(lab).boxes
    below = boxes[f"ekho-{third['name']}"]
    assert below.x == boxes["ekho-host-b"].x > boxes["ekho-host-a"].x
    assert below.y > boxes["ekho-host-b"].y + boxes["ekho-host-b"].height
    svg = drawn(lab, trace("ekho-host-a", "192.168.13.2", ["192.168.11.1", "192.168.13.2"]))
    assert "Q" in ways(svg)["after"]
    assert len(badges(svg)) == 2
    [name] = (element for element in svg.iter(f"{SVG}text") if element.text == f"ekho-{third['name']}")
    assert "font-size" in name.get("style", ""), "a name that is too long for its box is smaller"


def test_a_lab_without_a_host_is_refused() -> None:
    facts = role_facts()
    hosts = [host for host in facts["hosts"] if host["name"] != "host"]
    lab = lab_from_role({**facts, "hosts": hosts, "links": facts["links"][:2]})
    with pytest.raises(ReportError, match="one machine of role host, and this lab has 0"):
        draw(report(lab))


def test_the_picture_in_the_documentation_is_what_the_program_draws() -> None:
    """Nobody draws it by hand, and it changes with the program: `make picture` writes both files."""
    values = report_from(json.loads((CHECKOUT / "docs" / "report.json").read_text()))
    assert values is not None, "docs/report.json is of another version: run `make picture`"
    assert (CHECKOUT / "docs" / "lab.svg").read_text() == draw(values) + "\n", "run `make picture`"
    assert {(path.kind.value, len(path.hops)) for path in values.paths} == {("slow_path", 4), ("fast_path", 2)}
