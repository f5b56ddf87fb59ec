# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log records as entries of systemd's journal, with fields for level, place in the code, host, agent, prefix, reason.

The native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram per entry, or a sealed memfd if the entry is too
long. The only pure Python library for it, logging-journald, needs Python 3.10 and is not in Debian 12.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any

SOCKET = "/run/systemd/journal/socket"
PREFIX = "YNL_MIRROR_"
_ABOUT = "ynl_mirror_about"
_SECONDS = 1.0  # after which an entry that the journal does not accept goes to standard error
_SEND_BUFFER = 8 << 20  # as much as systemd's own library asks for
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def about(**fields: object) -> dict[str, Any]:
    """The subject of a log record, for its `extra`; in the journal *host* is the field YNL_MIRROR_HOST, and so on."""
    return {_ABOUT: {name: value for name, value in fields.items() if value is not None}}


def configure(level: str, identifier: str) -> None:
    """Log to the journal if standard error is connected to it, otherwise to standard error, with the time."""
    if leads_to_journal():
        logging.basicConfig(level=level, handlers=[JournalHandler(identifier)])
    else:
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def leads_to_journal() -> bool:
    """Whether standard error is still the stream that systemd connected to the journal."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" and os.path.exists(SOCKET)


class JournalHandler(logging.Handler):
    """Sends every record to the journal; one that it does not accept goes to standard error."""

    def __init__(self, identifier: str, address: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # the rest are fields
        self._identifier = identifier
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._socket.settimeout(_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._send(entry(fields_of(record, self.format(record), self._identifier)))
        except OSError:
            sys.stderr.write(f"{record.levelname} {record.name}: {record.getMessage()}\n")
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _send(self, data: bytes) -> None:
        try:
            # To the address each time: after a restart of the journal it is a different socket.
            self._socket.sendto(data, self._address)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(data)

    def _send_file(self, data: bytes) -> None:
        descriptor = os.memfd_create("ynl-mirror-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", descriptor))]
            self._socket.sendmsg([b""], ancillary, 0, self._address)
        finally:
            os.close(descriptor)


def fields_of(record: logging.LogRecord, message: str, identifier: str) -> dict[str, object]:
    """The fields of a record; MESSAGE includes the traceback, if it has one."""
    return {
        "MESSAGE": message,
        "PRIORITY": _priority(record.levelno),
        "SYSLOG_IDENTIFIER": identifier,
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
        **{PREFIX + name.upper(): value for name, value in getattr(record, _ABOUT, {}).items()},
    }


def entry(fields: dict[str, object]) -> bytes:
    """The bytes of an entry; a value with a line break is sent with its length, so that it cannot inject a field."""
    return b"".join(_lines(fields.items()))


def _lines(fields: Iterable[tuple[str, object]]) -> Iterable[bytes]:
    for name, value in fields:
        data = str(value).encode(errors="replace")
        if b"\n" in data:
            yield b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
        else:
            yield b"%s=%s\n" % (name.encode(), data)


def _priority(level: int) -> int:
    """The level as syslog(3) counts: 2 critical, 3 error, 4 warning, 6 info, 7 debug."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7
