# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes as JSON objects in the names of the kernel's YNL spec `rt_route`: Route <-> dict.

Names and structure: Documentation/netlink/specs/rt_route.yaml of the kernel, with the `rta-` prefix that its attributes
have in netlink. The header fields (`rtm-...`) are numbers, but `rtm-type` is a name; addresses are strings. The spec
does not define next hops (`rta-multipath` is "binary"): here they are a list of {rta-oif, rta-gateway or rta-via,
rtnh-hops, rtnh-flags}, named as in linux/rtnetlink.h; `rta-via` is an address as a string. Pure.
"""

from __future__ import annotations

from typing import Any

from ..config.fields import ConfigError, Fields, as_integer, show
from ..model.routes import (
    AF_INET,
    AF_INET6,
    DISCARD_TYPES,
    FAMILIES,
    PROTO_MANUAL,
    ROUTE_TYPE_NAMES,
    ROUTE_TYPES,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTNH_F_ONLINK,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)

RT_TABLE_COMPAT = 252  # the value of the one-byte rtm_table for tables above 255; rta-table has the number
U32 = 2**32 - 1


class YnlError(ConfigError):
    """A JSON object that is not a route; the text names the field and the fix."""


def to_ynl(route: Route) -> dict[str, Any]:
    """The JSON object of a route; attributes that the route does not have are left out."""
    path = route.path
    made: dict[str, Any] = {
        "rtm-family": route.prefix.family,
        "rtm-dst-len": route.prefix.length,
        "rtm-src-len": 0,
        "rtm-tos": path.tos,
        "rtm-table": path.table if path.table < 256 else RT_TABLE_COMPAT,
        "rtm-protocol": path.protocol,
        "rtm-scope": path.scope,
        "rtm-type": ROUTE_TYPE_NAMES.get(path.type, str(path.type)),
        "rtm-flags": _flags(path.nexthops[0]) if len(path.nexthops) == 1 else 0,
        "rta-table": path.table,
    }
    if route.prefix.length:
        made["rta-dst"] = str(Address(route.prefix.family, route.prefix.value))
    if path.metric:
        made["rta-priority"] = path.metric
    if path.src is not None:
        made["rta-prefsrc"] = str(path.src)
    if path.mtu is not None:
        made["rta-metrics"] = {"rtax-mtu": path.mtu}
    if path.nh_id is not None:
        made["rta-nh-id"] = path.nh_id
    if len(path.nexthops) == 1:
        made.update(_hop_to_ynl(path.nexthops[0], route.prefix.family))
    elif path.nexthops:
        made["rta-multipath"] = [
            {"rtnh-hops": hop.weight - 1, "rtnh-flags": _flags(hop), **_hop_to_ynl(hop, route.prefix.family)}
            for hop in path.nexthops
        ]
    return made


def from_ynl(data: object, protocol: int = PROTO_MANUAL) -> Route:
    """The route of a JSON object, with PROTOCOL whatever `rtm-protocol` says; YnlError names what is wrong.

    `rtm-family` may be left out if there is `rta-dst`; no `rta-dst` and `rtm-dst-len` 0 is the default route.
    """
    try:
        return _from_ynl(Fields(data), protocol)
    except YnlError:
        raise
    except ConfigError as error:
        raise YnlError(str(error).replace("the configuration:", "the route:")) from None


def _from_ynl(fields: Fields, protocol: int) -> Route:
    prefix = _prefix(fields)
    table = fields.integer("rtm-table", RT_TABLE_MAIN, 0, 255)
    metrics = fields.take("rta-metrics")
    source = fields.take("rta-prefsrc")
    path = Path(
        family=prefix.family,
        table=fields.integer("rta-table", table, 1, U32),
        type=_type(fields.take("rtm-type", "unicast")),
        protocol=protocol,
        scope=fields.integer("rtm-scope", RT_SCOPE_UNIVERSE, 0, 255),
        tos=fields.integer("rtm-tos", 0, 0, 255),
        metric=fields.integer("rta-priority", 0, 0, U32),
        src=None if source is None else _address(source, "rta-prefsrc", prefix.family),
        mtu=None if metrics is None else _mtu(metrics),
        nexthops=_hops(fields, prefix.family),
    )
    for unused in ("rtm-src-len", "rtm-protocol", "rta-pref", "rta-cacheinfo"):
        fields.take(unused)  # a kernel dump has these; ignored when a route is posted as it was dumped
    fields.done()
    if path.type in DISCARD_TYPES and path.nexthops:
        raise YnlError(
            f"rtm-type: a {ROUTE_TYPE_NAMES[path.type]} route has no next hop; remove rta-oif and rta-gateway"
        )
    if path.type not in DISCARD_TYPES and not path.nexthops:
        raise YnlError("no next hop: set rta-oif, rta-gateway or rta-multipath")
    return Route(prefix, path)


def _prefix(fields: Fields) -> Prefix:
    """The destination out of rtm-family, rta-dst and rtm-dst-len; host bits are an error."""
    text = fields.take("rta-dst")
    address = None if text is None else _address(text, "rta-dst", None)
    family = fields.take("rtm-family", AF_INET if address is None else address.family)
    family = FAMILIES.get(family, family) if isinstance(family, str) else family
    if isinstance(family, float) or family not in (AF_INET, AF_INET6):  # 2.0 equals 2
        raise YnlError(f"rtm-family: expected {AF_INET} (ipv4) or {AF_INET6} (ipv6), got {show(family)}")
    if address is None:
        if fields.integer("rtm-dst-len", 0, 0, WIDTH[family]):
            raise YnlError("rta-dst: missing; add it, or set rtm-dst-len to 0 for the default route")
        return Prefix(family, 0, 0)
    if address.family != family:
        raise YnlError(f"rta-dst: {address} does not belong to rtm-family {family}")
    length = fields.integer("rtm-dst-len", None, 0, WIDTH[family])
    shift = WIDTH[family] - length
    if address.value >> shift << shift != address.value:
        network = Address(family, address.value >> shift << shift)
        raise YnlError(f"rta-dst: {address} has host bits set for rtm-dst-len {length}; write {network}")
    return Prefix(family, address.value, length)


def _hops(fields: Fields, family: int) -> tuple[NextHop, ...]:
    """The next hops: one from the attributes of the route itself, or those of rta-multipath."""
    multipath = fields.take("rta-multipath")
    flags = fields.integer("rtm-flags", 0, 0, U32)
    own = _hop(fields, family, weight=1, flags=flags)
    if multipath is None:
        return () if own is None else (own,)
    if own is not None:
        raise YnlError("rta-multipath: not allowed together with rta-oif, rta-gateway or rta-via; remove one of them")
    if not isinstance(multipath, list) or not multipath:
        raise YnlError(f"rta-multipath: expected a list of next hops, got {show(multipath)}")
    return tuple(_multipath_hop(item, f"rta-multipath[{index}]", family) for index, item in enumerate(multipath))


def _multipath_hop(item: object, path: str, family: int) -> NextHop:
    fields = Fields(item, path)
    weight = fields.integer("rtnh-hops", 0, 0, 255) + 1
    hop = _hop(fields, family, weight, fields.integer("rtnh-flags", 0, 0, 255))
    fields.done()
    if hop is None:
        raise YnlError(f"{path}: no next hop: set rta-oif, rta-gateway or both")
    return hop


def _hop(fields: Fields, family: int, weight: int, flags: int) -> NextHop | None:
    """A next hop from rta-oif, rta-gateway (the route's family) and rta-via (any family); None if it has none."""
    oif, gateway, via = fields.take("rta-oif"), fields.take("rta-gateway"), fields.take("rta-via")
    if gateway is not None and via is not None:
        raise YnlError(f"{fields.path('rta-via')}: not allowed together with rta-gateway; remove one of them")
    if oif is None and gateway is None and via is None:
        return None
    address = None
    if gateway is not None:
        address = _address(gateway, fields.path("rta-gateway"), family)
    elif via is not None:
        address = _address(via, fields.path("rta-via"), None)
    index = None if oif is None else as_integer(oif, fields.path("rta-oif"), 1, 2**31 - 1)
    return NextHop(gateway=address, oif=index, weight=weight, onlink=bool(flags & RTNH_F_ONLINK))


def _hop_to_ynl(hop: NextHop, family: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if hop.oif is not None:
        made["rta-oif"] = hop.oif
    if hop.gateway is not None:
        made["rta-gateway" if hop.gateway.family == family else "rta-via"] = str(hop.gateway)
    return made


def _flags(hop: NextHop) -> int:
    return RTNH_F_ONLINK if hop.onlink else 0


def _type(value: object) -> int:
    """An RTN_ number from its name or itself."""
    number = ROUTE_TYPES.get(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or number not in ROUTE_TYPE_NAMES:
        raise YnlError(f"rtm-type: unknown value {show(value)}; one of {', '.join(ROUTE_TYPES)}")
    return number


def _address(value: object, path: str, family: int | None) -> Address:
    """An address, of FAMILY if given."""
    try:
        address = Address.parse(value if isinstance(value, str) else show(value))
    except ValueError as error:
        raise YnlError(f"{path}: {error}") from None
    if family is not None and address.family != family:
        raise YnlError(f"{path}: {address} is not of the route's family; use rta-via for a gateway of the other family")
    return address


def _mtu(metrics: object) -> int | None:
    """The rtax-mtu of rta-metrics, the only metric that is supported."""
    fields = Fields(metrics, "rta-metrics")
    mtu = fields.integer("rtax-mtu", 0, 0, U32)
    fields.done()
    return mtu or None
