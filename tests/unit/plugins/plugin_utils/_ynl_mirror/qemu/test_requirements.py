# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine must have for a lab, and whether KVM is believed. The processes that are watched are real."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import requirements
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Accelerator
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.requirements import (
    Lacking,
    check,
    choose_accelerator,
    has_range,
    says,
)

pytestmark = pytest.mark.controller


@pytest.mark.parametrize(
    ("script", "seconds", "expected"),
    [
        ("echo Booting; printf 'Linux ver'; sleep 0.1; printf 'sion 6.1'; exec sleep 60", 20.0, True),  # in two pieces
        ("exec sleep 60", 0.3, False),  # a guest that hangs in its boot ROM
        ("echo qemu: could not load kernel", 20.0, False),
        ("exec yes", 0.3, False),  # what talks all the time does not live longer
    ],
)
def test_a_guest_is_believed_by_what_it_says_in_time(script: str, seconds: float, expected: bool) -> None:
    begun = time.monotonic()
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert says(process, b"Linux version", seconds) is expected
        finally:
            process.kill()
    assert time.monotonic() - begun < 10


def _program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs before all others, and a /dev/kvm that opens."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(requirements, "KVM", "/dev/null")
    return tmp_path


def test_kvm_is_chosen_when_a_guest_speaks_under_it(programs: Path) -> None:
    _program(programs, "qemu-system-x86_64", "echo '[    0.000000] Linux version 6.1'; exec sleep 60")
    assert choose_accelerator("auto", "/vmlinuz") == (Accelerator.KVM, "a guest runs under it")
    assert choose_accelerator("kvm", "/vmlinuz")[0] is Accelerator.KVM


def test_kvm_that_opens_but_runs_no_guest_is_told(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PROBE_SECONDS", 0.3)
    _program(programs, "qemu-system-x86_64", "exec sleep 60")
    chosen, reason = choose_accelerator("auto", "/vmlinuz")
    assert chosen is Accelerator.TCG
    assert "said nothing" in reason
    with pytest.raises(Lacking, match=r"KVM was asked for, but .* said nothing .* choose ekho_lab_accelerator tcg"):
        choose_accelerator("kvm", "/vmlinuz")


def test_without_the_device_nothing_is_tried(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(programs, "qemu-system-x86_64", "echo 'Linux version 6.1'")
    monkeypatch.setattr(requirements, "KVM", "/nowhere/kvm")
    assert choose_accelerator("auto", "/vmlinuz") == (Accelerator.TCG, "/nowhere/kvm: No such file or directory")


def test_what_is_asked_for_is_not_tried() -> None:
    assert choose_accelerator("tcg", None) == (Accelerator.TCG, "as asked for")


def test_an_old_qemu_is_named(programs: Path) -> None:
    _program(programs, "qemu-system-x86_64", "echo 'QEMU emulator version 5.2.0 (Debian)'")
    with pytest.raises(Lacking, match=r"this is QEMU emulator version 5\.2\.0 .* needs QEMU 7\.2 or later"):
        check()


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
