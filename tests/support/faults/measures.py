# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every fault is measured with: what should be installed and what is, churn, a running ping, memory.

Nothing here comes from the library: what is expected is worked out from what ``ip route`` shows of the host.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import threading
from pathlib import Path

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import (
    KERNEL_ROUTES,
    MIRROR,
    Daemon,
    MirrorLab,
    batch,
)
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

Table = dict[str, str]  # prefix -> its way, as words
#: By gateway of the host: the table of the VRF that it leads to, and the egress there.
WAYS = {
    "192.168.101.1": (10, "via 192.168.11.2 dev eth3"),
    "192.168.102.1": (20, "via 192.168.12.2 dev eth4"),
    "fd00:101::1": (10, "via fd00:11::2 dev eth3"),
    "fd00:102::1": (20, "via fd00:12::2 dev eth4"),
}
_CONNECTED = {route.split()[0] for route in KERNEL_ROUTES}
#: Which tables know by themselves where packets go, by the first part of a prefix. All others lead to the host.
_KNOW = {"10": {10, 20}, "11": {10}, "12": {20}, "fd01": {10, 20}, "fd11": {10}, "fd12": {20}}
_KNOW |= {prefix: {20} if ".12." in prefix or ":12:" in prefix else {10} for prefix in _CONNECTED}
#: Others' routes on the DPU, of several protocols: around mirrored ones, in the way of one, and in other tables.
FOREIGN = (
    "route add 10.0.0.0/8 via 192.168.11.2 dev eth3 table 10 proto static",
    "route add 10.0.0.0/8 via 192.168.12.2 dev eth4 table 20 proto static",
    "route add 11.0.0.0/8 via 192.168.11.2 dev eth3 table 10 proto static",
    "route add 12.0.0.0/8 via 192.168.12.2 dev eth4 table 20 proto static",
    "route add fd01::/16 via fd00:11::2 dev eth3 table 10 proto static",
    "route add fd01::/16 via fd00:12::2 dev eth4 table 20 proto static",
    "route add fd11::/16 via fd00:11::2 dev eth3 table 10 proto static",
    "route add fd12::/16 via fd00:12::2 dev eth4 table 20 proto static",
    "route add 10.250.1.0/24 via 192.168.12.3 dev eth4 table 30 proto bgp",  # where one of the mirror's would go
    "route add 10.250.2.0/24 via 192.168.101.2 dev eth1 table 30 proto zebra metric 5",  # behind one of the mirror's
    "route add 10.250.3.0/24 via 192.168.101.2 dev eth1 table 30 proto bgp",  # behind one, with the very metric
    "route add 172.16.0.0/16 dev eth3 table 10 proto 122",
    "route add 172.17.0.0/16 dev eth4 table 20 proto 99 metric 7",
    "route add 172.18.0.0/16 dev eth4 table 30 proto ospf",
    "route add blackhole 172.19.0.0/16 table 20 proto ra",
    "route add 172.20.0.0/16 dev eth1 proto dhcp",
    "route add fd02::/32 dev eth4 table 20 proto bird",
    "route add fd03::/32 dev eth3 table 10 proto 122",
    "route add fd04::/32 dev eth3 table 99 proto static",
)
#: The host's routes that meet them, which no churn touches.
BESIDE = tuple(f"route add 10.250.{number}.0/24 via 192.168.101.1" for number in (1, 2, 3))
_HELD = {"10.250.1.0/24"}


def prepare(lab: MirrorLab) -> None:
    """Others' routes on the DPU, and routes of the host that do not move."""
    batch(lab.dpu, *FOREIGN)
    batch(lab.host, *BESIDE)
    lab.deploy()


def wanted(host: Namespace) -> dict[int, Table]:
    """What is to be mirrored, by the DPU's table, from a fresh dump of the host's main table."""
    tables: dict[int, Table] = {10: {}, 20: {}, 30: {}}
    for family in ("-4", "-6"):
        best: dict[str, tuple[int, str]] = {}
        for line in host.ip(f"{family} route show table main").splitlines():
            words = line.split()
            gateway = words[words.index("via") + 1] if "via" in words else ""
            if gateway in WAYS and "dead" not in words:
                metric = int(words[words.index("metric") + 1]) if "metric" in words else 0
                prefix = words[0]
                if prefix not in best or metric < best[prefix][0]:
                    best[prefix] = (metric, gateway)
        for prefix, (_metric, gateway) in best.items():
            source, way = WAYS[gateway]
            know = _KNOW.get(prefix) or _KNOW[re.split("[.:]", prefix)[0]]
            if source not in know or prefix in _HELD:
                continue  # the egress would lead back to the host; VRF c knows by itself
            for table in tables.keys() - know:
                tables[table][prefix] = way.partition("dev")[2].join(("dev", "")) if prefix in _CONNECTED else way
    return tables


def installed(dpu: Namespace) -> dict[int, Table]:
    """What stands in the DPU's kernel under the mirror's protocol number, in whatever table."""
    tables: dict[int, Table] = {10: {}, 20: {}, 30: {}}
    for family in ("-4", "-6"):
        for line in dpu.ip(f"{family} -N route show table all proto {MIRROR}").splitlines():
            words = line.split()
            table = int(words[words.index("table") + 1]) if "table" in words else 254
            way = [f"{word} {words[words.index(word) + 1]}" for word in ("via", "dev") if word in words]
            found = tables.setdefault(table, {})
            # A second route to the same prefix is one too many, and must not hide behind the first.
            found[words[0] if words[0] not in found else f"{words[0]} again"] = " ".join(way)
    return tables


