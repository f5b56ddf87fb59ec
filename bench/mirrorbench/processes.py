# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a peer: start them in a namespace, add up what they cost, stop them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Cost:
    """What processes have used since they started: CPU seconds, and the sum of their peak resident memory in MiB."""

    user: float
    system: float
    peak_mib: float

    @property
    def cpu(self) -> float:
        """User and system seconds; the kernel's work on behalf of a process is in the latter."""
        return self.user + self.system

    def since(self, earlier: Cost) -> Cost:
        """Return the CPU seconds used after ``earlier``, with the peak memory of now."""
        return Cost(self.user - earlier.user, self.system - earlier.system, self.peak_mib)


class PeerDied(RuntimeError):
    """A process of a peer ended while it was needed; the text says which, and the end of its log."""


class Process:
    """One process of a peer in a namespace, its output in a log file."""

    def __init__(self, name: str, namespace: str, command: list[str], folder: Path, env: dict[str, str] | None = None):
        """Start ``command``; `ip netns exec` replaces itself by it, so the process is a direct child."""
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (env or {}),
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )

    def check(self) -> None:
        """Raise PeerDied when the process has ended."""
        if not self.running():
            raise self._died()

    def running(self) -> bool:
        """Return whether the process still runs; raises PeerDied when it has failed."""
        status = self._child.poll()
        if status:
            raise self._died()
        return status is None

    def _died(self) -> PeerDied:
        end = self._log.read_text(errors="replace").strip().splitlines()[-12:]
        return PeerDied("\n".join([f"{self.name} ended with status {self._child.returncode}; its last words:", *end]))

    def cost(self) -> Cost:
        """Return the cost of the process and its living children; it must still run."""
        costs = [_cost_of(pid) for pid in _tree(self._child.pid)]
        return add_up(costs)

    def stop(self) -> None:
        """Ask the process to end, insist after ten seconds."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


def add_up(costs: list[Cost]) -> Cost:
    """Return the sum of costs."""
    return Cost(sum(c.user for c in costs), sum(c.system for c in costs), sum(c.peak_mib for c in costs))


def _die_with_parent() -> None:
    """Have the kernel kill the process when the benchmark itself is killed: no daemon is left behind."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def _cost_of(pid: int) -> Cost:
    try:
        # The command name may hold spaces: the fields that count start after its closing bracket (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return Cost(0.0, 0.0, 0.0)
    peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return Cost(int(fields[11]) / TICKS, int(fields[12]) / TICKS, peak / 1024)
