# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of a path follows from its hops, and a report keeps the latest path of each kind."""

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
from ansible_collections.ekho.ynl_mirror.tests.support.build.report import FAST, SLOW, role_facts, trace, traces

pytestmark = pytest.mark.controller


def report(*given: dict[str, Any], previous: Report | None = None, **changed: Any) -> Report:
    lab = lab_from_role(role_facts(**changed))
    return merged(previous, lab, [path_from_trace(one, lab) for one in given])


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["192.168.11.1", "192.168.101.2", "192.168.102.1", "192.168.12.2"], Kind.SLOW_PATH),
        (["192.168.11.1", "192.168.12.2"], Kind.FAST_PATH),
        # With VRF devices a DPU may answer with another address of the VRF.
        (["192.168.101.1", "192.168.12.2"], Kind.FAST_PATH),
        # The host answers with the address of its other interface.
        (["192.168.11.1", "192.168.102.2", None, "192.168.12.2"], Kind.SLOW_PATH),
        # Four hops, but none is the host: the number of hops does not matter.
        (["192.168.11.1", "192.168.101.1", "192.168.102.1", "192.168.12.2"], Kind.FAST_PATH),
        # The hop without an answer may be the host.
        (["192.168.11.1", None, "192.168.102.1", "192.168.12.2"], Kind.UNCLEAR),
        ([None, "192.168.12.2"], Kind.UNCLEAR),
        (["192.168.11.1", "10.9.9.9", "192.168.12.2"], Kind.UNCLEAR),
        (["192.168.12.2"], Kind.UNCLEAR),
        # It did not reach the destination.
        (["192.168.11.1", "192.168.102.1"], Kind.UNCLEAR),
    ],
)
def test_the_kind_follows_from_the_answers(answers: list[str | None], kind: Kind) -> None:
    [path] = report(trace("ekho-host-a", "192.168.12.2", answers)).paths
    assert path.kind is kind


def test_a_report_has_both_kinds_of_every_path() -> None:
    found = report(*traces(SLOW), *traces(FAST))
    assert len(found.paths) == 8
    assert {(path.source, path.address, path.kind, len(path.hops)) for path in found.paths} == {
        *((*way, Kind.SLOW_PATH, 4) for way in SLOW),
        *((*way, Kind.FAST_PATH, 2) for way in FAST),
    }


def test_the_latest_of_each_kind_stays() -> None:
    before = report(*traces(SLOW, "2026-01-01T00:00:00Z"))
    both = report(*traces(FAST, "2026-01-02T00:00:00Z"), previous=before)
    now = report(*traces(SLOW, "2026-01-03T00:00:00Z"), previous=both)
    assert {path.measured[:10] for path in now.paths if path.kind is Kind.SLOW_PATH} == {"2026-01-03"}
    assert {path.measured[:10] for path in now.paths if path.kind is Kind.FAST_PATH} == {"2026-01-02"}


def test_the_same_outcome_adds_nothing() -> None:
    once = report(*traces(SLOW))
    assert report(*traces(SLOW), previous=once) == once


@pytest.mark.parametrize("changed", [{"kernel": "Linux 6.12.0"}, {"backend": "qemu"}, {"vrf": "device"}])
def test_another_lab_drops_earlier_paths(changed: dict[str, str]) -> None:
    before = report(*traces(SLOW))
    now = report(*traces(FAST), previous=before, **changed)
    assert {path.kind for path in now.paths} == {Kind.FAST_PATH}


def test_what_is_written_is_read_back() -> None:
    found = report(*traces(SLOW), *traces(FAST), trace("ekho-host-a", "192.168.12.2", [None, "192.168.12.2"]))
    assert report_from(json.loads(json.dumps(report_values(found)))) == found


def test_the_fields_of_a_path() -> None:
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


def test_a_report_of_another_version_is_ignored() -> None:
    values = {**report_values(report(*traces(SLOW))), "version": 0}
    assert report_from(values) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "this is not a lab report"),
        ({"schema": "other", "version": 1}, "this is not a lab report"),
        ({"schema": "ekho.ynl_mirror.lab_report", "version": 1}, "the report cannot be read: 'lab' is missing"),
    ],
)
def test_other_files_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        report_from(values)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"links": [["host-a:eth1", "dpu:eth9"]]},
            "a cable ends at ekho-dpu:eth9, which is not an interface",
        ),
        ({"groups": {}}, "host 'host-a' is in none of the groups ekho_lab_end_hosts, dpu_agents, mirror_listeners"),
        ({"hosts": [{"name": "dpu"}]}, "the lab cannot be read: 'interfaces' is missing"),
        ({"hosts": [{"name": "dpu", "interfaces": [{"name": "eth1", "addresses": ["x"]}]}]}, "'x' does not appear"),
    ],
)
def test_an_inconsistent_lab_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        lab_from_role(role_facts(**changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"hops": []}, "no hops"), ({"destination": "host-b"}, "'host-b' does not appear"), ({"hops": None}, "a trace")],
)
def test_an_unreadable_trace_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        report({**trace("ekho-host-a", "192.168.12.2", ["192.168.12.2"]), **changed})
