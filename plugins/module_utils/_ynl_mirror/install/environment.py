# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments for the daemons: LIB/python3.11-0123456789ab, named by their packages.

Other packages get another environment beside it: nothing changes under a running daemon, and it restarts because its
interpreter has another path. The previous one is kept, since a daemon may still run in it; older ones are removed.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import shutil
import sys
import venv
import zipfile
from collections.abc import Sequence

from .commands import completed

_NAME = re.compile(r"python\d+\.\d+-[0-9a-f]{12}")
_MARK = "complete"
VERSION = ".".join(map(str, sys.version_info[:2]))


class EnvironmentFailed(RuntimeError):
    """The environment cannot be created; the text names the reason and the fix."""


class Environment:
    """The environment in LIB_DIR whose packages KEY stands for, twelve hexadecimal digits."""

    def __init__(self, lib_dir: str, key: str) -> None:
        self._lib_dir = lib_dir
        self.path = os.path.join(lib_dir, f"python{VERSION}-{key}")

    @property
    def interpreter(self) -> str:
        """Its Python."""
        return os.path.join(self.path, "bin", "python")

    def is_whole(self) -> bool:
        """Whether it was completed, and the Python that it links to still exists."""
        return os.path.exists(os.path.join(self.path, _MARK)) and os.path.exists(self.interpreter)

    def make_from_archive(self, archive: str) -> None:
        """Create it from a zip file of its site-packages. Needs neither pip nor ensurepip."""
        self._clear()
        venv.create(self.path, symlinks=True, with_pip=False)
        packages = os.path.join(self.path, "lib", f"python{VERSION}", "site-packages")
        with zipfile.ZipFile(archive) as file:
            file.extractall(packages)
        # The daemon's user cannot write here, and would compile everything at each start.
        compileall.compile_dir(packages, quiet=2)
        self._mark()

    def make_by_pip(self, packages: Sequence[str]) -> None:
        """Create it with pip, from the package index that is configured on this machine."""
        self._clear()
        _run([sys.executable, "-m", "venv", self.path], "install Python's venv module (Debian: python3-venv)")
        pip = [self.interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        _run([*pip, *packages], "make sure that a package index is reachable, or install from wheels (packages_from)")
        self._mark()

    def remove_older(self) -> None:
        """Remove the environments in this directory, except this one and the newest of the others."""
        others = sorted((name for name in environments(self._lib_dir)), key=self._age)
        for name in [name for name in others if name != os.path.basename(self.path)][:-1]:
            shutil.rmtree(os.path.join(self._lib_dir, name), ignore_errors=True)

    def _age(self, name: str) -> float:
        return os.stat(os.path.join(self._lib_dir, name)).st_mtime

    def _clear(self) -> None:
        """Remove what an interrupted run left."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def _mark(self) -> None:
        with open(os.path.join(self.path, _MARK), "w", encoding="ascii"):
            pass


def environments(lib_dir: str) -> list[str]:
    """The names of the environments in a directory."""
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(lib_dir) if _NAME.fullmatch(name)]
    return []


def remove_all(lib_dir: str) -> None:
    """Remove the environments in a directory."""
    for name in environments(lib_dir):
        shutil.rmtree(os.path.join(lib_dir, name))


def _run(command: Sequence[str], fix: str) -> None:
    done = completed(command)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise EnvironmentFailed(f"{' '.join(command)}: {' '.join(said) or done.returncode}; {fix}")
