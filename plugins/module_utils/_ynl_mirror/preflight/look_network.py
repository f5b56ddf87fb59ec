# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the facts of a machine's network: VRFs, addresses, ports, reachable agents. Changes nothing."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from ..config.agent import AgentConfig
from ..config.listener import PeerAddress
from ..config.names import read_names
from ..mapping.view import discover_vrfs
from ..model.links import Link, LinkAddress, Rule, Vrf
from ..model.routes import FAMILIES, FAMILY_NAMES, RTN_UNICAST, RTN_UNREACHABLE
from ..netlink.sockets import Requests, read_addresses, read_links, read_routes, read_rules
from .facts import Dpu, Host, LinkState, Place, Port, Reach, Task, VrfState

_LISTENING = "0A"
_MODULE = "kernel/drivers/net/vrf.ko"
_MOST_AT_ONCE = 16


def look_at_dpu(requests: Requests, task: Task) -> Dpu:
    """The machine as a DPU. KernelError when the kernel cannot be read."""
    agent = task.agent
    if agent is None:
        raise ValueError("the task has no agent")
    links = {link.index: link for link in read_links(requests)}
    rules = read_rules(requests)
    named = {name: (spec.table, spec.links) for name, spec in agent.vrfs.items()}
    vrfs = discover_vrfs(links, rules, named)
    names = read_names()
    return Dpu(
        vrfs=tuple(_vrf_state(requests, vrf, links, rules) for vrf in vrfs),
        links=tuple(link.name for link in links.values()),
        kernel_vrf=kernel_vrf(),
        l3mdev_rules=frozenset(
            FAMILY_NAMES[rule.family] for rule in rules if rule.l3mdev and rule.family in FAMILY_NAMES
        ),
        tcp_l3mdev_accept=_sysctl("net/ipv4/tcp_l3mdev_accept") == "1",
        ipv6=os.path.exists("/proc/net/if_inet6"),
        places=_places(links, read_addresses(requests)),
        ports=_ports(agent),
        deployed=os.path.exists(os.path.join(task.config_dir, "agent.json")),
        protocol_names={number: name for name, number in names.protocols.items()},
    )


def look_at_host(requests: Requests, task: Task) -> Host:
    """The machine as a listener's host. KernelError when the kernel cannot be read."""
    listener = task.listener
    if listener is None:
        raise ValueError("the task has no listener")
    return Host(
        reaches=reach(listener.agents, task.timeout),
        routes={
            table: sum(1 for name in listener.families for _route in read_routes(requests, FAMILIES[name], table))
            for table in listener.tables
        },
        skip_notify=_sysctl("net/ipv6/route/skip_notify_on_dev_down") == "1",
    )


# -- VRFs -------------------------------------------------------------------------------------------------------------


def _vrf_state(requests: Requests, vrf: Vrf, links: Mapping[int, Link], rules: Iterable[Rule]) -> VrfState:
    owners: Counter[int] = Counter()
    closing: dict[int, set[str]] = {RTN_UNREACHABLE: set(), RTN_UNICAST: set()}
    for family, name in FAMILY_NAMES.items():
        for route in read_routes(requests, family, vrf.table):
            owners[route.path.protocol] += 1
            if route.prefix.length == 0 and route.path.type in closing:
                closing[route.path.type].add(name)
    return VrfState(
        name=vrf.name,
        table=vrf.table,
        device=any(link.name == vrf.name and link.vrf_table is not None for link in links.values()),
        links=tuple(_link_state(links[index], vrf.table, rules) for index in sorted(vrf.links)),
        owners=dict(owners),
        unreachable=frozenset(closing[RTN_UNREACHABLE]),
        default=frozenset(closing[RTN_UNICAST]),
    )


def _link_state(link: Link, table: int, rules: Iterable[Rule]) -> LinkState:
    filters = [int(_sysctl(f"net/ipv4/conf/{name}/rp_filter") or 0) for name in ("all", link.name)]
    forwarding = {name: _sysctl(f"net/{name}/conf/{link.name}/forwarding") for name in FAMILIES}
    return LinkState(
        name=link.name,
        up=link.up,
        carrier=link.carrier,
        rp_filter=max(filters),  # Documentation/networking/ip-sysctl
        forwarding={name: value == "1" for name, value in forwarding.items() if value},
        ruled=frozenset(FAMILY_NAMES[rule.family] for rule in rules if rule.iif == link.name and rule.table == table),
    )


