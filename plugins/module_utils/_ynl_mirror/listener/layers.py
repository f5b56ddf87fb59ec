# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy rules -> layers: the look-ups that a forwarded packet passes in their order, and how certain they are. Pure.

The kernel walks its rules (ip-rule(8)) in the order of their priority. A rule that matches looks the packet up in a
table, discards it or jumps; where a table has no match, the next rule is asked. A layer is what one rule does to the
packets that the host forwards:

- ``to PREFIX`` depends on the destination only, as routes do: it bounds the layer (*region*).
- ``iif lo``, ``oif`` and links that do not exist mean packets that the host itself sends, or none: no layer.
- Every other selector may or may not meet: the layer has a *reason*, and what it covers stays on the slow path.
- ``goto`` leaves out the rules up to its target. Where it may or may not apply, those become uncertain.

So may `uidrange`: the kernel takes a forwarded packet for one of user 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..model.links import GOTO, LOOKUP, NOP, RULE_DISCARDS, Link, Rule
from ..model.routes import WIDTH, Prefix

_LOOPBACK = "lo"
_NEVER, _MAYBE, _ALWAYS = range(3)


@dataclass(frozen=True)
class Layer:
    """What one rule does: a look-up in *table*, or for all packets in *region* the *discard* (an RTN_ type).

    *reason* is set if the rule may or may not apply. Of the table, matches up to a length of *suppress* do not count,
    and those longer than *longest* were found by an earlier look-up in the same table.
    """

    rule: Rule
    region: Prefix
    table: int | None = None
    discard: int | None = None
    reason: str | None = None
    suppress: int = -1
    longest: int = 128


@dataclass(frozen=True)
class Machine:
    """What the meaning of rules depends on: links by ifindex, and those by which routes with gateways leave."""

    links: Mapping[int, Link]
    uplinks: Collection[int] = ()

    def link_named(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links.values() if link.name == name), None)

    def uplinks_in_vrfs(self) -> list[str]:
        """The names of the uplinks that belong to a VRF of this machine."""
        vrfs = {index for index, link in self.links.items() if link.vrf_table is not None}
        return sorted(link.name for index, link in self.links.items() if index in self.uplinks and link.master in vrfs)


def layers_of(family: int, rules: Iterable[Rule], machine: Machine, ignored: Collection[int] = ()) -> list[Layer]:
    """The layers of one family, in order. *ignored*: priorities of rules that are treated as absent."""
    every = [rule for rule in rules if rule.family == family]
    every.sort(key=lambda rule: rule.priority)
    priorities = {rule.priority for rule in every}
    every = [rule for rule in every if rule.priority not in ignored]
    made: list[Layer] = []
    rest: dict[int, int] = {}  # table -> the longest matches that no earlier look-up has taken
    place = doubtful = 0  # rules before *doubtful* may be passed over by the goto *jump*
    jump: Rule | None = None
    while place < len(every):
        rule, place = every[place], place + 1
        applies = _applies(rule, machine)
        if applies == _NEVER or rule.action == NOP:
            continue
        reason = f"rule {rule.words} may apply" if applies == _MAYBE else None
        if reason is None and place <= doubtful and jump is not None:
            reason = f"rule {jump.words} may pass over rule {rule.priority}"
        if rule.action == GOTO:
            if rule.goto not in priorities:
                continue  # the kernel passes over a jump to nowhere
            target = next((n for n, other in enumerate(every) if other.priority >= (rule.goto or 0)), len(every))
            if reason is None and rule.destination is None:
                place = max(place, target)
            elif target > doubtful:
                doubtful, jump = target, rule
            continue
        layer = _layer(rule, machine, reason, rest)
        if layer is not None:
            made.append(layer)
    return made


def _layer(rule: Rule, machine: Machine, reason: str | None, rest: dict[int, int]) -> Layer | None:
    """The layer of a rule that does not jump; None if it decides nothing."""
    width = WIDTH[rule.family]
    region = rule.destination or Prefix(rule.family, 0, 0)
    if rule.action in RULE_DISCARDS:
        return Layer(rule, region, discard=rule.action, reason=reason)  # FR_ACT_BLACKHOLE is RTN_BLACKHOLE, and so on
    if rule.action != LOOKUP:
        return Layer(rule, region, reason=f"rule {rule.words} is of an unknown kind")
    if rule.l3mdev:
        names = machine.uplinks_in_vrfs()
        text = f"rule {rule.words} applies to {', '.join(names)}: uplinks in a VRF of the host are not supported"
        return Layer(rule, region, reason=text) if names else None
    suppress = -1 if rule.suppress is None else min(rule.suppress, width)
    longest = rest.get(rule.table, width)
    if longest < 0:
        return None
    if not region.length:
        rest[rule.table] = min(longest, suppress)
    return Layer(rule, region, rule.table, reason=reason, suppress=suppress, longest=longest)


def _applies(rule: Rule, machine: Machine) -> int:
    """Whether a rule matches packets that this machine forwards."""
    if rule.invert:
        selects = rule.source or rule.destination or rule.iif or rule.oif or rule.uids or rule.conditions or rule.l3mdev
        return _MAYBE if selects else _NEVER
    if rule.iif == _LOOPBACK or (rule.uids is not None and rule.uids[0] > 0):
        return _NEVER
    for name in filter(None, (rule.iif, rule.oif)):
        link = machine.link_named(name)
        # The kernel matches a VRF's name with the packets of its links, `oif` included.
        if link is None or (name == rule.oif and link.vrf_table is None):
            return _NEVER
    certain = not (rule.source or rule.iif or rule.oif or rule.uids or rule.conditions)
    return _ALWAYS if certain else _MAYBE
