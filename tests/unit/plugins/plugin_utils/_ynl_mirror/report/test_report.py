# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of a path is read off its hops, and a report keeps the latest path of each kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.report.report import (
    Kind,
    Report,
    ReportError,
    lab_from_role,
    merged,
    path_from_trace,
    report_from,
    report_values,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.report import CLIMBING, STAYING, role_facts, trace, traces

pytestmark = pytest.mark.controller


def report(*given: dict[str, Any], previous: Report | None = None, **changed: Any) -> Report:
    lab = lab_from_role(role_facts(**changed))
    return merged(previous, lab, [path_from_trace(one, lab) for one in given])


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["192.168.11.1", "192.168.101.2", "192.168.102.1", "192.168.12.2"], Kind.THROUGH_HOST),
        (["192.168.11.1", "192.168.12.2"], Kind.ON_DPU),
        # With VRF devices a DPU may answer with another address of the VRF.
        (["192.168.101.1", "192.168.12.2"], Kind.ON_DPU),
        # The host answers with the address of its other interface: it climbed all the same.
        (["192.168.11.1", "192.168.102.2", None, "192.168.12.2"], Kind.THROUGH_HOST),
        # Four hops, and yet nobody proved a climb: the number of hops is not what decides.
        (["192.168.11.1", "192.168.101.1", "192.168.102.1", "192.168.12.2"], Kind.ON_DPU),
        # Whoever did not answer may have been the host.
        (["192.168.11.1", None, "192.168.102.1", "192.168.12.2"], Kind.UNCLEAR),
        ([None, "192.168.12.2"], Kind.UNCLEAR),
        (["192.168.11.1", "10.9.9.9", "192.168.12.2"], Kind.UNCLEAR),
        (["192.168.12.2"], Kind.UNCLEAR),
        # It ended on the way.
        (["192.168.11.1", "192.168.102.1"], Kind.UNCLEAR),
    ],
)
def test_kind_is_what_answered(answers: list[str | None], kind: Kind) -> None:
    [path] = report(trace("ekho-host-a", "192.168.12.2", answers)).paths
    assert path.kind is kind


def test_a_report_holds_both_kinds_of_every_way() -> None:
    found = report(*traces(CLIMBING), *traces(STAYING))
    assert len(found.paths) == 8
    assert {(path.source, path.address, path.kind, len(path.hops)) for path in found.paths} == {
        *((*way, Kind.THROUGH_HOST, 4) for way in CLIMBING),
        *((*way, Kind.ON_DPU, 2) for way in STAYING),
    }


def test_the_latest_of_each_kind_stays() -> None:
    before = report(*traces(CLIMBING, "2026-01-01T00:00:00Z"))
    both = report(*traces(STAYING, "2026-01-02T00:00:00Z"), previous=before)
    now = report(*traces(CLIMBING, "2026-01-03T00:00:00Z"), previous=both)
    assert {path.measured[:10] for path in now.paths if path.kind is Kind.THROUGH_HOST} == {"2026-01-03"}
    assert {path.measured[:10] for path in now.paths if path.kind is Kind.ON_DPU} == {"2026-01-02"}


def test_the_same_outcome_adds_nothing() -> None:
    once = report(*traces(CLIMBING))
    assert report(*traces(CLIMBING), previous=once) == once


@pytest.mark.parametrize("changed", [{"kernel": "Linux 6.12.0"}, {"backend": "qemu"}, {"vrf": "device"}])
def test_another_lab_begins_anew(changed: dict[str, str]) -> None:
    before = report(*traces(CLIMBING))
    now = report(*traces(STAYING), previous=before, **changed)
    assert {path.kind for path in now.paths} == {Kind.ON_DPU}


def test_what_is_written_is_read_back() -> None:
    found = report(*traces(CLIMBING), *traces(STAYING), trace("ekho-host-a", "192.168.12.2", [None, "192.168.12.2"]))
    assert report_from(json.loads(json.dumps(report_values(found)))) == found


def test_what_a_path_says() -> None:
    [values] = report_values(report(trace("ekho-host-a", "192.168.12.2", ["192.168.11.1", None, "192.168.12.2"])))[
        "paths"
    ]
    assert values == {
        "source": "ekho-host-a",
        "destination": "ekho-host-b",
        "address": "192.168.12.2",
        "family": "ipv4",
        "kind": "unclear",
        "measured": "2026-01-02T03:04:05Z",
        "hop_count": 3,
        "rtt_ms": 0.3,
        "hops": [
            {"hop": 1, "address": "192.168.11.1", "host": "ekho-dpu", "interface": "eth3", "rtt_ms": 0.1},
            {"hop": 2, "address": None, "host": None, "interface": None, "rtt_ms": None},
            {"hop": 3, "address": "192.168.12.2", "host": "ekho-host-b", "interface": "eth1", "rtt_ms": 0.3},
        ],
    }


def test_a_report_of_another_version_is_left_behind() -> None:
    values = {**report_values(report(*traces(CLIMBING))), "version": 0}
    assert report_from(values) is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "this is no report on a lab"),
        ({"schema": "other", "version": 1}, "this is no report on a lab"),
        ({"schema": "ekho.ynl_mirror.lab_report", "version": 1}, "the report cannot be read: there is no 'lab'"),
    ],
)
def test_foreign_files_are_told(values: Any, told: str) -> None:
    with pytest.raises(ReportError, match=told):
        report_from(values)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"links": [["host-a:eth1", "dpu:eth9"]]}, "a cable ends at ekho-dpu:eth9, which is no interface of the lab"),
        ({"groups": {}}, "host 'host-a' is in none of the groups ekho_lab_end_hosts, dpu_agents, mirror_listeners"),
        ({"hosts": [{"name": "dpu"}]}, "the lab cannot be read: there is no 'interfaces'"),
        ({"hosts": [{"name": "dpu", "interfaces": [{"name": "eth1", "addresses": ["x"]}]}]}, "'x' does not appear"),
    ],
)
def test_a_lab_that_contradicts_itself_is_told(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ReportError, match=told):
        lab_from_role(role_facts(**changed))


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"hops": []}, "no hops"), ({"destination": "host-b"}, "'host-b' does not appear"), ({"hops": None}, "a trace")],
)
def test_a_trace_without_sense_is_told(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ReportError, match=told):
        report({**trace("ekho-host-a", "192.168.12.2", ["192.168.12.2"]), **changed})
