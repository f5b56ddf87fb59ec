# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ekho lab for tests: four namespaces, and the real daemons as processes inside them.

The topology is that of the role ekho_lab with policy rules in the place of VRF devices, which every kernel has::

    host-a 192.168.11.2 -- eth3 [a] dpu eth1 [a] -- eth1 192.168.101.2 host
    host-b 192.168.12.2 -- eth4 [b] dpu eth2 [b] -- eth2 192.168.102.2 host      (IPv6: fd00:11::2 and so on)

Nothing here sleeps for a fixed time: see ``until``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.client import ControlClient
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import TRAP_METRIC
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

PROGRAM = (sys.executable, "-m", "ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.main")
MIRROR, MANUAL = 121, 122
TABLES = {"a": 10, "b": 20}
#: What `make kernel` deploys on ekho-host.
KERNEL_ROUTES = (
    "192.168.11.0/24 via 192.168.101.1",
    "192.168.12.0/24 via 192.168.102.1",
    "fd00:11::/64 via fd00:101::1",
    "fd00:12::/64 via fd00:102::1",
)
#: Where they belong on the DPU.
OFFLOADED = {
    "a": ["192.168.12.0/24 dev eth4", "fd00:12::/64 dev eth4"],
    "b": ["192.168.11.0/24 dev eth3", "fd00:11::/64 dev eth3"],
}
NOTHING: dict[str, list[str]] = {"a": [], "b": []}
_numbers = itertools.count()

_END_HOST = {
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.icmp.ratemask": "",
}
_ROUTER = {
    **_END_HOST,
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.accept_local": 1,
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 1,
}


