# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the mirror against BIRD and `ip -batch`: `.venv/bin/python bench/run.py --help`, or `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mirrorbench import lab, measures, report, workload
from mirrorbench.bird import Bird
from mirrorbench.processes import PeerDied
from mirrorbench.ynl_mirror import YnlMirror

MIRRORS = {mirror.name: mirror for mirror in (YnlMirror, Bird)}
IP_BATCH = "ip-batch"
PEERS = (*MIRRORS, IP_BATCH)
MEASURES = ("burst", "cold")


def main() -> int:
    """Run the benchmark; returns the exit status: 0 measured, 1 a peer failed, 2 the machine or the call is not fit."""
    options = _options()
    if problem := _unfit(options.peers):
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _terminate)
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
        YnlMirror.profiles = options.profile.resolve()
    progress = _Progress()
    for name in lab.remove_leftovers():
        progress.note(f"removed {name}, left behind by an interrupted run")
    facts = report.machine()
    progress.note(report.machine_line(facts))
    plan = measures.Plan(options.routes, options.order, options.samples, options.quiet, progress.say)
    results: report.Results = {peer: [] for peer in options.peers}
    try:
        for number in range(options.rounds):
            # Another peer first in every round: none always meets the machine as the one before left it.
            shift = number % len(options.peers)
            for peer in options.peers[shift:] + options.peers[:shift]:
                results[peer].append(_measure(peer, plan, options.measures))
                progress.note(f"round {number + 1} of {options.rounds}: {peer} done")
    except (PeerDied, TimeoutError, RuntimeError, OSError) as error:
        progress.note(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        progress.note("bench: interrupted; namespaces and daemons are removed")
        return 130
    progress.end()
    print(_heading(options, facts), report.table(results), sep="\n\n")
    if options.json:
        _write_json(options, facts, results)
    return 0


def _measure(peer: str, plan: measures.Plan, wanted: list[str]) -> measures.Values:
    if peer == IP_BATCH:
        return measures.ip_batch(plan)
    values: measures.Values = {}
    for measure, run in (("burst", measures.burst), ("cold", measures.cold_sync)):
        if measure in wanted:
            values |= run(plan, MIRRORS[peer])
    return values


def _unfit(peers: list[str]) -> str | None:
    """Return why this machine cannot run the benchmark, with the fix, or None."""
    if os.geteuid() != 0:
        return "network namespaces and their routes need root: run it with sudo"
    if not shutil.which("ip"):
        return "the command `ip` is not installed: `apt-get install iproute2`"
    for peer in peers:
        if peer in MIRRORS and (problem := MIRRORS[peer].missing()):
            return f"peer {peer}: {problem} (or leave it out with --peers)"
    return None


def _heading(options: argparse.Namespace, facts: dict[str, object]) -> str:
    versions = [f"{peer} {MIRRORS[peer].version()}" for peer in options.peers if peer in MIRRORS]
    return (
        f"{options.routes:,} IPv4 routes, burst {options.order}, {options.samples} single changes, "
        f"rounds: {options.rounds}\n{report.machine_line(facts)}\n{', '.join(versions)}"
    ).rstrip()


def _write_json(options: argparse.Namespace, facts: dict[str, object], results: report.Results) -> None:
    document = {
        "machine": facts,
        "routes": options.routes,
        "order": options.order,
        "samples": options.samples,
        "versions": {peer: MIRRORS[peer].version() for peer in options.peers if peer in MIRRORS},
        "rounds": results,
        "summary": {peer: report.summarise(values) for peer, values in results.items()},
    }
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.py",
        description="Measure how fast and how completely a host's routes reach the DPU's table, in two namespaces.",
        epilog="A quick look: --routes 20000 --samples 50.  What each number means: bench/README.md",
    )
    parser.add_argument("--routes", type=_number_in(1000, workload.MAX_ROUTES), default=1_000_000, metavar="N",
                        help="IPv4 /24 routes on the host (default: 1000000, at least 1000)")  # fmt: skip
    parser.add_argument("--peers", type=_names_of("peer", PEERS), default=list(PEERS), metavar="A,B",
                        help=f"who is measured, of {','.join(PEERS)} (default: all)")  # fmt: skip
    parser.add_argument("--measures", type=_names_of("measure", MEASURES), default=list(MEASURES), metavar="A,B",
                        help="burst (with the latencies of single changes), cold (default: both)")  # fmt: skip
    parser.add_argument("--rounds", type=_number_in(1, 100), default=1, metavar="R",
                        help="repeat everything R times, peers in changing order, and show medians")  # fmt: skip
    parser.add_argument(
        "--order", choices=workload.ORDERS, default="ascending", help="order in which the burst is written"
    )
    parser.add_argument("--samples", type=_number_in(10, 5000), default=500, metavar="S",
                        help="single changes of each kind (default: 500)")  # fmt: skip
    parser.add_argument("--quiet", type=_number_in(1, 600), default=15, metavar="SECONDS",
                        help="without any change for so long, what is not there is lost (default: 15)")  # fmt: skip
    parser.add_argument("--profile", type=Path, metavar="FOLDER",
                        help="run ynl-mirror's daemons under cProfile (slower), results there")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values of all rounds to FILE")
    return parser.parse_args()


def _number_in(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text.replace(",", "").replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"`{text}` is no whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value:,} is not between {low:,} and {high:,}")
        return value

    return parse


def _names_of(kind: str, known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in text.split(",")))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {kind} is called `{name}`: choose from {', '.join(known)}")
        return names

    return parse


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """End as after Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt


class _Progress:
    """Says what goes on, on standard error: one changing line on a terminal, a line every five seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.2 if self._terminal else 5)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        self.end()
        print(f"[{time.monotonic() - self._begin:6.1f} s] {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
