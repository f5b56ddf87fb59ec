# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a route is not installed, as a value and as the text that travels in an answer."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """The state a route is in instead, and why: `failed` (kernel or policy said no) or `slow_path` (no egress)."""

    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.state.replace('_', ' ')}: {self.reason}"

    @classmethod
    def parse(cls, text: str) -> Refusal:
        """Read what an agent answered; words of another consumer are a failure."""
        words, found, reason = text.partition(": ")
        state = {"failed": "failed", "slow path": "slow_path"}.get(words)
        return cls(state, reason) if found and state else cls("failed", text)
