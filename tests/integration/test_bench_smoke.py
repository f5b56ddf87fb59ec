# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark itself works: it measures real peers, sees faults, and leaves nothing behind.  No time is asserted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.until import until

pytestmark = pytest.mark.controller  # the benchmark runs on a developer's Python
BENCH = Path(__file__).resolve().parents[2] / "bench"
NETNS = Path("/run/netns")
PEERS = ("ynl-mirror", "bird", "ip-batch")

sys.path.insert(0, str(BENCH))

from mirrorbench import measures, rtnl, workload  # noqa: E402
from mirrorbench.lab import TARGET_TABLE, Lab  # noqa: E402

PLAN = measures.Plan(routes=40_000, order="ascending", samples=10, quiet=5, say=lambda _text: None)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The table and the JSON of one quick run with all peers."""
    file = tmp_path_factory.mktemp("bench") / "result.json"
    done = run("--routes", "20000", "--samples", "30", "--peers", ",".join(PEERS), "--json", str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


@pytest.mark.parametrize("peer", PEERS)
def test_quick_run_loses_nothing(quick: tuple[str, dict[str, Any]], peer: str) -> None:
    summary = quick[1]["summary"][peer]
    faults = {key: value for key, value in summary.items() if key.endswith(("lost", "wrong", "extra", "missing"))}
    assert "cold_lost" in faults
    assert peer == "ip-batch" or {"burst_lost", "empty_add_missing", "loaded_delete_missing"} < set(faults)
    assert not any(faults.values()), faults


def test_every_measure_has_a_number(quick: tuple[str, dict[str, Any]]) -> None:
    bird = quick[1]["summary"]["bird"]
    for key in ("cold_seconds", "cold_cpu", "cold_peak_mib", "burst_seconds", "empty_add_p50_ms", "loaded_add_p99_ms"):
        assert bird[key] > 0, key


def test_table_shows_ratios_to_bird(quick: tuple[str, dict[str, Any]]) -> None:
    text, document = quick
    (line,) = (line for line in text.splitlines() if line.startswith("cold sync, s"))
    seconds = {peer: document["summary"][peer]["cold_seconds"] for peer in PEERS}
    assert "ip-batch/bird" in text
    assert line.split()[-1] == f"{seconds['ip-batch'] / seconds['bird']:.2f}"


def test_faults_are_seen() -> None:
    """A route that is missing, one to the wrong egress, one that nobody asked for: each is counted as what it is."""
    with Lab(PLAN.routes) as lab, rtnl.open_socket(lab.dpu) as dpu:
        templates = {
            leave: rtnl.Template.of(rtnl.RTM_NEWROUTE, leave.gateway, index, table=TARGET_TABLE)
            for leave, index in lab.egress_indexes.items()
        }
        first, second = workload.EGRESSES
        missing, misled, *rest = workload.destinations(PLAN.routes)
        assert workload.egress_for(misled) is first
        extra = workload.destinations(PLAN.routes + 1)[-1]
        messages = [templates[workload.egress_for(destination)].message(destination) for destination in (*rest, extra)]
        rtnl.write(dpu, [*messages, templates[second].message(misled)])
        assert measures.verify(PLAN, lab) == {"lost": 1, "wrong": 1, "extra": 1}
        rtnl.write(dpu, [templates[first].message(missing)])
        assert measures.verify(PLAN, lab)["lost"] == 0


def test_counter_agrees_with_a_dump() -> None:
    with Lab(PLAN.routes) as lab, rtnl.open_socket(lab.dpu) as dpu:
        counter = rtnl.TableCounter(lab.dpu, TARGET_TABLE)
        own = counter.count()
        (leave, index), _other = lab.egress_indexes.items()
        template = rtnl.Template.of(rtnl.RTM_NEWROUTE, leave.gateway, index, table=TARGET_TABLE)
        rtnl.write(dpu, template.batches(workload.destinations(PLAN.routes, "bit-reversed")))
        assert own == 2, "VRF b's own: its subnet and its default route"
        assert counter.count() == own + PLAN.routes
        counter.close()
        found = [
            d for shape, d in rtnl.routes_of(lab.dpu, TARGET_TABLE) if rtnl.exit_of(shape) == (index, leave.gateway)
        ]
        assert sorted(found) == workload.destinations(PLAN.routes)


def test_refused_route_is_an_error() -> None:
    with Lab(PLAN.routes) as lab, rtnl.open_socket(lab.host) as host:
        batch = lab.route(rtnl.RTM_NEWROUTE).batches(workload.destinations(10))
        rtnl.write(host, batch)
        with pytest.raises(FileExistsError, match="refused a route"):
            rtnl.write(host, batch)


def test_orders_hold_the_same_prefixes() -> None:
    for count in (1, 1000, 4096, 10_001):
        ascending = workload.destinations(count)
        assert len(set(ascending)) == count
        assert sorted(workload.destinations(count, "bit-reversed")) == ascending


def test_interrupted_run_leaves_nothing() -> None:
    """SIGTERM takes everything down; after SIGKILL the next run does."""
    for number, status in ((signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        command = [sys.executable, str(BENCH / "run.py"), "--routes", "100000", "--peers", "bird"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        own, folders = f"ynlbench-{child.pid}-*", Path(tempfile.gettempdir())
        until(partial(glob, str(folders / own / "*.log")))
        child.send_signal(number)
        child.communicate(timeout=30)
        assert child.returncode == status
        if number == signal.SIGKILL:
            assert list(NETNS.glob(own))
            assert list(folders.glob(own))
            assert "left behind" in run("--routes", "1000", "--peers", "ip-batch").stderr
        assert not [*NETNS.glob(own), *folders.glob(own)]


def test_wrong_calls_name_the_item() -> None:
    for arguments, words in (
        (("--peers", "bird,frr"), "no peer is called `frr`: choose from ynl-mirror, bird, ip-batch"),
        (("--routes", "12"), "12 is not between 1,000 and 2,097,152"),
        (("--routes", "many"), "`many` is no whole number"),
        (("--measures", "warm"), "no measure is called `warm`: choose from burst, cold"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
