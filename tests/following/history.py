# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of a kernel, and a follower that has to be right after each step.

A history that ends otherwise is made small by hypothesis and written down as a shell script of ``ip`` commands.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs import veths
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.labs.veths import NETWORK, link_made
from ansible_collections.ekho.ynl_mirror.tests.support.peers.following import Followed, batches

#: Bytes of receive buffer: one that holds what a step says, and one that a burst overruns.
ROOMY, TIGHT = 1 << 20, 8192
#: Where a script that reproduces a failure is left.
SCRIPTS = Path(__file__).resolve().parent.parent.parent / ".cache" / "following"
LINKS = ("e1", "e2", "e3")
IPV4_PREFIXES = ("10.1.0.0/16", "10.1.0.0/24", "10.2.0.0/24", "0.0.0.0/0")
IPV6_PREFIXES = ("fd10::/32", "fd10::/64", "::/0")
IPV4_OBJECTS, IPV6_OBJECTS = ("1", "2", "3", "7"), ("4", "5", "6")
_numbers = itertools.count()

#: Run before a history: a namespace's sysctls, by name.
SYSCTLS = {**veths.SYSCTLS, "net.ipv6.conf.default.ignore_routes_with_linkdown": 1}
SETTINGS = ("net.ipv6.route.skip_notify_on_dev_down", "net.ipv4.nexthop_compat_mode")
FIRST = [command for name in LINKS[:2] for command in link_made(name)]


# -- what may happen


def _hop(family: int) -> st.SearchStrategy[str]:
    if family == 4:
        return st.sampled_from(
            (
                *("via 192.0.2.2", "via 192.0.2.3", "via 198.51.100.2", "via 203.0.113.2"),
                *("via 203.0.113.9 dev e1 onlink", "via inet6 fd00:2::9 dev e2", "via inet6 fe80::9 dev e1"),
            )
        )
    return st.sampled_from(("via fd00:1::2", "via fd00:1::3", "via fd00:2::2", "via fe80::9 dev e2", "via fd00:3::2"))


@st.composite
def _ways(draw: st.DrawFn, family: int) -> str:
    """What follows a prefix, a table and a metric: next hops, an object, a link, extras."""
    kind = draw(st.sampled_from(("gateway", "gateway", "several", "several", "object", "link", "extra")))
    if kind == "object":
        return "nhid " + draw(st.sampled_from(IPV4_OBJECTS if family == 4 else IPV6_OBJECTS))
    if kind == "several":
        hops = draw(st.lists(_hop(family), min_size=2, max_size=3, unique=True))
        return " ".join(f"nexthop {way} weight {draw(st.sampled_from((1, 1, 3, 256)))}" for way in hops)
    if kind == "link":
        return f"dev {draw(st.sampled_from(LINKS))}"
    if kind == "extra":
        extras = (
            "encap ip id 5 dst 192.0.2.77 ",
            "mtu 1400 ",
            "src 192.0.2.1 ",
            "src 198.51.100.1 ",
            "encap ip6 id 6 ",
        )
        if family == 6:
            extras = ("encap ip6 id 5 dst fd00:1::77 ", "mtu 1400 ", "src fd00:1::1 ", "pref high ", "expires 300 ")
        return draw(st.sampled_from(extras)) + draw(_hop(family))
    return draw(_hop(family))


@st.composite
def _routes(draw: st.DrawFn) -> str:
    """One command about a route, many of which the kernel refuses."""
    family = draw(st.sampled_from((4, 6)))
    prefix = draw(st.sampled_from(IPV4_PREFIXES if family == 4 else IPV6_PREFIXES))
    way = draw(_ways(family))
    metrics = ("", "", "", " metric 7", " metric 4278198272")
    if family == 6 and (way.startswith(("nhid", "dev")) or "encap" in way):
        # A dump leaves out what stands between the hops of a multipath route of the same metric.
        metrics = (" metric 5", " metric 4294967295")
    verb = draw(st.sampled_from(("add", "add", "append", "prepend", "replace", "replace", "change", "del", "del")))
    tos = draw(st.sampled_from(("", "", "", " tos 0x10"))) if family == 4 else ""
    table = draw(st.sampled_from(("", " table 100", " table 300")))
    protocol = draw(st.sampled_from(("", "", " proto static", " proto 121")))
    where = f"{prefix}{tos}{table}{draw(st.sampled_from(metrics))}{protocol}"
    ip = "" if family == 4 else "-6 "
    if verb == "del" and draw(st.booleans()):
        return f"{ip}route del {where}"
    discard = draw(st.sampled_from((None,) * 6 + ("blackhole", "unreachable", "prohibit", "throw")))
    if discard:
        return f"{ip}route {verb} {discard} {prefix}{tos}{table} metric 9{protocol}"
    return f"{ip}route {verb} {where} {way}"


