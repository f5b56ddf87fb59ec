# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of images: the key of an entry, and entries that are damaged or incomplete."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.image import ImageError, Recipe

pytestmark = pytest.mark.controller


def test_every_part_of_the_recipe_changes_the_key() -> None:
    changed = [replace(Recipe(), **{one.name: getattr(Recipe(), one.name)[:-1]}) for one in fields(Recipe)]
    assert len({recipe.key for recipe in [Recipe(), *changed]}) == len(fields(Recipe)) + 1
    assert Recipe().key == Recipe().key


def _make(folder: Path) -> None:
    with image._unfinished(str(folder)) as making:
        Path(making, "disk").write_bytes(b"x" * 1000)
        Path(making, "kernel").write_bytes(b"y" * 10)


def test_a_complete_entry_is_used(tmp_path: Path) -> None:
    progress: list[str] = []
    assert not image._is_whole(str(tmp_path / "one"), progress.append)
    _make(tmp_path / "one")
    assert image._is_whole(str(tmp_path / "one"), progress.append)
    assert progress == []


@pytest.mark.parametrize("damage", ["truncated", "removed", "no contents", "broken contents"])
def test_a_damaged_entry_is_reported_and_removed(tmp_path: Path, damage: str) -> None:
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
    progress: list[str] = []
    assert not image._is_whole(str(entry), progress.append)
    assert f"{entry} in the cache is damaged" in progress[0]
    assert not entry.exists()


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with image._unfinished(str(tmp_path / "one")) as making:
            Path(making, "disk").write_bytes(b"x")
            raise ImageError("no")

    with pytest.raises(ImageError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_remains_of_a_killed_run_are_replaced(tmp_path: Path) -> None:
    left = tmp_path / "one.unfinished"
    left.mkdir()
    (left / "strange").touch()
    _make(tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["contents.json", "disk", "kernel"]
    assert not left.exists()
