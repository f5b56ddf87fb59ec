# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A follower on a network namespace, and a second pair of eyes that reads the same kernel afresh.

The follower runs on an event loop that moves only while somebody waits, so a test decides whether it hears the kernel
during a command or finds everything in its queue afterwards. What it reads of the kernel is written down.
"""

from __future__ import annotations

import asyncio
import itertools
import select
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    FAMILY_NAMES,
    Path,
    Prefix,
    table_name,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import (
    Monitor,
    Requests,
    read_addresses,
    read_links,
    read_rules,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import best_path, paths_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

MAIN, OTHER = 254, 100
TABLES = (MAIN, OTHER)
#: Seconds after the end of an event in which the replica has to be what a fresh dump shows.
WITHIN = 1.0
#: Seconds that a follower has on a machine that is busy with other things; it takes a fraction of one.
QUIET = 60.0
#: Seconds, and looks, at a follower with nothing to do after which what differs stays so (the kernel's linkwatch speaks
#: up after a second). Seconds alone would pass as well while this process waits for a processor.
_REST, _LOOKS = 2.5, 50
_FAMILIES = (AF_INET, AF_INET6)
#: Table and prefixes of routes that come and go so that the follower's progress shows: after all that came before.
_MARKS = 4000000000
_KINDS = {
    rtnetlink.RTM_GETLINK: "links",
    rtnetlink.RTM_GETADDR: "addresses",
    rtnetlink.RTM_GETRULE: "rules",
    rtnetlink.RTM_GETNEXTHOP: "nexthop objects",
    rtnetlink.RTM_GETNETCONF: "sysctls of links",
}
State = dict[str, object]


class Observed(Requests):
    """Requests that write down what is asked of the kernel, in words, and call *before* with these, if it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.before: Callable[[str], None] | None = None

    def dump(self, message: bytes) -> Iterator[bytes]:
        """The same, written down."""
        told = words(message)
        if told:
            self.asked.append(told)
        if self.before is not None:
            self.before(told)
        return super().dump(message)

    def dump_whole(self, message: bytes) -> list[bytes]:
        """The same, written down."""
        self.asked.append(words(message))
        return super().dump_whole(message)


def words(message: bytes) -> str:
    """``ipv4 routes of table main by link 3``: what a request asks for."""
    (kind,) = struct.unpack_from("=H", message, 4)
    if kind == rtnetlink.RTM_GETLINK and not struct.unpack_from("=H", message, 6)[0] & rtnetlink.NLM_F_DUMP:
        return ""  # the follower only waits
    if kind == rtnetlink.RTM_GETNEXTHOP and not struct.unpack_from("=H", message, 6)[0] & rtnetlink.NLM_F_DUMP:
        return f"nexthop object {struct.unpack_from('=I', message, 28)[0]}"
    if kind != rtnetlink.RTM_GETROUTE:
        return _KINDS.get(kind, str(kind))
    found = dict(rtnetlink.attributes(message, 28, len(message)))
    text = f"{FAMILY_NAMES[message[16]]} routes of "
    if rtnetlink.RTA_TABLE not in found:
        return text + "every table"
    text += f"table {table_name(struct.unpack('=I', found[rtnetlink.RTA_TABLE])[0])}"
    if rtnetlink.RTA_OIF in found:
        text += f" by link {struct.unpack('=I', found[rtnetlink.RTA_OIF])[0]}"
    return text


def routes_of(rib: Rib, unseen: bool = False) -> dict[str, tuple[Path, ...]]:
    """All paths that carry packets, by prefix and table; a route of dead hops alone may go without a trace.

    An IPv6 dump leaves out what stands between the hops of a multipath route (fib6_dump_node jumps to the last of
    them), so such a path is known from its event or not at all. It is left out here as well unless *unseen*.
    """
    found = {}
    for (family, table), entries in rib.tables.items():
        for key, entry in entries.items():
            living = tuple(path for path in paths_of(entry) if "dead" not in path.extras)
            if family == AF_INET6 and not unseen:
                many = {path.metric for path in living if len(path.nexthops) > 1 and path.nh_id is None}
                living = tuple(p for p in living if p.metric not in many or (len(p.nexthops) > 1 and p.nh_id is None))
            if living and table != _MARKS:
                found[f"{Prefix.from_key(family, key)} table {table_name(table)}"] = living
    return found


