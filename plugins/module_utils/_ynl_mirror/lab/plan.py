# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab's hosts should have, what they have, and the `ip` lines for the difference. Pure: no I/O.

For each host, a topology (hosts, interfaces, VRFs, routes, rules, and the links between interfaces) becomes a list of
`Item`: a key that identifies the thing, and the `ip -batch` line that creates it. The same keys are derived from the
JSON output of iproute2; the plan is the lines whose keys are missing. Nothing is ever removed: what a user adds to a
running lab stays.

VRFs come in two kinds (`VrfKind`). ``device``: the kernel's VRF devices. ``rules``, for kernels without them: policy
rules that look up, in the VRF's table, packets that arrive on or leave by the VRF's links or have one of its source
addresses. The kernel then does not put connected routes into that table: they are items of the plan, and addresses are
`noprefixroute` to keep the main table empty, as it is with VRF devices.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Key = tuple[object, ...]

RULE_PRIORITY = 1000  # the kernel's own rule for VRF devices has this one
LAST_METRIC = 4278198272  # of a VRF's unreachable default route in the kernel's documentation (networking/vrf)
TYPE_UNICAST, TYPE_UNREACHABLE = 1, 7  # RTN_* of linux/rtnetlink.h
MAIN = 254
ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
NAME_BYTES = 15  # IFNAMSIZ - 1


class LabError(Exception):
    """The topology contradicts itself; the message names the item."""


class VrfKind(Enum):
    """What a VRF is in this lab."""

    DEVICE = "device"
    RULES = "rules"


VRF_SYSCTLS = {
    # A daemon that listens outside of VRFs accepts what arrives in one, as it does with policy rules.
    VrfKind.DEVICE: {"net.ipv4.tcp_l3mdev_accept": "1", "net.ipv4.udp_l3mdev_accept": "1"},
    VrfKind.RULES: {
        # All VRFs share the local table. An answer sent from an address of one VRF may enter another VRF on its path;
        # without this it is dropped as a martian.
        "net.ipv4.conf.all.accept_local": "1",
        # The source of an ICMP error selects the table for it, and must be an address of the VRF it belongs to. (With
        # VRF devices the kernel knows the table, and this setting would select any address of the VRF.)
        "net.ipv4.icmp_errors_use_inbound_ifaddr": "1",
    },
}


@dataclass(frozen=True)
class Interface:
    """An interface of a host, one end of a link; addresses such as ``192.0.2.1/24``."""

    name: str
    vrf: str | None
    addresses: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]


@dataclass(frozen=True)
class StaticRoute:
    """A route through a neighbour on a link; ``table`` is a number, 254 is main."""

    dst: ipaddress.IPv4Network | ipaddress.IPv6Network
    gateway: ipaddress.IPv4Address | ipaddress.IPv6Address
    dev: str
    table: int


@dataclass(frozen=True)
class Host:
    """A host of the lab: ``namespace`` is its name on this machine, ``vrfs`` maps names to tables."""

    name: str
    namespace: str
    vrfs: Mapping[str, int] = field(default_factory=dict)
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[StaticRoute, ...] = ()
    rules: Mapping[int, int] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)

    def table_of(self, interface: Interface) -> int:
        """The table with the routes of this interface."""
        return self.vrfs[interface.vrf] if interface.vrf else MAIN


@dataclass(frozen=True)
class Link:
    """A cable: the two ends as (host name, interface name)."""

    one: tuple[str, str]
    two: tuple[str, str]


@dataclass(frozen=True)
class Topology:
    """A whole lab."""

    hosts: tuple[Host, ...]
    links: tuple[Link, ...]

    def host(self, name: str) -> Host:
        """The host of that (short) name."""
        return next(host for host in self.hosts if host.name == name)


@dataclass(frozen=True)
class Item:
    """One thing that a host should have: ``key`` as `observed` derives it, ``command`` as a line of ``ip -batch``.

    ``option`` is the option of `ip` that the line needs: ``-6`` for an IPv6 rule, which does not show its family.
    """

    key: Key
    command: str
    option: str = ""


def parse_topology(lab: str, hosts: Sequence[Mapping[str, Any]], links: Sequence[Sequence[str]]) -> Topology:
    """Check a description and convert it; namespaces are called ``LAB-HOST``.

    ``hosts`` is a list of mappings with the keys name, vrfs (list of name, table), interfaces (list of name, vrf,
    addresses), routes (list of dst, gateway, table or vrf or neither), rules (list of priority, table) and sysctls;
    ``links`` a list of pairs ``host:interface``. Raises LabError.
    """
    parsed = tuple(_host(lab, entry) for entry in hosts)
    _unique("host", [host.name for host in parsed])
    known = {(host.name, interface.name) for host in parsed for interface in host.interfaces}
    cables = tuple(_link(entry, known) for entry in links)
    ends = [end for cable in cables for end in (cable.one, cable.two)]
    _unique("link end", [":".join(end) for end in ends])
    loose = sorted(":".join(end) for end in known.difference(ends))
    if loose:
        raise LabError(f"no link ends at {', '.join(loose)}; every interface needs a link")
    return Topology(parsed, cables)


