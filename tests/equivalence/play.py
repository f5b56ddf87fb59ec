# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A case from its beginning to its end: without the mirror, with it, and after everything that happens to it."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import Case, Change
from ansible_collections.ekho.ynl_mirror.tests.equivalence.compare import (
    Comparison,
    Difference,
    Packet,
    Tally,
    check_model,
    compare,
    packets,
)
from ansible_collections.ekho.ynl_mirror.tests.equivalence.kernel import Kernel
from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab
from ansible_collections.ekho.ynl_mirror.tests.equivalence.model import Fate, Way, World, walk

#: How long nothing may move before a difference counts, in seconds: what is right at once needs no such wait.
_PATIENCE = 1.0
#: Packets that the sampler follows.
SAMPLED = 24


@dataclass
class Outcome:
    """What became of a case; *trouble* is what kept it from being played."""

    case: Case
    differences: list[Difference] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    trouble: str = ""

    @property
    def is_right(self) -> bool:
        """Whether every packet had its fate."""
        return not self.differences and not self.trouble


def play(lab: Lab, case: Case, mirror: bool = True, force: bool = False) -> Outcome:
    """Play one case; without *mirror* the model alone is compared with the kernels."""
    outcome = Outcome(case)
    outcome.tally.cases = 1
    try:
        _play(lab, case, outcome, mirror, force)
    except (AssertionError, RuntimeError, OSError) as error:
        outcome.trouble = f"{type(error).__name__}: {error}"
    finally:
        lab.stop()
    outcome.tally.wrong_cases = not outcome.is_right
    return outcome


def _play(lab: Lab, case: Case, outcome: Outcome, mirror: bool, force: bool) -> None:
    lab.load(case, force)
    world = lab.world(False)
    asked = packets(world, case, case.seed)
    outcome.differences += check_model(lab, world, asked)
    if not mirror:
        outcome.tally.fates += len(asked)
        return
    owned = lab.own_routes()
    lab.start()
    # The edges of what the mirror installed are looked at too.
    _take(outcome, _settled(lab, packets(lab.world(True), case, case.seed), 0))
    assert lab.own_routes() == owned, f"the mirror changed routes of others:\n{owned}\nnow\n{lab.own_routes()}"
    for number, change in enumerate(case.changes, start=1):
        lab.apply(change)
        lab.settle()
        _take(outcome, _settled(lab, packets(lab.world(True), case, case.seed + number), number))


def _take(outcome: Outcome, comparison: Comparison) -> None:
    outcome.tally.add(dataclasses.replace(comparison.tally, cases=0))
    outcome.differences += comparison.differences


def _settled(lab: Lab, asked: list[Packet], changes: int) -> Comparison:
    """Compare; what differs has to go on doing so for a while, in which nothing moves any more."""
    found = compare(lab, asked, changes)
    if found.differences:
        lab.settle(_PATIENCE)
        found = compare(lab, asked, changes)
    return found


def minimal(lab: Lab, case: Case, what: Callable[[Outcome], bool], rounds: int = 3) -> Case:
    """The case with as few lines and changes as still show *what*: leave out a half, a quarter, ... a line."""
    for _round in range(rounds):
        before = case
        case = _fewer(lab, case, "changes", what)
        case = _fewer(lab, case, "lines", what)
        if case == before:
            break
    return case


