# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a capture, as replay.py describes it: all that a follower receives and dumps.

The follower is given sockets that record what passes through them. Without a capture it is given the plain sockets, so
that recording costs nothing when it is off.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from ..config.common import CaptureConfig
from ..config.fields import ConfigError
from ..netlink import sockets as kernel
from . import pcapng
from .replay import CAUGHT_UP, DONE, NOTIFICATIONS, OVERRUN, REPORTED, REQUESTS, TORN, NotACapture, header, settings_of

_LOG = logging.getLogger("ynl_mirror")


class Capture:
    """An open capture file, which grows to *limit* bytes at most. An error ends the capture, not the daemon."""

    def __init__(self, path: str, limit: int, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._limit = limit
        self._asked = False
        self._fd = _open(path)
        self._size = _end(path, self._fd)
        os.fchmod(self._fd, 0o600)
        self._held = header(settings, _system())
        self._write(b"")

    def packets(self, interface: int, datagrams: Sequence[bytes]) -> None:
        """Write *datagrams* at once: they must be in the file if the daemon crashes on them."""
        self._asked = self._asked or interface == REQUESTS
        if self._fd >= 0 and datagrams:
            now = time.time_ns() // 1000
            self._write(b"".join([pcapng.packet(interface, now, datagram) for datagram in datagrams]))

    def reported(self) -> None:
        """Mark that the follower reports its changes now; written with the next packets, which is early enough."""
        if self._fd >= 0:
            self._held += pcapng.packet(NOTIFICATIONS, time.time_ns() // 1000, REPORTED)

    def caught_up(self) -> None:
        """Mark that all notifications since the last requests are applied; likewise, and once after requests."""
        if self._fd >= 0 and self._asked:
            self._asked = False
            self._held += pcapng.packet(REQUESTS, time.time_ns() // 1000, CAUGHT_UP)

    def close(self) -> None:
        """Write the marks that are held back, and close."""
        if self._fd >= 0:
            self._write(b"")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        try:
            if self._size + len(data) > self._limit:
                self._give_up(f"limit of {self._limit} bytes reached (capture.limit)")
            elif os.write(self._fd, data) < len(data):
                self._give_up(os.strerror(errno.ENOSPC))
            else:
                self._size += len(data)
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _give_up(self, why: str) -> None:
        _LOG.error("capture %s: %s; recording has stopped, the daemon goes on", self._path, why)
        try:
            os.ftruncate(self._fd, self._size)  # cut off the last packets, which may be incomplete
        except OSError as error:
            _LOG.debug("capture %s: %s", self._path, error)
        os.close(self._fd)
        self._fd = -1


class _Monitor:
    """A monitor that records the notifications."""

    def __init__(self, monitor: kernel.Notifications, capture: Capture) -> None:
        self._monitor = monitor
        self._capture = capture
        self.fileno = monitor.fileno
        self.drain = monitor.drain  # discarded notifications have no effect

    def receive(self, limit: int) -> list[bytes]:
        try:
            batch = self._monitor.receive(limit)
        except kernel.Overrun:
            self._capture.packets(NOTIFICATIONS, (OVERRUN,))
            raise
        self._capture.packets(NOTIFICATIONS, batch)
        return batch


class _Requests:
    """Dumps that are recorded: the request, the chunks, and NLMSG_DONE at the end."""

    def __init__(self, requests: kernel.Dumps, capture: Capture) -> None:
        self._requests = requests
        self._capture = capture

    def dump(self, message: bytes) -> Iterator[bytes]:
        self._capture.packets(REQUESTS, (message,))
        for chunk in self._requests.dump(message):
            self._capture.packets(REQUESTS, (chunk,))
            yield chunk
        self._capture.packets(REQUESTS, (DONE,))

    def torn(self) -> None:
        self._capture.packets(REQUESTS, (TORN,))
        self._requests.torn()

    def caught_up(self) -> None:
        self._capture.caught_up()
        self._requests.caught_up()

    def dump_whole(self, message: bytes) -> list[bytes]:
        chunks = self._requests.dump_whole(message)
        self._capture.packets(REQUESTS, (message, *chunks, DONE))
        return chunks


Sockets = tuple[kernel.Notifications, kernel.Dumps, Callable[[], None]]


def recorded(config: CaptureConfig | None, settings: Mapping[str, Any], sockets: Sockets) -> Sockets:
    """The arguments of a follower, wrapped to record into a capture; unchanged without a *config*.

    *settings*: those that the replica depends on, see replay.py. ConfigError or OSError if the file cannot be used.
    """
    if config is None:
        return sockets
    capture = Capture(config.file, config.limit, settings)
    monitor, requests, on_change = sockets

    def report() -> None:
        capture.reported()
        on_change()

    return _Monitor(monitor, capture), _Requests(requests, capture), report


def _system() -> str:
    found = os.uname()
    return f"{found.sysname} {found.release} {found.machine}"


def _open(path: str) -> int:
    """A descriptor that appends to the file, locked against other daemons. OSError names the file."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError(f"capture: {path} is not a regular file; name another")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"capture: another daemon writes to {path}; name another file") from None
    except ConfigError:
        os.close(fd)
        raise
    return fd


def _end(path: str, fd: int) -> int:
    """The size of the existing capture, after a block that a killed daemon left incomplete is cut off."""
    end = 0
    try:
        with open(fd, "rb", closefd=False) as file:
            for item in pcapng.read(file):
                if isinstance(item, pcapng.Section):
                    settings_of(item)
            end = file.tell()
    except (pcapng.Damaged, NotACapture) as error:
        if isinstance(error, pcapng.CutOff) and error.offset:
            os.ftruncate(fd, error.offset)
            return error.offset
        os.close(fd)
        raise ConfigError(f"capture: {path} exists and cannot be appended to ({error}); name another file") from None
    return end
