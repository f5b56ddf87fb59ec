# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of faults. Each one happens to real daemons in real namespaces; stage.py says what has to hold after it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.client import ControlClient
from ansible_collections.ekho.ynl_mirror.tests.faults.stage import Row, Stage, told
from ansible_collections.ekho.ynl_mirror.tests.faults.wrong_peers import (
    broken_configuration,
    garbage,
    two_listeners,
)
from ansible_collections.ekho.ynl_mirror.tests.support.faults.measures import (
    FOREIGN,
    Churn,
    change,
    descriptors,
    installed,
    prefixes,
)
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon, batch, link_addresses
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

#: A receive buffer that takes a handful of notifications.
_TINY = {"receive_buffer": 4096}


# -- killed, stopped, upgraded


def _killed(stage: Stage) -> None:
    draw = random.Random(stage.size.kills)
    victims = itertools.cycle(((stage.agent,), (stage.listener,), stage.daemons))
    with stage.churn() as churn:
        for _number in range(stage.size.kills):
            time.sleep(draw.uniform(0.0, 0.3))  # at any point of a start, a replay, or in the midst of changes
            daemons = next(victims)
            stage.kill(*daemons)
            churn.some(40)
            for daemon in daemons:
                daemon.start()


def _restarted(stage: Stage) -> None:
    with stage.churn():
        for daemons in ((stage.agent,), (stage.listener,)):
            stage.restart(*daemons)


def _rebooted(stage: Stage) -> None:
    stage.kill(stage.agent)
    for family in ("-4", "-6"):
        stage.lab.dpu.ip(f"{family} route flush table all proto 121")
    with stage.churn() as churn:
        churn.some(100)
        stage.agent.start()


def _stopped_agent(stage: Stage) -> None:
    stage.agent.signal(signal.SIGSTOP)
    _many_changes(stage)
    stage.agent.signal(signal.SIGCONT)


def _stopped_listener(stage: Stage) -> None:
    stage.listener.signal(signal.SIGSTOP)
    change(stage.lab.host, [f"route add {p} via {_gateway(p)}" for p in prefixes(3000)])
    stage.listener.signal(signal.SIGCONT)
    until(lambda: stage.listener.status()["overruns"], bool)
    change(stage.lab.host, [f"route del {p}" for p in prefixes(3000)[::2]])


def _overruns(stage: Stage) -> None:
    before = [daemon.status()["overruns"] for daemon in stage.daemons]
    with stage.churn(at_once=300), _dpu_churn(stage):
        for daemon, count in zip(stage.daemons, before):
            _overrun(daemon, count + stage.size.kills)


def _overrun(daemon: Daemon, times: int) -> None:
    until(lambda: daemon.status()["overruns"] >= times, True)


