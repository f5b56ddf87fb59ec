# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the faults happen: the ekho lab, both daemons over TLS, others' routes, a link between them with weather."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import Authority
from ansible_collections.ekho.ynl_mirror.tests.support.faults.measures import (
    Churn,
    Ping,
    calm,
    difference,
    foreign,
    memory,
    prepare,
)
from ansible_collections.ekho.ynl_mirror.tests.support.faults.weather import Weather
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon, MirrorLab, Pair, mirror_lab
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

#: Seconds until everything has to be exact again, on however slow a machine; the longest pause of a listener is 15 s.
PATIENCE = 90.0


@dataclass(frozen=True)
class Size:
    """How much of it: *kills* and other repetitions, *changes* at once, *seconds* that a link is cut.

    *fresh*: every row starts with daemons that have just been started, so that its memory is its own.
    """

    kills: int = 3
    changes: int = 20_000
    seconds: float = 0.5
    fresh: bool = False


@dataclass(frozen=True)
class Row:
    """One fault. *act* makes it happen and ends it; *agent* and *listener* go over their usual configuration.

    *hitless*: no packet between the end hosts may be lost meanwhile.
    """

    name: str
    what: str
    act: Callable[[Stage], None]
    hitless: bool = True
    agent: dict[str, Any] = field(default_factory=dict)
    listener: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a row has cost: seconds to exact from the end of fault and churn, packets, MiB at most."""

    name: str
    seconds: float
    lost: int
    sent: int
    agent_mib: float
    listener_mib: float

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


class Stage:
    """The lab, ready for one fault after the other."""

    def __init__(self, lab: MirrorLab, weather: Weather, size: Size) -> None:
        self.lab = lab
        self.weather = weather
        self.size = size
        self.ca = Authority(lab.folder / "ca")
        prepare(lab)
        peers = [{"address": "192.168.109.1", "server_name": "ekho-dpu"}]
        vrfs = {"a": {"table": 10, "links": ["eth1", "eth3"]}, "b": {"table": 20, "links": ["eth2", "eth4"]}}
        self.agent = lab.agent(
            start=False,
            log_level="info",
            tls=self.ca.issue("ekho-dpu"),
            hosts=["ekho-host"],
            vrfs={**vrfs, "c": {"table": 30}},
        )
        self.listener = lab.listener(start=False, tls=self.ca.issue("ekho-host"), agents=peers)
        self._bare = {"agent": dict(self.agent.config), "listener": dict(self.listener.config)}

    @property
    def daemons(self) -> tuple[Daemon, Daemon]:
        """Agent and listener."""
        return self.agent, self.listener

    def usual(self, kind: str) -> dict[str, Any]:
        """The configuration of the agent or the listener, but for what a row asks for."""
        return dict(self._bare[kind])

    def churn(self, **options: int) -> Churn:
        """Routes of the host that change."""
        return Churn(self.lab.host, **options)

    def kill(self, *daemons: Daemon) -> None:
        """Send SIGKILL, to all at once."""
        for daemon in daemons:
            daemon.signal(signal.SIGKILL)
        for daemon in daemons:
            daemon.end(signal.SIGKILL)

    def restart(self, *daemons: Daemon, number: int = signal.SIGTERM) -> None:
        """End daemons by a signal, start them again, and wait until they do their work."""
        for daemon in daemons:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.end(number)
            daemon.start()
        for daemon in daemons:
            daemon.ready()

    def exact(self) -> None:
        """Wait until what is installed equals the mapping of what the host routes."""
        until(lambda: difference(self.lab), [], PATIENCE)

    def synced(self) -> None:
        """Wait until the listener has an answer to everything that it sent."""
        until(lambda: Pair(self.agent, self.listener).synced(), None, PATIENCE)

    def connected(self) -> None:
        """Wait until the daemons have found each other."""
        until(lambda: [peer["connected"] for peer in self.listener.status()["agents"]], [True], PATIENCE)

    def play(self, row: Row) -> Outcome:
        """Make a row's fault happen. AssertionError when the mirror is not exact after it, or somebody was touched."""
        self._make_ready(row)
        others = foreign(self.lab)
        told = [len(daemon.log()) for daemon in self.daemons]
        ping = Ping(self.lab)
        try:
            row.act(self)
            began = time.monotonic()
            self.exact()
            seconds = time.monotonic() - began
            self.synced()
            assert difference(self.lab) == []
            assert foreign(self.lab) == others
            lost, sent = ping.end()
        finally:
            ping.kill()
            self.weather.fine()
        for daemon, length in zip(self.daemons, told):
            assert "Traceback" not in daemon.log()[length:], daemon.log()[length:]
        assert not (row.hitless and lost), f"{lost} of {sent} packets were lost"
        return Outcome(row.name, round(seconds, 2), lost, sent, memory(self.agent), memory(self.listener))

    def _make_ready(self, row: Row) -> None:
        """Both daemons there, in the configuration that the row asks for, and exact."""
        calm(self.lab.host)
        for daemon, kind, more in ((self.agent, "agent", row.agent), (self.listener, "listener", row.listener)):
            usual = {**self.usual(kind), **more}
            lives = daemon.process is not None and daemon.process.poll() is None
            if self.size.fresh or not lives or daemon.config != usual or daemon.through or daemon.environment:
                if lives:
                    self.kill(daemon)
                daemon.config, daemon.through, daemon.environment = usual, (), {}
                daemon.start()
        for daemon in self.daemons:
            daemon.signal(signal.SIGCONT)  # a row that failed may have left it standing still
            daemon.ready()
        self.exact()
        self.synced()


def told(daemon: Daemon, said: int, text: str) -> None:
    """Wait until a daemon has put that into its log, behind the first *said* characters."""
    until(lambda: text in daemon.log()[said:], True)


@contextlib.contextmanager
def stage(folder: Path, size: Size) -> Iterator[Stage]:
    """A stage for as long as the block lasts."""
    with mirror_lab(folder) as lab:
        weather = Weather(lab.dpu, lab.host)
        try:
            yield Stage(lab, weather, size)
        finally:
            weather.close()
