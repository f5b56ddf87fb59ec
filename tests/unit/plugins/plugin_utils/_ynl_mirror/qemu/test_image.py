# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of images: what names an entry, and what becomes of one that is damaged or half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.image import ImageError, Recipe
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import COLLECTIONS

pytestmark = pytest.mark.controller


def test_a_change_of_any_part_makes_another_image() -> None:
    changed = [replace(Recipe(), **{one.name: getattr(Recipe(), one.name)[:-1]}) for one in fields(Recipe)]
    assert len({recipe.key for recipe in [Recipe(), *changed]}) == len(fields(Recipe)) + 1
    assert Recipe().key == Recipe().key


def _make(folder: Path) -> None:
    with image._unfinished(str(folder)) as making:
        Path(making, "disk").write_bytes(b"x" * 1000)
        Path(making, "kernel").write_bytes(b"y" * 10)


def test_an_entry_is_used_as_long_as_it_is_whole(tmp_path: Path) -> None:
    told: list[str] = []
    assert not image._is_whole(str(tmp_path / "one"), told.append)
    _make(tmp_path / "one")
    assert image._is_whole(str(tmp_path / "one"), told.append)
    assert told == []


@pytest.mark.parametrize("damage", ["truncated", "removed", "no contents", "broken contents"])
def test_a_damaged_entry_goes_and_that_is_told(tmp_path: Path, damage: str) -> None:
    entry = tmp_path / "one"
    _make(entry)
    if damage == "truncated":
        os.truncate(entry / "disk", 999)
    elif damage == "removed":
        (entry / "disk").unlink()
    elif damage == "no contents":
        (entry / "contents.json").unlink()
    else:
        (entry / "contents.json").write_text("{")
    told: list[str] = []
    assert not image._is_whole(str(entry), told.append)
    assert f"{entry} in the cache is damaged" in told[0]
    assert not entry.exists()


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with image._unfinished(str(tmp_path / "one")) as making:
            Path(making, "disk").write_bytes(b"x")
            raise ImageError("no")

    with pytest.raises(ImageError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_has_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / "one.unfinished"
    left.mkdir()
    (left / "strange").touch()
    _make(tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["contents.json", "disk", "kernel"]
    assert not left.exists()


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^sh failed:\nE: no space left$"):
        image._Caller(print)(["sh", "-c", "echo E: no space left >&2; exit 1"], str(tmp_path))


def test_a_program_that_takes_long_is_told_of_and_then_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "TELL_SECONDS", 0.2)
    monkeypatch.setattr(image, "BUILD_SECONDS", 1.0)
    told: list[str] = []
    with pytest.raises(ImageError, match="takes longer than 1 s"):
        image._Caller(told.append)(["sh", "-c", "echo I: unpacking; sleep 60 & wait"])
    assert "I: unpacking" in told[0]
    assert len(told) > 1


def test_who_is_killed_while_a_program_works_leaves_it_the_lock(tmp_path: Path) -> None:
    """So that the next run does not build into the same folder beside it."""
    script = f"""
import sys
sys.path.insert(0, {str(COLLECTIONS)!r})
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image
with image._locked({str(tmp_path)!r}, print) as lock:
    image._Caller(print, lock)(["sh", "-c", "echo > begun; sleep 2; echo > done"], {str(tmp_path)!r})
"""
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    told: list[str] = []
    with image._locked(str(tmp_path), told.append):
        assert (tmp_path / "done").exists()
    assert told == [f"another run is at work on the images in {tmp_path}; waiting for it"]


def test_a_cache_that_is_busy_for_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "BUILD_SECONDS", 0.2)
    monkeypatch.setattr(image, "BOOT_SECONDS", 0.1)

    def hold_it_twice() -> None:
        with image._locked(str(tmp_path), print), image._locked(str(tmp_path), print):
            pytest.fail("two hold the lock")

    with pytest.raises(ImageError, match="another run has been at work"):
        hold_it_twice()
