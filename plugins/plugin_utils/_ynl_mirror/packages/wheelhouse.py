# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python packages on their way to a machine that cannot, or should not, reach a package index.

The controller's pip finds the wheels for the machine's Python, downloads them where no folder with them is given, and
unpacks them; what goes over is one archive. All of it is kept in the user's cache:

    wheels/0123456789ab/*.whl    by the list of requirements and the machine's Python
    archives/0123456789ab.zip    by the list, the Python and the wheels' contents: what belongs into site-packages
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

ANY_PYTHON = "any"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same archive each time it is made


class NoPackages(RuntimeError):
    """The packages cannot be had; the text says why, and the way out."""


def cache_folder() -> Path:
    """The user's cache, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ynl-mirror"


class Wheelhouse:
    """Wheels for a list of requirements: those of a FOLDER, or downloaded into the cache where there is none."""

    def __init__(self, requirements: Sequence[str], folder: str = "") -> None:
        self._requirements = sorted(requirements)
        self._folder = Path(folder).expanduser() if folder else None
        if self._folder is not None and not self._folder.is_dir():
            raise NoPackages(
                f"the controller has no folder {folder}; fill one with `pip download --only-binary=:all: --dest FOLDER "
                f"{' '.join(requirements)}`, or name none: then the controller downloads what is needed"
            )

    def known_keys(self) -> dict[str, str]:
        """Python version -> key, for the versions whose wheels are here; 'any' where one folder serves them all."""
        if self._folder is not None:
            return {ANY_PYTHON: self._key(self._folder)}
        versions = {f"3.{minor}" for minor in range(9, 40)}
        return {version: self._key(folder) for version in versions if (folder := self._downloads(version)).is_dir()}

    def archive(self, python: str) -> tuple[str, Path]:
        """Key and archive for a Python version such as '3.11'."""
        folder = self._folder or self._downloaded(python)
        key = self._key(folder)
        # The same wheels may hold another version of a package for another Python.
        archive = cache_folder() / "archives" / f"{_digest([python, key])}.zip"
        if not archive.exists():
            with _beside(archive) as new:
                self._unpack(folder, python, new)
        return key, archive

    def _key(self, folder: Path) -> str:
        wheels = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(folder.glob("*.whl"))]
        return _digest([self._requirements, wheels])

    def _downloads(self, python: str) -> Path:
        return cache_folder() / "wheels" / _digest([self._requirements, python])

    def _downloaded(self, python: str) -> Path:
        folder = self._downloads(python)
        if not folder.is_dir():
            with _beside(folder) as new:
                _resolve(self._requirements, python, new, [])
        return folder

    def _unpack(self, wheels: Path, python: str, archive: Path) -> None:
        with tempfile.TemporaryDirectory() as chosen, tempfile.TemporaryDirectory() as unpacked:
            _resolve(self._requirements, python, Path(chosen), ["--no-index", "--find-links", str(wheels)])
            names = ["==".join(path.name.split("-")[:2]) for path in Path(chosen).glob("*.whl")]
            where = ["--no-index", "--find-links", chosen]
            _pip(["install", "--target", unpacked, "--no-compile", "--no-deps", *where, *_for(python), *names])
            # Commands of the packages, written for the controller's Python.
            shutil.rmtree(Path(unpacked, "bin"), ignore_errors=True)
            _zip(Path(unpacked), archive)


def _resolve(requirements: Sequence[str], python: str, folder: Path, where: Sequence[str]) -> None:
    """Put all wheels that the requirements need on a machine's Python into a folder.

    Only pip's `download` heeds which Pythons a package is for, and even it takes the conditions of requirements (as in
    `typing_extensions; python_version < "3.11"`) as if they were about its own Python. So what they mean for the
    machine's is looked up afterwards, until nothing is missing.
    """
    wanted = list(requirements)
    while True:
        _pip(["download", "--dest", str(folder), *where, *_for(python), *wanted])
        missing = _missing(folder, python)
        if not missing:
            return
        wanted += missing


def _missing(folder: Path, python: str) -> list[str]:
    """What the wheels in a folder require on that Python, and is not there."""
    from packaging.requirements import Requirement  # ansible-core needs it too
    from packaging.utils import canonicalize_name

    distributions = list(metadata.distributions(path=[str(path) for path in folder.glob("*.whl")]))
    there = {canonicalize_name(distribution.metadata["Name"]) for distribution in distributions}
    machine = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    missing = set()
    for requirement in (Requirement(line) for distribution in distributions for line in distribution.requires or []):
        needed = requirement.marker is None or requirement.marker.evaluate(machine)
        if needed and canonicalize_name(requirement.name) not in there:
            missing.add(f"{requirement.name}{requirement.specifier}")
    return sorted(missing)


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.writestr(
                zipfile.ZipInfo(str(path.relative_to(folder)), _LONG_AGO), path.read_bytes(), file.compression
            )


def _for(python: str) -> list[str]:
    """Options of pip: pure Python for another machine's interpreter, whatever its architecture."""
    pure = ["--only-binary=:all:", "--platform", "any", "--implementation", "py", "--abi", "none"]
    return [*pure, "--python-version", python]


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()[-3:]
        raise NoPackages(
            f"pip {arguments[0]} on the controller: {' '.join(said)} ({sys.executable} has to have pip, and the wheels "
            "have to be pure Python, complete, and for the machine's Python)"
        )


@contextlib.contextmanager
def _beside(final: Path) -> Iterator[Path]:
    """A path for something new, which is put in its place when it is whole; whoever comes first wins."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".new-") as folder:
        new = Path(folder, final.name)
        yield new
        try:
            os.rename(new, final)
        except OSError:
            if not final.exists():
                raise


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
