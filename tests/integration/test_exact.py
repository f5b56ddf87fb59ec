# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Once events stop, the mirrored tables equal map(the host's table), whatever happened before: by random histories.

What is expected is worked out here from what `ip route` shows of the host at the end, with nothing of the library. The
histories are drawn from a seed, so that a failure comes again with the same one.

VRF a and b know where to send the packets themselves, so it is VRF c that the mirror is for.
"""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import (
    TRAP_METRIC,
    MirrorLab,
    Pair,
    RouteMonitor,
    batch,
    words_of,
)
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

VRFS: dict[str, Any] = {
    "a": {"table": 10, "links": ["eth1", "eth3"]},
    "b": {"table": 20, "links": ["eth2", "eth4"]},
    "c": {"table": 30},
}
#: By family: prefixes, the last one around all others; gateways into VRF a (on eth1) and VRF b (on eth2), and the
#: egresses they stand for; and how VRF c reaches the host.
WAYS: dict[str, dict[str, Any]] = {
    "-4": {
        "prefixes": [f"10.0.{number}.0/24" for number in range(5)] + ["10.0.0.0/16"],
        "to": {"a": ["192.168.101.1", "192.168.101.11"], "b": ["192.168.102.1"]},
        "egress": {"a": "via 192.168.11.2 dev eth3", "b": "via 192.168.12.2 dev eth4"},
        "host": "via 192.168.102.2 dev eth2",
    },
    "-6": {
        "prefixes": [f"fd01:0:0:{number}::/64" for number in range(1, 5)] + ["fd01::/32"],
        "to": {"a": ["fd00:101::1", "fd00:101::11"], "b": ["fd00:102::1"]},
        "egress": {"a": "via fd00:11::2 dev eth3", "b": "via fd00:12::2 dev eth4"},
        "host": "via fd00:102::2 dev eth2",
    },
}


#: A route by links that no history touches.
MARKER = "10.77.0.0/16"


def _prepare(lab: MirrorLab) -> Pair:
    for subnet, link, table in ((11, "eth3", 10), (12, "eth4", 20)):
        batch(
            lab.dpu,
            f"route add 10.0.0.0/8 via 192.168.{subnet}.2 dev {link} table {table}",
            f"route add fd01::/16 via fd00:{subnet}::2 dev {link} table {table}",
        )
    for ways in WAYS.values():  # by the link that no history touches
        lab.dpu.ip(f"route replace default {ways['host']} table 30")
    # A second address of eth1, so that a host's route may have two hops into one VRF.
    batch(lab.dpu, "address add 192.168.101.11/24 dev eth1 noprefixroute", "address add fd00:101::11/64 dev eth1 nodad")
    lab.dpu.ip("-6 route del fd00:101::/64 dev eth1 table main")
    lab.host.sysctl("net.ipv6.conf.all.keep_addr_on_down", 1)
    lab.host.ip(f"route add {MARKER} via 192.168.102.1")
    return lab.mirror(agent={"vrfs": VRFS}, listener={"agents": [{"address": "192.168.102.1"}]})


# -- histories


def _host_step(draw: random.Random) -> list[str]:
    """One thing that happens on the host, as lines of `ip -batch`; some make no sense at that moment, as in life."""
    ways = WAYS[draw.choice(("-4", "-6"))]
    prefix = draw.choice(ways["prefixes"])
    gateway = draw.choice(ways["to"]["a"] + ways["to"]["b"])
    metric = draw.choice(("", "", " metric 10", " metric 20"))
    hops = draw.sample(ways["to"]["a"] + ways["to"]["b"], 2)
    hops_words = " ".join(f"nexthop via {hop} weight {draw.randint(1, 3)}" for hop in hops)
    number = draw.choice((1, 2))
    device = "eth2" if gateway in ways["to"]["b"] else "eth1"
    verb = draw.choice(("add", "add", "append", "prepend", "replace", "replace", "change"))
    family = 0 if ways is WAYS["-4"] else 100  # nexthop objects have a family too
    group = draw.choice((f"{family + 1}", f"{family + 2},3", f"{family + 1}/{family + 2},2"))
    return draw.choices(
        [
            [f"route {verb} {prefix} via {gateway}{metric}"],
            [f"route del {prefix}{metric}"],
            [f"route {draw.choice(('replace', 'append'))} {prefix}{metric} {hops_words}"],
            [f"nexthop replace id {family + number} via {gateway} dev {device}"],
            [f"nexthop replace id {family + 10} group {group}"],
            [f"route replace {prefix}{metric} nhid {family + draw.choice((1, 2, 10))}"],
            [f"nexthop del id {family + draw.choice((1, 2, 10))}"],
            ["link set eth1 down", "link set eth1 up"],
            ["link set eth1 down"],
            ["link set eth1 up"],
            ["address del 192.168.101.2/24 dev eth1", "address add 192.168.101.2/24 dev eth1"],
            [f"route add blackhole {prefix}{metric}"],
            [f"route del {prefix} via {gateway}"],
        ],
        weights=[8, 5, 4, 3, 2, 4, 1, 1, 0.5, 1, 0.5, 1, 2],
    )[0]


def _live(lab: MirrorLab, lines: list[str]) -> None:
    """Run lines on the host that may fail."""
    lab.host.run("ip", "-force", "-batch", "-", stdin="".join(line + "\n" for line in lines), check=False)


def _dpu_step(draw: random.Random) -> list[str]:
    """One thing that people, or the agent's rivals, do on the DPU."""
    family = draw.choice(("-4", "-6"))
    ways = WAYS[family]
    prefix, table = draw.choice(ways["prefixes"]), draw.choice((10, 20, 30))
    wide = {"-4": "10.0.0.0/8", "-6": "fd01::/16"}[family]
    part = {"-4": "10.0.2.0/23", "-6": "fd01:0:0:2::/63"}[family]
    way = draw.choice(list(ways["egress"].values()))
    own = draw.choice((way, ways["host"])) if table == 30 else way
    mirrored = draw.choice(("10.0.0.0/24", "10.9.0.0/24", "fd01:0:0:1::/64", "fd01:9::/64"))
    return draw.choices(
        [
            [f"{family} route replace {wide} {way} table {draw.choice((10, 20))} proto boot"],
            [f"{family} route add unreachable {part} table {draw.choice((10, 20))}"],
            [f"{family} route add {part} {way} table {draw.choice((10, 20))}"],
            [f"{family} route del {part} table {draw.choice((10, 20))}"],
            [f"{family} route del {prefix} table {table} proto 121"],
            [f"{family} route replace {prefix} {own} table {table} proto static"],
            [f"{family} route add {prefix} {own} table {table} proto static metric {draw.choice((5, 2000))}"],
            [f"{family} route del {prefix} table {table} proto static"],
            [f"{family} route add {mirrored} {way} table {table} proto 121"],
            ["address del 192.168.101.1/24 dev eth1", "address add 192.168.101.1/24 dev eth1 noprefixroute"],
            ["address del fd00:102::1/64 dev eth2", "address add fd00:102::1/64 dev eth2 nodad noprefixroute"],
            ["link set eth3 down", "link set eth3 up"],
        ],
        weights=[3, 1, 2, 2, 4, 4, 2, 5, 2, 1, 1, 0.5],
    )[0]


