# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts this very library on the machine as a program: the command `ynl-mirror` and all that it imports.

    LIB/0123456789ab/ynl_mirror/*.py   named by the SHA-256 of what is inside; the one before is kept, older ones go
    LIB/current -> 0123456789ab        flipped in one step
    BIN/ynl-mirror                     launcher: the interpreter, LIB/current, and where the sockets are

The sources come through the import system, so it does not matter whether Ansible runs the module out of a zip file.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from . import cli

# The file that everything else is reached from. Ansible ships what a module imports, so it is imported here.
ROOT = cli.__name__.rpartition(".")[2]
PACKAGE = "ynl_mirror"
COMMAND = "ynl-mirror"

_IMPORT = re.compile(r"^[ \t]*from \.(\w*) import (\([^)]*\)|[^\n#]*)", re.MULTILINE)

LAUNCHER = """\
#!{interpreter}
# The command {command}, put here by the Ansible collection ekho.ynl_mirror: it will write this file again.
import os
import sys

# The digest directory, not the link: a running daemon keeps its own version when the link moves on.
sys.path.insert(0, os.path.realpath({current!r}))
from {package}.cli import main

if __name__ == "__main__":
    sys.exit(main(runtime_dir={runtime_dir!r}))
"""


@dataclass(frozen=True)
class Program:
    """What is to be on the machine: sources by file name, their digest, and the launcher's text."""

    sources: Mapping[str, str]
    digest: str
    launcher: str


def program(interpreter: str, lib_dir: str, runtime_dir: str) -> Program:
    """The program as this library has it, for an interpreter of the machine.

    ValueError when no file can name the interpreter in its first line.
    """
    if " " in interpreter or len(interpreter) > 120:
        raise ValueError(
            f"interpreter {interpreter}: the kernel takes at most 120 bytes without blanks in the first line of a "
            "script; choose one with a shorter path"
        )
    sources = read_sources()
    launcher = LAUNCHER.format(
        interpreter=interpreter,
        command=COMMAND,
        package=PACKAGE,
        current=os.path.join(lib_dir, "current"),
        runtime_dir=runtime_dir,
    )
    return Program(sources, digest_of(sources), launcher)


def read_sources(root: str = ROOT) -> dict[str, str]:
    """File name -> source of ROOT and of all that it imports from this package, however indirectly."""
    sources: dict[str, str] = {}
    todo = [root]
    while todo:
        name = todo.pop()
        if name + ".py" in sources:
            continue
        source = _source(name)
        if source is not None:
            sources[name + ".py"] = source
            todo.extend(imports(source))
    return sources


def _source(name: str) -> str | None:
    """The source of a file of this package through its loader; None for a name that is no file of it."""
    parent = __name__.rpartition(".")[0]
    found = importlib.util.find_spec(f"{parent}.{name}")
    if found is None or found.loader is None or not hasattr(found.loader, "get_source"):
        return None
    source = found.loader.get_source(found.name)
    return source if isinstance(source, str) else None


def imports(source: str) -> set[str]:
    """The names that a source imports from its own package: `from .a import b` and `from . import a, b`.

    By its text: to parse some thirty files takes a slow machine seconds, at each run.
    """
    names: set[str] = set()
    for module, listed in _IMPORT.findall(source):
        names.update([module] if module else re.findall(r"(\w+)(?: as \w+)?", listed))
    return names


def digest_of(sources: Mapping[str, str]) -> str:
    """Twelve hexadecimal digits that tell one set of sources from another."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0{len(sources[name])}\0{sources[name]}".encode())
    return digest.hexdigest()[:12]


def deployed_digest(lib_dir: str) -> str | None:
    """The digest of the sources that LIB/current really leads to; None when there are none."""
    package = os.path.join(lib_dir, "current", PACKAGE)
    sources: dict[str, str] = {}
    try:
        for name in os.listdir(package):
            if name.endswith(".py") and name != "__init__.py":
                with open(os.path.join(package, name), encoding="utf-8", newline="") as file:
                    sources[name] = file.read()
    except (OSError, UnicodeDecodeError):
        return None
    return digest_of(sources)


def is_deployed(wanted: Program, lib_dir: str, bin_dir: str) -> bool:
    """Whether sources and launcher on the machine are those wanted."""
    try:
        with open(os.path.join(bin_dir, COMMAND), encoding="utf-8") as file:
            launcher = file.read()
    except (OSError, UnicodeDecodeError):
        return False
    return launcher == wanted.launcher and deployed_digest(lib_dir) == wanted.digest


def deploy(wanted: Program, lib_dir: str, bin_dir: str) -> None:
    """Write sources and launcher; every step leaves a machine on which the command runs."""
    os.makedirs(lib_dir, exist_ok=True)
    os.makedirs(bin_dir, exist_ok=True)
    if deployed_digest(lib_dir) != wanted.digest:
        before = _link_target(lib_dir)
        _write_package(wanted, lib_dir)
        _flip(lib_dir, wanted.digest)
        _prune(lib_dir, {wanted.digest, before})
    launcher = os.path.join(bin_dir, COMMAND)
    write_file(launcher, wanted.launcher, 0o755)


def is_present(lib_dir: str, bin_dir: str) -> bool:
    """Whether there is anything to remove."""
    return os.path.lexists(os.path.join(lib_dir, "current")) or os.path.lexists(os.path.join(bin_dir, COMMAND))


def remove(lib_dir: str, bin_dir: str) -> None:
    """Take the program away; directories that hold something else stay."""
    _prune(lib_dir, set())
    for path in (os.path.join(lib_dir, "current"), os.path.join(bin_dir, COMMAND)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    remove_empty(lib_dir)


def write_file(path: str, text: str, mode: int) -> None:
    """Replace a file in one step."""
    new = f"{path}.new-{os.getpid()}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise


def remove_empty(directory: str) -> None:
    """Remove a directory that is there and empty."""
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _write_package(wanted: Program, lib_dir: str) -> None:
    """LIB/DIGEST/ynl_mirror, compiled, so that a user who may not write there starts as fast."""
    new = os.path.join(lib_dir, f".new-{os.getpid()}")
    final = os.path.join(lib_dir, wanted.digest)
    package = os.path.join(new, PACKAGE)
    try:
        for directory in (new, package):
            os.mkdir(directory)
            os.chmod(directory, 0o755)  # noqa: S103  # whatever the umask: the daemon's own user reads it
        for name, source in {**wanted.sources, "__init__.py": ""}.items():
            write_file(os.path.join(package, name), source, 0o644)
        compileall.compile_dir(package, quiet=2, ddir=os.path.join(final, PACKAGE))
        shutil.rmtree(final, ignore_errors=True)  # somebody has changed a file inside
        os.rename(new, final)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _flip(lib_dir: str, digest: str) -> None:
    new = os.path.join(lib_dir, f".current-{os.getpid()}")
    os.symlink(digest, new)
    os.replace(new, os.path.join(lib_dir, "current"))


def _link_target(lib_dir: str) -> str | None:
    try:
        return os.readlink(os.path.join(lib_dir, "current"))
    except OSError:
        return None


def _prune(lib_dir: str, keep: set[str | None]) -> None:
    """Remove the digest directories that are not to be kept, and what an interrupted run left."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(lib_dir):
            ours = len(name) == 12 and all(char in "0123456789abcdef" for char in name)
            if (ours and name not in keep) or name.startswith((".new-", ".current-")):
                path = os.path.join(lib_dir, name)
                if os.path.islink(path):
                    os.unlink(path)
                else:
                    shutil.rmtree(path, ignore_errors=True)
