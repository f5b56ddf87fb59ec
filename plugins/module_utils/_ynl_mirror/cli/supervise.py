# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a daemon running where PID 1 is not systemd: restarts it with a growing pause, and stops it on a signal.

The daemon runs under setpriv(1) of util-linux with CAP_NET_ADMIN only, as root or as a dedicated user, and gets SIGTERM
when the supervisor dies. The pid file has "PID START" of the supervisor, START as in the 22nd field of /proc/PID/stat:
this tells it from another process with the same pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from ..daemon.backoff import next_pause

CAPABILITY = "-all,+net_admin"
STOP_SECONDS = 10.0  # between SIGTERM and SIGKILL
LOG_BYTES = 10 << 20  # at which a log is rotated; one older log is kept
LOG_SECONDS = 30.0  # how often to check its size
OLD_LOG = ".1"
HOPELESS = 2  # the daemon's exit code for an unusable configuration: a restart would not help
log = logging.getLogger("ynl_mirror.supervisor")


class AlreadySupervised(RuntimeError):
    """Another supervisor holds the pid file."""


def supervise(command: Sequence[str], pid_file: str, user: str | None = None) -> int:
    """Run COMMAND, restarting it, until SIGTERM or SIGINT (0), or until it ends with exit code 2 (2)."""
    with _claimed(pid_file):
        return _Supervisor(confined(command, user)).run()


def confined(command: Sequence[str], user: str | None) -> list[str]:
    """COMMAND with CAP_NET_ADMIN as its only privilege, if setpriv is installed and we are root."""
    setpriv = shutil.which("setpriv", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin")
    if setpriv is None:
        if user is not None:
            raise OSError(f"user {user}: setpriv is missing; install util-linux, or configure no user")
        log.warning("setpriv is missing: the daemon keeps all privileges; install util-linux")
        return list(command)
    made = [setpriv, "--pdeathsig", "TERM"]
    if os.geteuid() == 0:
        kept = CAPABILITY if user is not None or _open_to_all(sys.prefix) else CAPABILITY + ",+dac_read_search"
        made += ["--no-new-privs", "--inh-caps", kept, "--bounding-set", kept]
        if user is not None:
            made += ["--reuid", user, "--regid", _group_of(user), "--init-groups", "--ambient-caps", kept]
    return [*made, "--", *command]


def _open_to_all(path: str) -> bool:
    """Whether root without CAP_DAC_READ_SEARCH can reach PATH: no directory above it is private to another user.

    The interpreter may be in a home directory of mode 0700 (a checkout with its virtual environment).
    """
    path = os.path.realpath(path)
    while True:
        found = os.stat(path)
        if found.st_uid != 0 and not found.st_mode & 0o001:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def _group_of(user: str) -> str:
    """The gid of the user's primary group."""
    try:
        return str(pwd.getpwnam(user).pw_gid)
    except KeyError:
        raise OSError(f"user {user}: does not exist; create it, or configure another") from None


class _Supervisor:
    """One daemon, one child process at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._wanted: set[int] = set()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda got, _frame: self._wanted.add(got))
        pause = 0.0
        while True:
            started = time.monotonic()
            code = self._run_once()
            if self._stopping():
                return 0
            if code == HOPELESS:
                log.error("the daemon ended with exit code 2 and is not restarted; see its error above")
                return HOPELESS
            pause = next_pause(pause, time.monotonic() - started)
            log.warning("the daemon ended with %s; restarting it in %.1f s", _ended(code), pause)
            self._sleep(pause)
            if self._stopping():
                return 0

    def _run_once(self) -> int:
        """Start the daemon and wait for its end; passes on SIGHUP and SIGTERM, the latter with a time limit."""
        try:
            # The supervisor is a process of its own, without a module and its run_command.
            child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)  # pylint: disable=ansible-bad-function
        except OSError as error:
            log.error("cannot start %s: %s", self._command[0], error.strerror)
            return 127
        log.info("started the daemon, pid %d", child.pid)
        while child.poll() is None:
            if self._stopping():
                return _end(child)
            if signal.SIGHUP in self._wanted:
                self._wanted.discard(signal.SIGHUP)
                child.send_signal(signal.SIGHUP)
            self._wait(LOG_SECONDS)
            bound_log(2)
        return child.returncode

    def _stopping(self) -> bool:
        return bool(self._wanted & {signal.SIGTERM, signal.SIGINT})

    def _sleep(self, seconds: float) -> None:
        """Sleep through every signal except SIGTERM and SIGINT."""
        deadline = time.monotonic() + seconds
        while not self._stopping() and time.monotonic() < deadline:
            self._wait(max(0.0, deadline - time.monotonic()))

    def _wait(self, seconds: float) -> None:
        """Wait for the next signal, at most SECONDS."""
        if select.select([self._reader], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)


def bound_log(descriptor: int) -> None:
    """If the log is a file over LOG_BYTES, move its content to FILE.1, replacing that, and truncate it.

    The daemon has the file open for appending and continues at its new beginning. What it writes between copy and
    truncation, a matter of milliseconds, is lost.
    """
    found = os.fstat(descriptor)
    appending = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
    if not stat.S_ISREG(found.st_mode) or not appending or found.st_size < LOG_BYTES:
        return
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    try:
        shutil.copy(path, path + OLD_LOG)
    except OSError as error:  # a full disk, perhaps: all the more reason to truncate the log
        log.warning("cannot write %s%s: %s", path, OLD_LOG, error.strerror)
    os.ftruncate(descriptor, 0)


def _end(child: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL once STOP_SECONDS have passed."""
    child.terminate()
    try:
        return child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.error("the daemon did not stop within %.0f s; killing it", STOP_SECONDS)
        child.kill()
        return child.wait()


def _ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextlib.contextmanager
def _claimed(pid_file: str) -> Iterator[None]:
    """Hold the pid file, with our pid and start time in it, and remove it at the end."""
    descriptor = os.open(pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 64).decode(errors="replace").split(" ")[0]
            raise AlreadySupervised(
                f"{pid_file}: a supervisor is running already, pid {holder}; stop it first"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {start_time(os.getpid())}\n".encode())
        try:
            yield
        finally:
            os.unlink(pid_file)
    finally:
        os.close(descriptor)


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # the command's name, in parentheses, may contain anything: count from its end
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def running_pid(pid_file: str) -> int | None:
    """The pid of the supervisor that wrote the file, if that process is still running."""
    try:
        with open(pid_file, encoding="ascii") as file:
            pid, started = (int(word) for word in file.read().split())
    except (OSError, ValueError):
        return None
    return pid if start_time(pid) == started else None
