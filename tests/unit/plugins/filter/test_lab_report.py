# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters lab_report and lab_picture as templates see them; what they do is tested beside their library."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.report import FAST, SLOW, role_facts, traces

pytestmark = pytest.mark.controller


def call(name: str, *given: Any) -> Any:
    # Ansible is on the controller only, so it is not imported with this file.
    from ansible_collections.ekho.ynl_mirror.plugins.filter import lab_picture, lab_report

    return {**lab_report.FilterModule().filters(), **lab_picture.FilterModule().filters()}[name](*given)


@pytest.mark.parametrize("given", [json.dumps, lambda values: values], ids=["text", "values"])
def test_a_report_grows_and_is_drawn(given: Callable[[Any], Any]) -> None:
    before = call("lab_report", traces(SLOW), role_facts(), "")
    both = call("lab_report", traces(FAST), role_facts(), given(before))
    assert [len(report["paths"]) for report in (before, both)] == [4, 8]
    assert call("lab_picture", both).startswith("<svg ")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("lab_report", [[], {}], "lab_report: the lab cannot be read: 'hosts' is missing"),
        ("lab_report", [[], role_facts(), "{"], "lab_report: the previous report is not JSON"),
        ("lab_report", [[], role_facts(), '{"schema": "other"}'], "lab_report: this is not a lab report"),
        ("lab_picture", [{}], "lab_picture: this is not a lab report"),
        (
            "lab_picture",
            [{"schema": "ekho.ynl_mirror.lab_report", "version": 0}],
            "version 0, which cannot be read",
        ),
    ],
)
def test_errors_name_item_and_fix(name: str, given: list[Any], message: str) -> None:
    from ansible.errors import AnsibleFilterError

    with pytest.raises(AnsibleFilterError) as caught:
        call(name, *given)
    assert message in str(caught.value)
