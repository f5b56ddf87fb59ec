# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifies the service manager: the protocol of sd_notify(3), one datagram to $NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def manager_listens() -> bool:
    """Whether a service manager has started us, which also restarts us when we fail."""
    return os.environ.get("NOTIFY_SOCKET", "").startswith(("/", "@"))


def notify(*states: str) -> bool:
    """Send STATES (READY, `status("...")` ...); False without a service manager, which is not an error."""
    if not manager_listens():
        return False
    address = os.environ["NOTIFY_SOCKET"]
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto("\n".join(states).encode(), address)
        return True
    return False


def status(text: str) -> str:
    """One line for `systemctl status`."""
    return "STATUS=" + text.replace("\n", " ")


def watchdog_seconds() -> float | None:
    """The interval for WATCHDOG: half of the service manager's timeout; None when it has no watchdog."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or microseconds <= 0:
        return None
    return microseconds / 2_000_000
