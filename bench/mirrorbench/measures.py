# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The measures: cold sync, burst, latency of single changes, and `ip -batch` with no mirror at all.

Each builds a lab of its own, so that none inherits what another left behind.  Every result is a flat mapping of
numbers; the names are explained in bench/README.md.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrorbench import rtnl, workload
from mirrorbench.lab import TARGET_TABLE, Lab
from mirrorbench.mirror import Mirror
from mirrorbench.processes import TICKS, Cost, Process

Values = dict[str, float]
MakeMirror = Callable[[Lab, Path, int], Mirror]


@dataclass(frozen=True)
class Plan:
    """What one run measures: routes, order of the burst, samples of single changes, seconds of quiet that mean lost."""

    routes: int
    order: str
    samples: int
    quiet: float
    say: Callable[[str], None]

    @property
    def limit(self) -> float:
        """Return the seconds after which a measure is aborted: 2,000 routes/s is slower than any mirror of use."""
        return 60 + self.routes / 2000


def cold_sync(plan: Plan, make: MakeMirror) -> Values:
    """Routes are there, then both daemons start: how long until the target table holds them all?"""
    with _lab(plan, make) as (lab, mirror, counter):
        plan.say(f"{mirror.name}: cold sync: writing {plan.routes:,} routes on the host")
        _write_bulk(lab, workload.destinations(plan.routes, "bit-reversed"))
        goal = counter.count() + plan.routes
        noise = _Noise()
        start = time.monotonic()
        mirror.start()
        settled = _settle(plan, counter, goal, start, mirror, f"{mirror.name}: cold sync")
        cost = mirror.cost()
        values = {"seconds": settled.seconds, "resolution": settled.resolution}
        values |= _cost_values(cost) | noise.values(cost) | verify(plan, lab)
        return {f"cold_{key}": value for key, value in values.items()}


def burst(plan: Plan, make: MakeMirror) -> Values:
    """Both daemons run and wait, then all routes come at once: how long until they are there, and are all there?

    The latency of single changes is measured before and after, with empty and with full tables.
    """
    with _lab(plan, make) as (lab, mirror, counter):
        mirror.start()
        _wait_for_first_route(plan, lab, mirror)
        empty = _latency(plan, lab, mirror, "empty")
        batches = lab.route(rtnl.RTM_NEWROUTE).batches(workload.destinations(plan.routes, plan.order))
        goal = counter.count() + plan.routes
        before, noise = mirror.cost(), _Noise()
        with rtnl.open_socket(lab.host) as host:
            start = time.monotonic()
            rtnl.write(host, batches)
            written = time.monotonic() - start
        del batches
        settled = _settle(plan, counter, goal, start, mirror, f"{mirror.name}: burst")
        cost = mirror.cost().since(before)
        values = {"seconds": settled.seconds, "resolution": settled.resolution, "write_seconds": written}
        values |= _cost_values(cost) | noise.values(cost) | verify(plan, lab)
        loaded = _latency(plan, lab, mirror, "loaded")
        return {f"burst_{key}": value for key, value in values.items()} | empty | loaded


def ip_batch(plan: Plan) -> Values:
    """`ip -batch` writes the mapped routes straight into the target table: the naive tool, told all the answers."""
    with Lab(plan.routes) as lab, lab.folder() as name:
        folder = Path(name)
        with (folder / "routes").open("w", encoding="ascii") as file:
            for destination in workload.destinations(plan.routes):
                leave = workload.egress_for(destination)
                prefix = workload.text(destination)
                file.write(f"route add {prefix} via {leave.gateway} dev {leave.link} table {TARGET_TABLE}\n")
        noise, before = _Noise(), os.times()
        start = time.monotonic()
        process = Process("ip-batch", lab.dpu, ["ip", "-batch", f"{folder}/routes"], folder)
        peak = 0.0
        try:
            while process.running():
                time.sleep(0.02)
                peak = max(peak, process.cost().peak_mib)
                plan.say(f"ip-batch: {time.monotonic() - start:.0f} s")
        finally:
            process.stop()
        seconds = time.monotonic() - start
        after = os.times()
        cost = Cost(after.children_user - before.children_user, after.children_system - before.children_system, peak)
        values = {"seconds": seconds, "resolution": 0.02} | _cost_values(cost) | noise.values(cost) | verify(plan, lab)
        return {f"cold_{key}": value for key, value in values.items()}


@contextlib.contextmanager
def _lab(plan: Plan, make: MakeMirror) -> Iterator[tuple[Lab, Mirror, rtnl.TableCounter]]:
    """Build a lab and a mirror that is not started; stop and remove everything at the end, whatever happened."""
    with Lab(plan.routes) as lab, lab.folder() as folder, _counter(lab) as counter:
        mirror = make(lab, Path(folder), plan.routes)
        try:
            yield lab, mirror, counter
        finally:
            mirror.stop()


def _counter(lab: Lab) -> contextlib.closing[rtnl.TableCounter]:
    return contextlib.closing(rtnl.TableCounter(lab.dpu, TARGET_TABLE))


def _write_bulk(lab: Lab, destinations: list[bytes]) -> None:
    with rtnl.open_socket(lab.host) as host:
        rtnl.write(host, lab.route(rtnl.RTM_NEWROUTE).batches(destinations))


@dataclass(frozen=True)
class _Settled:
    """When the target table came to rest, in seconds after the start, and how coarsely that was seen."""

    seconds: float
    resolution: float