def unix_get(path: str, target: str) -> str:
    """The body of a plain HTTP GET on a unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return answer.decode().partition("\r\n\r\n")[2]


class Namespaces(NamespaceFactory):
    """Namespaces called mt-PID-NUMBER-LABEL."""

    def __call__(self, label: str = "ns") -> Namespace:
        """Make one."""
        namespace = Namespace(f"mt-{os.getpid()}-{next(_numbers)}-{label}")
        self._made.append(namespace)
        return namespace


class Daemon:
    """A listener or an agent as a process of its own; the lab's ``listener`` and ``agent`` start it a first time."""

    def __init__(self, namespace: Namespace, kind: str, folder: Path, config: dict[str, Any]) -> None:
        self.namespace = namespace
        self.socket = str(folder / "control.sock")
        self.config = {"plaintext": True, "control_socket": self.socket, **config}
        if self.config.get("tls"):
            self.config["plaintext"] = False
        self._kind = kind
        self.file = folder / f"{kind}.json"
        self._log = folder / f"{kind}.log"
        self.process: subprocess.Popen[str] | None = None
        self.client = ControlClient(self.socket)
        self.through: tuple[str, ...] = ()  # what the command line starts with: unshare ...
        self.environment: dict[str, str] = {}

    def start(self) -> Daemon:
        """Start the process (again); it is not ready yet when this returns, see ``ready``."""
        command = self._kind
        self.file.write_text(json.dumps(self.config))
        environment = {**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"], **self.environment}
        line = (*self.through, *PROGRAM, command, "--config", str(self.file))
        with self._log.open("a") as log:
            self.process = self.namespace.start(*line, stdout=log, stderr=log, env=environment)
        return self

    def ready(self) -> Daemon:
        """Wait until the daemon does its work."""

        def health() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"the {self._kind} ended, exit {self.process.returncode}:\n{self.log()}")
            return bool((self.client.health() or {}).get("ready"))

        until(health, True)
        return self

    def end(self, number: int = SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code (negative: killed by that signal)."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)

    def signal(self, number: int) -> None:
        """Send a signal that does not end the daemon: SIGHUP, SIGSTOP, SIGCONT."""
        assert self.process is not None
        self.process.send_signal(number)

    def log(self) -> str:
        """All that the daemon has written so far, over all starts."""
        return self._log.read_text() if self._log.exists() else ""

    def reload(self, **changes: Any) -> None:
        """Write the configuration, with changes, and send SIGHUP."""
        self.config.update(changes)
        self.file.write_text(json.dumps(self.config))
        self.signal(SIGHUP)

    def says(self, pattern: str, times: int = 1) -> None:
        """Wait until the log matches a regular expression (*times* times)."""
        until(self.log, lambda text: len(re.findall(pattern, text)) >= times)

    def status(self) -> dict[str, Any]:
        """GET /status."""
        status = self.client.get("/status")
        assert isinstance(status, dict)
        return status

    def metric(self, name: str, **labels: str) -> float:
        """One value out of GET /metrics; 0.0 where there is none."""
        for line in unix_get(self.socket, "/metrics").splitlines():
            if line.split("{")[0].split(" ")[0] == name and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rpartition(" ")[2])
        return 0.0

    def routes(self, **query: str) -> dict[str, dict[str, Any]]:
        """GET /routes, by prefix."""
        return {route["prefix"]: route for route in self.client.lines("/routes", **query)}

    def state(self, prefix: str) -> tuple[str | None, str | None]:
        """(state, reason) of one prefix; (None, None) when the daemon does not know it."""
        route = self.routes(prefix=prefix).get(prefix, {})
        return route.get("state"), route.get("reason")

    def explain(self, prefix: str) -> dict[str, Any]:
        """GET /explain."""
        answer = self.client.get("/explain", prefix=prefix)
        assert isinstance(answer, dict)
        return answer

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``ynl-mirror ARGUMENTS --socket ...`` against this daemon."""
        return subprocess.run(
            [*PROGRAM, *arguments, "--socket", self.socket],
            env={**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def watch(self, output: Path) -> subprocess.Popen[str]:
        """Start ``ynl-mirror watch --json`` against this daemon, printing to a file."""
        environment = {**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]}
        with output.open("w") as file:
            return self.namespace.start(
                *PROGRAM, "watch", "--json", "--socket", self.socket, stdout=file, env=environment
            )


class MirrorLab:
    """The four machines. ``routes_of``, ``mirrored`` and ``others`` are what tests compare."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._namespaces = Namespaces()
        self._daemons: list[Daemon] = []
        self.host_a, self.dpu = self._namespaces("host-a"), self._namespaces("dpu")
        self.host, self.host_b = self._namespaces("host"), self._namespaces("host-b")
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything, and print the daemons' logs, which pytest shows when the test failed."""
        for daemon in self._daemons:
            if daemon.process is not None:
                daemon.process.kill()  # a graceful end takes its time, and is tested where it matters
        self._namespaces.close()
        for daemon in self._daemons:
            print(f"--- log of {daemon.socket}\n{daemon.log()}")

    # -- machines

    def namespace(self, label: str) -> Namespace:
        """One more machine, with no link yet."""
        made = self._namespaces(label)
        _sysctls(made, _END_HOST)
        return made

    def _build(self) -> None:
        for namespace in (self.host_a, self.host_b):
            _sysctls(namespace, _END_HOST)
        for namespace in (self.dpu, self.host):
            _sysctls(namespace, _ROUTER)
        for link, (peer, peer_link) in {
            "eth1": (self.host, "eth1"),
            "eth2": (self.host, "eth2"),
            "eth3": (self.host_a, "eth1"),
            "eth4": (self.host_b, "eth1"),
        }.items():
            self.dpu.ip(f"link add {link} type veth peer name {peer_link} netns {peer.name}")
        subnets = {"eth1": 101, "eth2": 102, "eth3": 11, "eth4": 12}
        batch(self.host_a, *_end_host(11))
        batch(self.host_b, *_end_host(12))
        batch(self.host, *link_addresses("eth1", 101, 2), *link_addresses("eth2", 102, 2))
        # The slow way there is in a table of its own, so that the main table, which the mirror follows, is empty.
        slow = [f"route add {route} table 200" for route in KERNEL_ROUTES]
        batch(self.host, *slow, "rule add pref 33000 lookup 200")
        batch(self.host, "rule add pref 33000 lookup 200", family="-6")
        for link, subnet in subnets.items():
            table = 10 if link in ("eth1", "eth3") else 20
            self._vrf_link(link, subnet, table)
        for table, subnet in ((10, 101), (20, 102)):
            batch(self.dpu, f"route add default via 192.168.{subnet}.2 dev eth{subnet - 100} table {table}")
            batch(self.dpu, f"route add default via fd00:{subnet}::2 dev eth{subnet - 100} table {table}")
        self._third_vrf()

    def _third_vrf(self) -> None:
        """A third VRF for tests that want one has table 30; the other two say nothing to it."""
        batch(self.dpu, "route add default via 192.168.101.2 dev eth1 table 30")
        batch(self.dpu, "route add default via fd00:101::2 dev eth1 table 30")

    def _vrf_link(self, link: str, subnet: int, table: int) -> None:
        """A link of a VRF that is made of policy rules; its connected routes stand in the VRF's table."""
        batch(
            self.dpu,
            *link_addresses(link, subnet, 1, " noprefixroute"),
            f"route add 192.168.{subnet}.0/24 dev {link} proto kernel scope link src 192.168.{subnet}.1 table {table}",
            f"route add fd00:{subnet}::/64 dev {link} proto kernel metric 256 table {table}",
        )
        for family, address in (("-4", f"192.168.{subnet}.1"), ("-6", f"fd00:{subnet}::1")):
            rules = (f"iif {link}", f"oif {link}", f"from {address}")
            batch(self.dpu, *(f"rule add pref 1000 {rule} lookup {table}" for rule in rules), family=family)

    # -- daemons

    def agent(self, start: bool = True, namespace: Namespace | None = None, **config: Any) -> Daemon:
        """An agent on the DPU, started but not waited for; ``config`` goes over the usual one."""
        vrfs = {"a": {"table": 10, "links": ["eth1", "eth3"]}, "b": {"table": 20, "links": ["eth2", "eth4"]}}
        # Peers that write a few messages by hand do not announce, as a listener does, which links lead to them.
        usual = {"vrfs": vrfs, "host_links": ["eth1", "eth2"], "log_level": "debug"}
        return self._daemon(namespace or self.dpu, "agent", {**usual, **config}, start)

    def listener(self, start: bool = True, namespace: Namespace | None = None, **config: Any) -> Daemon:
        """A listener on the host, started but not waited for."""
        agents = [{"address": "192.168.101.1"}]
        return self._daemon(namespace or self.host, "listener", {"agents": agents, **config}, start)

    def _daemon(self, namespace: Namespace, kind: str, config: dict[str, Any], start: bool) -> Daemon:
        folder = self.folder / f"{kind}{len(self._daemons)}"
        folder.mkdir()
        daemon = Daemon(namespace, kind, folder, config)
        self._daemons.append(daemon)
        return daemon.start() if start else daemon

    def mirror(self, agent: dict[str, Any] | None = None, listener: dict[str, Any] | None = None) -> Pair:
        """Agent and listener, ready and connected, the first replay behind them."""
        pair = Pair(self.agent(**(agent or {})), self.listener(**(listener or {})))
        pair.agent.ready()
        pair.listener.ready()
        pair.synced()
        return pair

    # -- the kernel's routes

    def deploy(self) -> None:
        """`make kernel`."""
        batch(self.host, *(f"route add {route}" for route in KERNEL_ROUTES))

    def withdraw(self) -> None:
        """The reverse."""
        batch(self.host, *(f"route del {route}" for route in KERNEL_ROUTES))

    def tables(self) -> dict[int, str]:
        """The DPU's VRFs, by table."""
        return {table: name for name, table in TABLES.items()}

    def mirrored(self, protocol: int = MIRROR) -> dict[str, list[str]]:
        """What stands under the mirror's protocol number, by VRF, in words as short as ``10.0.0.0/8 dev eth3``.

        In another table than the VRFs' it would stand under that table's number.
        """
        names = {str(table): name for table, name in self.tables().items()}
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for family in ("-4", "-6"):
            for route in self.dpu.ip_json(f"{family} -N route show table all proto {protocol}"):
                table = str(route.get("table", 254))
                found.setdefault(names.get(table, table), []).append(words_of(route, family))
        return {name: sorted(routes) for name, routes in found.items()}

    def others(self) -> list[str]:
        """Every route of the DPU in every table that does not carry the mirror's protocol number, as ip prints it."""
        lines = []
        for family in ("-4", "-6"):
            text = self.dpu.ip(f"{family} -N -o route show table all")
            lines += [f"{family} {line}" for line in text.splitlines() if f"proto {MIRROR} " not in f"{line} "]
        return sorted(lines)

    def hops(self, destination: str = "192.168.12.2") -> list[str]:
        """The hops of a traceroute from host-a; ``*`` for one that did not answer."""
        family = "-6" if ":" in destination else "-4"
        command = ("traceroute", family, "-n", "-q", "1", "-w", "1", "-m", "8", destination)
        lines = self.host_a.run(*command).stdout.splitlines()[1:]
        return [line.split()[1] for line in lines]


