# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a lab is: its run folder, the record ``lab.json`` in it, and what belongs to a lab there.

The run folder is removed with the lab. A folder with anything else in it is therefore neither used nor removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .machine import KEPT, Accelerator, Machine

FOLDER = "ekho-lab"  # the default parent of run folders, removed with the last lab
FILES = ("lab.json", "ssh_config", "known_hosts", "inventory.yml")
LOGIN = "login"


class LabFailure(Exception):
    """The lab could not be created or removed; the message names the item and the fix."""


@dataclass(frozen=True)
class Place:
    """The name and the run folder of a lab."""

    name: str
    run_dir: str

    @property
    def record_file(self) -> str:
        """What the lab consists of, recorded before it is created."""
        return os.path.join(self.run_dir, "lab.json")

    @property
    def ssh_config(self) -> str:
        """For ``ssh -F``."""
        return os.path.join(self.run_dir, "ssh_config")

    @property
    def known_hosts(self) -> str:
        """The machines' host keys, known before their first boot."""
        return os.path.join(self.run_dir, "known_hosts")

    @property
    def login_key(self) -> str:
        """The private key that every machine of the lab accepts."""
        return self.key(LOGIN)

    @property
    def masters(self) -> str:
        """Folder for the control sockets of OpenSSH's shared connections."""
        return os.path.join(self.run_dir, "ssh")

    def key(self, name: str) -> str:
        """The private key of a machine, or LOGIN; the public key is beside it, with ``.pub`` at the end."""
        return os.path.join(self.run_dir, "keys", name)

    def missing_key(self, made: Sequence[Machine]) -> str | None:
        """A file of the key pairs that does not exist."""
        keys = [self.login_key, *(self.key(machine.name) for machine in made)]
        return next((path for key in keys for path in (key, f"{key}.pub") if not os.path.exists(path)), None)

    def read_record(self) -> dict[str, Any] | None:
        """The record of an earlier run; None without one."""
        try:
            with open(self.record_file, encoding="utf-8") as file:
                record: dict[str, Any] = json.load(file)
            if record["backend"] == "qemu":
                Accelerator(record["accelerator"])
                list(record["links"])
                return record
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LabFailure(
                f"{self.record_file} is damaged ({error}); take the lab down (make lab-down LAB=qemu), then bring it up"
            ) from None
        raise LabFailure(f"{self.run_dir} contains a lab of the backend {record['backend']}; take that lab down first")

    def is_lab(self) -> bool:
        """Whether the run folder contains this lab, or the remains of one, and nothing else."""
        try:
            if self.read_record() is not None:
                return True
        except LabFailure:
            if _is_of_another_backend(self.record_file):
                raise
        foreign = self.foreign()
        if foreign and os.path.exists(self.record_file):
            raise LabFailure(
                f"{self.record_file} is damaged, and {foreign[0]} beside it does not belong to a lab; remove "
                f"{self.run_dir} yourself"
            )
        return not foreign

    def foreign(self) -> list[str]:
        """The names in the run folder that do not belong to a lab."""
        return sorted(name for name in listed(self.run_dir) if not self._belongs(name))

    def _belongs(self, name: str) -> bool:
        folder = os.path.join(self.run_dir, name)
        marked = any(os.path.exists(os.path.join(folder, mark)) for mark in ("disk.qcow2", "software.json"))
        return name in KEPT or name.removesuffix(".new") in FILES or marked or not listed(folder, ["a file"])


def listed(folder: str, otherwise: Sequence[str] = ()) -> list[str]:
    """The names in a folder; OTHERWISE if it is not a folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return list(otherwise)


def read_public(key: str) -> str:
    """The public key of a private key's file, without its comment, as a line of ``authorized_keys``."""
    with open(f"{key}.pub", encoding="utf-8") as file:
        return " ".join(file.read().split()[:2])


def read_private(key: str) -> str:
    """The text of a private key's file."""
    with open(key, encoding="ascii") as file:
        return file.read()


def write(path: str, content: str) -> None:
    """Replace a file in one step."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(path + ".new", path)


def _is_of_another_backend(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        record = json.load(file)
        return isinstance(record, dict) and record.get("backend") not in (None, "qemu")
    return False
