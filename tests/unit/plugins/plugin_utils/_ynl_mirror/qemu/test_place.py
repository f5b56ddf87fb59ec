# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run folder of a lab: its record, its keys, and what does not belong to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Machine
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.place import (
    LabFailure,
    Place,
    read_public,
)

pytestmark = pytest.mark.controller

RECORD = {"backend": "qemu", "accelerator": "tcg", "links": []}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("one", str(tmp_path))


def test_without_a_record_there_is_none(place: Place) -> None:
    assert place.read_record() is None


def test_a_record_is_read_back(place: Place) -> None:
    Path(place.record_file).write_text(json.dumps(RECORD))
    assert place.read_record() == RECORD


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"backend": "qemu"}', json.dumps({**RECORD, "accelerator": "abacus"})]
)
def test_a_damaged_record_is_an_error_with_the_fix(place: Place, text: str) -> None:
    Path(place.record_file).write_text(text)
    with pytest.raises(LabFailure, match=r"lab.json is damaged .* take the lab down"):
        place.read_record()


def test_a_lab_of_another_backend_is_neither_read_nor_removed(place: Place) -> None:
    Path(place.record_file).write_text(json.dumps({"backend": "netns", "vrf": "rules"}))
    for read in (place.read_record, place.is_lab):
        with pytest.raises(LabFailure, match="contains a lab of the backend netns; take that lab down first"):
            read()


def test_the_remains_of_a_lab_are_a_lab(place: Place, tmp_path: Path) -> None:
    for name in ("cables", "keys", "ssh", "dpu", "host"):
        (tmp_path / name).mkdir()
    (tmp_path / "keys" / "login").touch()
    (tmp_path / "dpu" / "disk.qcow2").touch()
    (tmp_path / "lab.json.new").touch()
    assert place.foreign() == []
    assert place.is_lab()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_folder_with_something_else_in_it_is_no_lab(place: Place, tmp_path: Path, damaged: bool) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine").touch()
    assert place.foreign() == ["letters"]
    if not damaged:
        assert not place.is_lab()
        return
    Path(place.record_file).write_text("{")
    with pytest.raises(LabFailure, match="is damaged, and letters beside it does not belong to a lab; remove"):
        place.is_lab()


def test_the_first_missing_key_is_named(place: Place, tmp_path: Path) -> None:
    made = [Machine("ekho-dpu", str(tmp_path / "dpu"))]
    (tmp_path / "keys").mkdir()
    for name in ("login", "login.pub", "ekho-dpu", "ekho-dpu.pub"):
        assert place.missing_key(made) == str(tmp_path / "keys" / name)
        (tmp_path / "keys" / name).touch()
    assert place.missing_key(made) is None


def test_a_public_key_is_read_without_its_comment(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA me@here\n")
    assert read_public(str(tmp_path / "key")) == "ssh-ed25519 AAAA"
