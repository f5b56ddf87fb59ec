# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The FIB view against an ordered look-up, rule by rule and address by address, which knows nothing of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.filters import Filters
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener import fib_view
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.fib_view import FibView
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.layers import Machine, layers_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import GOTO, NOP, Link, Rule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    DISCARD_TYPES,
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTN_XRESOLVE,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import Entry, paths_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.filters import Selection
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib

MAIN, LOCAL, DEFAULT = 254, 255, 253
TABLES = (MAIN, LOCAL, DEFAULT, 100, 200)
LINKS = {1: Link(1, "lo"), 2: Link(2, "eth1"), 3: Link(3, "eth2"), 9: Link(9, "red", vrf_table=30)}
GATEWAYS = tuple(Address.parse(f"192.0.2.{number}") for number in (1, 2, 3))


class Host:
    """Tables, rules and filters of a host, and its view."""

    def __init__(self, family: int = AF_INET, tables: tuple[int, ...] = (MAIN,), **filters: Any) -> None:
        self.family = family
        self.rib = Rib(TABLES)
        self.tables = tables
        self.selection = Selection(Filters.from_dict(filters), LINKS)
        self.rules = [Rule(family, 0, LOCAL), Rule(family, 32766, MAIN), Rule(family, 32767, DEFAULT)]
        self.ignored: tuple[int, ...] = ()
        self.machine = Machine(LINKS)
        self.view = FibView(self.rib)
        self.announced: dict[int, Path] = {}

    def route(self, prefix: str, path: Path | None = None, **fields: Any) -> Host:
        """Put a route into a table, by default one through a gateway in main."""
        path = path or Path(self.family, **{"nexthops": (NextHop(GATEWAYS[0], 2),), "protocol": 4, **fields})
        self.rib.tables.setdefault((self.family, path.table), {})[Prefix.parse(prefix).key] = path
        return self

    def compile(self) -> None:
        layers = {self.family: layers_of(self.family, self.rules, self.machine, self.ignored)}
        self.send(self.view.compile(layers, self.selection, self.tables).get(self.family, set()))

    def send(self, keys: set[int]) -> None:
        """What a session does with prefixes that may have changed."""
        puts, drops, _hidden = self.view.look_up(self.family, sorted(keys, reverse=True))
        self.announced.update(puts)
        for key in drops:
            self.announced.pop(key, None)

    def words(self) -> dict[str, str]:
        """What is announced, by prefix: the gateway, the type, or the reason."""
        if not self.view.steps:
            self.compile()
        return {str(Prefix.from_key(self.family, key)): words(path) for key, path in sorted(self.announced.items())}


def words(path: Path) -> str:
    if path.type == RTN_XRESOLVE:
        return path.reason or "?"
    if path.type != RTN_UNICAST:
        return {RTN_LOCAL: "local", RTN_THROW: "throw", RTN_BLACKHOLE: "blackhole", RTN_UNREACHABLE: "unreachable"}[
            path.type
        ]
    return "+".join(str(hop.gateway or LINKS[hop.oif or 0].name) for hop in path.nexthops)


def local(table: int = LOCAL) -> Path:
    return Path(AF_INET, table, RTN_LOCAL, 2, nexthops=(NextHop(oif=1),))


# -- what users meet --------------------------------------------------------------------------------------------------


def test_the_hosts_own_addresses_and_links_are_part_of_the_view() -> None:
    host = Host().route("10.0.0.0/8").route("10.20.0.5", local())
    host.route("10.1.0.0/16", nexthops=(NextHop(oif=3),), protocol=2)
    host.route("10.66.6.6", Path(AF_INET, type=RTN_BLACKHOLE))
    assert host.words() == {
        "10.0.0.0/8": "192.0.2.1",
        "10.1.0.0/16": "eth2",
        "10.20.0.5/32": "local",
        "10.66.6.6/32": "blackhole",
    }
    assert {path.table for path in host.announced.values()} == {MAIN}


def test_what_an_earlier_table_covers_is_masked() -> None:
    host = Host().route("127.1.0.0/16").route("127.0.0.0/8", local()).route("10.0.0.0/8")
    host.route("10.0.0.0/8", table=DEFAULT, nexthops=(NextHop(GATEWAYS[1], 2),))
    host.route("10.1.0.0/16", table=DEFAULT).route("0.0.0.0/0", table=DEFAULT)
    assert host.words() == {
        "0.0.0.0/0": "decided by table default, which `tables` does not list",
        "10.0.0.0/8": "192.0.2.1",
        "127.0.0.0/8": "local",
    }


