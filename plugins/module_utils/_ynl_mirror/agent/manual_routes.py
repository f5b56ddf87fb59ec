# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of the DPU's kernel, and those that users post: protocol 122, never changed by the mirror."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..daemon.api import ApiError
from ..daemon.ynl import from_ynl, to_ynl
from ..mapping.view import View
from ..model.routes import AF_INET, AF_INET6, PROTO_MANUAL, RT_TABLE_MAIN
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import encode_route

_FAMILIES = (AF_INET, AF_INET6)


class ManualRoutes:
    """The part of an agent that serves `/route`, `/route/add` and `/route/del`."""

    _view: View

    def __init__(self) -> None:
        self._manual = sockets.Requests()

    def kernel_routes(self) -> Iterable[dict[str, Any]]:
        """The routes of the DPU's kernel: main table and VRFs, in YNL names."""
        with sockets.Requests() as requests:
            for family in _FAMILIES:
                for table in dict.fromkeys((RT_TABLE_MAIN, *(vrf.table for vrf in self._view.vrfs))):
                    for route in sockets.read_routes(requests, family, table):
                        yield to_ynl(route)

    def manual_add(self, route: dict[str, Any]) -> None:
        """Install one manual route (protocol 122)."""
        flags = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL
        self._manual_call(route, rtnetlink.RTM_NEWROUTE, flags)

    def manual_del(self, route: dict[str, Any]) -> None:
        """Remove one manual route."""
        self._manual_call(route, rtnetlink.RTM_DELROUTE, rtnetlink.NLM_F_REQUEST)

    def _manual_call(self, route: dict[str, Any], kind: int, flags: int) -> None:
        value = from_ynl(route, PROTO_MANUAL)
        try:
            self._manual.call(encode_route(value, kind, flags))
        except sockets.KernelError as error:
            raise ApiError(409, f"{value.prefix} table {value.path.table}: refused by the kernel: {error}") from None
