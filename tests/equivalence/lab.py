# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines for case after case: their namespaces and links stay, all else is cleared in milliseconds.

The VRFs are policy rules, which the case's lines make. For VRF devices `load` is the place: the rest asks for links
only.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.ekho.ynl_mirror.tests.equivalence import case as c
from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import DPU, Case, Change, Line
from ansible_collections.ekho.ynl_mirror.tests.equivalence.kernel import LOCAL, MIRROR, Kernel, Route
from ansible_collections.ekho.ynl_mirror.tests.equivalence.model import Machine, Place, World, machine_of
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon, Namespaces
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import CommandError, Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

HOSTS = ("host", "host2")
#: Polls in a row, and seconds that they take at least, in which nothing changes any more: then the mirror is at rest.
_POLLS, _QUIET = 5, 0.08
#: Seconds after which a mirror that is not at rest never will be.
_AT_REST = 20.0
_HARMLESS = re.compile("File exists|already assigned|^Command failed")
#: What goes on changing in a status that is at rest.
_RESTLESS = {"uptime", "audit", "lease", "since", "age", "seconds"}


class Lab:
    """A DPU and two hosts with all links that cases use, and the daemons of the case that is loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._namespaces = Namespaces()
        self._dirty = False
        self._rough = False  # links or sysctls were changed as well
        self.case: Case | None = None
        self.daemons: dict[str, Daemon] = {}
        self.machines: dict[str, Namespace] = {}
        self.kernels: dict[str, Kernel] = {}
        self.wires: dict[Place, Place] = {}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the daemons and remove the machines."""
        self.stop()
        for kernel in self.kernels.values():
            kernel.close()
        self._namespaces.close()

    def _build(self) -> None:
        for name in (DPU, *HOSTS):
            self.machines[name] = self._namespaces(name)
            self._sysctls(name)
            self.kernels[name] = Kernel(self.machines[name])
        for machine, link, peer in c.wires():
            self.machines[machine].ip(f"link add {link} type veth peer name {link} netns {self.machines[peer].name}")
            self.wires[machine, link] = (peer, link)
            self.wires[peer, link] = (machine, link)
        void = self._namespaces(c.VOID)
        for machine, links in ((DPU, c.ENDS), *((host, c.HOST_LINKS) for host in HOSTS)):
            ends = [(link, f"{machine}-{link}") for link in links]
            lines = [f"link add {link} type veth peer name {end} netns {void.name}" for link, end in ends]
            self._batch(machine, 4, lines)
            void.run("ip", "-batch", "-", stdin="".join(f"link set {end} up\n" for _link, end in ends))
        self._links_up()

    def _links_up(self) -> None:
        for name, kernel in self.kernels.items():
            self._batch(name, 4, [f"link set {link.name} up" for link in kernel.links() if not link.up])

    def _sysctls(self, machine: str) -> None:
        self.machines[machine].run("sysctl", "-q", "-w", *(f"{key}={value}" for key, value in c.ROUTER.items()))

    def _batch(self, machine: str, family: int, lines: Iterable[str], force: bool = False) -> None:
        text = "".join(f"{line}\n" for line in lines)
        command = ("ip", f"-{family}", "-force", "-batch", "-")
        complaints = self.machines[machine].run(*command, check=False, stdin=text).stderr.splitlines()
        # Where a case has one thing twice the first of both stays.
        if not force and any(not _HARMLESS.search(line) for line in complaints):
            raise CommandError(f"{machine}: {complaints} in\n{text}")

    # -- a case

    def load(self, case: Case, force: bool = False) -> None:
        """Make everything as the case has it, but for the daemons. *force*: lines that fail are passed over."""
        self.stop()
        if self._dirty:
            self._clear()
        self._dirty, self.case = True, case
        self.play(case.lines, force)

    def _clear(self) -> None:
        if self._rough:
            for name in self.machines:
                self._sysctls(name)
            self._links_up()
            self._rough = False
        for kernel in self.kernels.values():
            kernel.clear()

    def play(self, lines: Iterable[Line], force: bool = False) -> None:
        """Run lines: those of each machine and family in their order."""
        groups: dict[tuple[str, int], list[str]] = {}
        for line in lines:
            groups.setdefault((line.machine, line.family), []).append(line.text)
            self._rough = self._rough or line.family == 0 or line.text.startswith("link ")
        for (machine, family), texts in groups.items():
            if family:
                self._batch(machine, family, texts, force)
            else:
                self.machines[machine].run("sysctl", "-q", "-w", *texts)
        for machine, family in groups:
            if family == 6:
                until(partial(self._local_routes, machine), True)

    def _local_routes(self, machine: str) -> bool:
        """Whether each IPv6 address of a link that is up has its local route: the kernel adds them a moment later."""
        kernel = self.kernels[machine]
        up = {link.number for link in kernel.links() if link.up}
        local = {route.destination for route in kernel.routes() if route.type == LOCAL}
        return all(one.address in local for one in kernel.addresses() if one.link in up)

    # -- daemons

    def start(self) -> None:
        """Start the mirror, and wait until it is at rest."""
        assert self.case is not None
        self.daemons["agent"] = self._daemon(DPU, "agent", self.case.agent_settings())
        for host in self.case.hosts:
            self.daemons[host] = self._daemon(host, "listener", self.case.listener_settings(host))
        for daemon in self.daemons.values():
            daemon.ready()
        self.settle()

    def _daemon(self, machine: str, kind: str, settings: dict[str, Any]) -> Daemon:
        folder = self._folder / f"{kind}{next(self._numbers)}"
        folder.mkdir()
        return Daemon(self.machines[machine], kind, folder, settings).start()

    def stop(self) -> None:
        """Kill the daemons; what they installed is left to `load`."""
        for daemon in self.daemons.values():
            assert daemon.process is not None
            daemon.process.kill()
        for daemon in self.daemons.values():
            assert daemon.process is not None
            daemon.process.wait(10)
        self.daemons = {}

    def apply(self, change: Change) -> None:
        """Let something happen; a line that fails changes nothing."""
        if change.restart:
            daemon = self.daemons[change.restart]
            daemon.end(signal.SIGKILL)
            daemon.start().ready()
        else:
            self.play(change.lines, force=True)

    def settle(self, quiet: float = _QUIET) -> None:
        """Wait until the daemons have nothing left to do: connected, nothing pending, and nothing that moves."""
        since, seen, polls = time.monotonic(), "", 0

        def at_rest() -> bool:
            nonlocal since, seen, polls
            told = self._told()
            if told is None or told != seen:
                since, seen, polls = time.monotonic(), told or "", 0
                return False
            polls += 1
            return polls >= _POLLS and time.monotonic() - since >= quiet

        until(at_rest, True, _AT_REST, "the mirror is at rest")

    def _told(self) -> str | None:
        """What the daemons and the DPU's kernel say; None while there is something to do."""
        told = []
        for name, daemon in self.daemons.items():
            status = daemon.status()
            if name != "agent":
                for agent in status["agents"]:
                    if not agent["connected"] or not agent["replays"] or agent["pending"]:
                        return None
            told.append(_at_rest(status))
        mirrored = [route[:9] for route in self.kernels[DPU].routes() if route.protocol == MIRROR]
        return json.dumps([told, sorted(map(str, mirrored))], sort_keys=True, default=str)

    # -- what the machines hold

    def world(self, mirror: bool) -> World:
        """The state of all machines now, with the mirror's routes or without."""
        return World([self.machine(name, mirror) for name in self.names], self.wires)

    def worlds(self) -> tuple[World, World]:
        """The same moment without the mirror's routes, and with them."""
        hosts = [self.machine(name, True) for name in self.names if name != DPU]
        without, with_ = (World([self.machine(DPU, mirror), *hosts], self.wires) for mirror in (False, True))
        return without, with_

    def machine(self, name: str, mirror: bool, kernels: Mapping[str, Kernel] | None = None) -> Machine:
        """One of them, asked over other sockets if given."""
        return machine_of(name, (kernels or self.kernels)[name], () if mirror else (MIRROR,))

    @contextmanager
    def own_sockets(self) -> Iterator[dict[str, Kernel]]:
        """More sockets to the same kernels, for a second thread."""
        made = {name: Kernel(self.machines[name]) for name in self.names}
        try:
            yield made
        finally:
            for kernel in made.values():
                kernel.close()

    def own_routes(self) -> list[Route]:
        """The DPU's routes that the mirror must not touch."""
        routes = (route for route in self.kernels[DPU].routes() if route.protocol != MIRROR)
        return sorted(route._replace(message=b"") for route in routes)

    @property
    def names(self) -> tuple[str, ...]:
        """The machines of the case."""
        assert self.case is not None
        return (DPU, *self.case.hosts)


def _at_rest(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _at_rest(one) for key, one in value.items() if key not in _RESTLESS}
    return [_at_rest(one) for one in value] if isinstance(value, list) else value


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """A lab for as long as the block lasts."""
    made = Lab(folder)
    try:
        yield made
    finally:
        made.close()