@dataclass
class Eyes:
    """Looks at the kernel afresh, with sockets of its own."""

    requests: Requests
    machine: Namespace

    def routes(self, tables: Iterable[int]) -> dict[str, tuple[Path, ...]]:
        """What a fresh dump of these tables shows, with next hops also where the kernel is set to leave them out."""
        with self.machine.entered():
            switch = FilePath("/proc/sys/net/ipv4/nexthop_compat_mode")
            before = switch.read_text()
            switch.write_text("1")
            try:
                return self._routes(tuple(tables))
            finally:
                switch.write_text(before)

    def _routes(self, tables: tuple[int, ...]) -> dict[str, tuple[Path, ...]]:
        rib = Replica(Rib(tables)).rib
        for family, table in itertools.product(_FAMILIES, tables):
            self._read(rib, Reread(family, table))
        return routes_of(rib)

    def _read(self, rib: Rib, scope: Reread) -> None:
        reading = rib.reading(scope)
        for chunk in self.requests.dump(rtnetlink.route_dump_request(scope.family, scope.table)):
            reading.feed(chunk)
        reading.finish()

    def view(self) -> State:
        """Links, addresses and rules, as they are."""
        return _view(
            {link.index: link for link in read_links(self.requests)},
            read_addresses(self.requests),
            read_rules(self.requests),
        )


def _view(links: Mapping[int, object], addresses: Iterable[object], rules: Iterable[object]) -> State:
    return {
        **{f"link {index}": link for index, link in links.items()},
        "addresses": sorted(map(str, addresses)),
        "rules": sorted(map(str, rules)),
    }


def tables_in(replica: Replica) -> tuple[int, ...]:
    """The tables to follow: two that are always there and those of ``iif`` rules, which stand for VRFs."""
    return tuple(dict.fromkeys((*TABLES, _MARKS, *(rule.table for rule in replica.rules if rule.iif))))


