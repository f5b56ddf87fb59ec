# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log records on their way to the journal: what arrives at a socket in the journal's place."""

from __future__ import annotations

import array
import logging
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon import logs
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.logs import JournalHandler, about


class Journal:
    """Takes entries, and takes them apart."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self._socket.settimeout(5)
        self.in_files = 0

    def entry(self) -> dict[str, str]:
        data, ancillary, _flags, _address = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _level, _kind, content in ancillary:
            self.in_files += 1
            (descriptor,) = array.array("i", content)
            with open(descriptor, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
                data = bytes(memory)
        return _parsed(data)

    def close(self) -> None:
        self._socket.close()


def _parsed(data: bytes) -> dict[str, str]:
    fields = {}
    while data:
        line, _newline, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + size], data[9 + size :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path, received: Journal) -> Iterator[logging.Logger]:
    handler = JournalHandler("ynl-mirror-test", str(tmp_path / "journal"))
    logger = logging.Logger("ynl_mirror.test")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_level_place_and_subject_are_fields(log: logging.Logger, received: Journal) -> None:
    log.warning("%s: lost", "h", extra=about(host="h", prefix="10.0.0.0/8", vrf=None))
    entry = received.entry()
    assert entry.pop("CODE_FILE") == __file__
    assert int(entry.pop("CODE_LINE")) > 0
    assert entry == {
        "MESSAGE": "h: lost",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "ynl-mirror-test",
        "LOGGER": "ynl_mirror.test",
        "CODE_FUNC": "test_level_place_and_subject_are_fields",
        "YNL_MIRROR_HOST": "h",
        "YNL_MIRROR_PREFIX": "10.0.0.0/8",
    }
    for level, priority in ((logging.DEBUG, 7), (logging.INFO, 6), (logging.ERROR, 3), (logging.CRITICAL, 2)):
        log.log(level, "x")
        assert received.entry()["PRIORITY"] == str(priority)


def test_a_line_break_adds_no_field(log: logging.Logger, received: Journal) -> None:
    log.info("one\nPRIORITY=0", extra=about(reason="two\nLOGGER=x"))
    entry = received.entry()
    assert (entry["MESSAGE"], entry["YNL_MIRROR_REASON"]) == ("one\nPRIORITY=0", "two\nLOGGER=x")
    assert (entry["PRIORITY"], entry["LOGGER"]) == ("6", "ynl_mirror.test")


def test_an_exception_is_part_of_the_message(log: logging.Logger, received: Journal) -> None:
    try:
        raise RuntimeError("why")
    except RuntimeError:
        log.exception("it failed")
    message = received.entry()["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("RuntimeError: why")


def test_an_entry_too_long_for_a_datagram_goes_as_a_file(log: logging.Logger, received: Journal) -> None:
    text = "x" * (16 << 20)
    log.info("%s", text)
    assert received.entry()["MESSAGE"] == text
    assert received.in_files == 1


def test_a_journal_that_is_started_again_is_found(log: logging.Logger, received: Journal, tmp_path: Path) -> None:
    received.close()
    os.unlink(tmp_path / "journal")
    again = Journal(tmp_path / "journal")
    log.info("still here")
    assert again.entry()["MESSAGE"] == "still here"
    again.close()


def test_without_a_journal_it_goes_to_standard_error(
    log: logging.Logger, received: Journal, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    received.close()
    os.unlink(tmp_path / "journal")
    log.error("nobody there")
    assert capfd.readouterr().err == "ERROR ynl_mirror.test: nobody there\n"


def test_only_the_stream_that_systemd_made_leads_to_the_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "SOCKET", str(tmp_path))
    monkeypatch.setattr("sys.stderr", open(tmp_path / "log", "w"))  # noqa: SIM115
    found = os.stat(tmp_path / "log")
    assert not logs.leads_to_journal()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert logs.leads_to_journal()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")  # somebody has redirected it
    assert not logs.leads_to_journal()