# -- what is to be seen in the end


def _expected(lab: MirrorLab) -> dict[str, list[str]]:
    """The mirrored tables that the host's main table asks for."""
    found = [f"{MARKER} {WAYS['-4']['egress']['b']}"]
    for family, ways in WAYS.items():
        seen: dict[str, str | None] = {}  # by prefix, the egress; None: it stays on the slow path
        for route in lab.host.ip_json(f"{family} route show table main"):
            prefix = words_of({**route, "dev": "x"}, family).split()[0]
            if prefix not in ways["prefixes"] or prefix in seen:
                continue
            hops = [hop for hop in route.get("nexthops", [route]) if "dead" not in hop.get("flags", ())]
            if not hops and route["type"] == "unicast":
                continue  # the kernel passes over it too
            seen[prefix] = None
            if route["type"] != "unicast":
                continue
            weights: dict[str, int] = {}
            for hop in hops:
                vrf = next(name for name, gateways in ways["to"].items() if hop["gateway"] in gateways)
                weights[vrf] = weights.get(vrf, 0) + (hop.get("weight", 1) if len(hops) > 1 else 1)
            common = math.gcd(*weights.values())  # only the ratio of weights means something
            egresses = [f"{ways['egress'][vrf]} weight {weight // common}" for vrf, weight in weights.items()]
            words = ways["egress"][next(iter(weights))] if len(weights) == 1 else " + ".join(sorted(egresses))
            seen[prefix] = words
        # What is slow needs a route where the prefix around it is not.
        traps = seen.get(ways["prefixes"][-1]) is not None
        found += [f"{prefix} {words or ways['host']}" for prefix, words in seen.items() if words or traps]
    return {"a": [], "b": [], "30": sorted(found)}


def _mirrored(lab: MirrorLab) -> dict[str, list[str]]:
    return {"30": [], **lab.mirrored()}


@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_the_host_ends_in_the_right_tables(lab: MirrorLab, seed: int) -> None:
    draw = random.Random(seed)
    mirror = _prepare(lab)
    for _round in range(6):
        lines = [line for _step in range(draw.randint(1, 40)) for line in _host_step(draw)]
        _live(lab, lines)
        try:
            until(lambda: _mirrored(lab) == _expected(lab), True)
        except AssertionError as error:
            shown = "".join(lab.host.ip(f"{family} route show table main") for family in WAYS)
            told = f"is {_mirrored(lab)}\nis to be {_expected(lab)}\nthe host:\n{shown}\nthe last round:\n"
            raise AssertionError(told + "\n".join(lines)) from error
    _nothing_is_left_to_do(lab, mirror)


