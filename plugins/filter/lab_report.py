# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter lab_report: traces between the end hosts of the lab -> what report.json says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_report
short_description: The report on the ekho lab
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
description:
  - Brings traces between the end hosts of the lab into one report, beside what an earlier report says.
  - For every source and destination it keeps the latest trace of each kind, which is read off the hops. V(through_host)
    has an answer of the host behind the DPU, V(on_dpu) has answers of the DPU only, V(unclear) is everything else.
  - What was measured in a lab that is another by now (other machines, cables, VRFs or kernel) is dropped.
positional: lab, previous
options:
  _input:
    description:
      - Results of M(ekho.ynl_mirror.traceroute), each with C(source), the host it was run on, and C(measured), when,
        in UTC as ISO 8601.
    type: list
    elements: dict
    required: true
  lab:
    description:
      - The lab. Its C(name), C(backend), C(vrf) and C(kernel), its C(hosts) and C(links) as the role
        P(ekho.ynl_mirror.ekho_lab#role) has them, and C(groups), the inventory groups of each host.
    type: dict
    required: true
  previous:
    description: An earlier C(report.json), its text or its values. Empty when there is none.
    type: raw
    default: ""
seealso:
  - plugin: ekho.ynl_mirror.lab_picture
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Report
  ansible.builtin.set_fact:
    report: "{{ traces | ekho.ynl_mirror.lab_report(lab) }}"
"""

RETURN = r"""
_value:
  description: The values of a C(report.json); the project's C(docs/lab.md) tells its fields.
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
    """Bring *traces* in *lab* into the report; see DOCUMENTATION."""
    try:
        found = lab_from_role(lab)
        paths = [path_from_trace(trace, found) for trace in traces]
        values = json.loads(previous) if previous and isinstance(previous, str) else previous
        return report_values(merged(report_from(values) if values else None, found, paths))
    except json.JSONDecodeError as error:
        raise AnsibleFilterError(f"lab_report: the earlier report is no JSON: {error}") from None
    except ReportError as error:
        raise AnsibleFilterError(f"lab_report: {error}") from None


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function."""
        return {"lab_report": lab_report}