@contextlib.contextmanager
def _dpu_churn(stage: Stage) -> Iterator[None]:
    """The agent's kernel has much to say as well, of what is nobody's in the end."""
    lines = [f"route {v} 172.30.{n}.0/24 dev eth3 table 10" for n in range(200) for v in ("add", "del")]
    process = stage.lab.dpu.start(
        *("sh", "-c", 'while printf %s "$0" | ip -force -batch -; do sleep 0.2; done', "\n".join(lines) + "\n"),
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
        change(stage.lab.dpu, lines)


def _gateway(prefix: str) -> str:
    return "fd00:101::1" if ":" in prefix else "192.168.101.1"


def _many_changes(stage: Stage) -> None:
    """Half of the routes stay in the end, some of them another way."""
    pool = prefixes(stage.size.changes // 2)
    change(stage.lab.host, [f"route replace {p} via {_gateway(p)}" for p in pool])
    change(stage.lab.host, [f"route replace {p} via {_gateway(p).replace('101', '102')}" for p in pool[::4]])
    change(stage.lab.host, [f"route del {p}" for p in pool[1::4]])


# -- the link between them


def _cut(stage: Stage) -> None:
    with stage.churn() as churn:
        churn.some(40)
        stage.weather.cut = True
        churn.some(40)
        time.sleep(stage.size.seconds)
        stage.weather.cut = False


def _link_down(stage: Stage) -> None:
    with stage.churn() as churn:
        stage.lab.host.ip("link set ctl down")
        churn.some(40)
        time.sleep(stage.size.seconds)
        stage.lab.host.ip("link set ctl up")


def _reset(stage: Stage) -> None:
    with stage.churn() as churn:
        for _number in range(stage.size.kills):
            _reset_once(stage)
            churn.some(20)


def _reset_once(stage: Stage) -> None:
    def replays() -> int:
        return int(stage.listener.status()["agents"][0]["replays"])

    before = replays()
    stage.weather.reset()
    until(lambda: replays() > before, True)


def _half_open(stage: Stage) -> None:
    """Each end in turn vanishes silently, and its successor connects while the old connection seems to live."""
    with stage.churn() as churn:
        for daemon in (stage.listener, stage.agent):
            stage.weather.cut = True
            churn.some(40)
            stage.kill(daemon)
            daemon.start().ready()
            stage.weather.cut = False
            stage.connected()


def _bad_link(stage: Stage) -> None:
    stage.weather.delay, stage.weather.loss = 0.15, 0.05
    with stage.churn() as churn:
        churn.some(200)
    stage.exact()
    stage.kill(stage.listener)
    stage.listener.start()
    stage.exact()  # in that weather too


def _replay_cut_short(stage: Stage) -> None:
    """The routes that the host has lost meanwhile stay until a replay has come to its end."""
    pool = prefixes(2000)
    change(stage.lab.host, [f"route replace {p} via {_gateway(p)}" for p in pool])
    stage.exact()
    stage.kill(stage.listener)
    change(stage.lab.host, [f"route del {p}" for p in pool[::2]])
    before = _prefixes(stage)
    stage.weather.delay = 0.2  # one way, so that a replay takes a few of them
    said = stage.agent.log().count("replay complete")
    stage.listener.start().ready()
    stage.connected()
    until(lambda: [host["updates_received"] for host in stage.agent.status()["hosts"]], any)
    stage.weather.cut = True  # in the middle of it
    stage.kill(stage.listener)
    assert stage.agent.log().count("replay complete") == said, "the replay was over too soon for this test"
    assert _prefixes(stage) == before
    stage.weather.fine()
    stage.listener.start()


def _prefixes(stage: Stage) -> set[str]:
    return {prefix for table in installed(stage.lab.dpu).values() for prefix in table}


# -- resources


def _full_disk(stage: Stage) -> None:
    """Captures, control sockets and notes on a disk that is full, then read-only; the usual ones in the end."""
    disk = stage.lab.folder / "disk"
    kinds = ("agent", "listener")
    clients = [daemon.client for daemon in stage.daemons]
    with stage.churn() as churn, _full(disk):
        stage.kill(*stage.daemons)
        for daemon, kind in zip(stage.daemons, kinds):
            path = str(disk / f"{kind}.sock")
            capture = {"file": str(disk / f"{kind}.capture")}
            daemon.config = {**daemon.config, "control_socket": path, "capture": capture}
            daemon.environment = {"NOTIFY_SOCKET": str(disk / "nobody")}  # so that it leaves a note for its next start
            daemon.client = ControlClient(path)
            daemon.start()
        for daemon in stage.daemons:
            daemon.ready()
            daemon.says("No space left on device; recording has stopped, the daemon goes on")
        stage.connected()
        churn.some(100)
        stage.kill(*stage.daemons)
        _mount("-o", "remount,ro", str(disk))
        for daemon in stage.daemons:
            daemon.start()
        for daemon in stage.daemons:
            assert daemon.process is not None
            assert daemon.process.wait(60) == 1
            assert re.search(rf"ERROR .*{disk}.*Read-only file system$", daemon.log().rstrip())
    for daemon, client, kind in zip(stage.daemons, clients, kinds):
        daemon.config, daemon.environment, daemon.client = stage.usual(kind), {}, client
        daemon.start()


@contextlib.contextmanager
def _full(folder: Path) -> Iterator[None]:
    """A disk that has room for names of files only."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder))
    try:
        with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _no_descriptors(stage: Stage) -> None:
    with stage.churn() as churn:
        with _few_descriptors(stage.agent, descriptors(stage.agent)), contextlib.ExitStack() as stack:
            with stage.lab.host.entered():
                for _number in range(20):
                    stack.enter_context(socket.create_connection(("192.168.109.1", 2620), 10))
            stage.agent.says("cannot accept a connection: .*Too many open files")
            churn.some(100)
        said = stage.listener.log()
        with _few_descriptors(stage.listener, 3):  # closing the connection gives one back
            stage.weather.reset()
            until(lambda: "Too many open files" in stage.listener.log()[len(said) :], True)
            churn.some(100)
    stage.connected()


@contextlib.contextmanager
def _few_descriptors(daemon: Daemon, count: int) -> Iterator[None]:
    """Let a daemon open no file whose number would be *count* or more; those that it has stay open."""
    assert daemon.process is not None
    pid = daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


#: A wall clock that is set a year forward or back whenever somebody looks at it.
_JUMPING_CLOCK = """
import random, time
def jumping(clock, unit):
    return lambda *which: clock(*which) + random.choice((-31536000, 0, 31536000)) * unit
time.time, time.time_ns = jumping(time.time, 1), jumping(time.time_ns, 1000000000)
"""


def _clock(stage: Stage) -> None:
    """The clock since the boot is a year ahead, too, in a time namespace; then both are right again."""
    folder = stage.lab.folder / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_JUMPING_CLOCK)
    year = str(365 * 86400)
    with stage.churn() as churn:
        for through in (("unshare", "--time", "--monotonic", year, "--boottime", year), ()):
            for daemon in stage.daemons:
                daemon.through = through
                path = f"{folder}:{os.environ['ANSIBLE_COLLECTIONS_PATH']}"
                daemon.environment = {"PYTHONPATH": path, "NOTIFY_SOCKET": str(folder / "nobody")}
            told = [len(daemon.log()) for daemon in stage.daemons]
            stage.kill(*stage.daemons)
            stage.restart(*stage.daemons)
            stage.connected()
            stage.weather.reset()
            churn.some(100)
            stage.connected()
            for daemon, length in zip(stage.daemons, told):
                years = set(re.findall(r"^(\d{4})-\d\d-\d\d ", daemon.log()[length:], re.MULTILINE))
                assert len(years) > 1, "the clock did not jump"


# -- what is taken from under the agent


def _come_back(dpu: Namespace, table: int, prefix: str) -> None:
    until(lambda: prefix in installed(dpu)[table], True)


def _by_hand(stage: Stage) -> None:
    dpu = stage.lab.dpu
    with stage.churn() as churn:
        for table, prefix, other in (
            (10, "192.168.12.0/24", "via 192.168.11.2 dev eth3"),
            (30, "10.250.2.0/24", "via 192.168.12.2 dev eth4"),
        ):
            dpu.ip(f"route del {prefix} table {table} proto 121")
            _come_back(dpu, table, prefix)
            dpu.ip(f"route replace {prefix} {other} table {table} proto 121")
        for family in ("-4", "-6"):
            dpu.ip(f"{family} route flush table all proto 121", check=False)  # which the agent races
        churn.some(40)
    for family in ("-4", "-6"):
        dpu.ip(f"{family} route flush table 30 proto 121", check=False)


def _vrf_made_again(stage: Stage) -> None:
    dpu = stage.lab.dpu
    with stage.churn() as churn:
        _rules(stage, "del", b=20)
        for family in ("-4", "-6"):
            dpu.ip(f"{family} route flush table 20", check=False)  # which races with the agent
        churn.some(40)
        _rules(stage, "add", b=20)
        _routes_of(stage, eth2=20, eth4=20)
        churn.some(40)
    _others_again(stage)


def _vrfs_swapped(stage: Stage) -> None:
    """Two VRFs swap their tables, and again, before the agent has caught up; the second time everything fits."""
    with stage.churn():
        for _number in range(stage.size.kills):
            for old, new in (({"a": 10, "b": 20}, {"a": 20, "b": 10}), ({"a": 20, "b": 10}, {"a": 10, "b": 20})):
                _rules(stage, "del", **old)
                for table, link in ((old["a"], "eth1"), (old["a"], "eth3"), (old["b"], "eth2"), (old["b"], "eth4")):
                    for family in ("-4", "-6"):
                        stage.lab.dpu.ip(f"{family} route flush table {table} dev {link} proto kernel")
                        stage.lab.dpu.ip(f"{family} route flush table {table} dev {link} proto boot")
                _rules(stage, "add", **new)
                _routes_of(stage, eth1=new["a"], eth3=new["a"], eth2=new["b"], eth4=new["b"])
    _others_again(stage)


def _egress_made_again(stage: Stage) -> None:
    lab = stage.lab
    with stage.churn() as churn:
        lab.dpu.ip("link del eth4")
        churn.some(40)
        lab.dpu.ip(f"link add eth4 type veth peer name eth1 netns {lab.host_b.name}")
        batch(lab.host_b, *link_addresses("eth1", 12, 2))
        batch(lab.host_b, "route add default via 192.168.12.1", "route add default via fd00:12::1")
        batch(lab.dpu, *link_addresses("eth4", 12, 1, " noprefixroute"))
        _routes_of(stage, eth4=20)
        _others_again(stage)


def _others_again(stage: Stage) -> None:
    """The others put their routes back; one of them where the mirror's went meanwhile."""
    gone = [line for line in FOREIGN if "dev eth1 table 30" not in line]  # which nothing here takes away
    batch(stage.lab.dpu, *(line.replace("route add", "route replace") for line in gone))


_SUBNETS = {"eth1": 101, "eth2": 102, "eth3": 11, "eth4": 12}
_LINKS = {"a": ("eth1", "eth3"), "b": ("eth2", "eth4")}


def _rules(stage: Stage, verb: str, **vrfs: int) -> None:
    """Add or delete the policy rules that make VRFs of tables."""
    for family, subnet in (("-4", "192.168.{}.1"), ("-6", "fd00:{}::1")):
        rules = [
            f"rule {verb} pref 1000 {rule} lookup {table}"
            for vrf, table in vrfs.items()
            for link in _LINKS[vrf]
            for rule in (f"iif {link}", f"oif {link}", f"from {subnet.format(_SUBNETS[link])}")
        ]
        batch(stage.lab.dpu, *rules, family=family)


def _routes_of(stage: Stage, **links: int) -> None:
    """The connected routes and the defaults of links, in the tables of their VRFs."""
    lines = []
    for link, table in links.items():
        net = _SUBNETS[link]
        lines += [
            f"route replace 192.168.{net}.0/24 dev {link} proto kernel scope link src 192.168.{net}.1 table {table}",
            f"route replace fd00:{net}::/64 dev {link} proto kernel metric 256 table {table}",
        ]
        if link in ("eth1", "eth2"):
            lines += [f"route replace default via 192.168.{net}.2 dev {link} table {table}"]
            lines += [f"route replace default via fd00:{net}::2 dev {link} table {table}"]
    batch(stage.lab.dpu, *lines)


# -- certificates


def _certificates(stage: Stage) -> None:
    """New ones for both; then one of the listener's that has expired, one that is another host's, and a good one."""
    with stage.churn() as churn:
        _rotate(stage, churn)
        for name, expired, reason in (
            ("ekho-host", True, "certificate has expired"),
            ("ekho-other", False, "ekho-other is not in `hosts`"),
        ):
            said = len(stage.agent.log())
            tls = stage.ca.issue(name, expired=expired)
            for part in ("certificate", "key"):
                Path(stage.usual("listener")["tls"][part]).write_bytes(Path(tls[part]).read_bytes())
            stage.listener.signal(signal.SIGHUP)
            told(stage.agent, said, reason)
            churn.some(40)
        _rotate(stage, churn)


def _rotate(stage: Stage, churn: Churn) -> None:
    stage.ca.issue("ekho-dpu")
    stage.ca.issue("ekho-host")
    for daemon in stage.daemons:
        said = len(daemon.log())
        daemon.signal(signal.SIGHUP)
        told(daemon, said, "SIGHUP")
    churn.some(40)
    stage.connected()


_BY_RULES = {"vrfs": {"a": {"table": 10}, "b": {"table": 20}, "c": {"table": 30}}}
_TWO_HOSTS = {"hosts": ["ekho-host", "ekho-second"]}
ROWS = (
    Row("killed", "kill -9 of the agent, the listener, both, at random points under churn", _killed),
    Row("restarted", "each ended and started again as an upgrade does, under churn", _restarted),
    Row("rebooted", "the DPU comes back without a mirrored route", _rebooted, hitless=False),
    Row("slow-dpu", "the agent stands still while tens of thousands of routes change", _stopped_agent),
    Row("slow-host", "the listener stands still, and its netlink buffer overruns", _stopped_listener, listener=_TINY),
    Row("overruns", "netlink overruns on both sides, again and again", _overruns, agent=_TINY, listener=_TINY),
    Row("cut", "the link between them swallows everything for a while", _cut),
    Row("link-down", "the link between them goes down and comes up", _link_down),
    Row("reset", "connections end with a TCP reset", _reset),
    Row("half-open", "one end vanishes silently, and another replaces it", _half_open),
    Row("bad-link", "300 ms there and back, one packet in twenty lost", _bad_link),
    Row("cut-replay", "replays that are cut short sweep nothing", _replay_cut_short),
    Row("full-disk", "captures, notes and control sockets on a full disk, then on a read-only one", _full_disk),
    Row("descriptors", "no file descriptor is left, on either side", _no_descriptors),
    Row("clock", "the wall clock jumps by a year to and fro; the clock since boot is a year ahead, then not", _clock),
    Row("by-hand", "mirrored routes deleted, replaced and flushed by hand", _by_hand, hitless=False),
    Row("vrf", "a VRF goes with all its routes and is made again", _vrf_made_again, hitless=False, agent=_BY_RULES),
    Row("swap", "two VRFs swap their tables, to and fro", _vrfs_swapped, hitless=False, agent=_BY_RULES),
    Row(
        "egress-link",
        "the link that mirrored routes leave by is deleted and made again",
        _egress_made_again,
        hitless=False,
    ),
    Row("certificates", "new certificates at run time; one that has expired, one of another host", _certificates),
    Row("configuration", "broken configurations, reloaded, and then the one before", broken_configuration),
    Row("two-listeners", "another host claims the DPU while the first is there", two_listeners, agent=_TWO_HOSTS),
    Row("garbage", "peers with the host's own certificate and without speak garbage, then a flood of it", garbage),
)
