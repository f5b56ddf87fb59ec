# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter lab_report: traces between the end hosts of the lab -> a lab report (report.json)."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_report
short_description: Report the paths of packets through the ekho lab
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
description:
  - Merges traces between the end hosts of the lab into an earlier report.
  - For every source and destination it keeps the latest trace of each kind, which follows from the hops. On the
    V(slow_path) the host behind the DPU answered, on the V(fast_path) only the DPU did, everything else is V(unclear).
  - Paths that were measured in another lab (other machines, cables, VRFs or kernel) are dropped.
positional: lab, previous
options:
  _input:
    description:
      - Results of M(ekho.ynl_mirror.traceroute), each with C(source), the host that traced, and C(measured), the time
        in UTC (ISO 8601).
    type: list
    elements: dict
    required: true
  lab:
    description:
      - The lab. Its C(name), C(backend), C(vrf) and C(kernel), its C(hosts) and C(links) as in the role
        P(ekho.ynl_mirror.ekho_lab#role), and C(groups), the inventory groups of each host.
    type: dict
    required: true
  previous:
    description: An earlier C(report.json), as text or values. Empty if there is none.
    type: raw
    default: ""
seealso:
  - plugin: ekho.ynl_mirror.lab_picture
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Create a report
  ansible.builtin.set_fact:
    report: "{{ traces | ekho.ynl_mirror.lab_report(lab) }}"
"""

RETURN = r"""
_value:
  description: The content of C(report.json); the project's C(docs/lab.md) describes its fields.
  type: dict
"""

import json
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._ynl_mirror.report.report import (
    ReportError,
    lab_from_role,
    merged,
    path_from_trace,
    report_from,
    report_values,
)


def lab_report(traces: Any, lab: Any, previous: Any = "") -> dict[str, Any]:
    """Merge *traces* in *lab* into the previous report; see DOCUMENTATION."""
    try:
        found = lab_from_role(lab)
        paths = [path_from_trace(trace, found) for trace in traces]
        values = json.loads(previous) if previous and isinstance(previous, str) else previous
        return report_values(merged(report_from(values) if values else None, found, paths))
    except json.JSONDecodeError as error:
        raise AnsibleFilterError(f"lab_report: the previous report is not JSON: {error}; remove it") from None
    except ReportError as error:
        raise AnsibleFilterError(f"lab_report: {error}") from None


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function."""
        return {"lab_report": lab_report}