def _fewer(lab: Lab, case: Case, name: str, what: Callable[[Outcome], bool]) -> Case:
    size = max(1, len(getattr(case, name)) // 2)
    while size:
        start = 0
        while start < len(getattr(case, name)):
            items = getattr(case, name)
            tried = dataclasses.replace(case, **{name: items[:start] + items[start + size :]})
            if what(play(lab, tried, force=True)):
                case = tried
            else:
                start += size
        size //= 2
    return case


# -- while things happen


@dataclass(frozen=True)
class Glimpse:
    """A way that was seen while something happened, of which neither the state before nor that after knows the fate."""

    packet: Packet
    change: Change
    before: frozenset[Fate]
    after: frozenset[Fate]
    seen: Way

    def __str__(self) -> str:
        flow, (_machine, link) = self.packet
        fates = [" or ".join(map(str, sorted(fates, key=str))) for fates in (self.before, self.after)]
        steps = "".join(f"\n    {step}" for step in self.seen.steps)
        return (
            f"{flow} in by {link}, during {self.change}:\n  {fates[0]}, then {fates[1]}; seen: {self.seen.fate}{steps}"
        )


@dataclass
class Sampled:
    """What the sampler saw."""

    walks: int = 0
    glimpses: list[Glimpse] = field(default_factory=list)


def sample(lab: Lab, case: Case) -> Sampled:
    """Walk a handful of packets while a mirror starts and things happen: each fate is an old or a new one."""
    found = Sampled()
    try:
        lab.load(case)
        with lab.own_sockets() as kernels:
            sampler = _Sampler(lab, case, kernels, found)
            sampler.watch(Change(restart="everything (the first start)"), lab.start)
            for change in case.changes:
                if change.restart:
                    sampler.watch(change, partial(lab.apply, change))
                else:
                    sampler.watch(change, lab.settle, partial(lab.apply, change))
    finally:
        lab.stop()
    return found


class _Sampler:
    """Walks over sockets of its own while another thread waits for the mirror."""

    def __init__(self, lab: Lab, case: Case, kernels: dict[str, Kernel], found: Sampled) -> None:
        self._lab = lab
        self._case = case
        self._kernels = kernels
        self._found = found

    def watch(self, change: Change, wait: Callable[[], None], act: Callable[[], None] | None = None) -> None:
        """Let something happen by *act*, at once, and walk until *wait* is over.

        What is seen while the change itself is made is neither old nor new, so walks begin after it.
        """
        world = self._lab.world(False)
        asked = _handful(self._lab, world, self._case)
        before = [_fates(world, packet) for packet in asked]
        seen: list[dict[Fate, Way]] = [{} for _packet in asked]
        if act is not None:
            act()
            if any(" link " in f" {line.text}" or line.text.startswith("address") for line in change.lines):
                world = self._lab.world(False)  # who answers on which link
        waiting = _Waiting(wait)
        waiting.start()
        rounds = 0
        while waiting.is_alive():
            for number, way in enumerate(walk(world, self._kernels, asked)):
                seen[number].setdefault(way.fate, way)
            rounds += 1
        waiting.join()
        if waiting.failure is not None:
            raise waiting.failure
        self._found.walks += rounds * len(asked)
        world = self._lab.world(False)
        for packet, old, ways in zip(asked, before, seen):
            machine, link = packet[1]
            if link not in world.machines[machine].up:
                continue  # nothing comes in by it any more
            new = _fates(world, packet)
            third = [way for fate, way in ways.items() if fate not in old | new]
            self._found.glimpses += [Glimpse(packet, change, old, new, way) for way in third]


class _Waiting(threading.Thread):
    """Waits in the background, and keeps what went wrong."""

    def __init__(self, wait: Callable[[], None]) -> None:
        super().__init__()
        self._wait = wait
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._wait()
        except BaseException as error:
            self.failure = error


def _handful(lab: Lab, world: World, case: Case) -> list[Packet]:
    """Packets for the sampler: those first that go over a host, or did."""
    asked = packets(world, case, case.seed)
    rng = random.Random(case.seed)
    over = [packet for packet in asked if any(len(way.steps) > 1 for way in world.ways(*packet))]
    rng.shuffle(over)
    rest = [packet for packet in asked if packet not in set(over)]
    return [*over[: SAMPLED * 3 // 4], *rng.sample(rest, min(len(rest), SAMPLED // 4))]


def _fates(world: World, packet: Packet) -> frozenset[Fate]:
    """A packet's fates in a state."""
    return frozenset(way.fate for way in world.ways(*packet))
