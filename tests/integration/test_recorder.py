# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures of a real kernel: what is replayed is what was, whatever happened to the kernel, the daemon or the disk."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture import pcapng
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.recorder import recorded
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.replay import Replay
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.common import CaptureConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Monitor, Requests
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.describe import events
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.follower import Follower
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import PROGRAM, MirrorLab
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import NETWORK, joined
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

SETTINGS = {"tables": [254, 100], "families": ["ipv4", "ipv6"]}
LIMIT = 1 << 30
Changes = list[dict[str, Any]]


@pytest.fixture
def machine(netns: Namespace) -> Namespace:
    """e1 and e2 with an address of each family."""
    return joined(netns)


def _history(chance: random.Random) -> str:
    """A line of `ip -batch`: a route of any kind, or what removes routes silently."""
    link = chance.randint(1, 2)
    ipv4, ipv6 = NETWORK[f"e{link}"]
    prefix, gateway = chance.choice(
        [
            (f"10.{chance.randint(0, 3)}.0.0/16", f"{ipv4}.2"),
            (f"fd1{chance.randint(0, 3)}::/32", f"{ipv6}2"),
        ]
    )
    other = gateway[:-1] + "3"
    table, metric = chance.choice(("", " table 100")), chance.choice(("", "", " metric 7"))
    return chance.choices(
        [
            f"route {chance.choice(('add', 'append', 'replace', 'prepend'))} {prefix}{table}{metric} via {gateway}",
            f"route replace {prefix}{table}{metric} nexthop via {gateway} nexthop via {other} weight 2",
            f"route del {prefix}{table}{metric}",
            f"route add blackhole {prefix}{table} metric 9",
            f"link set e{link} {chance.choice(('down', 'up', 'up'))}",
            f"address {chance.choice(('del', 'add', 'add'))} {ipv4}.1/24 dev e{link}",
            f"nexthop replace id {link} via {ipv4}.9 dev e{link}",
            f"route replace 10.9.{link}.0/24{table} nhid {link}",
            f"nexthop del id {link}",
            f"rule {chance.choice(('add', 'del'))} pref 5{link} iif e{link} lookup 100",
        ],
        weights=[9, 3, 3, 1, 1, 1, 1, 1, 0.5, 1],
    )[0]


@contextmanager
def _following(machine: Namespace, file: Path, buffer: int) -> Iterator[tuple[Follower, Replica, Changes]]:
    """A follower with a capture, its replica, and the changes that watchers receive."""
    replica, told = Replica(Rib(SETTINGS["tables"])), Changes()

    def on_change() -> None:
        told.extend(events(replica.rib, replica.rib.take_changed(), replica.links))

    with machine.entered():
        monitor, requests = Monitor(buffer), Requests()
    with closing(monitor), requests:
        sockets = recorded(CaptureConfig(str(file), LIMIT), SETTINGS, (monitor, requests, on_change))
        yield Follower(replica, *sockets), replica, told
        on_change()


async def _live(machine: Namespace, follower: Follower, replica: Replica, seed: int, at_once: int) -> None:
    chance = random.Random(seed)
    await follower.load()
    replica.rib.recording = True
    task = asyncio.ensure_future(follower.run())
    for _round in range(15):
        lines = "".join(_history(chance) + "\n" for _line in range(chance.randint(1, at_once)))
        if chance.random() < 0.5:
            await asyncio.to_thread(machine.run, "ip", "-force", "-batch", "-", check=False, stdin=lines)
        else:  # nobody listens meanwhile
            machine.run("ip", "-force", "-batch", "-", check=False, stdin=lines)
        await asyncio.sleep(chance.choice((0, 0.001, 0.05)))
    task.cancel()  # in the middle of whatever it does
    await asyncio.gather(task, return_exceptions=True)


def _replayed(file: Path) -> tuple[Replay, Changes]:
    replay, told = Replay(), Changes()
    with file.open("rb") as stream:
        for item in pcapng.read(stream):
            told += replay.feed(item)
    told += replay.finish()
    return replay, [{name: value for name, value in change.items() if name != "time"} for change in told]


@pytest.mark.parametrize(("seed", "at_once", "buffer"), [(0, 10, 1 << 20), (1, 10, 1 << 20), (2, 200, 4096)])
def test_a_replay_ends_in_the_same_state_by_the_same_changes(
    machine: Namespace, tmp_path: Path, seed: int, at_once: int, buffer: int
) -> None:
    file = tmp_path / "capture"
    with _following(machine, file, buffer) as (follower, replica, told):
        asyncio.run(_live(machine, follower, replica, seed, at_once))
    replay, again = _replayed(file)
    assert again == told
    assert len(told) > 5  # overruns leave few
    assert replay.replica.rib.tables == replica.rib.tables
    assert (replay.replica.links, replay.replica.addresses) == (replica.links, replica.addresses)
    assert replay.replica.rules == replica.rules
    counts = replay.summary()
    assert (counts["notifications"], counts["overruns"]) == (follower.notifications, follower.overruns)
    assert (counts["overruns"] > 0) == (buffer == 4096)
    assert counts["rereads_only_in_capture"] == []