@st.composite
def _links(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(LINKS))
    other = name.replace("e", "p")
    what = draw(
        st.sampled_from(("down", "up", "carrier", "carrier back", "delete", "make", "again", "rename", "mtu", "br"))
    )
    return {
        "down": [f"link set {name} down"],
        "up": [f"link set {name} up"],
        "carrier": [f"link set {other} down"],
        "carrier back": [f"link set {other} up"],
        "delete": [f"link del {name}"],
        "make": link_made(name),
        "again": [f"link del {name}", *link_made(name)],
        "rename": [f"link set {name} name x{name}", f"link set x{name} name {name}"],
        "mtu": [f"link set {name} mtu 1300"],
        "br": ["link add br0 type bridge", f"link set {name} master br0", f"link set {name} nomaster", "link del br0"],
    }[what]


@st.composite
def _addresses(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(LINKS))
    ipv4, ipv6 = NETWORK[name]
    what = draw(
        st.sampled_from(
            (
                *(f"{ipv4}.1/24 dev {name}", f"{ipv4}.77/24 dev {name}", f"{ipv6}1/64 dev {name}"),
                *(f"{ipv6}77/64 dev {name}", f"10.9.9.1/32 dev {name}", f"10.9.9.2 peer 192.0.2.9 dev {name}"),
                f"{ipv4}.88/24 metric 50 dev {name}",
            )
        )
    )
    verb = draw(st.sampled_from(("add", "del", "replace")))
    nodad = " nodad" if ":" in what and verb != "del" else ""
    return f"address {verb} {what}{nodad}"


@st.composite
def _objects(draw: st.DrawFn) -> str:
    verb = draw(st.sampled_from(("add", "add", "replace", "del")))
    number = draw(st.sampled_from((*IPV4_OBJECTS, *IPV6_OBJECTS)))
    if verb == "del":
        return f"nexthop del id {number}"
    what = {
        "1": ("via 192.0.2.9 dev e1", "via 192.0.2.8 dev e1", "via 198.51.100.8 dev e2", "blackhole"),
        "2": ("via 198.51.100.9 dev e2", "dev e2", "via inet6 fe80::2 dev e2", "via 10.99.0.1 dev e2 onlink"),
        "3": ("group 1", "group 1,3/2", "group 1,1/2,200", "group 2"),
        "4": ("via fd00:1::9 dev e1", "via fd00:2::9 dev e2", "blackhole"),
        "5": ("via fd00:2::9 dev e2", "dev e2"),
        "6": ("group 4", "group 4,2/5", "group 5,7/4"),
        "7": ("group 1,3/2 type resilient buckets 8", "group 1/2 type resilient buckets 8"),
    }[number]
    family = "-6 " if number in IPV6_OBJECTS and number != "6" else ""
    way = draw(st.sampled_from(what))
    return f"{family if way.startswith(('blackhole', 'dev')) else ''}nexthop {verb} id {number} {way}"


@st.composite
def _rules(draw: st.DrawFn) -> str:
    family = draw(st.sampled_from(("", "-6 ")))
    verb = draw(st.sampled_from(("add", "add", "del")))
    what = draw(st.sampled_from(("iif e1 lookup 300", "iif e2 lookup 300", "from all lookup 100", "iif e1 lookup 100")))
    return f"{family}rule {verb} {what} priority {draw(st.sampled_from((1000, 2000)))}"