def _settle(plan: Plan, counter: rtnl.TableCounter, goal: int, start: float, mirror: Mirror, what: str) -> _Settled:
    """Wait until the table holds ``goal`` routes, or has not changed for ``plan.quiet`` seconds.

    Looks seldom while the end is far and often when it is near: a look at a million routes takes 50 ms of one CPU,
    which the mirror should have.  Raises TimeoutError after ``plan.limit`` seconds and PeerDied when a daemon ends.
    """
    seen, changed, looked = counter.count(), start, start
    resolution = 0.0
    while seen < goal:
        mirror.check()
        begin = time.monotonic()
        count = counter.count()
        now = time.monotonic()
        pause = max(0.01, now - begin)
        if count != seen:
            pause = max(pause, min(0.5, (goal - count) * (now - looked) / max(1, abs(count - seen)) / 3))
            changed, resolution, seen = now, now - looked, count
        elif now - changed > plan.quiet:
            break
        elif now - start > plan.limit:
            raise TimeoutError(f"{what}: {count:,} of {goal:,} routes after {plan.limit:.0f} s")
        looked = now
        plan.say(f"{what}: {min(count, goal):,} of {goal:,} routes after {now - start:.1f} s")
        if count < goal:
            time.sleep(pause)
    return _Settled(changed - start, resolution)


def _wait_for_first_route(plan: Plan, lab: Lab, mirror: Mirror) -> None:
    """Wait until a route goes all the way, then withdraw it: the mirror is up and idle.

    Raises TimeoutError after a minute and PeerDied when a daemon ends.
    """
    destination = workload.singles(1)[0]
    add, delete = lab.route(rtnl.RTM_NEWROUTE), lab.route(rtnl.RTM_DELROUTE)
    watcher = rtnl.Watcher(lab.dpu, TARGET_TABLE)
    with rtnl.open_socket(lab.host) as host, contextlib.closing(watcher):
        start = time.monotonic()
        rtnl.write(host, [add.message(destination)])
        while watcher.wait(rtnl.RTM_NEWROUTE, destination, 0.25) is None:
            mirror.check()
            plan.say(f"{mirror.name}: waiting for the first route, {time.monotonic() - start:.0f} s")
            if time.monotonic() - start > 60:
                raise TimeoutError(f"{mirror.name}: a route did not arrive within 60 s of the start")
        rtnl.write(host, [delete.message(destination)])
        if watcher.wait(rtnl.RTM_DELROUTE, destination, 30) is None:
            raise TimeoutError(f"{mirror.name}: the withdrawal of a route did not arrive within 30 s")


def _latency(plan: Plan, lab: Lab, mirror: Mirror, state: str) -> Values:
    """Add single routes, then withdraw them, a few milliseconds apart; from before the write to the DPU's notification.

    One thread writes and waits: send() returns when the host's kernel is done, so its work counts as part of the way.
    """
    destinations = workload.singles(plan.samples)
    watcher = rtnl.Watcher(lab.dpu, TARGET_TABLE)
    pauses = random.Random(1)  # uneven, so that the samples share no beat with anybody's timer
    values: Values = {}
    with rtnl.open_socket(lab.host) as host, contextlib.closing(watcher), _no_collection():
        for word, kind in (("add", rtnl.RTM_NEWROUTE), ("delete", rtnl.RTM_DELROUTE)):
            template = lab.route(kind)
            times: list[float] = []
            for number, destination in enumerate(destinations):
                if number % 50 == 0:
                    plan.say(f"{mirror.name}: single changes ({state}, {word}), {number:,} of {plan.samples:,}")
                    mirror.check()
                time.sleep(pauses.uniform(0.002, 0.008))
                watcher.drain()
                start = time.monotonic_ns()
                host.send(template.message(destination))
                seen = watcher.wait(kind, destination, 2)
                if seen is not None:
                    times.append((seen - start) / 1e6)
            values |= _quantiles(f"{state}_{word}", times, plan.samples)
    return values


def _quantiles(name: str, times: list[float], samples: int) -> Values:
    values: Values = {f"{name}_missing": samples - len(times)}
    if len(times) > 1:
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        values |= {f"{name}_p50_ms": cuts[49], f"{name}_p99_ms": cuts[98]}
    return values


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the benchmark's own garbage collector out of the latencies."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def verify(plan: Plan, lab: Lab) -> Values:
    """Compare the target table with what it should hold: routes lost, to the wrong egress or twice, not asked for."""
    plan.say("comparing the target table, route by route")
    expected = set(workload.destinations(plan.routes))
    egresses = {leave: (lab.egress_indexes[leave], leave.gateway) for leave in workload.EGRESSES}
    found: dict[bytes, tuple[int, str]] = {}
    wrong: set[bytes] = set()
    seen: set[bytes] = set()
    extra = 0
    for shape, destination in rtnl.routes_of(lab.dpu, TARGET_TABLE):
        if destination not in expected:
            extra += destination not in lab.own_subnets
            continue
        leave = found.get(shape) or found.setdefault(shape, rtnl.exit_of(shape))
        if destination in seen or leave != egresses[workload.egress_for(destination)]:
            wrong.add(destination)
        seen.add(destination)
    return {"lost": len(expected) - len(seen), "wrong": len(wrong), "extra": extra}


def _cost_values(cost: Cost) -> Values:
    return {"cpu": cost.cpu, "cpu_user": cost.user, "cpu_system": cost.system, "peak_mib": cost.peak_mib}


class _Noise:
    """CPU seconds that the machine spent on something else, while a measure ran: others' work spoils it."""

    def __init__(self) -> None:
        self._busy, self._own = _busy_seconds(), time.process_time()

    def values(self, peer: Cost) -> Values:
        own = time.process_time() - self._own
        return {"foreign_cpu": max(0.0, _busy_seconds() - self._busy - own - peer.cpu)}


def _busy_seconds() -> float:
    """Return the CPU seconds of all processors in user, nice, system, irq, softirq and steal, since boot (proc(5))."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS
