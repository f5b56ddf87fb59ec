# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module mirror_preflight_info finds in a namespace, without the detour over an Ansible process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.check import check

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

#: Metric of a VRF's closing unreachable route.
LAST = "metric 4278198272"
OPTIONS: dict[str, Any] = {
    "agent": None,
    "listener": None,
    "authority_dir": None,
    "names": [],
    "expected": [],
    "accepted": [],
    "certificates_dir": "/etc/ynl-mirror/tls",
    "authority_sha256": "",
    "renew_days": 7,
    "user": None,
    "controller_time": None,
    "clock_seconds": 300,
    "python_packages_from": "none",
    "wheels_found": True,
    "config_dir": "/nowhere/etc",
    "lib_dir": "/nowhere/lib",
    "timeout": 0.5,
}

Findings = dict[str, list[dict[str, str]]]


def look(namespace: Namespace, **options: Any) -> Findings:
    """What is not all right, by check. The clock is the test machine's own business."""
    result = namespace.call(check, {**OPTIONS, **options})
    found: Findings = {}
    for finding in result["findings"]:
        if finding["level"] != "ok" and finding["check"] != "clock":
            found.setdefault(finding["check"], []).append(finding)
    return found


def only(found: Findings, name: str, level: str) -> dict[str, str]:
    """The one finding that is not ok."""
    assert list(found) == [name], found
    [finding] = found[name]
    assert finding["level"] == level
    assert finding["fix"]
    return finding
