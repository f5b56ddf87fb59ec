# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark asks of every mirror."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from mirrorbench.lab import Lab
from mirrorbench.processes import Cost, Process, add_up


class Mirror(ABC):
    """A mirror of two daemons: one follows the host's main table, the other fills the DPU's target table."""

    name: str

    def __init__(self, lab: Lab, folder: Path, routes: int) -> None:
        """Prepare a configuration for ``lab`` in the empty ``folder``; nothing runs yet."""
        self.lab, self.folder, self.routes = lab, folder, routes
        self.processes: list[Process] = []
        self.prepare()

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Return what this machine lacks to run the peer, with the fix, or None."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the peer's version for the report."""

    @abstractmethod
    def prepare(self) -> None:
        """Write the configuration."""

    @abstractmethod
    def start(self) -> None:
        """Start both daemons into ``self.processes`` without waiting for them."""

    def check(self) -> None:
        """Raise PeerDied when a daemon has ended."""
        for process in self.processes:
            process.check()

    def cost(self) -> Cost:
        """Return what both daemons together have used so far."""
        return add_up([process.cost() for process in self.processes])

    def stop(self) -> None:
        """Stop both daemons."""
        for process in self.processes:
            process.stop()
        self.processes.clear()