_ALL_OBJECTS = (
    "nexthop add id 1 via 192.0.2.9 dev e1",
    "nexthop add id 2 via 198.51.100.9 dev e2",
    "nexthop add id 3 group 1,3/2",
    "nexthop add id 4 via fd00:1::9 dev e1",
    "nexthop add id 5 via fd00:2::9 dev e2",
    "nexthop add id 6 group 4,2/5",
    "nexthop add id 7 group 1/2 type resilient buckets 8",
)


def _burst(seed: int) -> list[str]:
    """More than a tight buffer holds, in an order that depends on *seed*."""
    return [
        f"route {'replace' if number * seed % 7 else 'del'} 10.{number * seed % 97}.0.0/16"
        f" via 192.0.2.{2 + number % 5} table {(254, 100)[number % 2]}"
        for number in range(1, 100)
    ]


# -- the machine


class History(RuleBasedStateMachine):
    """One namespace, one follower, and what happens to them; each step ends with the replica equal to a fresh dump."""

    make: Callable[[Rib], Replica] = Replica  # a broken one is what proves that failures are found
    first: Path | None = None  # where the script of the first failure is kept: the next attempt may not fail again

    def __init__(self) -> None:
        super().__init__()
        self.followed: Followed | None = None
        self.steps: list[tuple[str, list[str]]] = []

    @initialize(quiet=st.sampled_from((0, 0, 0, 1)), compat=st.sampled_from((1, 1, 1, 0)), tight=st.booleans())
    def start(self, quiet: int, compat: int, tight: bool) -> None:
        """A fresh namespace, read by a follower."""
        self.machine = Namespace(f"ynlh-{os.getpid()}-{next(_numbers)}")
        self.settings = {**SYSCTLS, **dict(zip(SETTINGS, (quiet, compat)))}
        for key, value in self.settings.items():
            self.machine.sysctl(key, value)
        for options, text in batches(FIRST):
            self.machine.run("ip", *options, "-batch", "-", stdin=text)
        self.followed = Followed(self.machine, TIGHT if tight else ROOMY, type(self).make)
        self.steps = [("start tight" if tight else "start", [])]
        self._settle()

    def _step(self, how: str, commands: list[str]) -> None:
        assert self.followed is not None
        self.steps.append((how, commands))
        self.followed.run(commands, beside=how == "beside")
        self._settle()

    def _settle(self) -> None:
        assert self.followed is not None
        try:
            self.followed.settle()
        except BaseException as error:
            where = write_script(self.settings, self.steps, str(error))
            if type(self).first is not None and not type(self).first.exists():
                type(self).first.write_text(where.read_text())
            note(f"{error}\nto do it again: {where}\n{where.read_text()}")
            raise

    @rule(commands=st.lists(_routes(), min_size=1, max_size=8), how=st.sampled_from(("held", "beside")))
    def routes(self, commands: list[str], how: str) -> None:
        self._step(how, commands)

    @rule(commands=_links(), routes=st.lists(_routes(), max_size=3), how=st.sampled_from(("held", "beside")))
    def link(self, commands: list[str], routes: list[str], how: str) -> None:
        self._step(how, [*commands, *routes])

    @rule(commands=_links(), routes=st.lists(_routes(), min_size=1, max_size=3))
    def link_after_routes(self, commands: list[str], routes: list[str]) -> None:
        self._step("held", [*routes, *commands])

    @rule(commands=st.lists(_addresses(), min_size=1, max_size=3), how=st.sampled_from(("held", "beside")))
    def address(self, commands: list[str], how: str) -> None:
        self._step(how, commands)

    @rule(commands=st.lists(st.one_of(_objects(), _objects(), _routes()), min_size=1, max_size=6))
    def objects(self, commands: list[str]) -> None:
        self._step("held", commands)

    @rule(commands=st.lists(_rules(), min_size=1, max_size=2), how=st.sampled_from(("held", "beside")))
    def rules(self, commands: list[str], how: str) -> None:
        self._step(how, commands)

    @rule(
        commands=st.lists(st.one_of(_routes(), _routes(), _objects(), _addresses(), _rules()), min_size=2, max_size=12),
        link=_links(),
        at=st.integers(0, 12),
        how=st.sampled_from(("held", "beside")),
    )
    def anything(self, commands: list[str], link: list[str], at: int, how: str) -> None:
        self._step(how, [*commands[:at], *link, *commands[at:]])

    @rule(seed=st.integers(1, 200), more=st.lists(_routes(), max_size=3))
    def burst(self, seed: int, more: list[str]) -> None:
        """Overruns a tight buffer."""
        self._step("held", [*_burst(seed), *more])

    @rule(objects=st.booleans())
    def mend(self, objects: bool) -> None:
        """Everything is there and up again, so that what follows finds something to break."""
        commands = [command for name in LINKS for command in link_made(name)]
        self._step("held", [*commands, *(_ALL_OBJECTS if objects else ())])

    @rule(tight=st.booleans(), commands=st.lists(_routes(), max_size=3))
    def restart(self, tight: bool, commands: list[str]) -> None:
        assert self.followed is not None
        self.steps.append(("restart tight" if tight else "restart", commands))
        self.followed.run(commands)
        self.followed.restart(TIGHT if tight else ROOMY)
        self._settle()

    def teardown(self) -> None:
        if self.followed is not None:
            self.followed.close()
            self.machine.delete()