class Pair:
    """An agent and the listener that feeds it."""

    def __init__(self, agent: Daemon, listener: Daemon) -> None:
        self.agent = agent
        self.listener = listener

    def synced(self) -> None:
        """Wait until the listener has an answer to everything that it sent."""
        until(lambda: [(a["connected"], a["replays"], a["pending"]) for a in self.listener.status()["agents"]], _idle)


def _idle(agents: list[tuple[bool, int, int]]) -> bool:
    return bool(agents) and all(connected and replays and not pending for connected, replays, pending in agents)


def batch(namespace: Namespace, *lines: str, family: str = "") -> None:
    """Run lines of ``ip -batch``; the first that fails is an error. ``family`` (-6) for lines that do not imply it."""
    namespace.run("ip", *filter(None, [family]), "-batch", "-", stdin="".join(line + "\n" for line in lines))


def words_of(route: dict[str, Any], family: str) -> str:
    """A route of ``ip -j route`` in short: destination, next hops, and the metric where it says something."""
    dst = {"-4": "0.0.0.0/0", "-6": "::/0"}[family] if route["dst"] == "default" else route["dst"]
    if "/" not in dst:
        dst += "/32" if family == "-4" else "/128"
    hops = [_hop(route)] if "dev" in route else [f"{_hop(h)} weight {h['weight']}" for h in route["nexthops"]]
    metric = route.get("metric", 0)
    shown = "" if metric in ({"-4": 0, "-6": 1024}[family], TRAP_METRIC) else f" metric {metric}"
    return f"{dst} {' + '.join(sorted(hops))}{shown}"


