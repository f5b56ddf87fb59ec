# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid input to start from: what the encoders write, what zebra writes, what a user posts."""

from __future__ import annotations

import json
import struct

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import frame, frames
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    RTN_XRESOLVE,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    encode_route,
    with_route_flags,
)
from ansible_collections.ekho.ynl_mirror.tests.support.peers import fpm as fpm_peer

GATEWAY, GATEWAY6 = Address.parse("192.168.101.1"), Address.parse("fd00:101::1")
_CREATE = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE

PATHS = (
    Path(AF_INET, protocol=4, nexthops=(NextHop(GATEWAY, 2),)),
    Path(AF_INET, type=0),
    Path(AF_INET, table=100000, metric=20, mtu=1400, src=Address.parse("10.9.9.9"), nexthops=(NextHop(GATEWAY, 2),)),
    Path(AF_INET, nexthops=(NextHop(GATEWAY, 2, 3), NextHop(GATEWAY6, 3, 200, True))),
    Path(AF_INET, nexthops=(NextHop(GATEWAY6, 2, 1, True),)),
    Path(AF_INET, type=RTN_BLACKHOLE, tos=16),
    Path(AF_INET, type=RTN_XRESOLVE, reason="rule 220: from 10.0.0.0/8 lookup 220 may apply"),
    Path(AF_INET, nh_id=7),
    Path(AF_INET6, metric=1024, nexthops=(NextHop(GATEWAY6, 2),)),
    Path(AF_INET6, metric=1024, nexthops=(NextHop(GATEWAY6, 2), NextHop(GATEWAY6, 3))),
)
_PREFIXES = {
    AF_INET: ("192.168.11.0/24", "10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0"),
    AF_INET6: ("fd00:11::/64", "::/0", "fd00::1/128"),
}


def route_messages() -> list[bytes]:
    """Additions and deletions of every kind of route."""
    made = []
    for path in PATHS:
        for text in _PREFIXES[path.family]:
            route = Route(Prefix.parse(text, path.family), path)
            made.append(encode_route(route, rtnetlink.RTM_NEWROUTE, _CREATE))
        made.append(encode_route(route, rtnetlink.RTM_DELROUTE, rtnetlink.NLM_F_REQUEST))
    made += [fpm_peer.label_route(100, "192.168.101.1"), fpm_peer.foreign_route(129)]
    for text in ("192.168.11.0/24", "fd00:11::/64"):
        made += [fpm_peer.route(text, "fd00::9" if ":" in text else "192.168.101.1"), fpm_peer.route(text, kind=25)]
    return made


def _message(kind: int, body: bytes, *attributes: tuple[int, bytes]) -> bytes:
    return rtnetlink.request(
        kind, 0, body + b"".join(rtnetlink.attribute(number, value) for number, value in attributes)
    )


def link_messages() -> list[bytes]:
    """Links (a VRF among them), addresses, policy rules and nexthop objects."""
    u32 = struct.Struct("=I").pack
    vrf = rtnetlink.attribute(1, b"vrf\0") + rtnetlink.attribute(2, rtnetlink.attribute(1, u32(10)))
    link = struct.pack("=BBHiII", 0, 0, 1, 7, 0x10043, 0)
    rule = struct.pack("=BBBBBBBBI", AF_INET, 0, 24, 0, 10, 0, 0, 1, 0)
    return [
        _message(rtnetlink.RTM_NEWLINK, link, (3, b"eth1\0"), (10, u32(9)), (16, b"\6")),
        _message(rtnetlink.RTM_NEWLINK, link, (3, b"a\0"), (18, vrf)),
        _message(rtnetlink.RTM_DELLINK, link, (3, b"eth1\0")),
        _message(
            rtnetlink.RTM_NEWADDR, struct.pack("=BBBBI", AF_INET, 24, 0, 0, 7), (1, GATEWAY.packed), (2, GATEWAY.packed)
        ),
        _message(rtnetlink.RTM_DELADDR, struct.pack("=BBBBI", AF_INET6, 64, 0, 0, 7), (1, GATEWAY6.packed)),
        _message(rtnetlink.RTM_NEWRULE, rule, (2, GATEWAY.packed), (3, b"eth1\0"), (6, u32(1000)), (15, u32(100000))),
        _message(rtnetlink.RTM_DELRULE, rule, (19, b"\1")),
        _message(
            *(rtnetlink.RTM_NEWRULE, struct.pack("=BBBBBBBBI", AF_INET, 8, 0, 16, 10, 0, 0, 2, 2)),
            *((1, GATEWAY.packed), (4, u32(9)), (10, u32(1)), (14, u32(0)), (20, bytes(8)), (23, bytes(4))),
        ),
        _message(rtnetlink.RTM_NEWNETCONF, bytes((AF_INET, 0, 0, 0)), (1, u32(7)), (2, u32(1)), (6, u32(1))),
        _message(rtnetlink.RTM_DELNEXTHOP, bytes(8), (1, u32(7))),
    ]


