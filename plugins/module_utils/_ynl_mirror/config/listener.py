# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener's option table (see options.py; what both daemons have is in common.py). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .common import FPM_PORT, SOCKET, DaemonConfig, HttpConfig
from .filters import Filters
from .options import (
    TABLE,
    TEXT,
    Table,
    choice,
    integer,
    many,
    option,
    optional,
    record,
    required,
)

FAMILIES = ("ipv4", "ipv6")


@dataclass(frozen=True)
class PeerAddress(Table):
    """Where a listener finds an agent."""

    address: str = required(TEXT, "Address or name of the agent.")
    port: int = option(integer(1, 65535), FPM_PORT, "TCP port.")
    server_name: str | None = option(
        optional(TEXT), None, "Name that the agent's certificate has to have. The default is its address."
    )


@dataclass(frozen=True)
class ListenerConfig(DaemonConfig):
    """What the listener follows, and which agents it sends it to."""

    agents: tuple[PeerAddress, ...] = option(many(record(PeerAddress)), (), "Agents to send routes to.")
    tables: tuple[int, ...] = option(
        many(TABLE, "list at least one table, such as 254 (main)"),
        (254,),
        "Routing tables whose routes may be offloaded, by number or name. What another table decides stays slow.",
    )
    ignore_rules: tuple[int, ...] = option(
        many(integer(0, 0xFFFFFFFF)),
        (),
        "Priorities of policy rules that are treated as absent, because they concern no packet of a DPU.",
        reloadable=True,
    )
    families: tuple[str, ...] = option(
        many(choice(FAMILIES), "list ipv4, ipv6 or both"), FAMILIES, "Address families to follow."
    )
    filters: Filters = option(
        record(Filters),
        Filters(),
        "Which routes are mirrored. What is left out or empty restricts nothing.",
        reloadable=True,
    )
    control_socket: str = option(
        SOCKET, "/run/ynl-mirror/listener.sock", "Path of the control socket.", in_modules=False
    )
    http: HttpConfig | None = option(
        optional(record(HttpConfig, without=("allow_changes",))),
        None,
        "HTTP interface on TCP, besides the control socket. None when left out.",
    )