def _hop(hop: dict[str, Any]) -> str:
    gateway = hop.get("gateway") or hop.get("via", {}).get("host")
    return (f"via {gateway} " if gateway else "") + f"dev {hop['dev']}"


def _sysctls(namespace: Namespace, values: dict[str, Any]) -> None:
    namespace.run("sysctl", "-q", "-w", *(f"{key}={value}" for key, value in values.items()))


def link_addresses(link: str, subnet: int, last: int, options: str = "") -> list[str]:
    """The lines that set a link up and give it its addresses in a subnet of the lab."""
    return [
        f"link set {link} up",
        f"address add 192.168.{subnet}.{last}/24 dev {link}{options}",
        f"address add fd00:{subnet}::{last}/64 dev {link} nodad{options}",
    ]


def _end_host(subnet: int) -> list[str]:
    return [
        *link_addresses("eth1", subnet, 2),
        f"route add default via 192.168.{subnet}.1",
        f"route add default via fd00:{subnet}::1",
    ]


@contextlib.contextmanager
def mirror_lab(folder: Path) -> Iterator[MirrorLab]:
    """A lab for as long as the block lasts."""
    made = MirrorLab(folder)
    try:
        yield made
    finally:
        made.close()


class RouteMonitor:
    """`ip monitor route` in a namespace; between markers nothing is missed, and nothing is waited for in vain."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._file = folder / f"monitor{next(_numbers)}.txt"
        self._seen = 0
        with self._file.open("w") as file:
            namespace.start("stdbuf", "-oL", "ip", "-N", "monitor", "route", stdout=file)
        until(self._mark, True)
        self.lines()

    def _mark(self) -> bool:
        self._namespace.ip("route replace blackhole 198.51.100.0/24 table 999")
        self._namespace.ip("route del blackhole 198.51.100.0/24 table 999")
        return " 198.51.100.0/24 " in self._file.read_text()

    def lines(self) -> list[str]:
        """The events since the last call, but for the kernel's own routes (protocol 2), which come late at times."""
        marker = f"203.0.113.{next(_numbers) % 256}"
        self._namespace.ip(f"route add blackhole {marker} table 999")
        self._namespace.ip(f"route del blackhole {marker} table 999")
        end = re.compile(rf"Deleted .*{marker} .*\n")
        new = until(lambda: self._file.read_text()[self._seen :], end.search)
        new = new[: end.search(new).end()]  # type: ignore[union-attr]  # it was found just now
        self._seen += len(new)
        return [line.strip() for line in new.splitlines() if not re.search(" table 999 | proto 2 ", line)]
