# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a daemon needs before it can be installed: a user, files that only this user reads, Python packages.

Everything is compared first, and what is right is left alone. Runs in the machine's Python, which has none of our
packages yet.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from .commands import completed
from .environment import Environment, environments, remove_all
from .footprint import Footprint, missing_directories

COMMENT = "ynl-mirror daemon"  # marks a user that we have created, and may remove
_DIRECTORY_MODE = 0o750


class MachineError(RuntimeError):
    """The machine cannot be brought into the requested state; the text names the item and the fix."""


@dataclass(frozen=True)
class PrivateFile:
    """A file for the daemon's user. A *secret* has this owner and mode 0600, and is shown in no diff.

    *content* is None in a check before the controller has created the file.
    """

    path: str
    content: bytes | None
    secret: bool = False

    @property
    def mode(self) -> int:
        """Its mode."""
        return 0o600 if self.secret else 0o644


@dataclass
class Outcome:
    """What was done, or would be done in a check."""

    actions: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)


class Machine:
    """The machine we run on; with CHECK nothing is changed."""

    def __init__(self, user: str, *, check: bool) -> None:
        self._user = user if user not in ("", "root") else ""
        self.check = check
        self.outcome = Outcome()

    def ensure_user(self) -> None:
        """A system user without home, shell and password. An existing user is left alone."""
        if not self._user or _account(self._user) is not None:
            return
        self.outcome.actions.append(f"create user {self._user}")
        if not self.check:
            group = ["--gid", self._user] if _has_group(self._user) else ["--user-group"]
            nowhere = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
            _run(["useradd", "--system", *nowhere, *group, "--comment", COMMENT, self._user])

    def ensure_files(self, directory: str, files: Sequence[PrivateFile]) -> None:
        """The files, in a directory that only root and the daemon's user can read."""
        uid, gid = self._ids()
        if missing_directories(directory):
            self.outcome.actions.append(f"create {directory}")
            if not self.check:
                Footprint(directory).make()
                os.chown(directory, 0, gid)
                os.chmod(directory, _DIRECTORY_MODE)
        else:
            self._attributes(directory, 0, gid, _DIRECTORY_MODE)
        for file in files:
            self._ensure_file(file, (uid if file.secret else 0, gid if file.secret else 0))

    def ensure_environment(self, environment: Environment, archive: str | None, packages: Sequence[str]) -> None:
        """The environment with the PACKAGES, from an ARCHIVE or by pip."""
        if environment.is_whole():
            return
        self.outcome.actions.append(f"create {environment.path} ({', '.join(packages)})")
        if self.check:
            return
        mask = os.umask(0o022)
        try:
            Footprint(os.path.dirname(environment.path)).make()
            if archive is not None:
                environment.make_from_archive(archive)
            else:
                environment.make_by_pip(packages)
            environment.remove_older()
        finally:
            os.umask(mask)

    def remove_files(self, directory: str, files: Sequence[str]) -> None:
        """Remove files, and the directory if we have created it and it is empty then."""
        there = [path for path in files if os.path.lexists(path)]
        self.outcome.actions.extend(f"remove {path}" for path in there)
        if not self.check:
            for path in there:
                os.unlink(path)
            Footprint(directory).remove()

    def remove_environments(self, lib_dir: str) -> None:
        """Remove all virtual environments, and the directories that were created for the installation."""
        for name in environments(lib_dir):
            self.outcome.actions.append(f"remove {os.path.join(lib_dir, name)}")
        if not self.check:
            remove_all(lib_dir)
            Footprint(lib_dir).remove()

    def remove_user(self) -> None:
        """Remove the user, if we have created it."""
        account = _account(self._user) if self._user else None
        if account is None or account.pw_gecos.split(",")[0] != COMMENT:
            return
        self.outcome.actions.append(f"remove user {self._user}")
        if not self.check:
            _run(["userdel", self._user])

    def _ids(self) -> tuple[int, int]:
        """Numbers of the daemon's user and its group; root's in a check before the user exists."""
        account = _account(self._user) if self._user else None
        return (account.pw_uid, account.pw_gid) if account else (0, 0)

    def _ensure_file(self, file: PrivateFile, owner: tuple[int, int]) -> None:
        before = _read(file.path)
        if file.content is not None and before == file.content:
            self._attributes(file.path, *owner, file.mode)
            return
        self.outcome.actions.append(f"write {file.path}")
        if not file.secret and file.content is not None:
            texts = {"before": (before or b"").decode(errors="replace"), "after": file.content.decode(errors="replace")}
            self.outcome.diff.append({"before_header": file.path, "after_header": file.path, **texts})
        if not self.check:
            _write(file.path, file.content or b"", file.mode, owner)

    def _attributes(self, path: str, uid: int, gid: int, mode: int) -> None:
        """Owner and mode; in a check before the user exists only the mode can be compared."""
        found = os.stat(path)
        unknown = self.check and self._user and _account(self._user) is None
        if stat.S_IMODE(found.st_mode) == mode and (unknown or (found.st_uid, found.st_gid) == (uid, gid)):
            return
        self.outcome.actions.append(f"set owner and mode {mode:04o} of {path}")
        if not self.check:
            os.chown(path, uid, gid)
            os.chmod(path, mode)


def _write(path: str, content: bytes, mode: int, owner: tuple[int, int]) -> None:
    """Replace a file in one step; at no time is it readable by others, or mixes owners."""
    new = f"{path}.new-{os.getpid()}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _has_group(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(grp.getgrnam(name))
    return False


def _run(command: Sequence[str]) -> None:
    """Run a command of shadow; MachineError has its error message."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin", "LC_ALL": "C"}
    try:
        done = completed(command, env=environment)
    except FileNotFoundError:
        raise MachineError(
            f"{command[0]} is missing; install it (package passwd or shadow-utils), or create the user yourself"
        ) from None
    if done.returncode:
        raise MachineError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
