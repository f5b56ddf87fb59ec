# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink sockets: receive notifications, dump tables, write routes in batches with a result for each.

All calls are synchronous and short; a daemon calls them from its event loop. Protocol: netlink(7), rtnetlink(7),
``net/netlink/af_netlink.c``. A socket belongs to the network namespace in which it was opened.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Protocol

from ..model.links import Link, LinkAddress, NetConf, Rule
from ..model.routes import AF_INET, AF_INET6, WIDTH, Prefix, Route
from . import netconf_codec, rtnetlink
from .link_codec import decode_address, decode_link, decode_rule
from .route_codec import RouteReader

_LOG = logging.getLogger("ynl_mirror.kernel")
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26

RTNLGRP_LINK = 1
RTNLGRP_IPV4_IFADDR = 5
RTNLGRP_IPV4_ROUTE = 7
RTNLGRP_IPV4_RULE = 8
RTNLGRP_IPV6_IFADDR = 9
RTNLGRP_IPV6_ROUTE = 11
RTNLGRP_IPV6_RULE = 19
RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF = 24, 25
RTNLGRP_NEXTHOP = 32
#: All groups whose events can change routes: see docs/following.md.
ALL_GROUPS = (
    *(RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_NEXTHOP),
    *(RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE),
    *(RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF),
)

_DUMP_CHUNK = 1 << 20
_DATAGRAM = 1 << 16
_BATCH = 1 << 16
#: Receive buffer for the errors of one whole batch: the kernel queues them before send() returns.
_ANSWER_BUFFER = 16 << 20
#: If less is granted, a batch is this part of it: the kernel accounts a short message with up to 20 times its length.
_BATCH_SHARE = 16
#: Seconds to wait for an answer. It is queued when send() returns, so one that takes longer is lost.
_ANSWER_TIME = 5
_DUMP_TRIES = 8
#: nlmsg_type and nlmsg_flags of an NLMSG_DONE: NLM_F_MULTI, with or without DUMP_INTR, DUMP_FILTERED and ACK_TLVS.
_DONE_FLAGS = (0x2 | filtered | words for filtered in (0, 0x10, 0x20, 0x30) for words in (0, rtnetlink.NLM_F_ACK_TLVS))
_DONE_MARKS = tuple(struct.pack("=HH", rtnetlink.NLMSG_DONE, flags) for flags in _DONE_FLAGS)
#: Header, error code and the longest extended-ack text (NETLINK_MAX_FMTMSG_LEN and some).
_LONGEST_DONE = 256


class KernelError(Exception):
    """The kernel refused a request: errno, and the extended-ack text if there is one."""

    def __init__(self, number: int, text: str = "") -> None:
        self.errno = number
        self.text = text or os.strerror(number)
        super().__init__(f"{self.text} ({errno.errorcode.get(number, number)})")


@dataclass(frozen=True)
class Failure:
    """A message of a batch that the kernel refused: its index, the errno and the kernel's text."""

    index: int
    errno: int
    text: str


class LostAnswers(KernelError):
    """An answer of the kernel is lost, in whole or in part. The requests took effect: read back what they did.

    *failures*: the errors of a batch that did arrive. The socket can be used again.
    """

    def __init__(self, number: int, failures: Sequence[Failure] = ()) -> None:
        super().__init__(number, f"netlink answer lost: {os.strerror(number)}")
        self.failures = list(failures)


class Overrun(Exception):
    """Notifications were lost (ENOBUFS). Those still queued are older: drain them, then do a full resync."""


class Notifications(Protocol):
    """The part of a :class:`Monitor` that a follower uses."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def receive(self, limit: int) -> list[bytes]:
        """Up to *limit* queued notifications; Overrun if some were lost."""

    def drain(self) -> int:
        """Discard all queued notifications, and count them."""


class WholeDumps(Protocol):
    """The part of :class:`Requests` that `read_links` and its like use."""

    def dump_whole(self, message: bytes) -> list[bytes]:
        """The chunks of a consistent dump."""


class Dumps(WholeDumps, Protocol):
    """The part of :class:`Requests` that a follower uses, and two marks that only a recording socket writes down."""

    def dump(self, message: bytes) -> Iterator[bytes]:
        """The chunks of a dump as they arrive."""

    def torn(self) -> None:
        """Mark the last dump as incomplete: it may have skipped routes."""

    def caught_up(self) -> None:
        """Mark that all notifications which arrived during the last dumps are applied."""


def _open() -> socket.socket:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except (AttributeError, OSError) as error:
        raise KernelError(
            getattr(error, "errno", errno.EAFNOSUPPORT), f"cannot open a netlink socket: {error}"
        ) from None
    sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    try:
        sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
    except OSError as error:
        sock.close()
        raise KernelError(error.errno or 0, "no strict netlink dumps; Linux 5.0 or later is needed") from None
    sock.bind((0, 0))
    return sock


def _receive_buffer(sock: socket.socket, size: int) -> int:
    """Request a receive buffer of *size* bytes; returns what was granted (the kernel doubles it for overhead)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)  # clamped to net.core.rmem_max
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


