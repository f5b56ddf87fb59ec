# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a daemon running on this machine: systemd, or our own supervisor where PID 1 is something else.

Both know the digest (of program and configuration) with which the running daemon was started: it is in its environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..cli.supervise import OLD_LOG, STOP_SECONDS, running_pid, start_time
from ..daemon.backoff import forget, note_of
from .commands import completed
from .deploy import COMMAND, write_file
from .options import AgentServiceOptions, ServiceOptions
from .unit import unit_text

DIGEST = "YNL_MIRROR_DIGEST"
DAEMONS = ("listener", "agent")
LOG_LINES = 20


class ServiceError(RuntimeError):
    """The service cannot be brought into the requested state; the text names the item and the fix."""


@dataclass(frozen=True)
class Service:
    """A daemon as a service: *name* is listener or agent. A *crl* is read again by a daemon that runs."""

    name: str
    options: ServiceOptions
    certificates: tuple[str, ...] = ()
    crl: str | None = None

    @property
    def interpreter(self) -> str:
        """The Python that the daemon runs with."""
        return self.options.interpreter or sys.executable

    @property
    def config_file(self) -> str:
        """The configuration of the daemon."""
        return os.path.join(self.options.config_dir, self.name + ".json")

    @property
    def control_socket(self) -> str:
        """Where the daemon serves its interface."""
        return os.path.join(self.options.runtime_dir, self.name + ".sock")

    @property
    def names_dir(self) -> str | None:
        """The directory of iproute2 for that file."""
        return self.options.rt_protos_dir if isinstance(self.options, AgentServiceOptions) else None

    @property
    def names_file(self) -> str | None:
        """The file that gives our protocol numbers a name; None where none is wanted."""
        return os.path.join(self.names_dir, "ynl_mirror.conf") if self.names_dir else None

    @property
    def command(self) -> list[str]:
        """What runs the daemon."""
        return [os.path.join(self.options.bin_dir, COMMAND), self.name, "--config", self.config_file]


class Manager(Protocol):
    """What systemd and the supervisor have in common."""

    name: str

    def definition(self, digest: str) -> tuple[str, str] | None:
        """Path and text of the file that defines the service; None where there is none."""

    def pid(self) -> int | None:
        """The process whose environment has the digest; None if the service does not run."""

    def active(self) -> bool:
        """Whether the service runs, or is about to run again."""

    def start(self, digest: str) -> None:
        """Start or restart the service, without waiting for it to be ready."""

    def reload(self) -> None:
        """Make the running daemon reload configuration and certificates (SIGHUP), without waiting for it."""

    def stop(self) -> None:
        """Stop the service; returns when it has ended."""

    def has_failed(self) -> bool:
        """Whether the service failed for good."""

    def log(self) -> str:
        """The last lines that the daemon logged since `start`."""

    def leftovers(self) -> list[str]:
        """Files that are removed with the service."""

    def forget(self) -> None:
        """Clean up after the files are removed."""


def choose(service: Service, wanted: str) -> Manager:
    """The manager by name; `auto` is systemd where it is PID 1 and in our network namespace."""
    if wanted == "systemd" and not _systemd_runs():
        raise ServiceError("service_manager: systemd is not PID 1 here; choose auto or supervised")
    if wanted == "systemd" or (wanted == "auto" and _systemd_runs() and _same_network_as_pid_1()):
        return Systemd(service)
    return Supervised(service)


def digest_of_process(pid: int | None) -> str | None:
    """The digest with which a daemon was started; None if it does not run."""
    if pid is None:
        return None
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = dict(item.partition(b"=")[::2] for item in file.read().split(b"\0"))
    except OSError:
        return None
    return words.get(DIGEST.encode(), b"?").decode(errors="replace")


class Supervised:
    """`ynl-mirror supervise` in a session of its own, detached from the play that started it."""

    name = "supervised"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pid_file = os.path.join(service.options.state_dir, service.name + ".pid")
        self.log_file = os.path.join(service.options.log_dir, service.name + ".log")
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def definition(self, digest: str) -> tuple[str, str] | None:  # noqa: ARG002  # systemd's has it
        """No file."""
        return None

    def pid(self) -> int | None:
        """The supervisor."""
        return running_pid(self._pid_file)

    def active(self) -> bool:
        """Whether there is a supervisor; it outlives the daemon."""
        return self.pid() is not None

    def start(self, digest: str) -> None:
        """Stop a running supervisor, and start a new one."""
        self.stop()
        service = self._service
        user = ["--user", service.options.user] if service.options.user else []
        command = [service.command[0], "supervise", "--pid-file", self._pid_file, *user, "--", *service.command]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", DIGEST: digest}
        with open(self.log_file, "ab") as log:
            self._log_start = log.tell()
            try:
                # It outlives the module; run_command would wait for its end.
                self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                    command,
                    cwd="/",
                    env={**environment, "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise ServiceError(f"{command[0]} cannot be started: {error.strerror}") from None

    def reload(self) -> None:
        """Through the supervisor, which passes the signal on."""
        self._log_start = os.path.getsize(self.log_file)
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)

    def stop(self) -> None:
        """SIGTERM to the supervisor, which stops the daemon; SIGKILL if that takes too long."""
        pid = self.pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                if running_pid(self._pid_file) != pid:  # only now that the descriptor pins the process
                    return
                for number, seconds in ((signal.SIGTERM, STOP_SECONDS + 5), (signal.SIGKILL, 5.0)):
                    signal.pidfd_send_signal(descriptor, number)
                    if select.select([descriptor], [], [], seconds)[0]:
                        return
            finally:
                os.close(descriptor)
            raise ServiceError(f"process {pid} survives SIGKILL; /proc/{pid}/stack shows what it waits for")

    def has_failed(self) -> bool:
        """Whether the supervisor that we started is gone."""
        return self._process is not None and self._process.poll() is not None

    def log(self) -> str:
        """From the log file."""
        try:
            with open(self.log_file, "rb") as file:
                file.seek(self._log_start)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_LINES:])

    def leftovers(self) -> list[str]:
        """Pid file and logs."""
        return [self._pid_file, self.log_file, self.log_file + OLD_LOG]

    def forget(self) -> None:
        """Nothing."""


