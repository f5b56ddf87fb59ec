# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab requires of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import requirements
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Accelerator
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.requirements import (
    Lacking,
    check,
    choose_accelerator,
    has_range,
)

pytestmark = pytest.mark.controller


def test_a_requested_tcg_is_not_tested() -> None:
    assert choose_accelerator("tcg", None) == (Accelerator.TCG, "as requested")


def test_missing_programs_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PROGRAMS", {"sh": "dash", "no-such-1": "one", "no-such-2": "two"})
    with pytest.raises(Lacking, match=r"sudo apt-get install one two$"):
        check()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("other:100000:65536\nme:165536:65536\n", True),
        ("1234:100000:65536\n", True),  # by number
        ("me:100000:1000\n", False),  # too few for a distribution's users
        ("menot:100000:65536\n", False),
        ("", False),
        (None, False),
    ],
)
def test_subordinate_ids_are_found(tmp_path: Path, text: str | None, expected: bool) -> None:
    file = tmp_path / "subuid"
    if text is not None:
        file.write_text(text)
    assert has_range(str(file), "me", 1234) is expected