class Requests:
    """A socket for dumps and writes. *port* is its netlink address, which the notifications of its writes carry."""

    def __init__(self) -> None:
        self._sock = _open()
        granted = _receive_buffer(self._sock, _ANSWER_BUFFER)
        self._batch = min(_BATCH, max(4096, granted // _BATCH_SHARE))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _ANSWER_TIME, 0))
        self.port: int = self._sock.getsockname()[0]
        self._seq = 0
        self._dumping = False  # a dump was started and not read to its end
        # The kernel makes the parts of a dump as large as the largest recv() so far: at first a page, at most 32 KiB. A
        # route with many next hops that does not fit ends the dump without an error. Hence a large read up front.
        self._write_batch((), 0)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # -- reading

    def dump(self, message: bytes) -> Iterator[bytes]:
        """Send a dump request and yield the answer in chunks of whole messages, without the final NLMSG_DONE.

        The dump of an absent table or link is empty. A dump that the kernel flags as interrupted (NLM_F_DUMP_INTR) is
        *not* repeated, since its first chunks are out already: use :meth:`dump_whole` where consistency matters.
        KernelError if the kernel refuses the request, LostAnswers if the end of the dump is lost.
        """
        for chunk, _interrupted in self._dump(message):
            if chunk:
                yield chunk

    def torn(self) -> None:
        """Nothing to do: this socket records nothing."""

    def caught_up(self) -> None:
        """Nothing to do: this socket records nothing."""

    def dump_whole(self, message: bytes) -> list[bytes]:
        """All chunks of a dump, which is repeated until it is complete and not flagged as interrupted."""
        for last in (*[False] * (_DUMP_TRIES - 1), True):
            chunks, torn = [], False
            try:
                for chunk, interrupted in self._dump(message):
                    chunks.append(chunk)
                    torn = torn or interrupted
            except LostAnswers:
                if last:
                    raise
                continue
            if not torn:
                break
        return list(filter(None, chunks))

    def _dump(self, message: bytes) -> Iterator[tuple[bytes, bool]]:
        """The chunks, and whether each is flagged as interrupted; the last one may be empty."""
        self._in_step()
        self._seq += 1
        seq = self._seq
        kind, flags = struct.unpack_from("=HH", message, 4)
        self._dumping = True
        self._sock.send(rtnetlink.request(kind, flags, message[rtnetlink.NLMSGHDR.size :], seq))
        while True:
            chunk = self._answer(_DUMP_CHUNK)
            chunk_flags, chunk_seq = struct.unpack_from("=HI", chunk, 6)
            if chunk_seq != seq:
                continue  # the rest of an earlier answer
            try:
                end = _end_of_dump(chunk)
            except KernelError:
                self._dumping = False
                raise
            if end is not None:
                self._dumping = False
            yield chunk[:end], bool(chunk_flags & rtnetlink.NLM_F_DUMP_INTR)
            if end is not None:
                return

    def _answer(self, size: int, flags: int = 0) -> bytes:
        """The next answer; LostAnswers if there is none, or if the kernel dropped one (ENOBUFS)."""
        try:
            return self._sock.recv(size, flags)
        except BlockingIOError:
            raise LostAnswers(errno.ETIMEDOUT) from None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            raise LostAnswers(errno.ENOBUFS) from None

    def _in_step(self) -> None:
        """Discard the rest of a dump that was not read to its end: the kernel continues it with each read."""
        while self._dumping:
            try:
                self._answer(_DATAGRAM, socket.MSG_DONTWAIT)
            except LostAnswers as error:
                self._dumping = error.errno == errno.ENOBUFS  # then the rest is still queued

    # -- writing

    def write(self, messages: Sequence[bytes]) -> list[Failure]:
        """Send *messages* in order, in batches; returns the refused ones by index. An empty list: all succeeded.

        Success takes no answer: only errors come back, and a no-op with NLM_F_ACK marks the end of each batch. The
        kernel processes a batch inside send(), so the answers are queued when it returns. If some are lost, all batches
        are sent, and then LostAnswers is raised.
        """
        failures: list[Failure] = []
        lost: LostAnswers | None = None
        for start, stop in rtnetlink.chunks(messages, self._batch):
            try:
                failures += self._write_batch(messages[start:stop], start)
            except LostAnswers as error:
                failures += error.failures
                lost = error
        if lost is not None:
            raise LostAnswers(lost.errno, failures)
        return failures

    def _write_batch(self, batch: Sequence[bytes], offset: int) -> list[Failure]:
        self._in_step()
        self._seq += 1
        barrier = rtnetlink.request(rtnetlink.NLMSG_NOOP, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK, seq=self._seq)
        self._sock.send(b"".join(batch) + barrier)
        failures: list[Failure] = []
        indexes: dict[bytes, int] | None = None
        lost: LostAnswers | None = None
        while True:
            try:
                answer = self._answer(_DATAGRAM, socket.MSG_DONTWAIT if lost else 0)
            except LostAnswers as error:
                if lost or error.errno != errno.ENOBUFS:
                    raise LostAnswers((lost or error).errno, failures) from None
                lost = error  # the kernel reports this ahead of the answers that are still queued
                continue
            for kind, _flags, start, end in rtnetlink.messages(answer):
                if kind != rtnetlink.NLMSG_ERROR:
                    continue
                ack = rtnetlink.parse_acknowledgement(answer, start, end)
                if ack.errno == 0 and ack.request == barrier[: rtnetlink.NLMSGHDR.size]:
                    if lost:
                        raise LostAnswers(lost.errno, failures)
                    return failures
                if ack.errno:
                    # The kernel echoes the whole request, which identifies it without a sequence number per message.
                    indexes = indexes or {message: index for index, message in enumerate(batch)}
                    index = indexes.get(ack.request)
                    if index is not None:  # else it is a late answer to an earlier batch
                        failures.append(Failure(offset + index, ack.errno, ack.text))

    def call(self, message: bytes) -> None:
        """Send one request; KernelError if it is refused."""
        for failure in self.write([message]):
            raise KernelError(failure.errno, failure.text)


async def repeated(read: Callable[[], Awaitable[None]]) -> None:
    """Repeat a read whose answer was lost, a few times at most; then LostAnswers."""
    for _try in range(_DUMP_TRIES - 1):
        try:
            return await read()
        except LostAnswers as error:
            _LOG.warning("%s; repeating the request", error)
    return await read()


def _end_of_dump(chunk: bytes) -> int | None:
    """The offset of NLMSG_DONE in *chunk*, None if more chunks follow. KernelError if the dump failed."""
    # NLMSG_DONE is short and the last message of its datagram: look at the end before walking all of it.
    kind = struct.unpack_from("=H", chunk, 4)[0]
    if kind not in (rtnetlink.NLMSG_DONE, rtnetlink.NLMSG_ERROR) and not _ends_in_done(chunk):
        return None
    for kind, _flags, start, end in rtnetlink.messages(chunk):
        if kind == rtnetlink.NLMSG_DONE:
            number, text = -struct.unpack_from("=i", chunk, start + 16)[0], ""
            if end - start > 20:
                found = dict(rtnetlink.attributes(chunk, start + 20, end))
                text = rtnetlink.text_value(found.get(rtnetlink.NLMSGERR_ATTR_MSG, b""))
        elif kind == rtnetlink.NLMSG_ERROR:
            number, text, _offset = rtnetlink.parse_acknowledgement(chunk, start, end)
        else:
            continue
        if number in (errno.ENOENT, errno.ENODEV):  # no such table, no such link: an empty dump
            return start
        if number:
            raise KernelError(number, text)
        return start
    return None


def _ends_in_done(chunk: bytes) -> bool:
    """Whether the last bytes may hold the header of an NLMSG_DONE; a false positive costs one walk."""
    behind = len(chunk) - _LONGEST_DONE
    return any(chunk.find(mark, max(behind, 0)) >= 0 for mark in _DONE_MARKS)


class Monitor:
    """A socket for the kernel's notifications.

    *granted* is the receive buffer in bytes, to be compared with the requested size. *deaf_to* is the port of a
    :class:`Requests`: a socket filter drops the notifications of its writes, while the same change by any other process
    still arrives.
    """

    def __init__(self, receive_buffer: int, deaf_to: int | None = None, groups: Iterable[int] = ALL_GROUPS) -> None:
        self._sock = _open()
        self.granted = _receive_buffer(self._sock, receive_buffer)
        if deaf_to is not None:
            self._attach_filter(deaf_to)
        self._sock.setblocking(False)
        for group in groups:
            self._sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def _attach_filter(self, port: int) -> None:
        # Classic BPF: load nlmsg_pid (offset 12, read as big-endian), drop if it is the port, else accept.
        wanted = int.from_bytes(struct.pack("=I", port), "big")
        program = b"".join(
            struct.pack("=HBBI", *instruction)
            for instruction in ((0x20, 0, 0, 12), (0x15, 0, 1, wanted), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
        )
        code = ctypes.create_string_buffer(program)
        self._sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        )

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def receive(self, limit: int) -> list[bytes]:
        """Up to *limit* queued notifications, an empty list if there are none. Overrun if some were lost."""
        out: list[bytes] = []
        recv, add = self._sock.recv, out.append
        try:
            for _count in range(limit):
                add(recv(_DATAGRAM))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            raise Overrun from None
        return out

    def drain(self) -> int:
        """Discard all queued notifications, and count them."""
        count = 0
        while True:
            try:
                found = self.receive(4096)
            except Overrun:
                continue
            if not found:
                return count
            count += len(found)


# -- complete reads, for modules, start-up and full resyncs -----------------------------------------------------------


def read_links(requests: WholeDumps) -> list[Link]:
    """All links, by ifindex."""
    chunks = requests.dump_whole(_general_dump(rtnetlink.RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)))
    return sorted((decode_link(m) for m in _each(chunks, rtnetlink.RTM_NEWLINK)), key=lambda link: link.index)


def read_addresses(requests: WholeDumps) -> list[LinkAddress]:
    """All IP addresses of this machine, in the kernel's order."""
    chunks = requests.dump_whole(_general_dump(rtnetlink.RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)))
    # A dump of all families has those of MCTP and others as well.
    found = (message for message in _each(chunks, rtnetlink.RTM_NEWADDR) if rtnetlink.family_of(message) in WIDTH)
    return [decode_address(message) for message in found]