class Systemd:
    """A unit of systemd."""

    name = "systemd"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._unit = f"{COMMAND}-{service.name}.service"
        self._path = os.path.join(service.options.unit_dir, self._unit)
        self._since = ""
        self._note = note_of(service.control_socket)

    def definition(self, digest: str) -> tuple[str, str] | None:
        """The unit file."""
        return self._path, self._text(digest)

    def pid(self) -> int | None:
        """The daemon."""
        pid = int(self._show("MainPID") or 0)
        return pid if pid and start_time(pid) is not None else None

    def active(self) -> bool:
        """Whether the unit runs or will run again: it may wait for its next start."""
        return self._show("ActiveState") not in ("inactive", "failed", "")

    def start(self, digest: str) -> None:
        """Stop the running daemon, then write the unit, enable it, and queue its start."""
        if self.active():
            # Not `restart`: a client that waits for the new daemon must not reach the old one.
            _run("systemctl", "stop", self._unit)
        forget(self._note)  # a new program or configuration does not inherit the back-off of the previous one
        write_file(self._path, self._text(digest), 0o644)
        self._since = str(int(time.time()))
        _run("systemctl", "enable", "--quiet", self._unit)  # this reloads all units, too
        _run("systemctl", "reset-failed", self._unit, check=False)
        _run("systemctl", "start", "--no-block", self._unit)

    def reload(self) -> None:
        """Through its ExecReload."""
        self._since = str(int(time.time()))
        _run("systemctl", "reload", self._unit)

    def stop(self) -> None:
        """Stop it now and at boot."""
        if os.path.exists(self._path):
            _run("systemctl", "disable", "--now", "--quiet", self._unit)

    def has_failed(self) -> bool:
        """Whether systemd has stopped restarting it."""
        return self._show("ActiveState") == "failed"

    def log(self) -> str:
        """From systemd's journal."""
        since = ["--since", "@" + self._since] if self._since else []
        command = ["journalctl", "--no-pager", "--output=cat", f"--lines={LOG_LINES}", *since, f"--unit={self._unit}"]
        return _run(*command, check=False).strip()

    def leftovers(self) -> list[str]:
        """The unit file."""
        return [self._path]

    def forget(self) -> None:
        """Make systemd notice that the unit is gone."""
        forget(self._note)
        _run("systemctl", "daemon-reload")
        _run("systemctl", "reset-failed", self._unit, check=False)

    def _text(self, digest: str) -> str:
        service, chosen = self._service, self._service.options
        return unit_text(
            service.name,
            service.command,
            {DIGEST: digest, "PYTHONUNBUFFERED": "1"},
            user=chosen.user,
            runtime_dir=chosen.runtime_dir,
            reads=[
                *(chosen.config_dir, chosen.lib_dir, chosen.bin_dir),
                *(service.interpreter, *service.certificates, *([service.crl] if service.crl else [])),
            ],
            stop_seconds=STOP_SECONDS,
        )

    def _show(self, name: str) -> str:
        return _run("systemctl", "show", "--value", "--property", name, self._unit, check=False).strip()


def _systemd_runs() -> bool:
    """As sd_booted(3) has it."""
    return os.path.isdir("/run/systemd/system")


def _same_network_as_pid_1() -> bool:
    """Whether systemd would start the daemon in our network namespace (the hosts of a lab have their own)."""
    try:
        return os.readlink("/proc/self/ns/net") == os.readlink("/proc/1/ns/net")
    except OSError:
        return False


def _run(*command: str, check: bool = True) -> str:
    """Run a command of systemd; with CHECK, ServiceError has its error message."""
    result = _completed(command)
    if check and result.returncode:
        raise ServiceError(f"{' '.join(command)}: {result.stderr.strip() or result.returncode}")
    return result.stdout


def _completed(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return completed(command, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{' '.join(command)}: {error}") from None
