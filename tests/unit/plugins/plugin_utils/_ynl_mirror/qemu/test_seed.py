# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CD-ROM of a cloud image: read back as a kernel reads it, and recognised by util-linux."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.seed import iso9660, seed

pytestmark = pytest.mark.controller

SECTOR = 2048


def files(image: bytes) -> dict[str, bytes]:
    """The root folder's files by the way of the standard: descriptor, root record, directory records."""
    descriptor = image[16 * SECTOR : 17 * SECTOR]
    assert descriptor[:6] == b"\x01CD001"
    assert struct.unpack_from("<I", descriptor, 80) == (len(image) // SECTOR,)
    at, found = struct.unpack_from("<I", descriptor, 156 + 2)[0] * SECTOR, {}
    while image[at]:
        length, name_length = image[at], image[at + 32]
        sector, size = struct.unpack_from("<I4xI", image, at + 2)
        assert (sector, size) == struct.unpack_from(">4xI4xI", image, at + 2)  # each is there in both byte orders
        name = image[at + 33 : at + 33 + name_length]
        if not image[at + 25] & 2:
            found[name.decode().removesuffix(".;1").lower()] = image[sector * SECTOR : sector * SECTOR + size]
        at += length
    return found


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 2049, 100_000])
def test_files_come_back_whatever_their_length(size: int) -> None:
    given = {"user-data": b"x" * size, "a": b"first", "zz": b"last"}
    assert files(iso9660(given)) == given


def test_a_folder_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="60 files do not fit into one folder"):
        iso9660({f"file-{number}": b"" for number in range(60)})


def test_util_linux_takes_it_for_the_data_source(tmp_path: Path) -> None:
    """By which cloud-init finds it."""
    (tmp_path / "seed").write_bytes(seed("ekho-one", "PRIVATE", "PUBLIC", "LOGIN"))
    command = ["blkid", "-p", "-o", "export", str(tmp_path / "seed")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"LABEL=CIDATA", "TYPE=iso9660"} <= set(said)


def test_the_machine_learns_its_key_and_whom_to_let_in() -> None:
    found = files(seed("ekho-one", "PRIVATE\n", "PUBLIC", "LOGIN"))
    first, _newline, rest = found["user-data"].partition(b"\n")
    assert first == b"#cloud-config"
    user = json.loads(rest)
    assert user["ssh_keys"] == {"ed25519_private": "PRIVATE\n", "ed25519_public": "PUBLIC"}
    assert (user["ssh_authorized_keys"], user["disable_root"], user["hostname"]) == (["LOGIN"], False, "ekho-one")
    assert json.loads(found["meta-data"])["instance-id"] == "ekho-one"