def read_rules(requests: WholeDumps) -> list[Rule]:
    """All policy rules of both families, in the order of their priority."""
    rules: list[Rule] = []
    for family in (AF_INET, AF_INET6):
        chunks = requests.dump_whole(_general_dump(rtnetlink.RTM_GETRULE, rtnetlink.RTMSG.pack(family, *[0] * 8)))
        rules += [decode_rule(m) for m in _each(chunks, rtnetlink.RTM_NEWRULE)]
    return rules


def read_netconf(requests: WholeDumps) -> list[NetConf]:
    """The forwarding sysctls of all links, both families."""
    found: list[NetConf] = []
    for family in (AF_INET, AF_INET6):
        chunks = requests.dump_whole(netconf_codec.dump_request(family))
        found += [netconf_codec.decode(m) for m in _each(chunks, rtnetlink.RTM_NEWNETCONF)]
    return found


def read_routes(
    requests: Requests,
    family: int,
    table: int | None = None,
    protocol: int = 0,
    oif: int | None = None,
    dead_hops: bool = False,
) -> Iterator[Route]:
    """The routes of one family, filtered by the kernel, in its order. *dead_hops*: see decode_route."""
    reader = RouteReader(dead_hops)
    for chunk in requests.dump(rtnetlink.route_dump_request(family, table, protocol, oif)):
        for message in reader.routes(chunk):
            yield Route(Prefix.from_key(family, message.key), message.path)


def _general_dump(kind: int, payload: bytes) -> bytes:
    return rtnetlink.request(kind, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP, payload)


def _each(chunks: Iterable[bytes], wanted: int) -> Iterator[bytes]:
    for chunk in chunks:
        for kind, _flags, start, end in rtnetlink.messages(chunk):
            if kind == wanted:
                yield chunk[start:end]