def _nothing_is_left_to_do(lab: MirrorLab, mirror: Pair) -> None:
    """What followed step by step is what a fresh start finds, so that writes nothing."""
    _links_have_settled(lab)
    _heard_of_all(lab)
    mirror.synced()
    monitor = RouteMonitor(lab.dpu, lab.folder)
    states = _states(mirror)
    for daemon in (mirror.listener, mirror.agent):
        daemon.end()
        daemon.start()
    mirror.agent.ready()
    mirror.listener.ready()
    mirror.synced()
    assert monitor.lines() == []
    assert _states(mirror) == states
    assert "Traceback" not in mirror.agent.log() + mirror.listener.log()


def _links_have_settled(lab: MirrorLab) -> None:
    """Wait for what the kernel itself does late, by its link watch: revive the hops of a link that came up."""
    lab.host.ip("link set eth1 up")
    for namespace in (lab.host, lab.dpu):
        for family in WAYS:
            until(lambda n=namespace, f=family: "linkdown" in n.ip(f"{f} route show table all"), False)


def _states(mirror: Pair) -> dict[str, tuple[str, str | None]]:
    return {prefix: (route["state"], route["reason"]) for prefix, route in mirror.agent.routes().items()}


# -- the DPU's side


def _told(mirror: Pair) -> dict[str, list[str]]:
    """What the agent says is installed for announced routes, in the words of ``_mirrored``."""
    tables: dict[str, list[str]] = {"a": [], "b": [], "30": []}
    for prefix, route in mirror.agent.routes().items():
        usual = 1024 if ":" in prefix else 0
        for installed in route["installed"]:
            metric = "" if installed.get("metric", 0) in (usual, TRAP_METRIC) else f" metric {installed['metric']}"
            hops = [
                f"via {hop['gateway']} dev {hop['dev']}" + (f" weight {hop['weight']}" if "weight" in hop else "")
                for hop in installed["nexthops"]
            ]
            table = tables["30" if installed["vrf"] == "c" else installed["vrf"]]
            table.append(f"{prefix} {' + '.join(sorted(hops))}{metric}")
    return {name: sorted(routes) for name, routes in tables.items()}


def _agrees(lab: MirrorLab, mirror: Pair) -> bool:
    """Whether the kernel has what the agent says: route by route what was announced, by number what is inside of it."""
    told, there, announced = _told(mirror), _mirrored(lab), set(mirror.agent.routes())
    kept = {name: [line for line in lines if line.split()[0] in announced] for name, lines in there.items()}
    numbers = {str(vrf["table"]) if vrf["vrf"] == "c" else vrf["vrf"]: vrf["routes"] for vrf in _vrfs(mirror)}
    return told == kept and numbers == {name: len(lines) for name, lines in there.items()}


def _vrfs(mirror: Pair) -> list[dict[str, Any]]:
    vrfs: list[dict[str, Any]] = mirror.agent.status()["vrfs"]
    return vrfs


@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_the_dpu_ends_as_the_agent_says(lab: MirrorLab, seed: int) -> None:
    draw = random.Random(seed)
    mirror = _prepare(lab)
    for _round in range(5):
        _live(lab, [line for _step in range(draw.randint(1, 20)) for line in _host_step(draw)])
        lines = [line for _step in range(draw.randint(1, 15)) for line in _dpu_step(draw)]
        _dpu_lives(lab, lines)
        _heard_of_all(lab)
        try:
            until(lambda: _agrees(lab, mirror), True)
        except AssertionError:
            raise AssertionError(f"told {_told(mirror)}\nis {_mirrored(lab)}\n" + "\n".join(lines)) from None
    _nothing_is_left_to_do(lab, mirror)


def _heard_of_all(lab: MirrorLab) -> None:
    """Wait until the agent has followed everything on the DPU: it hears of changes in their order, and maps in turns.

    Once it has followed a change, it has heard of all before; after one more, it has mapped what it had heard of.
    """
    for last in (3, 4):
        way = f"via 192.168.12.{last} dev eth4"
        lab.dpu.ip(f"route replace {MARKER} {way} table 20")
        until(lambda w=way: f"{MARKER} {w}" in _mirrored(lab)["30"], True)


def _dpu_lives(lab: MirrorLab, lines: list[str]) -> None:
    """`ip -batch` takes the family from the command line, so lines of both go out in runs."""
    for family, run in itertools.groupby(lines, key=lambda line: line[:2] if line.startswith("-") else ""):
        options = (family,) if family else ()
        text = "".join(line[len(family) :].lstrip() + "\n" for line in run)
        lab.dpu.run("ip", *options, "-force", "-batch", "-", stdin=text, check=False)