def test_a_table_before_main_decides_and_is_slow_unless_it_is_listed() -> None:
    for tables, said in (((MAIN,), "decided by table 220, which `tables` does not list"), ((MAIN, 220), "192.0.2.2")):
        host = Host(tables=tables).route("10.0.0.0/8").route("10.5.1.0/24")
        host.route("10.5.0.0/16", table=220, nexthops=(NextHop(GATEWAYS[1], 2),))
        host.rules.insert(1, Rule(AF_INET, 220, 220))
        assert host.words() == {"10.0.0.0/8": "192.0.2.1", "10.5.0.0/16": said}


def test_a_rule_to_a_prefix_decides_about_that_prefix() -> None:
    host = Host().route("10.0.0.0/8").route("10.6.7.0/24").route("0.0.0.0/0", table=77)
    host.rules[1:1] = [
        Rule(AF_INET, 5, 0, destination=Prefix.parse("10.6.0.0/16"), action=7),
        Rule(AF_INET, 6, 77, destination=Prefix.parse("10.7.0.0/16"), iif="eth2"),
    ]
    assert host.words() == {
        "10.0.0.0/8": "192.0.2.1",
        "10.6.0.0/16": "unreachable",
        "10.7.0.0/16": "rule 6: from all to 10.7.0.0/16 iif eth2 lookup 77 may apply",
    }
    host.ignored = (5, 6)
    host.compile()
    assert host.words() == {"10.0.0.0/8": "192.0.2.1", "10.6.7.0/24": "192.0.2.1"}


def test_wg_quick() -> None:
    host = Host().route("0.0.0.0/0").route("10.0.0.0/8")
    host.route("0.0.0.0/0", table=51820, nexthops=(NextHop(oif=3),))
    host.rules[1:1] = [
        Rule(AF_INET, 32764, MAIN, suppress=0),
        Rule(AF_INET, 32765, 51820, conditions=("fwmark 0xca6c",), invert=True),
    ]
    assert host.words() == {
        "0.0.0.0/0": "rule 32765: not from all fwmark 0xca6c lookup 51820 may apply",
        "10.0.0.0/8": "192.0.2.1",
    }


@pytest.mark.parametrize(
    "rule",
    [
        Rule(AF_INET, 9, 100, iif="lo"),
        Rule(AF_INET, 9, 100, iif="gone"),
        Rule(AF_INET, 9, 100, oif="eth1"),
        Rule(AF_INET, 9, 100, uids=(1, 5)),
        Rule(AF_INET, 9, 0, l3mdev=True),
        Rule(AF_INET, 9, 100, invert=True),
        Rule(AF_INET, 9, 0, action=NOP),
        Rule(AF_INET, 9, 0, action=GOTO, goto=300),
        Rule(AF_INET6, 9, 100),
    ],
    ids=lambda rule: rule.words,
)
def test_rules_that_mean_no_forwarded_packet_change_nothing(rule: Rule) -> None:
    host = Host().route("10.0.0.0/8").route("0.0.0.0/0", table=100)
    host.rules.insert(1, rule)
    assert host.words() == {"10.0.0.0/8": "192.0.2.1"}


@pytest.mark.parametrize(
    "rule",
    [
        Rule(AF_INET, 9, 100, iif="eth1"),
        Rule(AF_INET, 9, 100, oif="red"),
        Rule(AF_INET, 9, 100, uids=(0, 5)),
        Rule(AF_INET, 9, 100, source=Prefix.parse("10.0.0.0/8")),
        Rule(AF_INET, 9, 100, conditions=("attribute 31",)),
        Rule(AF_INET, 9, 100, conditions=("tos 0x10",), action=7),
    ],
    ids=lambda rule: rule.words,
)
def test_a_rule_that_may_apply_makes_what_it_covers_slow(rule: Rule) -> None:
    host = Host().route("10.0.0.0/8").route("0.0.0.0/0", table=100)
    host.rules.insert(1, rule)
    assert host.words() == {"0.0.0.0/0": f"rule {rule.words} may apply"}


def test_a_jump_that_is_certain_is_followed_and_another_one_makes_the_rules_between_uncertain() -> None:
    jump = Rule(AF_INET, 9, 0, action=GOTO, goto=32766)
    host = Host().route("10.0.0.0/8").route("10.1.0.0/16", table=100)
    host.rules[1:1] = [jump, Rule(AF_INET, 10, 100)]
    assert host.words() == {"10.0.0.0/8": "192.0.2.1"}
    jump = replace(jump, destination=Prefix.parse("10.0.0.0/9"))
    host.rules[1] = jump
    host.compile()
    assert host.words() == {"10.0.0.0/8": "192.0.2.1", "10.1.0.0/16": f"rule {jump.words} may pass over rule 10"}