def kernel_vrf(root: str = "/") -> str:
    """Whether the kernel can make VRF devices: `yes`, `no` or `unknown`. Not tried: that would load a module."""
    release = os.uname().release
    modules = os.path.join(root, "lib/modules", release)
    if os.path.exists(os.path.join(root, "sys/module/vrf")):
        return "yes"
    if any(_MODULE in _text(os.path.join(modules, name)) for name in ("modules.builtin", "modules.dep")):
        return "yes"
    for path in ("proc/config.gz", f"boot/config-{release}"):
        text = _text(os.path.join(root, path))
        if text:  # CONFIG_NET_VRF=m does not help when the module is not installed
            return "yes" if "\nCONFIG_NET_VRF=y" in text else "no"
    return "no" if os.path.exists(os.path.join(modules, "modules.dep")) else "unknown"


def _text(path: str) -> str:
    """A text file, compressed or not; empty when it cannot be read."""
    with contextlib.suppress(OSError, EOFError):
        if path.endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
                return file.read()
        with open(path, encoding="utf-8", errors="replace") as plain:
            return plain.read()
    return ""


def _sysctl(name: str) -> str:
    """A kernel parameter of this network namespace, by its path; empty where this kernel has none of that name."""
    return _text(f"/proc/sys/{name}").strip()


def _places(links: Mapping[int, Link], addresses: Iterable[LinkAddress]) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for item in addresses:
        link = links.get(item.index)
        if link is None:  # gone since the links were read
            continue
        master = links.get(link.master) if link.master is not None else None
        vrf = link if link.vrf_table is not None else master
        found[str(item.address)] = Place(link.name, vrf.name if vrf and vrf.vrf_table is not None else "")
    return found


# -- ports ------------------------------------------------------------------------------------------------------------


def _ports(agent: AgentConfig) -> tuple[Port, ...]:
    wanted = [(item.address, item.port) for item in agent.listen]
    if agent.http is not None:
        wanted.append((agent.http.address, agent.http.port))
    sockets = list(_listening_sockets())
    return tuple(_port(address, port, sockets) for address, port in wanted if port)


def _port(address: str, port: int, sockets: Iterable[tuple[str, int, str]]) -> Port:
    for other, number, inode in sockets:
        if number == port and (other == address or {other, address} & {"0.0.0.0", "::"}):  # noqa: S104  # compared
            pid, command = _owner_of(inode)
            words = command.split("\0")
            ours = "agent" in words and any(os.path.basename(word) == "ynl-mirror" for word in words)
            name = os.path.basename(words[0]) or "a process"
            return Port(address, port, f"{name} (pid {pid})" if pid else "a process that is not visible", ours)
    return Port(address, port)


def _listening_sockets() -> Iterator[tuple[str, int, str]]:
    """Address, port and inode of each TCP socket of this network namespace that listens (proc_net_tcp)."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _text(path).splitlines()[1:]:
            words = line.split()
            address, _colon, port = words[1].partition(":")
            if words[3] == _LISTENING:
                yield _proc_address(address), int(port, 16), words[9]


def _proc_address(digits: str) -> str:
    """An address as /proc/net/tcp has it: words of 32 bits in the machine's byte order."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _owner_of(inode: str) -> tuple[int, str]:
    """Pid and command line of the process that has a socket open; 0 when none is visible."""
    wanted = f"socket:[{inode}]"
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            for descriptor in os.scandir(f"/proc/{entry}/fd"):
                if os.readlink(descriptor.path) == wanted:
                    return int(entry), _text(f"/proc/{entry}/cmdline")
    return 0, ""


# -- agents -----------------------------------------------------------------------------------------------------------


def reach(agents: Iterable[PeerAddress], seconds: float) -> tuple[Reach, ...]:
    """Try to connect to each agent, all in parallel, as the listener does; sends nothing."""
    wanted = list(agents)
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        return tuple(pool.map(lambda agent: _connect(agent, seconds), wanted))


def _connect(agent: PeerAddress, seconds: float) -> Reach:
    started = time.monotonic()
    try:
        socket.create_connection((agent.address, agent.port), seconds).close()
        answer = "connected"
    except ConnectionRefusedError:
        answer = "refused"
    except socket.timeout:
        answer = f"no answer within {seconds:g} s"
    except OSError as error:
        answer = error.strerror or str(error)
    except UnicodeError as error:  # the resolver cannot encode it
        answer = f"not a host name: {error}"
    return Reach(agent.address, agent.port, answer, (time.monotonic() - started) * 1000)
