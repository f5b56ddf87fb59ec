# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that an installation made go with it; those that were there, or are used by somebody else, do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.footprint import Footprint


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_what_was_made_goes_with_all_that_was_made_above_it(tmp_path: Path) -> None:
    mark = Footprint(str(tmp_path / "opt/x/lib"))
    mark.make(str(tmp_path / "opt/x/bin"), str(tmp_path / "etc/y"))
    mark.make(str(tmp_path / "var"))
    assert (tmp_path / "etc/y").is_dir()
    mark.remove()
    assert left(tmp_path) == set()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    mark = Footprint(str(tmp_path / "lib"))
    mark.make(str(tmp_path / "bin"))
    mark.remove()
    assert left(tmp_path) == {"bin"}


def test_what_somebody_else_uses_stays(tmp_path: Path) -> None:
    mark = Footprint(str(tmp_path / "lib"))
    mark.make(str(tmp_path / "bin"))
    (tmp_path / "bin" / "theirs").touch()
    mark.remove()
    assert left(tmp_path) == {"bin", "bin/theirs"}


def test_its_own_folder_waits_until_it_is_empty(tmp_path: Path) -> None:
    mark = Footprint(str(tmp_path / "opt/lib"))
    mark.make(str(tmp_path / "bin"))
    (tmp_path / "opt/lib/environment").mkdir()
    mark.remove()
    assert left(tmp_path) == {"opt", "opt/lib", "opt/lib/environment", "opt/lib/made.json"}
    (tmp_path / "opt/lib/environment").rmdir()
    mark.remove()
    assert left(tmp_path) == set()


@pytest.mark.parametrize("note", ["", "{}", "[1", "7"])
def test_a_note_that_cannot_be_read_removes_nothing(tmp_path: Path, note: str) -> None:
    mark = Footprint(str(tmp_path / "lib"))
    mark.make()
    (tmp_path / "lib" / "made.json").write_text(note)
    mark.remove()
    assert left(tmp_path) == {"lib"}
