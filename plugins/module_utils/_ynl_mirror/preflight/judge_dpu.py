# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a DPU -> findings: its VRFs, how hosts reach the agent, and who else manages routes there. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ..config.agent import AgentConfig
from ..config.fields import suggestion
from ..config.listener import PeerAddress
from ..model.routes import FAMILY_NAMES, PROTO_MANUAL, PROTOCOLS, protocol_name
from .facts import PROBLEM, WARNING, Dpu, Facts, Finding, LinkState, Task, VrfState, either

#: Owners of a VRF's own routes: its kernel, its administrator, its network configuration.
_OWN_PROTOCOLS = frozenset(
    (PROTO_MANUAL, *(PROTOCOLS[name] for name in ("unspec", "redirect", "kernel", "boot", "static", "ra", "dhcp")))
)
#: The metric that the kernel's documentation (networking/vrf) gives to a VRF's unreachable default route.
_LAST_METRIC = 4278198272
_IP = {"ipv4": "ip", "ipv6": "ip -6"}
_WILDCARDS = ("::", "0.0.0.0")  # noqa: S104  # compared, not bound
_STRICT = 1

_NETWORKD = "systemd-network"  # as /proc/PID/comm cuts it
_IMPORTS_KERNEL_ROUTES = {
    "zebra": "make sure that it does not `redistribute kernel`",
    "bird": "make sure that its kernel protocol does not `learn`",
    "bird6": "make sure that its kernel protocol does not `learn`",
}


def judge_dpu(facts: Facts, task: Task) -> list[Finding]:
    """All findings about the machine as a DPU; none when it is not one."""
    dpu, agent = facts.dpu, task.agent
    if dpu is None or agent is None:
        return []
    vrfs = ", ".join(f"{vrf.name} (table {vrf.table}: {_names(vrf.links) or 'no link'})" for vrf in dpu.vrfs)
    links = [link for vrf in dpu.vrfs for link in vrf.links]
    owners = f"routes by protocol: {_owners(dpu, agent.protocol) or 'none'}"
    daemons = ", ".join(f"{daemon.name} (pid {daemon.pid})" for daemon in facts.machine.daemons)
    return [
        *either("vrfs", vrfs, _vrfs(dpu, agent)),
        *either("unreachable default", "each VRF has one in both families", _leaks(dpu)),
        *either("rules", _rules_fine(dpu), _rules(dpu, agent)),
        *either("forwarding", "on, in both families", _forwarding(links)),
        *either("rp_filter", "not strict on the VRFs' links", _rp_filter(links)),
        *either("listen", ", ".join(_ports(dpu)), _listen(dpu)),
        *either("address", _address_fine(facts, task), _address(facts, task)),
        *either("owners", owners, _foreign_owners(dpu, agent.protocol)),
        *either("ownership", _ownership_fine(dpu, agent), _ownership(dpu, agent)),
        *either("daemons", daemons or "none that manages routes", _daemons(facts, agent)),
    ]


def _names(links: tuple[LinkState, ...] | list[LinkState]) -> str:
    return ", ".join(link.name for link in links)


# -- VRFs -------------------------------------------------------------------------------------------------------------


def _vrfs(dpu: Dpu, agent: AgentConfig) -> Iterator[Finding]:
    enough = 2
    if len(dpu.vrfs) < enough:
        has = f"only VRF {dpu.vrfs[0].name}" if dpu.vrfs else "no VRF device"
        yield Finding("vrfs", PROBLEM, f"{has}; the mirror needs two VRFs or more", _make_vrfs(dpu))
    yield from _unknown_names(dpu, agent)
    for vrf in dpu.vrfs:
        down = [link for link in vrf.links if not (link.up and link.carrier)]
        if not vrf.links:
            found, fix = (
                f"VRF {vrf.name} (table {vrf.table}) has no link",
                f"ip link set dev LINK master {vrf.name}",
            )
            yield Finding("vrfs", WARNING, found, fix if vrf.device else f"add links to dpu_agent_vrfs.{vrf.name}")
        elif down:
            found = f"VRF {vrf.name}: down or without carrier: {_names(down)}"
            yield Finding(
                "vrfs", WARNING, found, "set the link up and check the cable: no route uses it while it is down"
            )


