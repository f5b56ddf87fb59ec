# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fuzzing has found: each input broke a promise once. `run.py` prints new ones in this form."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import frame
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    MAX_TEMPLATES,
    RouteReader,
    RouteWriter,
    encode_route,
)
from ansible_collections.ekho.ynl_mirror.tests.fuzz.seeds import route_messages
from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS, datagrams

_U32 = struct.Struct("=I").pack
_DEFAULT = rtnetlink.RTMSG.pack(AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
_SLASH_24 = rtnetlink.RTMSG.pack(AF_INET, 24, 0, 0, 254, 4, 0, 1, 0)
_DST, _OIF = (
    rtnetlink.attribute(rtnetlink.RTA_DST, bytes((10, 1, 2, 0))),
    rtnetlink.attribute(rtnetlink.RTA_OIF, _U32(2)),
)
_GOOD = route_messages()[0]


def _route(*parts: bytes) -> bytes:
    return rtnetlink.request(rtnetlink.RTM_NEWROUTE, 0, b"".join(parts))


#: An attribute that nobody knows, with bytes inside that look like the header of a destination.
_DECOY = rtnetlink.attribute(0x0F0F, bytes(4) + struct.pack("=HH", 8, rtnetlink.RTA_DST) + bytes((10, 9, 8, 0)))
_ROUTES = {
    "host bits behind a template": _GOOD,
    "what looks like a destination stands inside another attribute": _route(_SLASH_24, _DECOY, _DST, _OIF),
    "a message four bytes shorter than the template it fits": _route(
        _SLASH_24, rtnetlink.attribute(rtnetlink.RTA_TABLE, _U32(254)), _DST, struct.pack("=HH", 4, 0)
    ),
    "a gateway of a family that has no addresses": _route(_DEFAULT, rtnetlink.attribute(rtnetlink.RTA_VIA, b"\7\0")),
    "a link with a negative number": _route(
        _DEFAULT, rtnetlink.attribute(rtnetlink.RTA_MULTIPATH, struct.pack("=HBBi", 8, 0, 0, -5))
    ),
}


@pytest.mark.parametrize("name", _ROUTES)
def test_a_route_message(name: str) -> None:
    TARGETS["route"].run(_ROUTES[name])


@pytest.mark.parametrize(
    ("target", "data"),
    [
        # an operational state of no bytes, an address message without an address
        ("link", rtnetlink.request(rtnetlink.RTM_NEWLINK, 0, struct.pack("=BBHiIIHH", 0, 0, 1, 7, 0x10043, 0, 4, 16))),
        ("link", rtnetlink.request(rtnetlink.RTM_NEWADDR, 0, struct.pack("=BBBBI", AF_INET, 24, 0, 0, 7))),
        ("notifications", datagrams(b"\0<")),
        ("notifications", datagrams(rtnetlink.request(rtnetlink.RTM_NEWLINK, 0))),
        # an error about more than the message holds
        (
            "buffer",
            rtnetlink.request(rtnetlink.NLMSG_ERROR, 0, struct.pack("=iIHHII", -95, 400, 24, 0, 0, 0)) + bytes(400),
        ),
        # a route message whose length is no multiple of four, refused: what follows has to stay where it belongs
        ("producer", b"\xff" + frame(_route(_SLASH_24, _DST, struct.pack("=HHB", 5, 99, 1)) + bytes(3))),
        # good frames, then none, and a deletion ahead of a broken message
        ("producer", b"\x10" + frame(_GOOD) + b"GET / HTTP/1.1"),
        ("producer", b"\x0d" + frame(_GOOD) + frame(route_messages()[4] + b"\xff" * 20)),
        ("http", b"POST /route/add\n" + b"[" * 60000),
        ("http", b'POST /route/add\n{"rtm-family": 2.0, "rta-oif": 2}'),
    ],
)
def test_an_input(target: str, data: bytes) -> None:
    TARGETS[target].run(data)


def test_routes_that_are_all_different_fill_no_memory() -> None:
    """Default routes without a destination, a metric each: no template fits, and yet they are remembered."""
    reader, table = RouteReader(), rtnetlink.attribute(rtnetlink.RTA_TABLE, _U32(254))
    for metric in range(2 * MAX_TEMPLATES):
        message = _route(_DEFAULT, table, rtnetlink.attribute(rtnetlink.RTA_PRIORITY, _U32(metric + 1)), _OIF)
        reader.read(message, 0, len(message))
    assert len(reader._paths) <= MAX_TEMPLATES


def test_routes_with_thousands_of_next_hops_fill_no_memory() -> None:
    reader = RouteReader()
    for metric in range(1, 60):
        hops = struct.pack("=HBBi", 8, 0, 0, metric) * 8000
        message = _route(_SLASH_24, _DST, rtnetlink.attribute(rtnetlink.RTA_MULTIPATH, hops))
        reader.read(message, 0, len(message))
    assert sum(len(path.nexthops) for path in reader._paths) <= 5 * MAX_TEMPLATES
    assert sum(map(len, reader._templates)) < 1 << 20


def test_a_withdrawal_is_read_by_its_template() -> None:
    """The shortest message that this library writes; each was decoded in full, and pushed the templates out."""
    reader = RouteReader()
    for number in range(100):
        route = Route(Prefix(AF_INET, number << 8, 24), Path(AF_INET, type=0))
        message = encode_route(route, rtnetlink.RTM_DELROUTE, 0)
        assert next(iter(reader.scan(message)))[4:] == (route.prefix.key, route.path)
    assert len(reader._templates) == 1


def test_a_path_that_is_long_is_not_kept_by_the_writer() -> None:
    writer = RouteWriter(rtnetlink.RTM_NEWROUTE, 0)
    hops = tuple(NextHop(Address(AF_INET, number), 2) for number in range(1, 2000))
    writer.message(Prefix.parse("10.0.0.0/8").key, Path(AF_INET, nexthops=hops))
    assert not writer._parts
