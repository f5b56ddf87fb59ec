# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of the audits of one daemon: counted and described, for /status and /metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.routes import Path, Prefix

#: Prefixes that a message names at most.
_NAMED = 8

#: The audits: a replica against its kernel, the agent's announced routes against the listener, the FIB of the DPU
#: against the routes that the agent installed.
REPLICA, WIRE, FIB = "replica", "wire", "fib"


@dataclass
class Tally:
    """What the audits of one daemon did so far; *rounds* and *drift* (routes found wrong) by audit."""

    rounds: dict[str, int] = field(default_factory=dict)
    drift: dict[str, int] = field(default_factory=dict)
    compared: int = 0  # buckets
    transferred: int = 0
    last: str | None = None  # describes the last drift

    def watch(self, *kinds: str) -> Tally:
        """Count these audits, from 0."""
        for kind in kinds:
            self.rounds[kind] = self.drift[kind] = 0
        return self

    def found(self, kind: str, number: int, text: str) -> None:
        """Count NUMBER wrong routes."""
        self.drift[kind] += number
        self.last = text

    def status(self) -> dict[str, Any]:
        """For /status."""
        status: dict[str, Any] = {"rounds": dict(self.rounds), "drift": dict(self.drift)}
        if WIRE in self.rounds:
            status.update(buckets_compared=self.compared, buckets_transferred=self.transferred)
        return {**status, "last_drift": self.last}

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        """For /metrics."""
        for kind, count in self.rounds.items():
            yield "ynl_mirror_audit_rounds", "Audit rounds completed", "counter", {"audit": kind}, count
        for kind, count in self.drift.items():
            yield "ynl_mirror_audit_drift_routes", "Routes found wrong and repaired", "counter", {"audit": kind}, count
        if WIRE in self.rounds:
            for operation, count in (("compared", self.compared), ("transferred", self.transferred)):
                labels = {"operation": operation}
                yield "ynl_mirror_audit_buckets", "Buckets processed by the wire audit", "counter", labels, count


def differing(before: Mapping[int, Path], after: Mapping[int, Path]) -> dict[int, str]:
    """The keys whose path in BEFORE was wrong, each with what was wrong: missing, stale or different."""
    found = {key: "stale" for key in before if key not in after}
    for key, path in after.items():
        known = before.get(key)
        if known is None:
            found[key] = "missing"
        elif known is not path and known != path:
            found[key] = "different"
    return found


def words(family: int, found: Mapping[int, str]) -> str:
    """Names some of the prefixes, and what was wrong with each: ``10.0.0.0/8 missing, ... and 12 more``."""
    names = [f"{Prefix.from_key(family, key)} {wrong}" for key, wrong in list(found.items())[:_NAMED]]
    more = len(found) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
