# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a route is not offloaded: as a value, and as the text of the agent's answer."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """State and reason of a route that is not offloaded: `failed` (refused by kernel or policy) or `slow_path`."""

    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.state.replace('_', ' ')}: {self.reason}"

    @classmethod
    def parse(cls, text: str, otherwise: str = "failed") -> Refusal:
        """Parse an agent's answer. Text in any other form comes from another FPM consumer, and means *otherwise*."""
        words, found, reason = text.partition(": ")
        state = {"failed": "failed", "slow path": "slow_path"}.get(words)
        return cls(state, reason) if found and state else cls(otherwise, text)
