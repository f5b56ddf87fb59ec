# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a route is not installed, as a value and as the text that travels in an answer."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """The state a route is in instead, and why: `failed` (kernel or policy said no) or `unmapped` (no exit)."""

    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}"

    @classmethod
    def parse(cls, text: str) -> Refusal:
        """Read what an agent answered; words of another consumer are a failure."""
        state, found, reason = text.partition(": ")
        return cls(state, reason) if found and state in ("failed", "unmapped") else cls("failed", text)