# -- the daemons


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]}
    return subprocess.run(
        [*PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def _replay_command(file: Path, *options: str) -> tuple[int, Changes, str]:
    """Exit code, changes and summary, what went to stderr."""
    result = _command("replay", str(file), "--json", *options)
    return result.returncode, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def test_what_watch_has_shown_is_what_replay_shows_even_of_a_daemon_that_was_killed(
    lab: MirrorLab, tmp_path: Path
) -> None:
    file, seen = tmp_path / "capture.pcapng", tmp_path / "watched"
    listener = lab.listener(agents=[], capture={"file": str(file)}).ready()
    listener.watch(seen)

    def reported(prefix: str) -> bool:
        lab.host.ip(f"route replace blackhole {prefix}")
        lab.host.ip(f"route del blackhole {prefix}")
        return prefix in seen.read_text()

    until(lambda: reported("203.0.113.1/32"), True)
    lab.deploy()
    lab.host.ip("link set eth1 down")
    lab.host.ip("link set eth1 up")
    until(lambda: reported("203.0.113.2/32"), True)
    until(lambda: reported("203.0.113.3/32"), True)  # no re-read is left to come
    listener.end(signal.SIGKILL)
    watched = [json.loads(line) for line in seen.read_text().splitlines() if line.startswith("{")]
    code, (*changes, summary), complaint = _replay_command(file)
    assert (code, complaint) == (0, "")
    times = [change.pop("time") for change in changes]
    assert times == sorted(times)
    assert any(changes[at : at + len(watched)] == watched for at in range(len(changes)))
    # Of that the kernel said nothing:
    assert {"event": "delete", "prefix": "192.168.11.0/24", "table": "main"} in watched
    assert (summary["starts"], summary["rereads_only_in_replay"]) == (1, [])
    # An event that comes while its link is being read has it read once more; which of the two the read was for, a
    # capture does not say.
    assert set(summary["rereads_only_in_capture"]) <= {"ipv4 table main dev eth1", "ipv6 table main dev eth1"}

    listener.start().ready()
    assert listener.end() == 0
    code, (*_changes, summary), _complaint = _replay_command(file)
    assert (code, summary["starts"]) == (0, 2)


def test_an_agents_capture_is_replayed_as_well(lab: MirrorLab, tmp_path: Path) -> None:
    file = tmp_path / "capture.pcapng"
    agent = lab.agent(capture={"file": str(file)}).ready()
    heard = agent.status()["notifications"]
    lab.dpu.ip("route add 10.9.0.0/16 dev eth3 table 10")
    lab.dpu.ip("route add 10.9.0.0/16 dev eth3 table 10 proto 121 metric 5")  # the mirror's own are no news
    lab.dpu.ip("route add 10.8.0.0/16 dev eth3 table 99")  # no VRF's
    until(lambda: agent.status()["notifications"] >= heard + 3, True)
    agent.end()
    code, (*changes, summary), _complaint = _replay_command(file)
    assert [(c["event"], c["prefix"], c["table"]) for c in changes] == [("update", "10.9.0.0/16", "10")]
    assert (code, summary["starts"], summary["rereads_only_in_replay"]) == (0, 1, [])


def test_a_full_disk_ends_the_capture_and_not_the_daemon(lab: MirrorLab, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        listener = lab.listener(agents=[], capture={"file": str(disk / "capture")}).ready()
        routes = "".join(f"route add blackhole 10.{n // 256}.{n % 256}.0/24\n" for n in range(2000))
        lab.host.run("ip", "-batch", "-", stdin=routes)
        until(lambda: listener.status()["routes"] >= 2000, True)
        assert listener.log().count("No space left on device; recording has stopped") == 1
        code, (*changes, summary), complaint = _replay_command(disk / "capture")
        assert (code, complaint) == (0, "")
        assert 0 < summary["notifications"] < 2000
        assert changes[0]["prefix"] == "10.0.0.0/24"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # the daemon still has the file open


# -- no capture


def test_without_a_capture_nothing_stands_in_between() -> None:
    with closing(Monitor(4096)) as monitor, Requests() as requests:
        sockets = (monitor, requests, list)
        assert recorded(None, SETTINGS, sockets) is sockets


def test_the_command_line_asks_for_a_capture_too(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine\n")
    config = tmp_path / "listener.json"
    config.write_text(json.dumps({"plaintext": True, "control_socket": str(tmp_path / "socket")}))
    result = _command("listener", "--config", str(config), "--capture", str(tmp_path / "notes"))
    assert result.returncode == 2
    assert "notes exists and cannot be appended to (byte 0: not a pcapng file); name another file" in result.stderr
