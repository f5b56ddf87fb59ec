# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a capture: who may read it, what is appended to, how it ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture import pcapng
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.recorder import Capture
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.replay import header
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.fields import ConfigError

SETTINGS = {"tables": [254, 100], "families": ["ipv4", "ipv6"]}
LIMIT = 1 << 30


def _capture(file: Path, limit: int = LIMIT) -> Capture:
    return Capture(str(file), limit, SETTINGS)


def test_only_its_owner_can_read_a_capture(tmp_path: Path) -> None:
    file = tmp_path / "capture"
    _capture(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    _capture(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_section_is_appended_after_the_last_complete_block(tmp_path: Path) -> None:
    file = tmp_path / "capture"
    capture = _capture(file)
    capture.packets(0, (b"one", b"two"))
    capture.close()
    whole = file.read_bytes()
    file.write_bytes(whole + pcapng.packet(0, 0, b"three")[:-5])
    _capture(file).close()
    assert file.read_bytes().startswith(whole + pcapng.section(pcapng.Section("", "", ""), ())[:4])
    with file.open("rb") as stream:
        kinds = [type(item).__name__ for item in pcapng.read(stream)]
    assert kinds == ["Section", "Packet", "Packet", "Section"]


def test_a_file_that_is_not_a_capture_is_refused_and_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "file"
    other = pcapng.section(pcapng.Section("tcpdump", "", ""), ("nlmon0",))
    damaged = bytearray(header(SETTINGS, "Linux") * 2)
    damaged[-4] ^= 1
    for content, why in (
        (b"root:x:0:0\n", "not a pcapng file"),
        (b"x", "not a pcapng file"),
        (other[:20], "truncated"),
        (other, "not a capture of ynl-mirror"),
        (other.replace(b"tcpdump", b"wanders"), "not a capture of ynl-mirror"),
        (bytes(damaged), "block whose two lengths differ"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=why):
            _capture(file)
        assert file.read_bytes() == content
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        _capture(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(OSError, match="symbolic links"):
        _capture(tmp_path / "link")


def test_two_daemons_do_not_share_a_capture(tmp_path: Path) -> None:
    first = _capture(tmp_path / "capture")
    with pytest.raises(ConfigError, match="another daemon writes to"):
        _capture(tmp_path / "capture")
    first.close()


def test_recording_stops_at_the_limit_with_one_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "capture"
    capture = _capture(file, limit=2000)
    for _packet in range(100):
        capture.reported()
        capture.packets(0, (bytes(100),))
    capture.close()
    assert 1500 < file.stat().st_size <= 2000
    (record,) = caplog.records
    assert record.message.startswith(f"capture {file}: limit of 2000 bytes reached (capture.limit); recording")
