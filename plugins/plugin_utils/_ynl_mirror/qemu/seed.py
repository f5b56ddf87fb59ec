# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud image is told at its first boot: a small CD-ROM for cloud-init's data source NoCloud. Pure: no I/O.

Only what SSH needs: the machine's key and name, the key that it lets in, and the address of its management link. All
else goes over SSH afterwards.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from .guest import MANAGEMENT, name_cards
from .machine import MANAGEMENT_ADDRESS, MANAGEMENT_MAC

_SECTOR = 2048
_ROOT, _DATA = 20, 21  # sectors of the folder and of the first file; before them the descriptors and path tables
_LABEL = b"CIDATA"


def seed(name: str, host_key: str, host_key_public: str, login_key: str) -> bytes:
    """The CD-ROM for a machine with this host key (both halves), which lets a key (its public half) in as root."""
    user = {
        "hostname": name,
        "preserve_hostname": False,
        "users": [],
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_authorized_keys": [login_key],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key, "ed25519_public": host_key_public},
        # An image whose cloud-init configures no network has the link up nevertheless.
        "bootcmd": ["\n".join([*name_cards({"eth0": MANAGEMENT_MAC}), *MANAGEMENT])],
        # What else it would do, with a network that leads nowhere.
        "cloud_config_modules": [],
        "cloud_final_modules": [],
    }
    link = {"match": {"macaddress": MANAGEMENT_MAC}, "set-name": "eth0", "addresses": [f"{MANAGEMENT_ADDRESS}/24"]}
    network = {"version": 2, "ethernets": {"management": link}}
    # JSON is YAML.
    return iso9660(
        {
            "meta-data": json.dumps({"instance-id": name, "local-hostname": name}).encode(),
            "network-config": json.dumps(network).encode(),
            "user-data": b"#cloud-config\n" + json.dumps(user).encode(),
        }
    )


def iso9660(files: Mapping[str, bytes]) -> bytes:
    """A file system (ECMA-119) labelled CIDATA with these files in its root folder.

    Names are in capitals, as the standard has it; Linux shows them in lower case. All the folder has to fit into one
    sector, which is some forty files.
    """
    records = _record(b"\0", _ROOT, _SECTOR, folder=True) + _record(b"\1", _ROOT, _SECTOR, folder=True)
    contents, sector = b"", _DATA
    for name, data in sorted(files.items()):
        records += _record(name.upper().encode() + b".;1", sector, len(data))
        padded = _padded(data)
        contents += padded
        sector += len(padded) // _SECTOR
    if len(records) > _SECTOR:
        raise ValueError(f"{len(files)} files do not fit into one folder")
    terminator = _padded(b"\xffCD001\x01")
    tables = _padded(struct.pack("<BBIH2s", 1, 0, _ROOT, 1, b"\0")) + _padded(
        struct.pack(">BBIH2s", 1, 0, _ROOT, 1, b"\0")
    )
    head = bytes(16 * _SECTOR) + _descriptor(sector) + terminator + tables
    return head + _padded(records) + contents


def _descriptor(sectors: int) -> bytes:
    """The primary volume descriptor (8.4), sector 16."""
    nobody = b" " * 128
    never = b"0" * 16 + b"\0"
    sets = _both16(1) + _both16(1) + _both16(_SECTOR)
    tables = _both32(10) + struct.pack("<II", 18, 0) + struct.pack(">II", 19, 0)
    root = _record(b"\0", _ROOT, _SECTOR, folder=True)
    parts = [b"\x01CD001\x01\0", b" " * 32, _LABEL.ljust(32), bytes(8), _both32(sectors), bytes(32), sets, tables, root]
    parts += [nobody * 4, b" " * 37 * 3, never * 4, b"\x01\0"]
    return _padded(b"".join(parts))


def _record(identifier: bytes, sector: int, size: int, *, folder: bool = False) -> bytes:
    """A directory record (9.1), of an even number of bytes."""
    flags = 2 if folder else 0
    body = bytes([0]) + _both32(sector) + _both32(size) + bytes(7) + bytes([flags, 0, 0]) + _both16(1)
    body += bytes([len(identifier)]) + identifier
    body += b"\0" * ((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def _both16(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number: int) -> bytes:
    return struct.pack("<I", number) + struct.pack(">I", number)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _SECTOR)