def foreign(lab: MirrorLab) -> list[str]:
    """All routes of the DPU that are neither the mirror's nor the kernel's own."""
    return [line for line in lab.others() if " proto 2 " not in f"{line} "]


def difference(lab: MirrorLab) -> list[str]:
    """What keeps the mirrored routes from being exact, in words; nothing when they are."""
    have, want = installed(lab.dpu), wanted(lab.host)
    told = []
    for table in sorted({*have, *want}):
        there, due = have.get(table, {}), want.get(table, {})
        if there != due:
            missing = sorted(due.keys() - there.keys())
            more = sorted(there.keys() - due.keys())
            other = [f"{p} {there[p]}, not {due[p]}" for p in sorted(due.keys() & there.keys()) if due[p] != there[p]]
            told.append(
                f"table {table}: {len(missing)} missing {missing[:3]}, {len(more)} too many {more[:3]}, "
                f"{len(other)} lead elsewhere {other[:3]}"
            )
    return told


def prefixes(count: int) -> list[str]:
    """*count* prefixes, one in four of them IPv6. By turns both VRFs know a way, or VRF a only, or VRF b only."""
    return [
        f"fd{('01', '11', '12')[n % 3]}:{n >> 16:x}:{n & 0xFFFF:x}::/48"
        if n % 4 == 3
        else f"{10 + n % 3}.{n >> 8 & 127}.{n & 255}.{n >> 15 << 4}/28"
        for n in range(count)
    ]


def lines_of(draw: random.Random, pool: list[str], count: int) -> list[str]:
    """*count* random changes of the host's routes; some make no sense at that moment, as in life."""
    lines = []
    for _number in range(count):
        prefix = draw.choice(pool)
        gateway = draw.choice(("fd00:101::1", "fd00:102::1") if ":" in prefix else ("192.168.101.1", "192.168.102.1"))
        metric = draw.choice(("", "", "", " metric 10"))
        verb = draw.choice(("replace", "replace", "add", "del"))
        lines.append(f"route {verb} {prefix}{metric}" + ("" if verb == "del" else f" via {gateway}"))
    return lines


def change(host: Namespace, lines: list[str]) -> None:
    """Run lines on the host that may fail."""
    host.run("ip", "-force", "-batch", "-", stdin="".join(line + "\n" for line in lines), check=False)


def calm(host: Namespace) -> None:
    """Take away what churn has left on the host."""
    for prefix in ("10.0.0.0/9", "11.0.0.0/8", "12.0.0.0/8", "fd01::/16", "fd11::/16", "fd12::/16"):
        host.ip(f"route flush root {prefix} table main")


class Churn:
    """Routes of the host change, at random and without a pause, for as long as the block lasts."""

    def __init__(self, host: Namespace, pool: int = 400, at_once: int = 20, seed: int = 0) -> None:
        self.changes = 0
        self._host = host
        self._pool = prefixes(pool)
        self._at_once = at_once
        self._draw = random.Random(seed)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn")

    def _run(self) -> None:
        while not self._end.wait(0.02):
            change(self._host, lines_of(self._draw, self._pool, self._at_once))
            self.changes += self._at_once

    def some(self, count: int) -> None:
        """Wait for *count* more changes."""
        goal = self.changes + count
        until(lambda: self.changes, lambda done: done >= goal)

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()


class Ping:
    """A ping from end host to end host that gets there on the short way only: the way over the host is too long for it.

    So a packet is lost when it finds no mirrored route, even where the host would have helped out.
    """

    def __init__(self, lab: MirrorLab) -> None:
        self._file = lab.folder / "ping.txt"
        with self._file.open("w") as file:
            command = ("stdbuf", "-oL", "ping", "-n", "-t", "2", "-i", "0.01", "192.168.12.2")
            self._process = lab.host_a.start(*command, stdout=file)
        until(self._answered, bool)

    def _answered(self) -> set[int]:
        return {
            int(number) for number in re.findall(r"^64 bytes.* icmp_seq=(\d+)", self._file.read_text(), re.MULTILINE)
        }

    def end(self) -> tuple[int, int]:
        """(packets lost, packets sent); those after the last that was answered do not count, so let one be."""
        before = max(self._answered())
        until(self._answered, lambda answered: max(answered) > before)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        answered = self._answered()
        first, last = min(answered), max(answered)
        return last - first + 1 - len(answered), last - first + 1

    def kill(self) -> None:
        """End it, whatever it has seen."""
        self._process.kill()


def memory(daemon: Daemon, what: str = "VmHWM") -> float:
    """The most memory that a daemon has held since its start (or VmRSS: holds now), in MiB; 0.0 when it has ended."""
    assert daemon.process is not None
    try:
        text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    found = re.search(rf"^{what}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def descriptors(daemon: Daemon) -> int:
    """How many files a daemon has open."""
    assert daemon.process is not None
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