def wanted(host: Host, kind: VrfKind) -> list[Item]:
    """Everything that a host should have once its links exist, in an order in which it can be created."""
    items = [Item(("up", "lo"), "link set dev lo up")]
    if kind is VrfKind.DEVICE:
        for vrf, table in host.vrfs.items():
            items.append(Item(("vrf", vrf, table), f"link add name {vrf} type vrf table {table}"))
            items.append(Item(("up", vrf), f"link set dev {vrf} up"))
    for interface in host.interfaces:
        items += _interface_items(host, interface, kind)
    for route in host.routes:
        key = _route_key(str(route.dst), str(route.gateway), route.dev, route.table)
        line = f"route replace {route.dst} via {route.gateway} dev {route.dev} proto static table {route.table}"
        items.append(Item(key, line))
    for table in host.vrfs.values():
        for default in ANYWHERE.values():
            line = f"route replace unreachable {default} metric {LAST_METRIC} table {table}"
            items.append(Item(("route", default, None, None, table, TYPE_UNREACHABLE), line))
    items += [_rule(family, priority, table) for priority, table in host.rules.items() for family in ANYWHERE]
    return items


def wanted_sysctls(host: Host, kind: VrfKind) -> dict[str, str]:
    """The kernel settings of a host, including those that its kind of VRFs needs."""
    return {**host.sysctls, **(VRF_SYSCTLS[kind] if host.vrfs else {})}


def missing(items: Iterable[Item], present: set[Key]) -> dict[str, list[str]]:
    """The ``ip -batch`` lines for everything that is missing, by the option of `ip` that they need."""
    lines: dict[str, list[str]] = {}
    for item in items:
        if item.key not in present:
            lines.setdefault(item.option, []).append(item.command)
    return lines


def observed(
    addresses: Sequence[Mapping[str, Any]],
    routes: Mapping[int, Sequence[Mapping[str, Any]]],
    rules: Mapping[int, Sequence[Mapping[str, Any]]],
) -> set[Key]:
    """The keys of what a host has.

    ``addresses`` is the JSON of ``ip -d address``; by family (4 and 6), ``routes`` is that of
    ``ip -d -N route show table all`` and ``rules`` of ``ip -N rule``.
    """
    keys: set[Key] = set()
    for link in addresses:
        keys |= _link_keys(link)
    keys |= {_route_seen(family, route) for family, entries in routes.items() for route in entries}
    keys |= {_rule_seen(family, rule) for family, entries in rules.items() for rule in entries}
    return keys