def test_uplinks_in_a_vrf_of_the_host_make_everything_slow() -> None:
    host = Host().route("10.0.0.0/8")
    host.rules.insert(1, Rule(AF_INET, 1000, 0, l3mdev=True))
    host.machine = Machine({**LINKS, 2: Link(2, "eth1", master=9)}, {2})
    text = "rule 1000: from all lookup [l3mdev-table] applies to eth1: uplinks in a VRF of the host are not supported"
    assert host.words() == {"0.0.0.0/0": text}


def test_filters_keep_routes_on_the_slow_path_and_excluded_prefixes_whatever_routes_there_are() -> None:
    host = Host(exclude_prefixes=["10.1.0.0/16", "exact 10.2.0.0/16"], exclude_protocols=["kernel", "bgp"])
    host.route("10.0.0.0/8").route("10.1.2.0/24").route("10.2.0.0/16").route("10.3.0.0/16", protocol=186)
    host.route("10.4.0.0/16", nexthops=(NextHop(oif=3),), protocol=2).route("10.2.1.0/24")
    assert host.words() == {
        "10.0.0.0/8": "192.0.2.1",
        "10.1.0.0/16": "filtered: the prefix matches filters.exclude_prefixes (10.1.0.0/16)",
        "10.2.0.0/16": "filtered: the prefix matches filters.exclude_prefixes (exact 10.2.0.0/16)",
        "10.2.1.0/24": "192.0.2.1",
        "10.3.0.0/16": "filtered: protocol bgp is in filters.exclude_protocols",
        "10.4.0.0/16": "eth2",
    }


def test_what_the_wire_cannot_say_is_slow_with_the_reason() -> None:
    host = Host().route("10.1.0.0/16", extras=("encap",)).route("10.3.0.0/16", nh_id=7, dead_links=(3,))
    host.route("10.4.0.0/16", nh_id=8, nexthops=())
    host.rib.tables[AF_INET, MAIN][Prefix.parse("10.2.0.0/16").key] = (Path(AF_INET, tos=16), Path(AF_INET))
    assert host.words() == {
        "10.1.0.0/16": "the wire format cannot express encap",
        "10.2.0.0/16": "the prefix has routes for a tos: 0x10",
        "10.3.0.0/16": "192.0.2.1",
        "10.4.0.0/16": "next hops of nexthop object 8 unknown",
    }
    assert host.announced[Prefix.parse("10.3.0.0/16").key].nh_id is None


def test_the_decision_about_an_address_names_its_rule_and_table() -> None:
    host = Host().route("10.0.0.0/8").route("10.5.0.0/16", table=100)
    host.rules.insert(1, Rule(AF_INET, 9, 100))
    host.compile()
    for text, prefix, table, priority in (
        ("10.5.6.7", "10.5.0.0/16", 100, 9),
        ("10.0.0.0/10", "10.0.0.0/8", MAIN, 32766),
    ):
        found = host.view.decision(Prefix.parse(text))
        assert found is not None
        assert found.step.layer is not None
        assert (str(found.prefix), found.table, found.step.layer.rule.priority) == (prefix, table, priority)
    assert host.view.decision(Prefix.parse("11.0.0.0/8")) is None


# -- an ordered look-up, written again --------------------------------------------------------------------------------


class Packet(NamedTuple):
    """A forwarded packet: its destination, its DS field, and for each rule with a condition whether it is met."""

    address: int
    tos: int
    meets: tuple[bool, ...]


Tables = dict[int, dict[Prefix, tuple[Path, ...]]]


def kernel(rules: list[Rule], tables: Tables, packet: Packet, family: int) -> Path | None:
    """What the kernel does: a route, the discard of a rule, or nothing."""
    where = 0
    while where < len(rules):
        rule, met = rules[where], packet.meets[where]
        where += 1
        to = rule.destination
        if (to is not None and not holds(to, packet.address)) or (is_conditional(rule) and not met):
            continue
        if rule.action == GOTO:
            where = next((n for n, other in enumerate(rules) if other.priority == rule.goto), where)
        elif rule.action in DISCARD_TYPES:
            return Path(family, type=rule.action)
        elif rule.action == 1:
            found = longest(tables.get(rule.table, {}), packet)
            if found is None or found[1].type == RTN_THROW:
                continue
            prefix, path = found
            if rule.suppress is not None and prefix.length <= rule.suppress and path.type not in DISCARD_TYPES:
                continue
            return path
    return None


