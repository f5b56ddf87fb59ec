# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay: of captures as users send them, and of files that are damaged, of another format or another version.

To make a test of a capture, put it into tests/unit/data/captures/ as NAME.pcapng, with the expected output of
`ynl-mirror replay` in NAME.txt.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture import pcapng
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.pcapng import Section
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.capture.replay import (
    OVERRUN,
    Fault,
    NotACapture,
    Replay,
    header,
    parse_time,
    show_time,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli import main
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica import replica

CAPTURES = Path(__file__).parents[4] / "data" / "captures"
#: Links that go and come, lose an address, a nexthop object that is deleted: routes vanish silently.
SILENT = CAPTURES / "silent.pcapng"
SETTINGS = {"tables": [254], "families": ["ipv4"]}


@pytest.mark.parametrize("name", sorted(path.stem for path in CAPTURES.glob("*.pcapng")))
def test_a_capture_replays_to_its_expected_output(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["replay", str(CAPTURES / f"{name}.pcapng")]) == 0
    assert capsys.readouterr().out == (CAPTURES / f"{name}.txt").read_text()


def _replay(capsys: pytest.CaptureFixture[str], file: Path, *options: str) -> tuple[int, list[str], str]:
    """Exit code, changed prefixes and error; the last object is the summary, for everything that is a capture."""
    code = main.main(["replay", str(file), "--json", *options])
    printed = capsys.readouterr()
    objects = [json.loads(line) for line in printed.out.splitlines()]
    assert [item["event"] == "summary" for item in objects] == [False] * (len(objects) - 1) + [True] * bool(objects)
    return code, [change["prefix"] for change in objects[:-1]], printed.err


def test_json_output_is_that_of_watch_with_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["replay", str(SILENT), "--json"])
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:2]
    assert first == {
        "event": "delete",
        "prefix": "10.1.0.0/16",
        "table": "main",
        "time": "2026-11-23T09:04:38.904548Z",
    }
    assert (second["nexthops"], second["metric"]) == ([{"gateway": "198.51.100.2", "dev": "e2"}], 9)


def test_until_stops_after_the_last_record_of_that_time(capsys: pytest.CaptureFixture[str]) -> None:
    _code, everything, _err = _replay(capsys, SILENT)
    for until, count in (
        ("2026-11-23T09:04:38Z", 0),
        ("2026-11-23T09:04:39.189863Z", 4),
        ("2026-11-23T10:04:39.189863+01:00", 4),
        ("2030-01-01", len(everything)),
    ):
        code, prefixes, _err = _replay(capsys, SILENT, "--until", until)
        assert (code, prefixes) == (0, everything[:count])
    assert main.main(["replay", str(SILENT), "--until", "noon"]) == 2
    assert capsys.readouterr().err.startswith("ynl-mirror: --until: 'noon' is not a time, for example 2026-")


def test_a_time_survives_its_text() -> None:
    assert show_time(2**64 - 1) == show_time(2**63) == "9999-12-31T23:59:59.999999Z"
    for time in (0, 1_700_000_000_123_456, 253_402_300_799_999_999):
        assert parse_time(show_time(time)) == time


def test_a_truncated_capture_is_replayed_up_to_the_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _code, everything, _err = _replay(capsys, SILENT)
    data, file = SILENT.read_bytes(), tmp_path / "capture"
    file.write_bytes(data[:-1])
    code, prefixes, error = _replay(capsys, file)
    assert (code, error.endswith(": truncated\n")) == (1, True)
    assert prefixes == everything[:-1]  # the mark that reports the last change is cut off
    for size in range(200, len(data), 1001):
        file.write_bytes(data[:size])
        _code, prefixes, _err = _replay(capsys, file)
        assert prefixes == everything[: len(prefixes)]


def test_files_that_are_not_captures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    newer = Section("ynl-mirror 9.0", "Linux", json.dumps({"ynl_mirror_capture": 2}))
    for content, error in (
        (b"", "the capture is empty"),
        (b"[agents]\nekho-dpu\n", "byte 0: not a pcapng file"),
        (pcapng.section(Section("dumpcap", "Linux", "holiday"), ("nlmon0",)), "not a capture of ynl-mirror"),
        (pcapng.section(newer, ()), "capture of format 2, by ynl-mirror 9.0; this version reads format 1"),
    ):
        file.write_bytes(content)
        assert _replay(capsys, file) == (1, [], f"ynl-mirror: {file}: {error}\n")
    assert _replay(capsys, tmp_path / "none") == (2, [], f"ynl-mirror: {tmp_path}/none: No such file or directory\n")
    assert _replay(capsys, tmp_path) == (2, [], f"ynl-mirror: {tmp_path}: Is a directory\n")


@settings(max_examples=100)
@given(st.data())
def test_random_damage_raises_nothing_but_documented_errors(data: st.DataObject) -> None:
    broken = bytearray(SILENT.read_bytes())
    for _byte in range(data.draw(st.integers(1, 20))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    replay = Replay()
    with suppress(pcapng.Damaged, NotACapture, Fault):
        for item in pcapng.read(io.BytesIO(broken)):
            replay.feed(item)
    replay.finish()
    assert replay.summary()["event"] == "summary"


@pytest.mark.parametrize(
    "wrong", [{}, {"tables": [254]}, {"tables": 254, "families": ["ipv4"]}, {"families": ["ipx"]}, {"vrfs": {"a": 1}}]
)
def test_invalid_settings_are_refused(wrong: dict[str, object]) -> None:
    item = next(pcapng.read(io.BytesIO(header(wrong, "Linux"))))
    with pytest.raises(NotACapture, match="not a capture of ynl-mirror"):
        Replay().feed(item)


def test_a_failure_names_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object, _message: bytes) -> None:
        raise IndexError("x")

    monkeypatch.setattr(replica.Replica, "_nexthop_object", fail)
    code, prefixes, error = _replay(capsys, SILENT)
    assert (code, prefixes[-1]) == (1, "10.1.0.0/16")
    assert error.startswith(f"ynl-mirror: {SILENT}: record ")
    assert error.endswith(": IndexError: x\n")


def test_rereads_that_only_the_capture_has_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica.Replica, "_nexthop_object", lambda _self, _message: None)
    main.main(["replay", str(SILENT), "--json"])
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["rereads_only_in_capture"] == ["ipv4 table main", "ipv6 table main"]


def test_overruns_and_malformed_notifications_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = rtnetlink.request(rtnetlink.RTM_NEWROUTE, 0, bytes(4))
    file = tmp_path / "capture"
    file.write_bytes(header(SETTINGS, "Linux") + pcapng.packet(0, 1, OVERRUN) + pcapng.packet(0, 2, torn))
    main.main(["replay", str(file), "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert (summary["overruns"], summary["notifications"], summary["malformed"]) == (1, 1, 1)
    assert summary["rereads_only_in_replay"] == ["ipv4 table main", "ipv6 table main"]
