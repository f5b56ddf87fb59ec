# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a running daemon deaf to its kernel: from then on it hears of no change, and of no loss.

The daemon's own socket is taken out of the process (pidfd_getfd(2)) and gets a filter that drops everything
(``SO_ATTACH_FILTER``): notifications vanish with no overrun. That is the fault that only an audit can find.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import Daemon

_PIDFD_GETFD = 438  # the same number on all architectures
_SO_ATTACH_FILTER = 26


def deafen(daemon: Daemon) -> None:
    """The daemon hears nothing from now on."""
    assert daemon.process is not None
    pidfd = os.pidfd_open(daemon.process.pid)
    try:
        monitors = [fd for fd, target in _sockets(daemon.process.pid) if target in _subscribed(daemon.process.pid)]
        assert len(monitors) == 1, f"netlink sockets that hear notifications: {monitors}"
        copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, monitors[0], 0)
        assert copy >= 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(pidfd)
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # return 0: keep nothing
    with socket.socket(fileno=copy) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))


def _sockets(pid: int) -> list[tuple[int, str]]:
    """(descriptor, inode) of a process's sockets."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # closed since
            continue
        if target.startswith("socket:["):
            found.append((int(name), target[len("socket:[") : -1]))
    return found


def _subscribed(pid: int) -> set[str]:
    """The inodes of the netlink sockets in its namespace that are in a multicast group (/proc/net/netlink)."""
    with open(f"/proc/{pid}/net/netlink") as file:
        lines = [line.split() for line in file][1:]
    return {words[9] for words in lines if int(words[3], 16)}