def answer_messages() -> list[bytes]:
    """What an agent answers: flagged routes, and why one was refused."""
    made = []
    for message in route_messages()[:12]:
        made.append(with_route_flags(message, rtnetlink.RTM_F_OFFLOAD))
        refused = with_route_flags(message, rtnetlink.RTM_F_OFFLOAD_FAILED)
        made.append(
            refused
            + rtnetlink.encode_error(message, 95, "slow path: gateway 192.168.101.9 is not an address of the DPU")
        )
    return made


def streams() -> list[bytes]:
    """Whole connections: many messages in a frame, a message a frame, with and without the end of a replay."""
    messages = route_messages()
    return [
        b"".join(frames(messages)) + frame(rtnetlink.encode_done()),
        b"".join(map(frame, messages[:8])),
        frame(b"") + frame(rtnetlink.request(rtnetlink.NLMSG_NOOP, 0)) + frame(messages[0] + messages[1]),
        b"".join(map(frame, object_messages())) + frame(rtnetlink.encode_done()),
        frame(b"".join(object_messages())),
        *(frame(message) for message in messages),
    ]


def object_messages() -> list[bytes]:
    """Nexthop objects, routes that name them before and after they come, and what happens to them."""
    return [
        fpm_peer.route_through("10.1.0.0/16", 7),
        fpm_peer.nexthop(7, "192.168.101.1"),
        fpm_peer.nexthop(8, "192.168.101.1", 3),
        fpm_peer.route_through("10.2.0.0/16", 9),
        fpm_peer.group(9, {7: 1, 8: 300}),
        fpm_peer.route_through("fd00:12::/64", 10),
        fpm_peer.nexthop(10, "fd00:101::1"),
        fpm_peer.group(9, {8: 1}),
        fpm_peer.route("10.1.0.0/16", "192.168.101.1"),
        fpm_peer.nexthop_gone(8),
        fpm_peer.route("10.2.0.0/16", kind=25),
    ]


_POSTED = (
    {"rtm-family": 2, "rta-dst": "10.0.0.0", "rtm-dst-len": 8, "rta-oif": 2, "rta-gateway": "192.168.101.1"},
    {"rta-dst": "fd00::", "rtm-dst-len": 64, "rta-table": 20, "rta-multipath": [{"rta-oif": 2}, {"rta-oif": 3}]},
    {"rtm-family": "ipv4", "rtm-type": "blackhole", "rta-metrics": {"rtax-mtu": 1400}, "rta-priority": 5},
    {"rtm-family": 2, "rta-via": "fd00::1", "rta-oif": 2, "rtm-flags": 4, "rtm-tos": 16, "rta-prefsrc": "10.0.0.1"},
)


def http_requests() -> list[bytes]:
    """Method, path and query in the first line, the body behind it."""
    gets = (
        "/healthz",
        "/status",
        "/metrics",
        "/routes?state=failed&prefix=10.0.0.0/8",
        "/explain?prefix=::/0",
        "/route",
    )
    posts = [f"POST /route/{what}\n{json.dumps(route)}" for what in ("add", "del") for route in _POSTED]
    return [text.encode() for text in (*(f"GET {path}\n" for path in gets), *posts)]


def item_lists() -> list[bytes]:
    """Lists of routes as users of vrf_route write them, in JSON."""
    items = (
        {"dst": "10.0.0.0/8", "gateway": "192.168.101.1", "dev": "eth1", "metric": "0x10", "onlink": "yes"},
        {"dst": "default", "type": "blackhole", "mtu": 1400, "tos": 16, "src": "10.0.0.1"},
        {"dst": "fd00::/64", "nexthops": [{"gateway": "fe80::1", "dev": "eth1", "weight": 2}, {"gateway": "fd00::1"}]},
    )
    return [json.dumps([item]).encode() for item in items] + [json.dumps(items).encode()]
