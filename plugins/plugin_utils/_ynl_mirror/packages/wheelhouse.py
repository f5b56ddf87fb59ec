# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python packages for a machine that reaches no package index, or should not use one.

The controller's pip selects the wheels for the machine's Python, from a given folder or by downloading them, and
unpacks them into an archive, which is sent to the machine. Both are kept in the user's cache:

    wheels/0123456789ab/*.whl    the name depends on requirements and the machine's Python
    archives/0123456789ab.zip    and on the wheels' contents; the files for site-packages
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
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files give the same archive


class NoPackages(RuntimeError):
    """The packages are not available; the text says why, and names the fix."""


def cache_folder() -> Path:
    """The folder in the user's cache (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ynl-mirror"


class Wheelhouse:
    """Wheels for a list of requirements, from FOLDER or, without one, downloaded into the cache."""

    def __init__(self, requirements: Sequence[str], folder: str = "") -> None:
        self._requirements = sorted(requirements)
        self._folder = Path(folder).expanduser() if folder else None
        if self._folder is not None and not self._folder.is_dir():
            raise NoPackages(
                f"no folder {folder} on the controller; fill it with `pip download --only-binary=:all: --dest {folder} "
                f"{' '.join(requirements)}`, or set none to let the controller download the packages"
            )

    def known_keys(self) -> dict[str, str]:
        """Python version -> key, for versions whose wheels are here; 'any' if one folder is for all versions."""
        if self._folder is not None:
            return {ANY_PYTHON: self._key(self._folder)}
        versions = {f"3.{minor}" for minor in range(9, 40)}
        return {version: self._key(folder) for version in versions if (folder := self._downloads(version)).is_dir()}

    def archive(self, python: str) -> tuple[str, Path]:
        """Key and archive for a Python version such as '3.11'."""
        folder = self._folder or self._downloaded(python)
        key = self._key(folder)
        # For another Python the same wheels may give another version of a package.
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
            # The packages' commands start the controller's Python.
            shutil.rmtree(Path(unpacked, "bin"), ignore_errors=True)
            _zip(Path(unpacked), archive)


def _resolve(requirements: Sequence[str], python: str, folder: Path, where: Sequence[str]) -> None:
    """Put all wheels that the requirements need on a machine's Python into a folder.

    Of pip's commands only `download` can select wheels for another Python, but it evaluates conditions of requirements
    (such as `typing_extensions; python_version < "3.11"`) for its own Python. They are evaluated for the machine's
    Python here, until nothing is missing.
    """
    wanted = list(requirements)
    while True:
        _pip(["download", "--dest", str(folder), *where, *_for(python), *wanted])
        missing = _missing(folder, python)
        if not missing:
            return
        wanted += missing


def _missing(folder: Path, python: str) -> list[str]:
    """What the wheels in a folder require on that Python and is missing there."""
    from packaging.requirements import Requirement  # a dependency of ansible-core
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
    """Options of pip: pure Python for the machine's interpreter, independent of its architecture."""
    pure = ["--only-binary=:all:", "--platform", "any", "--implementation", "py", "--abi", "none"]
    return [*pure, "--python-version", python]


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-3:]
        raise NoPackages(
            f"pip {arguments[0]} on the controller: {' '.join(errors)} ({sys.executable} needs pip, and the wheels "
            "must be pure Python, complete, and for the machine's Python)"
        )


@contextlib.contextmanager
def _beside(final: Path) -> Iterator[Path]:
    """A path for something new, which is moved to its place when complete; the first of several wins."""
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
