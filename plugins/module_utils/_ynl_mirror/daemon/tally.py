# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the audits of one daemon found: counted, described, for /status and /metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.routes import Path, Prefix

#: Prefixes that are told by name.
_TOLD = 8


#: What is compared: the replica with the own kernel, the two sides of the wire, the mirrored routes with the kernel.
REPLICA, WIRE, MIRRORED = "replica", "wire", "mirrored"


@dataclass
class Tally:
    """What the audits of one daemon did so far; *rounds* and *drift* (routes found wrong) by what was compared."""

    rounds: dict[str, int] = field(default_factory=dict)
    drift: dict[str, int] = field(default_factory=dict)
    compared: int = 0  # buckets
    transferred: int = 0
    last: str | None = None  # the last drift, in words

    def watch(self, *kinds: str) -> Tally:
        """Count these kinds of audit from 0."""
        for kind in kinds:
            self.rounds[kind] = self.drift[kind] = 0
        return self

    def found(self, kind: str, number: int, text: str) -> None:
        """So many routes were wrong."""
        self.drift[kind] += number
        self.last = text

    def status(self) -> dict[str, Any]:
        """For /status."""
        told: dict[str, Any] = {"rounds": dict(self.rounds), "drift": dict(self.drift)}
        if WIRE in self.rounds:
            told.update(buckets_compared=self.compared, buckets_transferred=self.transferred)
        return {**told, "last_drift": self.last}

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        """For /metrics."""
        for kind, count in self.rounds.items():
            yield "ynl_mirror_audit_rounds", "Audits that came to their end", "counter", {"of": kind}, count
        for kind, count in self.drift.items():
            yield "ynl_mirror_audit_drift", "Routes that an audit found wrong", "counter", {"of": kind}, count
        if WIRE in self.rounds:
            for what, count in (("compared", self.compared), ("transferred", self.transferred)):
                yield (
                    "ynl_mirror_audit_buckets",
                    "Buckets of routes by what an audit did",
                    "counter",
                    {"done": what},
                    count,
                )


def differing(before: Mapping[int, Path], after: Mapping[int, Path]) -> dict[int, str]:
    """The keys whose path was another than it is to be, each with what was wrong: missing, stale or different."""
    found = {key: "stale" for key in before if key not in after}
    for key, path in after.items():
        known = before.get(key)
        if known is None:
            found[key] = "missing"
        elif known is not path and known != path:
            found[key] = "different"
    return found


def words(family: int, found: Mapping[int, str]) -> str:
    """Some of the prefixes by name, and what was wrong with each: ``10.0.0.0/8 missing, ... and 12 more``."""
    names = [f"{Prefix.from_key(family, key)} {wrong}" for key, wrong in list(found.items())[:_TOLD]]
    more = len(found) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
