# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter lab_picture: a lab report -> a picture of it in SVG."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_picture
short_description: Draw the ekho lab and the paths of packets through it
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
description:
  - Draws the machines of the lab with interfaces, VRFs and cables, and the measured path of packets between two end
    hosts, on the slow path over the host and on the fast path through the DPU alone. A table lists hops and round
    trips of all paths.
  - The same report gives the same picture. The picture refers to no other file, and has a light and a dark theme.
options:
  _input:
    description: A report, as returned by P(ekho.ynl_mirror.lab_report#filter) or read from C(report.json).
    type: dict
    required: true
seealso:
  - plugin: ekho.ynl_mirror.lab_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Draw a report
  ansible.builtin.copy:
    content: "{{ lookup('ansible.builtin.file', 'report.json') | from_json | ekho.ynl_mirror.lab_picture }}"
    dest: lab.svg
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The picture as SVG.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._ynl_mirror.report.picture import draw
from ..plugin_utils._ynl_mirror.report.report import ReportError, report_from


def lab_picture(values: Any) -> str:
    """Draw a report; see DOCUMENTATION."""
    try:
        report = report_from(values)
        if report is None:
            raise ReportError(f"the report has version {values.get('version')}, which cannot be read; measure again")
        return draw(report)
    except ReportError as error:
        raise AnsibleFilterError(f"lab_picture: {error}") from None


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function."""
        return {"lab_picture": lab_picture}