# -- a failure as a script

_HEAD = """\
#!/bin/sh
# Does again what a follower of the kernel's routes got wrong: {what}
#
#   sh {name} [NETNS]      makes the network namespace NETNS (default: again), stops before each step and says for
#                          whom: Enter goes on. Follow with `ip netns exec NETNS ynl-mirror listener ...` from `start`
#                          on (receive_buffer: {buffer}, where it says tight); delete it with `ip netns delete NETNS`.
#   held                   the follower hears of the step when it is over (kill -STOP, then kill -CONT)
#   beside                 the follower runs meanwhile
N=${{1:-again}}
step() {{ echo "step $*"; read -r _ || true; }}
set_up() {{ ip netns exec "$N" sysctl -q -w "$1=$2"; }}
run() {{ ip -n "$N" "$@" -force -batch - 2>/dev/null; }}
ip netns add "$N" && ip -n "$N" link set lo up
"""


def script(name: str, settings: dict[str, int], steps: list[tuple[str, list[str]]], what: str) -> str:
    """A shell script that does all of a history; :func:`replay` follows it."""
    lines = [_HEAD.format(name=name, what="\n#   ".join(["", *what.splitlines()]), buffer=TIGHT)]
    lines += [f"set_up {key} {value}\n" for key, value in settings.items()]
    lines.append(_batch(FIRST))
    for how, commands in steps:
        if how.startswith("restart"):  # what happens before it is heard by nobody
            lines.append("step held\n" + _batch(commands))
            lines.append(f"step {how}\n")
        else:
            lines.append(f"step {how}\n" + _batch(commands))
    lines.append("step end\n")
    return "".join(lines)


def _batch(commands: list[str]) -> str:
    return "".join(f"run {' '.join(options)} <<'END'\n{text}END\n" for options, text in batches(commands))


def write_script(settings: dict[str, int], steps: list[tuple[str, list[str]]], what: str) -> Path:
    """Leave the script of a history in SCRIPTS; the same file for all attempts of one process."""
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    path = SCRIPTS / f"history-{os.getpid()}.sh"
    path.write_text(script(path.name, settings, steps, what))
    return path


def replay(path: Path, name: str, make: Callable[[Rib], Replica] = Replica) -> list[str]:
    """Run a script beside a follower of the namespace *name*; what the follower had wrong when it first did."""
    process = subprocess.Popen(
        ["sh", str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    machine = Namespace(name, existing=True)
    followed: Followed | None = None
    try:
        for line in process.stdout:
            what, _space, tight = line.removeprefix("step ").strip().partition(" ")
            receive_buffer = TIGHT if tight else ROOMY
            if followed is None:
                followed = Followed(machine, receive_buffer, make)
            elif what == "restart":
                followed.restart(receive_buffer)
            try:
                followed.settle()
            except AssertionError as error:
                return str(error).splitlines()
            process.stdin.write("\n")
        return []
    finally:
        process.kill()
        process.communicate()
        if followed is not None:
            followed.close()
        machine.delete()
