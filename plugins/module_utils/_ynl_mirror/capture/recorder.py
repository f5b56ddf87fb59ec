# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down all that a follower hears and reads: a capture, as replay.py describes it.

The follower knows nothing of it: it is handed sockets that write down what passes. Without a capture they are the
bare ones, so that it costs nothing.
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
from .replay import CAUGHT_UP, DONE, NOTIFICATIONS, OVERRUN, REQUESTS, TOLD, TORN, NotACapture, header, settings_of

_LOG = logging.getLogger("ynl_mirror")


class Capture:
    """An open capture: appends, to at most *limit* bytes. A write that fails ends the capture, not the daemon."""

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
        """Write down *datagrams*, at once: they have to be there when the daemon dies of them."""
        self._asked = self._asked or interface == REQUESTS
        if self._fd >= 0 and datagrams:
            now = time.time_ns() // 1000
            self._write(b"".join([pcapng.packet(interface, now, datagram) for datagram in datagrams]))

    def told(self) -> None:
        """Write down that the follower tells its changes now; with the next packets, which is soon enough."""
        if self._fd >= 0:
            self._held += pcapng.packet(NOTIFICATIONS, time.time_ns() // 1000, TOLD)

    def caught_up(self) -> None:
        """Write down that all that was told during the requests is taken in; in the same way, once after them."""
        if self._fd >= 0 and self._asked:
            self._asked = False
            self._held += pcapng.packet(REQUESTS, time.time_ns() // 1000, CAUGHT_UP)

    def close(self) -> None:
        """Write what is held back, and close."""
        if self._fd >= 0:
            self._write(b"")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        try:
            if self._size + len(data) > self._limit:
                self._give_up(f"it has reached its limit of {self._limit} bytes (capture.limit)")
            elif os.write(self._fd, data) < len(data):
                self._give_up(os.strerror(errno.ENOSPC))
            else:
                self._size += len(data)
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _give_up(self, why: str) -> None:
        _LOG.error("capture %s: %s; nothing more is recorded, all else goes on", self._path, why)
        try:
            os.ftruncate(self._fd, self._size)  # what was written of the last packets
        except OSError as error:
            _LOG.debug("capture %s: %s", self._path, error)
        os.close(self._fd)
        self._fd = -1


class _Monitor:
    """A monitor that writes down what it hears."""

    def __init__(self, monitor: kernel.Notifications, capture: Capture) -> None:
        self._monitor = monitor
        self._capture = capture
        self.fileno = monitor.fileno
        self.drain = monitor.drain  # of no effect on anybody

    def receive(self, limit: int) -> list[bytes]:
        try:
            batch = self._monitor.receive(limit)
        except kernel.Overrun:
            self._capture.packets(NOTIFICATIONS, (OVERRUN,))
            raise
        self._capture.packets(NOTIFICATIONS, batch)
        return batch


class _Requests:
    """Dumps that are written down with their request, and an NLMSG_DONE once they are complete."""

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
    """What a follower is made of, with a capture in between; the very same where none is wanted.

    *settings*: what its replica depends on, see replay.py. ConfigError and OSError when the file cannot be used.
    """
    if config is None:
        return sockets
    capture = Capture(config.file, config.limit, settings)
    monitor, requests, on_change = sockets

    def tell() -> None:
        capture.told()
        on_change()

    return _Monitor(monitor, capture), _Requests(requests, capture), tell


def _system() -> str:
    found = os.uname()
    return f"{found.sysname} {found.release} {found.machine}"


def _open(path: str) -> int:
    """A descriptor that appends to the file, which nobody else may read or write. OSError names it."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError(f"capture: {path} is no ordinary file; name another")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"capture: {path} is another daemon's capture; name another file") from None
    except ConfigError:
        os.close(fd)
        raise
    return fd


def _end(path: str, fd: int) -> int:
    """The size of what is there, once a block that a killed daemon has left in the middle is cut away."""
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
        raise ConfigError(f"capture: {path} is there and cannot be continued ({error}); name another file") from None
    return end