def _make_vrfs(dpu: Dpu) -> str:
    if dpu.kernel_vrf == "no":
        return "this kernel has no vrf module: install it, or make VRFs by policy rules and list them in dpu_agent_vrfs"
    return "ip link add name NAME type vrf table NUMBER; if policy rules make the VRFs, list them in dpu_agent_vrfs"


def _unknown_names(dpu: Dpu, agent: AgentConfig) -> Iterator[Finding]:
    """Names in the agent's variables that do not exist here: a rule with one would never apply."""
    vrfs = [vrf.name for vrf in dpu.vrfs]
    named = [(f"dpu_agent_static[{n}].vrf", rule.vrf, vrfs) for n, rule in enumerate(agent.static)]
    named += [(f"dpu_agent_static[{n}].dev", rule.dev, list(dpu.links)) for n, rule in enumerate(agent.static)]
    named += [(f"dpu_agent_host_links[{n}]", link, list(dpu.links)) for n, link in enumerate(agent.host_links)]
    for vrf, spec in agent.vrfs.items():
        named += [(f"dpu_agent_vrfs.{vrf}.links", link, list(dpu.links)) for link in spec.links]
    for vrf, sources in agent.imports.items():
        named += [(f"dpu_agent_imports.{vrf}", name, vrfs) for name in (vrf, *sources)]
    for path, name, known in named:
        if name not in known:
            kind = "VRF" if known is vrfs else "link"
            yield Finding("vrfs", PROBLEM, f"{path}: no {kind} {name!r} on this machine", suggestion(name, known))


def _leaks(dpu: Dpu) -> Iterator[Finding]:
    for vrf in dpu.vrfs:
        for family in FAMILY_NAMES.values():
            if family in vrf.unreachable:
                continue
            when = "without its default route, " if family in vrf.default else ""
            yield Finding(
                "unreachable default",
                WARNING,
                f"VRF {vrf.name}, {family}: {when}destinations that its table lacks are looked up in table main",
                f"{_IP[family]} route add unreachable default metric {_LAST_METRIC} "
                + (f"vrf {vrf.name}" if vrf.device else f"table {vrf.table}"),
            )


def _rules_fine(dpu: Dpu) -> str:
    return "l3mdev, in both families" if any(vrf.device for vrf in dpu.vrfs) else "an iif rule for each link"


def _rules(dpu: Dpu, agent: AgentConfig) -> Iterator[Finding]:
    for family in FAMILY_NAMES.values():
        if any(vrf.device for vrf in dpu.vrfs):
            if family not in dpu.l3mdev_rules:
                found = f"no l3mdev rule for {family}: packets are not looked up in their VRF's table"
                yield Finding("rules", PROBLEM, found, f"{_IP[family]} rule add l3mdev pref 1000")
            continue
        for vrf in dpu.vrfs if agent.vrfs else ():
            bare = [link for link in vrf.links if family not in link.ruled]
            if bare:
                found = f"VRF {vrf.name}, {family}: no rule sends packets from {_names(bare)} to table {vrf.table}"
                fix = f"{_IP[family]} rule add iif {bare[0].name} lookup {vrf.table} pref 1000"
                yield Finding("rules", PROBLEM, found, fix)


def _forwarding(links: list[LinkState]) -> Iterator[Finding]:
    for family, key in (("ipv4", "net.ipv4.ip_forward"), ("ipv6", "net.ipv6.conf.all.forwarding")):
        off = [link for link in links if link.forwarding.get(family) is False]
        if off:
            level = PROBLEM if family == "ipv4" else WARNING
            yield Finding("forwarding", level, f"{family} forwarding is off on {_names(off)}", f"sysctl -w {key}=1")


