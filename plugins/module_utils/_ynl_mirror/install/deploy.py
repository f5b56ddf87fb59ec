# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts this very library on the machine as a program: the command `ynl-mirror` and everything that it imports.

    LIB/0123456789ab/ynl_mirror/...    named by the SHA-256 of its content; the previous one is kept, older ones removed
    LIB/current -> 0123456789ab        replaced in one step
    BIN/ynl-mirror                     launcher: the interpreter, LIB/current, and where the sockets are

The sources come through the import system, since Ansible may run the module out of a zip file.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..cli import main

_LIBRARY = __name__.rsplit(".", 2)[0]
# The file from which everything else is reached. It is imported, so that Ansible ships it.
ROOT = main.__name__[len(_LIBRARY) + 1 :]
PACKAGE = "ynl_mirror"
COMMAND = "ynl-mirror"

_IMPORT = re.compile(r"^[ \t]*from (\.+)([\w.]*) import (\([^)]*\)|[^\n#]*)", re.MULTILINE)

LAUNCHER = """\
#!{interpreter}
# The command {command}. Managed by the Ansible collection ekho.ynl_mirror: changes are overwritten.
import os
import sys

# The digest directory, not the link: a running daemon keeps its own version when the link moves on.
sys.path.insert(0, os.path.realpath({current!r}))
from {package}.{root} import main

if __name__ == "__main__":
    sys.exit(main(runtime_dir={runtime_dir!r}))
"""


@dataclass(frozen=True)
class Program:
    """What the machine should have: sources by path below the package, their digest, and the launcher's text."""

    sources: Mapping[str, str]
    digest: str
    launcher: str


def program(interpreter: str, lib_dir: str, runtime_dir: str) -> Program:
    """The program of this library, for an interpreter of the machine.

    ValueError if no script can name the interpreter in its first line.
    """
    if " " in interpreter or len(interpreter) > 120:
        raise ValueError(
            f"interpreter {interpreter}: the first line of a script takes a path of at most 120 bytes without blanks; "
            "choose a Python with a shorter one"
        )
    sources = read_sources()
    launcher = LAUNCHER.format(
        interpreter=interpreter,
        command=COMMAND,
        package=PACKAGE,
        root=ROOT,
        current=os.path.join(lib_dir, "current"),
        runtime_dir=runtime_dir,
    )
    return Program(sources, digest_of(sources), launcher)


class Import(NamedTuple):
    """`from ..module import names`: DOTS is 2, MODULE may be empty."""

    dots: int
    module: str
    names: tuple[str, ...]


def read_sources(root: str = ROOT) -> dict[str, str]:
    """Path -> source of ROOT and of everything that it imports from this library, directly or not."""
    sources: dict[str, str] = {}
    todo = [root]
    while todo:
        name = todo.pop()
        path = name.replace(".", "/") + ".py"
        if path in sources:
            continue
        source = _source(name)
        if source is None:
            raise ImportError(f"{_LIBRARY}.{name} has no source to deploy")
        sources[path] = source
        todo.extend(imported for line in imports(source) for imported in _imported(line, name))
    return sources


def _imported(line: Import, by: str) -> Iterator[str]:
    """The files, by dotted name, that an import names: a file itself, or files of a package."""
    folder = by.split(".")[: -line.dots]
    module = ".".join([*folder, line.module] if line.module else folder)
    if line.module and _source(module) is not None:
        yield module
    else:
        yield from (f"{module}.{name}" if module else name for name in line.names)


def _source(name: str) -> str | None:
    """The source of a file of this library through its loader; None for a name that is no file, such as a package."""
    found = importlib.util.find_spec(f"{_LIBRARY}.{name}")
    if found is None or found.submodule_search_locations is not None:
        return None
    get_source = getattr(found.loader, "get_source", None)
    source = get_source(found.name) if get_source is not None else None
    return source if isinstance(source, str) else None


def imports(source: str) -> Iterator[Import]:
    """What a source imports from its own library: `from .a import b`, `from . import a, b`, `from ..a.b import c`.

    By its text: parsing dozens of files takes a slow machine seconds at each run.
    """
    for dots, module, listed in _IMPORT.findall(source):
        yield Import(len(dots), module, tuple(re.findall(r"(\w+)(?: as \w+)?", listed)))


def digest_of(sources: Mapping[str, str]) -> str:
    """Twelve hexadecimal digits that distinguish one set of sources from another."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0{len(sources[name])}\0{sources[name]}".encode())
    return digest.hexdigest()[:12]


def deployed_digest(lib_dir: str) -> str | None:
    """The digest of the sources in LIB/current as they are; None if there are none."""
    package = os.path.join(lib_dir, "current", PACKAGE)
    sources: dict[str, str] = {}
    try:
        for folder, _folders, names in os.walk(package):
            for name in names:
                if name.endswith(".py") and name != "__init__.py":
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8", newline="") as file:
                        sources[os.path.relpath(path, package)] = file.read()
    except (OSError, UnicodeDecodeError):
        return None
    return digest_of(sources) if sources else None


def is_deployed(wanted: Program, lib_dir: str, bin_dir: str) -> bool:
    """Whether the machine has these sources and this launcher."""
    try:
        with open(os.path.join(bin_dir, COMMAND), encoding="utf-8") as file:
            launcher = file.read()
    except (OSError, UnicodeDecodeError):
        return False
    return launcher == wanted.launcher and deployed_digest(lib_dir) == wanted.digest


def deploy(wanted: Program, lib_dir: str, bin_dir: str) -> None:
    """Write sources and launcher. The command works after every step."""
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
    """Remove the program; directories that hold something else stay."""
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
    """Remove a directory if it is empty."""
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _write_package(wanted: Program, lib_dir: str) -> None:
    """LIB/DIGEST/ynl_mirror, compiled, since the daemon's user cannot write there."""
    new = os.path.join(lib_dir, f".new-{os.getpid()}")
    final = os.path.join(lib_dir, wanted.digest)
    package = os.path.join(new, PACKAGE)
    try:
        folders = {os.path.dirname(path) for path in wanted.sources}
        for directory in (new, package, *(os.path.join(package, folder) for folder in sorted(folders - {""}))):
            os.mkdir(directory)
            os.chmod(directory, 0o755)  # noqa: S103  # whatever the umask: the daemon's user reads it
        inits = {os.path.join(folder, "__init__.py"): "" for folder in {"", *folders}}
        for path, source in {**wanted.sources, **inits}.items():
            write_file(os.path.join(package, path), source, 0o644)
        compileall.compile_dir(package, quiet=2, ddir=os.path.join(final, PACKAGE))
        shutil.rmtree(final, ignore_errors=True)  # it is there if a file inside was changed
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
    """Remove all other digest directories, and what an interrupted run left."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(lib_dir):
            ours = len(name) == 12 and all(char in "0123456789abcdef" for char in name)
            if (ours and name not in keep) or name.startswith((".new-", ".current-")):
                path = os.path.join(lib_dir, name)
                if os.path.islink(path):
                    os.unlink(path)
                else:
                    shutil.rmtree(path, ignore_errors=True)
