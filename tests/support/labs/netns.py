# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real network namespaces for tests: unique names, code and commands inside them, and clean-up that does not fail.

Three ways in, each for its purpose:

``ns.ip("route add ...")``   a command of iproute2, its output returned, its complaint raised
``with ns.entered():``       this thread moves in: sockets opened there stay in the namespace, wherever used later
``ns.call(function, ...)``   a forked child runs the function there: for code that starts threads or event loops
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import pickle
import shlex
import signal
import subprocess
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h
COMMAND_SECONDS = 30.0
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    """Move the calling thread into the network namespace of an open /run/netns or /proc/.../ns/net file (setns(2))."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "setns")


class CommandError(AssertionError):
    """A command inside a namespace failed; says which one and what it printed."""


class Namespace:
    """One named network namespace (``ip netns``), loopback up; *existing*: somebody else has made it."""

    def __init__(self, name: str, existing: bool = False) -> None:
        self.name = name
        self.path = Path("/run/netns", name)
        self._processes: list[subprocess.Popen[str]] = []
        if not existing:
            _run(["ip", "netns", "add", name])
            self.ip("link set lo up")

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside; with ``check`` a failure raises CommandError with all that it printed."""
        return _run(["ip", "netns", "exec", self.name, *command], check=check, stdin=stdin)

    def ip(self, arguments: str, check: bool = True) -> str:
        """Run ``ip ARGUMENTS`` inside, for example ``ip("route add 10.0.0.0/8 via 192.0.2.1")``; returns its output."""
        return _run(["ip", "-n", self.name, *shlex.split(arguments)], check=check).stdout

    def ip_json(self, arguments: str) -> list[dict[str, Any]]:
        """The same, as iproute2's JSON: ``ip_json("route show table 10")``. An empty or absent table gives ``[]``."""
        result = _run(["ip", "-n", self.name, "-d", "-j", *shlex.split(arguments)], check=False)
        if result.returncode:
            if "FIB table does not exist" in result.stderr:
                return []
            raise CommandError(f"ip {arguments}: {result.stderr.strip()}")
        value = json.loads(result.stdout or "[]")
        assert isinstance(value, list)
        return value

    def sysctl(self, key: str, value: object) -> None:
        """Set a sysctl inside, for example ``sysctl("net.ipv4.ip_forward", 1)``."""
        self.run("sysctl", "-q", "-w", f"{key}={value}")

    def connect(self, link: str, peer: Namespace, peer_link: str) -> None:
        """Join two namespaces with a veth pair, both ends up, without waiting for IPv6 duplicate address detection."""
        self.ip(f"link add {link} type veth peer name {peer_link} netns {peer.name}")
        for namespace, name in ((self, link), (peer, peer_link)):
            namespace.sysctl(f"net.ipv6.conf.{name}.accept_dad", 0)
            namespace.ip(f"link set {name} up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread in for the time of the block; sockets opened there stay in the namespace for good."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(fd)
            finally:
                os.close(fd)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def call(self, function: Callable[..., T], *args: object, seconds: float = 60.0, **kwargs: object) -> T:
        """Run ``function`` inside, in a forked child, and return its (picklable) result.

        Raises AssertionError with the child's traceback when it raised, was killed or took longer than ``seconds``.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(self, writer, lambda: function(*args, **kwargs), seconds)
        os.close(writer)
        with open(reader, "rb") as pipe:
            data = pipe.read()
        _pid, status = os.waitpid(child, 0)
        if not data:
            code = os.waitstatus_to_exitcode(status)
            raise AssertionError(f"child in {self.name} ended with {code} (-14: took over {seconds} s)")
        result: T
        error: str | None
        result, error = pickle.loads(data)
        if error is not None:
            raise AssertionError(f"in {self.name}:\n{error}")
        return result

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a long-running command inside; whatever still runs when the namespace goes is ended with it."""
        options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)
        self._processes.append(process)
        return process

    def delete(self) -> None:
        """End what runs inside and remove the namespace; a namespace that is gone already is no error."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
        left = _run(["ip", "netns", "pids", self.name], check=False).stdout.split()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for process in self._processes:
            process.wait(5)
            if process.stdout is not None:
                process.stdout.close()
        _run(["ip", "netns", "delete", self.name], check=False)


class NamespaceFactory:
    """Makes namespaces with names of their own (test runs may overlap on one machine) and deletes them all."""

    def __init__(self) -> None:
        self._made: list[Namespace] = []

    def __call__(self, label: str = "ns") -> Namespace:
        """Make a namespace; ``label`` is part of its name, so that a failure names it."""
        namespace = Namespace(f"ynlt-{os.getpid()}-{next(_numbers)}-{label}")
        self._made.append(namespace)
        return namespace

    def pair(self, left: str = "left", right: str = "right") -> tuple[Namespace, Namespace]:
        """Two namespaces joined by ``eth1``: 192.0.2.1/24 and fd00:db8::1/64 left, .2 and ::2 right."""
        one, two = self(left), self(right)
        one.connect("eth1", two, "eth1")
        for number, namespace in enumerate((one, two), start=1):
            namespace.ip(f"address add 192.0.2.{number}/24 dev eth1")
            namespace.ip(f"address add fd00:db8::{number}/64 dev eth1 nodad")
        return one, two

    def close(self) -> None:
        """Delete every namespace made so far, the last one first."""
        while self._made:
            self._made.pop().delete()


def _run(command: list[str], check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, check=False, input=stdin or "", capture_output=True, text=True, timeout=COMMAND_SECONDS
    )
    if check and result.returncode:
        raise CommandError(f"{shlex.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def _child(namespace: Namespace, writer: int, function: Callable[[], object], seconds: float) -> None:
    """The forked half of Namespace.call: never returns, whatever happens, so that no second pytest runs on."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        fd = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        _setns(fd)
        try:
            data = pickle.dumps((function(), None))
        except BaseException:
            data = pickle.dumps((None, traceback.format_exc()))
        with open(writer, "wb") as pipe:
            pipe.write(data)
    finally:
        os._exit(0)