def holds(prefix: Prefix, address: int) -> bool:
    return address >> (WIDTH[prefix.family] - prefix.length) == prefix.value >> (WIDTH[prefix.family] - prefix.length)


def is_conditional(rule: Rule) -> bool:
    return bool(rule.conditions)


def longest(table: dict[Prefix, tuple[Path, ...]], packet: Packet) -> tuple[Prefix, Path] | None:
    for prefix, routes in table.items():
        if holds(prefix, packet.address):
            for path in routes:
                if path.tos in (0, packet.tos) and "dead" not in path.extras:
                    return prefix, path
    return None


@dataclass
class Case:
    """A random host; each table has its longest prefixes first."""

    family: int
    rules: list[Rule]
    tables: Tables = field(default_factory=dict)

    def fates(self, address: int) -> set[Path | None]:
        """Everything that may become of packets to an address."""
        free = [(False, True) if is_conditional(rule) else (True,) for rule in self.rules]
        packets = (Packet(address, tos, meets) for tos in (0, 16) for meets in itertools.product(*free))
        return {kernel(self.rules, self.tables, packet, self.family) for packet in packets}

    def edges(self) -> set[int]:
        """The first and the last address of every prefix, and their neighbours."""
        width = WIDTH[self.family]
        prefixes = [prefix for table in self.tables.values() for prefix in table]
        prefixes += [rule.destination for rule in self.rules if rule.destination is not None]
        found = {0, (1 << width) - 1}
        for prefix in prefixes:
            last = prefix.value + (1 << (width - prefix.length)) - 1
            found |= {prefix.value - 1, prefix.value, last, last + 1}
        return {address for address in found if 0 <= address < 1 << width}


FAMILIES = st.sampled_from((AF_INET, AF_INET6))


@st.composite
def prefixes(draw: st.DrawFn, family: int) -> Prefix:
    """Few bits, so that prefixes meet."""
    width = WIDTH[family]
    length = draw(st.sampled_from((0, 1, 2, 3, 4, width - 1, width)))
    head = draw(st.integers(0, 15)) << (width - 4) | draw(st.integers(0, 3))
    return Prefix(family, head, length).masked()


@st.composite
def paths(draw: st.DrawFn, family: int, table: int) -> Path:
    kind = draw(st.sampled_from((*[RTN_UNICAST] * 6, RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_THROW)))
    hops: tuple[NextHop, ...] = ()
    if kind == RTN_UNICAST:
        gateway = draw(st.sampled_from((*GATEWAYS, None)))
        hops = (NextHop(gateway, draw(st.sampled_from((2, 3)))),)
    extras = draw(st.sampled_from((*[()] * 8, ("dead",), ("encap",))))
    return Path(family, table, kind, 4, nexthops=hops, extras=extras)


@st.composite
def entries(draw: st.DrawFn, family: int, table: int) -> Entry:
    path = draw(paths(family, table))
    if family == AF_INET and draw(st.integers(0, 9)) == 0:
        return (replace(draw(paths(family, table)), tos=16), path)
    return path


@st.composite
def rule_lists(draw: st.DrawFn, family: int) -> list[Rule]:
    found = []
    priorities = sorted(draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)))
    for priority in priorities:
        action = draw(st.sampled_from((*[1] * 8, GOTO, NOP, RTN_BLACKHOLE, RTN_UNREACHABLE)))
        rule = Rule(
            family,
            priority,
            draw(st.sampled_from(TABLES)),
            destination=draw(st.none() | st.none() | prefixes(family)),
            conditions=draw(st.sampled_from(((), (), ("fwmark 0x1",)))),
            action=action,
            goto=draw(st.integers(priority + 1, 14)) if action == GOTO else None,
            suppress=draw(st.sampled_from((None, None, None, 0, 2))) if action == 1 else None,
        )
        if rule.destination is not None and not rule.destination.length:
            rule = replace(rule, destination=None)
        found.append(rule)
    return found


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    host = Host(draw(FAMILIES), tables=draw(st.sampled_from(((MAIN,), (MAIN, 100), TABLES))))
    host.rules = draw(rule_lists(host.family))
    for table in draw(st.sets(st.sampled_from(TABLES))):
        mine = draw(st.dictionaries(prefixes(host.family).map(lambda p: p.key), entries(host.family, table)))
        host.rib.tables[host.family, table] = mine
    host.compile()
    return host


