# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters of the audits, and how they describe drift."""

from __future__ import annotations

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.tally import differing, words
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    NextHop,
    Path,
    Prefix,
)

STATIC, OTHER = (Path(AF_INET, protocol=protocol, nexthops=(NextHop(None, 3),)) for protocol in (4, 5))
KEYS = [Prefix.parse(f"10.0.{number}.0/24").key for number in range(30)]


def test_drift_is_missing_stale_or_different() -> None:
    one, two, three, four = KEYS[:4]
    before = {one: STATIC, two: STATIC, three: STATIC}
    after = {two: Path(AF_INET, protocol=4, nexthops=(NextHop(None, 3),)), three: OTHER, four: STATIC}
    assert differing(before, after) == {one: "stale", three: "different", four: "missing"}


def test_the_first_prefixes_are_named_and_the_others_counted() -> None:
    assert words(AF_INET, {KEYS[0]: "stale"}) == "10.0.0.0/24 stale"
    assert words(AF_INET, dict.fromkeys(KEYS, "stale")).endswith(" and 22 more")
