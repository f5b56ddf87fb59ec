# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers which folders an installation has made, so that its removal takes those away and no others.

An empty /usr/local/bin may be the machine's own. A note in the installation's own folder has the folders that were
not there before, parents first.
"""

from __future__ import annotations

import contextlib
import json
import os

NOTE = "made.json"


class Footprint:
    """The folders that were made for the installation in HOME, whose note is kept there."""

    def __init__(self, home: str) -> None:
        self._home = os.path.normpath(home)
        self._note = os.path.join(self._home, NOTE)

    def make(self, *folders: str) -> None:
        """Make what is missing of the folders and of those above them, open to all, and note it."""
        made = [path for folder in [self._home, *folders] for path in _make(folder)]
        if made:
            self._write(self._read() + made)

    def remove(self) -> None:
        """Remove the noted folders that are empty, and forget those that are not.

        As long as something else is in HOME, it and the folders above it stay, and stay noted.
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


def missing_folders(folder: str) -> list[str]:
    """The folder and those above it that are not there, parents first."""
    missing: list[str] = []
    path = os.path.normpath(folder)
    while not os.path.isdir(path):
        missing.insert(0, path)
        path = os.path.dirname(path)
    return missing


def _make(folder: str) -> list[str]:
    made = missing_folders(folder)
    for path in made:
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103  # whatever the umask: the daemon's own user has to get there
    return made


def _remove_empty(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