def case_of(host: Host) -> Case:
    tables = {
        table: {Prefix.from_key(host.family, key): paths_of(entries[key]) for key in sorted(entries, reverse=True)}
        for (_family, table), entries in host.rib.tables.items()
    }
    return Case(host.family, host.rules, tables)


def match(announced: dict[int, Path], family: int, address: int) -> Path | None:
    width = WIDTH[family]
    for length in range(width, -1, -1):
        path = announced.get(length << width | address >> (width - length))
        if path is not None:
            return path
    return None


def as_announced(path: Path) -> Path:
    return replace(path, table=MAIN)


def check(host: Host) -> None:
    """For every edge: what is announced as certain is the only fate; what is slow is so for a reason."""
    case = case_of(host)
    for address in case.edges():
        found, fates = match(host.announced, host.family, address), case.fates(address)
        at = str(Address(host.family, address))
        if found is None:
            assert fates == {None}, at
        elif found.type not in (RTN_XRESOLVE, RTN_THROW):
            assert {fate and as_announced(fate) for fate in fates} == {found}, at
        elif is_simple(case):
            (fate,) = fates
            assert fate is not None, at
            unlisted = fate.table not in host.tables and any(hop.gateway for hop in fate.nexthops)
            assert unlisted or fate.extras, at


def is_simple(case: Case) -> bool:
    """Whether nothing is uncertain: then only the user's tables and the wire format are reasons."""
    every = [path for table in case.tables.values() for entry in table.values() for path in entry]
    certain = all(
        not rule.conditions and not rule.suppress and (rule.action != GOTO or rule.destination is None)
        for rule in case.rules
    )
    return certain and all(path.type != RTN_THROW and not path.tos for path in every)


@pytest.fixture(params=[0, 3, 16384], ids=lambda size: f"small up to {size}")
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers know their prefixes by length, or ask for each; both have to find the same."""
    monkeypatch.setattr(fib_view, "_SMALL", request.param)
    monkeypatch.setattr(fib_view, "_PROBED", 2 if request.param else 6)


@pytest.mark.usefixtures("sizes")
def test_the_longest_match_in_the_view_is_the_kernels_ordered_look_up() -> None:
    @given(hosts())
    @settings(max_examples=60)
    def holds_for(host: Host) -> None:
        check(host)
        everything = host.view.keys(host.family)
        assert len(everything) == len(set(everything)) == host.view.size(host.family)
        assert {key: path for key in everything if (path := host.view.path_of(host.family, key))} == host.announced
        for address in case_of(host).edges():
            width = WIDTH[host.family]
            decision = host.view.decision(Prefix(host.family, address, width))
            assert (decision and decision.path) == match(host.announced, host.family, address)

    holds_for()


@pytest.mark.usefixtures("sizes")
def test_what_changes_is_sent_and_nothing_else_is_missing() -> None:
    @given(st.data())
    @settings(max_examples=60)
    def holds_for(data: st.DataObject) -> None:
        host: Host = data.draw(hosts())
        family = host.family
        for _step in range(data.draw(st.integers(1, 5))):
            if data.draw(st.integers(0, 3)) == 0:
                host.rules = data.draw(rule_lists(family))
                host.compile()
            else:
                change(data, host)
            fresh = FibView(host.rib)
            fresh.compile({family: layers_of(family, host.rules, host.machine)}, host.selection, host.tables)
            expected = {key: path for key in fresh.keys(family) if (path := fresh.path_of(family, key)) is not None}
            assert host.announced == expected
            _puts, _drops, hidden = host.view.look_up(family, host.view.keys(family))
            assert host.view.size(family) - len(hidden) == len(expected)

    holds_for()


def change(data: st.DataObject, host: Host) -> None:
    """Some tables change."""
    changed = {}
    for table in data.draw(st.sets(st.sampled_from(TABLES), min_size=1, max_size=2)):
        scope = (host.family, table)
        mine = host.rib.tables.setdefault(scope, {})
        gone = data.draw(st.sets(st.sampled_from(sorted(mine)))) if mine else set()
        new = data.draw(
            st.dictionaries(prefixes(host.family).map(lambda p: p.key), entries(host.family, table), max_size=3)
        )
        for key in gone:
            del mine[key]
        mine.update(new)
        changed[scope] = gone | new.keys()
    host.send(host.view.changed(changed).get(host.family, set()))