def peers(addresses: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """For every veth interface its index and its peer's, from the JSON of ``ip -d address``.

    The peer's index is the one in the peer's namespace; -1 if iproute2 shows no peer in another namespace.
    """
    return {
        link["ifname"]: (link["ifindex"], link.get("link_index", -1))
        for link in addresses
        if link.get("linkinfo", {}).get("info_kind") == "veth"
    }


def _interface_items(host: Host, interface: Interface, kind: VrfKind) -> list[Item]:
    name, items = interface.name, []
    if kind is VrfKind.DEVICE and interface.vrf:
        items.append(Item(("master", name, interface.vrf), f"link set dev {name} master {interface.vrf}"))
    items.append(Item(("up", name), f"link set dev {name} up"))
    by_rules = interface.vrf is not None and kind is VrfKind.RULES
    for address in interface.addresses:
        options = (" nodad" if address.version == 6 else "") + (" noprefixroute" if by_rules else "")
        items.append(Item(("address", name, str(address)), f"address replace {address} dev {name}{options}"))
    if by_rules:
        items += _vrf_by_rules(host.table_of(interface), interface)
    return items


def _vrf_by_rules(table: int, interface: Interface) -> list[Item]:
    """What a VRF device does by itself: connected routes in the VRF's table, and the look-up in that table."""
    name, items = interface.name, []
    for address in interface.addresses:
        options = f"scope link src {address.ip}" if address.version == 4 else "metric 256"
        line = f"route replace {address.network} dev {name} proto kernel {options} table {table}"
        items.append(Item(_route_key(str(address.network), None, name, table), line))
    # Every link of the VRF has this route: `replace` would replace that of another link.
    line = f"route append fe80::/64 dev {name} proto kernel metric 256 table {table}"
    items.append(Item(_route_key("fe80::/64", None, name, table), line))
    for family in ANYWHERE:
        items.append(_rule(family, RULE_PRIORITY, table, "iif", name))
        items.append(_rule(family, RULE_PRIORITY, table, "oif", name))
    # For packets that the host itself sends. After the others: forwarded packets are looked up by input interface.
    items += [_rule(a.version, RULE_PRIORITY + 1, table, "from", str(a.ip)) for a in interface.addresses]
    return items


def _rule(family: int, priority: int, table: int, word: str = "", value: str = "") -> Item:
    """A policy rule with one selector or none."""
    selectors = ((word, value),) if word else ()
    line = (
        f"rule add pref {priority} {word} {value} lookup {table}"
        if word
        else f"rule add pref {priority} lookup {table}"
    )
    return Item(("rule", family, priority, selectors, table), line, option=f"-{family}")


def _rule_seen(family: int, rule: Mapping[str, Any]) -> Key:
    selectors = [(word, rule[word]) for word in ("iif", "oif") if word in rule]
    if rule["src"] != "all":
        length = f"/{rule['srclen']}" if "srclen" in rule else ""
        selectors.append(("from", rule["src"] + length))
    table = str(rule.get("table"))  # the rule for VRF devices has none: [l3mdev-table]
    return ("rule", family, rule["priority"], tuple(selectors), int(table) if table.isdigit() else None)


def _route_seen(family: int, route: Mapping[str, Any]) -> Key:
    """A route's key; iproute2 prints ``default`` and omits full lengths, where the ipaddress module has a length."""
    dst = ANYWHERE[family] if route["dst"] == "default" else str(ipaddress.ip_network(route["dst"]))
    dev = None if int(route["type"]) == TYPE_UNREACHABLE else route.get("dev")  # IPv6 shows lo here
    return ("route", dst, route.get("gateway"), dev, int(route.get("table", MAIN)), int(route["type"]))


def _route_key(dst: str, gateway: str | None, dev: str, table: int) -> Key:
    return ("route", dst, gateway, dev, table, TYPE_UNICAST)


def _link_keys(link: Mapping[str, Any]) -> set[Key]:
    name, info = link["ifname"], link.get("linkinfo", {})
    keys: set[Key] = {("address", name, f"{a['local']}/{a['prefixlen']}") for a in link.get("addr_info", ())}
    if "UP" in link["flags"]:
        keys.add(("up", name))
    if "master" in link:
        keys.add(("master", name, link["master"]))
    if info.get("info_kind") == "vrf":
        keys.add(("vrf", name, info["info_data"]["table"]))
    return keys


def _host(lab: str, entry: Mapping[str, Any]) -> Host:
    name = entry["name"]
    vrfs = {vrf["name"]: int(vrf["table"]) for vrf in entry.get("vrfs") or ()}
    interfaces = tuple(_interface(name, vrfs, interface) for interface in entry.get("interfaces") or ())
    _unique(f"interface of {name}", [interface.name for interface in interfaces])
    rules = {int(rule["priority"]): int(rule["table"]) for rule in entry.get("rules") or ()}
    sysctls = {key: str(value) for key, value in (entry.get("sysctls") or {}).items()}
    routes = tuple(_static_route(name, vrfs, interfaces, route) for route in entry.get("routes") or ())
    return Host(name, f"{lab}-{name}", vrfs, interfaces, routes, rules, sysctls)


def _interface(host: str, vrfs: Mapping[str, int], entry: Mapping[str, Any]) -> Interface:
    name, vrf = entry["name"], entry.get("vrf")
    if not 0 < len(name) <= NAME_BYTES:
        raise LabError(f"interface {name!r} of {host}: a name has 1 to {NAME_BYTES} characters")
    if vrf is not None and vrf not in vrfs:
        raise LabError(f"interface {name} of {host}: VRF {vrf!r} is not in the host's vrfs ({', '.join(vrfs)})")
    try:
        addresses = tuple(ipaddress.ip_interface(address) for address in entry.get("addresses") or ())
    except ValueError as error:
        raise LabError(f"interface {name} of {host}: {error}") from error
    return Interface(name, vrf, addresses)


def _static_route(
    host: str, vrfs: Mapping[str, int], interfaces: Sequence[Interface], entry: Mapping[str, Any]
) -> StaticRoute:
    what = f"route {entry['dst']} of {host}"
    try:
        gateway = ipaddress.ip_address(entry["gateway"])
        dst = ipaddress.ip_network(ANYWHERE[gateway.version] if entry["dst"] == "default" else entry["dst"])
    except ValueError as error:
        raise LabError(f"{what}: {error}") from error
    if dst.version != gateway.version:
        raise LabError(f"{what}: gateway {gateway} is of the other address family")
    vrf = entry.get("vrf")
    if vrf is not None and vrf not in vrfs:
        raise LabError(f"{what}: VRF {vrf!r} is not in the host's vrfs ({', '.join(vrfs)})")
    table = int(entry.get("table") or (vrfs[vrf] if vrf else MAIN))
    for interface in interfaces:
        if any(gateway in address.network for address in interface.addresses):
            return StaticRoute(dst, gateway, interface.name, table)
    raise LabError(f"{what}: gateway {gateway} is in no subnet of the host's interfaces; use a neighbour's address")


def _link(entry: Sequence[str], known: set[tuple[str, str]]) -> Link:
    ends = []
    for text in entry:
        host, _colon, interface = text.partition(":")
        if (host, interface) not in known:
            raise LabError(f"link {' - '.join(entry)}: there is no interface {text!r}; write it as host:interface")
        ends.append((host, interface))
    if len(ends) != 2:
        raise LabError(f"link {' - '.join(entry)}: a link needs two ends, not {len(ends)}")
    if ends[0][0] == ends[1][0]:
        raise LabError(f"link {' - '.join(entry)}: both ends are on {ends[0][0]}; connect it to another host")
    return Link(*ends)


def _unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabError(f"{what} is listed more than once: {', '.join(twice)}")
