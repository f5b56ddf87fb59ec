# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers which directories an installation has created, so that its removal takes those away and no others.

An empty /usr/local/bin may have been there before. A note in the installation's directory lists those that were not,
parents first.
"""

from __future__ import annotations

import contextlib
import json
import os

NOTE = "made.json"


class Footprint:
    """The directories that were created for the installation in HOME. The note is kept there."""

    def __init__(self, home: str) -> None:
        self._home = os.path.normpath(home)
        self._note = os.path.join(self._home, NOTE)

    def make(self, *directories: str) -> None:
        """Create missing directories and their missing parents, readable by all, and note them."""
        made = [path for directory in [self._home, *directories] for path in _make(directory)]
        if made:
            self._write(self._read() + made)

    def remove(self) -> None:
        """Remove the noted directories that are empty, and forget the others.

        As long as HOME holds anything else, it and its parents stay, and stay noted.
        """
        noted = self._read()
        above = [path for path in noted if (self._home + "/").startswith(path + "/")]
        for path in reversed([path for path in noted if path not in above]):
            _remove_empty(path)
        if _names(self._home) - {NOTE}:
            if above != noted:
                self._write(above)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._note)
        for path in reversed(above):
            _remove_empty(path)

    def _read(self) -> list[str]:
        try:
            with open(self._note, encoding="utf-8") as file:
                return [str(path) for path in json.load(file)]
        except (OSError, ValueError, TypeError):
            return []

    def _write(self, paths: list[str]) -> None:
        new = self._note + ".new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump(list(dict.fromkeys(paths)), file, indent=1)
        os.replace(new, self._note)


def missing_directories(directory: str) -> list[str]:
    """The directory and its parents as far as they do not exist, parents first."""
    missing: list[str] = []
    path = os.path.normpath(directory)
    while not os.path.isdir(path):
        missing.insert(0, path)
        path = os.path.dirname(path)
    return missing


def _make(directory: str) -> list[str]:
    made = missing_directories(directory)
    for path in made:
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103  # whatever the umask: the daemon's user has to get there
    return made


def _remove_empty(directory: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except OSError:
        return set()
