# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent answers: each announced route as it came, flagged with its state, and the reason behind it. Pure.

Usually every route of a frame is offloaded: then the answer is a copy of the frame with four bytes changed per route.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping

from ..fpm.framing import LONGEST, frame, frames
from ..model.refusal import Refusal
from ..model.routes import Path, table_name
from ..netlink import rtnetlink
from ..netlink.route_codec import RouteReader, RouteWriter, with_route_flags
from .adj_rib_in import AdjRibIn, Touched

#: Bytes from which a message is too long for an answer that holds both the message and a reason.
_LONG = LONGEST - 1024
#: What FRR's bgpd takes for an install failure is only what was tried and refused, not what was decided.
_NOT_OFFLOADED = {"slow_path": rtnetlink.RTM_F_TRAP, "failed": rtnetlink.RTM_F_OFFLOAD_FAILED}
_OFFLOADED = struct.pack("=I", rtnetlink.RTM_F_OFFLOAD)

#: A frame that was taken: its payload, and where its messages start if they are plain additions only.
Taken = tuple[bytes, "list[int] | None"]


class Answers:
    """Answers to host *name*. *refused* has every route that is not offloaded, by family and prefix."""

    def __init__(
        self, name: str, adj: AdjRibIn, refused: Mapping[int, Mapping[int, Refusal]], reader: RouteReader
    ) -> None:
        self._name = name
        self._adj = adj
        self._refused = refused
        self._reader = reader
        self._put = RouteWriter(
            rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
        )

    def to(self, taken: Iterable[Taken], touched: Touched) -> list[bytes]:
        """The frames that answer these frames, whose prefixes have been written."""
        refused = self._refused
        all_installed = all(refused[family].keys().isdisjoint(keys) for family, keys in touched.items())
        answers: list[bytes] = []
        for payload, starts in taken:
            if all_installed and starts is not None:
                answers.append(_in_place(payload, starts))
            else:
                answers += frames(self._each(payload))
        return answers

    def again(self, family: int, keys: Iterable[int]) -> list[bytes]:
        """The frames that answer these prefixes again, since their state has changed."""
        messages = self._put.batch(self._adj.as_sent(family, keys))
        # Encoded again, a route with thousands of next hops may not fit into a frame: its new state is not sent.
        return list(frames(self._each(b"".join(message for message in messages if len(message) <= LONGEST))))

    def _each(self, payload: bytes) -> list[bytes]:
        """The answer to each addition in a payload, with the reason where there is one."""
        answers: list[bytes] = []
        for kind, _flags, start, end, key, path in self._reader.scan(payload):
            if kind != rtnetlink.RTM_NEWROUTE or path is None:
                continue
            message = payload[start:end] + bytes(start - end & 3)  # the next one has to start at a multiple of four
            refusal = self._refusal(key, path)
            if refusal is None:
                answers.append(_flagged(message, rtnetlink.RTM_F_OFFLOAD))
                continue
            # The flag is for every producer, the error with the reason for our listener.
            answers.append(_flagged(message, _NOT_OFFLOADED.get(refusal.state, rtnetlink.RTM_F_OFFLOAD_FAILED)))
            # The error echoes the whole route, or its prefix where that would be too long for a frame.
            subject = message if len(message) < _LONG else self._put.message(key, Path(path.family, path.table))
            answers.append(rtnetlink.encode_error(subject, errno.EOPNOTSUPP, str(refusal)))
        return answers

    def _refusal(self, key: int, path: Path) -> Refusal | None:
        adj = self._adj
        if path.table not in adj.tables:
            return Refusal("slow_path", f"the agent's host_tables do not include table {table_name(path.table)}")
        if adj.over_limit and key not in adj.routes.get((path.family, path.table), ()):
            limit = f"over the agent's route limit for {self._name} ({adj.memory})"
            return Refusal("failed", f"{limit}; raise `routes` in its `hosts`")
        return self._refused[path.family].get(key)


def _flagged(message: bytes, flag: int) -> bytes:
    (old,) = struct.unpack_from("=I", message, 24)
    return with_route_flags(message, old | flag)


def _in_place(payload: bytes, starts: list[int]) -> bytes:
    """The usual answer: a copy of the frame with every route flagged as offloaded."""
    answer = bytearray(payload)
    for start in starts:
        answer[start + 24 : start + 28] = _OFFLOADED
    return frame(bytes(answer)) if answer else b""