def batches(commands: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """Runs of commands that begin with ``-6`` or do not: (options, lines) for ``ip -batch``."""
    for ipv6, lines in itertools.groupby(commands, lambda command: command.startswith("-6 ")):
        text = "".join(f"{line.removeprefix('-6 ')}\n" for line in lines)
        yield ["-6"] if ipv6 else [], text


class Followed:
    """A namespace, its follower, and what the follower's replica and its listeners know of it."""

    def __init__(
        self, machine: Namespace, receive_buffer: int = 1 << 20, make: Callable[[Rib], Replica] = Replica
    ) -> None:
        self.machine = machine
        self._make = make
        self._loop = asyncio.new_event_loop()
        self._marks = itertools.count(1)
        self.told: dict[str, Path | None] = {}
        self.overruns = 0
        self.slowest = 0.0  # seconds
        with machine.entered():
            self._eyes = Eyes(Requests(), machine)
        self._start(receive_buffer)

    def _start(self, receive_buffer: int) -> None:
        self.replica = self._make(Rib((*TABLES, _MARKS)))
        self.replica.rib.recording = True
        self.told.clear()
        with self.machine.entered():
            self.monitor, self.requests = Monitor(receive_buffer), Observed()
        self.follower = Follower(self.replica, self.monitor, self.requests, self._on_change)
        self._loop.run_until_complete(self.follower.load())
        self._on_change()
        self._task = self._loop.create_task(self.follower.run())

    def _stop(self) -> None:
        self._task.cancel()
        self._loop.run_until_complete(asyncio.gather(self._task, return_exceptions=True))
        self.overruns += self.follower.overruns
        self.monitor.close()
        self.requests.close()

    def restart(self, receive_buffer: int) -> None:
        """End the follower and start another one that knows nothing."""
        self._stop()
        self._start(receive_buffer)

    def close(self) -> None:
        """End the follower."""
        self._stop()
        self._eyes.requests.close()
        self._loop.close()

    def _on_change(self) -> None:
        rib = self.replica.rib
        if self.replica.view_changed:
            self.replica.view_changed = False
            rib.follow(tables_in(self.replica))
            names = {f"table {table_name(table)}" for table in tables_in(self.replica)}
            self.told = {where: path for where, path in self.told.items() if where.partition(" ")[2] in names}
        for (family, table), keys in rib.take_changed().items():
            for key in keys:
                entry = rib.tables.get((family, table), {}).get(key)
                self.told[f"{Prefix.from_key(family, key)} table {table_name(table)}"] = best_path(entry)

    # -- what happens

    def run(self, commands: Iterable[str], beside: bool = False) -> None:
        """Run ``ip`` commands, whatever becomes of them; *beside*: while the follower runs."""
        if beside:
            self._loop.run_until_complete(asyncio.to_thread(self._ip, list(commands)))
        else:
            self._ip(commands)

    def _ip(self, commands: Iterable[str]) -> None:
        for options, batch in batches(commands):
            self.machine.run("ip", *options, "-force", "-batch", "-", check=False, stdin=batch)

    def after(self, *commands: str, until: Callable[[], bool] = lambda: True) -> set[str]:
        """Run ``ip`` commands one by one, all of which succeed; what the follower then read of the kernel.

        *until*: what the replica has to know besides, because the kernel reports it after the command has ended.
        """
        self.requests.asked.clear()
        for command in commands:
            self.machine.ip(command)
        self.settle()
        self._loop.run_until_complete(self._rest(until))
        return {read for read in self.requests.asked if f"table {_MARKS}" not in read}

    async def _rest(self, until: Callable[[], bool]) -> None:
        """Wait for reads that are under way: the first of several may have brought all there was."""
        end = self._loop.time() + QUIET
        while self._busy() or not until() or self.differences():
            assert self._loop.time() < end, "the follower does not settle, or never hears what the test waits for"
            await asyncio.sleep(0.005)

    def _busy(self) -> bool:
        """Whether the follower is at work, or has something to do: it clears this event when nothing is left."""
        readable = self.follower._readable
        return readable is None or readable.is_set() or bool(select.select([self.monitor], [], [], 0)[0])

    def settle(self) -> None:
        """Wait until the replica has seen all and is what the kernel has; AssertionError says what differs.

        That has to be so WITHIN a second. The second does not pass while this thread waits for a processor: on a busy
        machine that may be most of the time, and says nothing about what the follower waits for.
        """
        mark = self._mark()
        before = _awake()
        differences = self._loop.run_until_complete(self._settled(mark))
        took = _awake() - before
        assert not differences, "\n".join(differences)
        self.slowest = max(self.slowest, took)
        assert took <= WITHIN, f"the replica was right, but only {took:.2f} s after the event"

    def _mark(self) -> str:
        """A route that the replica learns after all that happened before."""
        number = next(self._marks) & 0xFFFF
        prefix = f"203.{number >> 8}.{number & 255}.0/24"
        self.machine.ip(f"route replace blackhole {prefix} table {_MARKS}")
        return prefix

    async def _settled(self, mark: str) -> list[str]:
        key = Prefix.parse(mark).key
        end = since = self._loop.time() + QUIET
        moved, looks = -1, 0
        while True:
            heard = key in self.replica.rib.tables.get((AF_INET, _MARKS), {})
            busy = not heard or self._busy()
            differences = ["the follower does not come to rest"] if busy else self.differences()
            if self._task.done():
                self._task.result()
                return ["the follower has ended"]
            looks += 1
            if busy or len(self.requests.asked) + self.follower.notifications != moved:
                moved, since, looks = len(self.requests.asked) + self.follower.notifications, self._loop.time(), 0
            rests = looks > _LOOKS and self._loop.time() > since + _REST
            if not differences or rests or self._loop.time() > end:
                return differences
            await asyncio.sleep(0.005)

    def differences(self) -> list[str]:
        """What differs from a fresh dump in the replica, or in what its changes alone add up to."""
        replica, rib = self.replica, self.replica.rib
        kernel = self._eyes.routes(tables_in(replica))
        lines = _compare(kernel, routes_of(rib), "kernel", "replica")
        best = {where: best_path(paths) for where, paths in routes_of(rib, unseen=True).items()}
        told = {where: path for where, path in self.told.items() if f"table {_MARKS}" not in where}
        lines += _compare(
            {where: path for where, path in best.items() if path},
            {where: path for where, path in told.items() if path},
            "best path",
            "told",
        )
        seen = _view(dict(replica.links), replica.addresses, replica.rules)
        return lines + _compare(self._eyes.view(), seen, "kernel", "replica")


def _awake() -> float:
    """Seconds by a clock that stands still while this thread waits for a processor (run_delay in sched_info).

    Where the kernel does not count that, it says 0, or has no such file: then the clock is everybody's.
    """
    counts = FilePath("/proc/thread-self/schedstat")
    waited = int(counts.read_text().split()[1]) if counts.exists() else 0
    return time.monotonic() - waited / 1e9


def _compare(one: Mapping[str, object], other: Mapping[str, object], left: str, right: str) -> list[str]:
    return [
        f"{where}: {left} {one.get(where)}, {right} {other.get(where)}"
        for where in sorted({*one, *other})
        if one.get(where) != other.get(where)
    ]


@contextmanager
def follow(machine: Namespace, receive_buffer: int = 1 << 20) -> Iterator[Followed]:
    """Follow a namespace for the time of the block."""
    followed = Followed(machine, receive_buffer)
    try:
        followed.settle()
        yield followed
    finally:
        followed.close()