def _rp_filter(links: list[LinkState]) -> Iterator[Finding]:
    strict = [link for link in links if link.rp_filter == _STRICT]
    if strict:
        yield Finding(
            "rp_filter",
            WARNING,
            f"strict on {_names(strict)}: packets that arrive over the host are dropped once their source is mirrored",
            "sysctl -w net.ipv4.conf.all.rp_filter=2 (loose; the larger of `all` and the link's value applies)",
        )


# -- how hosts reach the agent ----------------------------------------------------------------------------------------


def mine(facts: Facts, task: Task) -> list[PeerAddress]:
    """What listeners expect at an address of this machine. Host names are left out: they may be another machine's."""
    places = facts.dpu.places if facts.dpu else {}
    return [peer for peer in task.expected if _canonical(peer.address) in places]


def _canonical(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""


def _is_global(address: str) -> bool:
    """Whether another machine could know this one by it."""
    value = ipaddress.ip_address(address)
    return not (value.is_loopback or value.is_link_local)


def _ports(dpu: Dpu) -> Iterator[str]:
    for port in dpu.ports:
        yield f"{port.address} port {port.port} is {'in use by the agent' if port.ours else 'free'}"


def _listen(dpu: Dpu) -> Iterator[Finding]:
    for port in dpu.ports:
        where = f"{port.address} port {port.port}"
        place = dpu.places.get(port.address)
        if port.holder and not port.ours:
            fix = "stop it, or choose another port (dpu_agent_listen, dpu_agent_http; mirror_listener_agents)"
            yield Finding("listen", PROBLEM, f"{where} is in use by {port.holder}", fix)
        if port.address in _WILDCARDS:
            if port.address == "::" and not dpu.ipv6:
                yield Finding(
                    "listen", PROBLEM, f"{where}: IPv6 is disabled on this machine", "set dpu_agent_listen to 0.0.0.0"
                )
        elif place is None:
            if ipaddress.ip_address(port.address).is_loopback:
                continue
            fix = "listen at one of its addresses, or at :: for all"
            yield Finding("listen", PROBLEM, f"{where} is not an address of this machine", fix)
        elif place.vrf_device:
            found = f"{where} is in VRF {place.vrf_device}; the agent cannot bind to it"
            fix = "listen at :: and set the sysctl net.ipv4.tcp_l3mdev_accept=1"
            yield Finding("listen", PROBLEM, found, fix)


def _address_fine(facts: Facts, task: Task) -> str:
    places = facts.dpu.places if facts.dpu else {}
    at = [f"{peer.address} on {places[_canonical(peer.address)].link}" for peer in mine(facts, task)]
    return (
        f"hosts reach it at {', '.join(dict.fromkeys(at)) or 'a name'}"
        if task.expected
        else "no listener in the inventory"
    )


def _address(facts: Facts, task: Task) -> Iterator[Finding]:
    dpu, own = facts.dpu, mine(facts, task)
    if dpu is None:
        return
    if task.expected and not own and all(_canonical(peer.address) for peer in task.expected):
        has = ", ".join(address for address in dpu.places if _is_global(address)) or "none"
        found = f"no host's mirror_listener_agents lists an address of this machine (it has {has})"
        yield Finding("address", WARNING, found, "list one of them there, unless NAT translates addresses in between")
    if len(own) > 1:
        found = f"{len(own)} hosts send their routes to this agent, which mirrors one host at a time"
        yield Finding("address", WARNING, found, "remove it from all mirror_listener_agents but one")
    ports = {port.port for port in dpu.ports}
    for peer in own:
        if peer.port not in ports:
            found = f"hosts connect to port {peer.port}, but dpu_agent_listen has {', '.join(map(str, sorted(ports)))}"
            yield Finding("address", PROBLEM, found, "use the same port on both sides")
        place = dpu.places[_canonical(peer.address)]
        if place.vrf_device and not dpu.tcp_l3mdev_accept:
            found = f"hosts reach it at {peer.address} in VRF {place.vrf_device}, where the agent accepts no connection"
            yield Finding("address", PROBLEM, found, "sysctl -w net.ipv4.tcp_l3mdev_accept=1")


# -- who else manages routes ------------------------------------------------------------------------------------------


def _counts(vrf: VrfState, dpu: Dpu, wanted: frozenset[int] | set[int]) -> str:
    found = [
        f"{count:,} {dpu.protocol_names.get(protocol, protocol_name(protocol))}"
        for protocol, count in sorted(vrf.owners.items())
        if protocol in wanted
    ]
    return ", ".join(found)


def _owners(dpu: Dpu, own: int) -> str:
    parts = [f"{vrf.name}: {_counts(vrf, dpu, set(vrf.owners))}" for vrf in dpu.vrfs if set(vrf.owners) - {own}]
    return "; ".join(parts)


def _foreign_owners(dpu: Dpu, own: int) -> Iterator[Finding]:
    for vrf in dpu.vrfs:
        foreign = set(vrf.owners) - _OWN_PROTOCOLS - {own}
        if foreign:
            yield Finding(
                "owners",
                WARNING,
                f"VRF {vrf.name} (table {vrf.table}) has routes of other owners: {_counts(vrf, dpu, foreign)}",
                "the mirror leaves them alone; where both have a destination, the lower metric wins (dpu_agent_metric)",
            )


def _ownership_fine(dpu: Dpu, agent: AgentConfig) -> str:
    count = sum(vrf.owners.get(agent.protocol, 0) for vrf in dpu.vrfs)
    return f"{count:,} routes with protocol {agent.protocol}" + (" from the deployed agent" if count else "")


def _ownership(dpu: Dpu, agent: AgentConfig) -> Iterator[Finding]:
    for vrf in dpu.vrfs:
        count = vrf.owners.get(agent.protocol, 0)
        if count and not dpu.deployed:
            target = f"vrf={vrf.name}" if vrf.device else f"table={vrf.table}"
            routes = f"{count:,} route" + ("" if count == 1 else "s")
            yield Finding(
                "ownership",
                PROBLEM,
                f"VRF {vrf.name} has {routes} with protocol {agent.protocol}, but no agent is deployed here: a new one "
                "would take them for its own and delete those that no host announces",
                "set dpu_agent_protocol to another number; if an earlier mirror left them, delete them: "
                f"vrf_route {target} protocol={agent.protocol} state=deleted",
            )


def _daemons(facts: Facts, agent: AgentConfig) -> Iterator[Finding]:
    links = _names([link for vrf in (facts.dpu.vrfs if facts.dpu else ()) for link in vrf.links])
    for daemon in facts.machine.daemons:
        who = f"{daemon.name} (pid {daemon.pid})"
        if daemon.name == _NETWORKD:
            yield from _networkd(daemon.pid, facts.machine.networkd_removes, by_rules=bool(agent.vrfs))
        elif daemon.name == "NetworkManager":
            fix = f"list {links} as unmanaged-devices in NetworkManager.conf"
            yield Finding("daemons", WARNING, f"{who} may rewrite the routes of links that it manages", fix)
        elif daemon.name in _IMPORTS_KERNEL_ROUTES:
            found = f"{who} may import the mirrored routes and announce them to its neighbours"
            yield Finding("daemons", WARNING, found, _IMPORTS_KERNEL_ROUTES[daemon.name])


def _networkd(pid: int, removes: tuple[str, ...], *, by_rules: bool) -> Iterator[Finding]:
    """What systemd-networkd removes when it starts or configures a link. VRF devices lose no policy rules."""
    settings = [name for name in removes if by_rules or name == "ManageForeignRoutes"]
    what = {"ManageForeignRoutes": "routes", "ManageForeignRoutingPolicyRules": "policy rules"}
    if settings:
        yield Finding(
            "daemons",
            WARNING,
            f"systemd-networkd (pid {pid}) removes foreign {' and '.join(what[name] for name in settings)} whenever it "
            "starts or configures a link",
            f"set {', '.join(f'`{name}=no`' for name in settings)} under `[Network]` in "
            "/etc/systemd/networkd.conf.d/ynl-mirror.conf, and restart it",
        )
