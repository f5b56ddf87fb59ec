# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the fates of packets with the mirror and without it, case by case; needs root.

    .venv/bin/python tests/equivalence/run.py --cases 1000                        all features: alone, together, mixed
    .venv/bin/python tests/equivalence/run.py --features dpu_nested --seed 17     one feature, seeds 17, 18, ...
    .venv/bin/python tests/equivalence/run.py --features mix --no-mirror          the model against the kernels alone

Each case that differs leaves a script of ``ip`` commands in .cache/equivalence. The exit code is 1 if one did, or if
fewer of a feature's provable detours than the goal were cut short.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import multiprocessing.util
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.compare import Tally
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab

CHECKOUT = Path(__file__).resolve().parent.parent.parent
COLLECTIONS = CHECKOUT / ".cache" / "collections"
sys.path.insert(0, str(COLLECTIONS))
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)  # the daemons are started from there
#: Differences of one case that are reported in words.
_TOLD = 2

_lab: Lab | None = None


@dataclasses.dataclass
class Played:
    """What a worker reports of a case."""

    row: str
    name: str
    tally: Tally
    told: list[str]
    trouble: str
    script: str
    seconds: float


def main() -> int:
    """Play cases; 0 when every packet had its fate and the goal was reached."""
    options = _options()
    if os.geteuid() != 0:
        sys.exit("network namespaces need root: run it with sudo")
    jobs = list(_jobs(options))
    signal.signal(signal.SIGTERM, _stop)
    rows: dict[str, Tally] = {}
    troubles: Counter[str] = Counter()
    began = time.monotonic()
    number = 0
    pool = ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork"), _begin)
    try:
        for number, played in enumerate(pool.map(_play, jobs), start=1):
            _report(played, options, rows, troubles)
            if number % 20 == 0 or number == len(jobs):
                _progress(number, len(jobs), rows, time.monotonic() - began)
    except (KeyboardInterrupt, BrokenProcessPool):
        print(f"ended after {number} of {len(jobs)} cases", flush=True)
    pool.shutdown(cancel_futures=True)
    print(_table(rows))
    seconds = time.monotonic() - began
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"\n{number} cases in {seconds:.0f} s ({number / seconds:.1f} a second); {machine}")
    if options.json:
        told = {row: dataclasses.asdict(tally) for row, tally in rows.items()}
        Path(options.json).write_text(json.dumps({"machine": machine, "options": vars(options), "rows": told}) + "\n")
    wrong = [row for row, tally in rows.items() if tally.wrong or troubles[row]]
    short = [row for row, tally in rows.items() if _percent(tally.provable_shortened, tally.provable) < options.goal]
    if wrong:
        print(f"wrong: {', '.join(wrong)}")
    if short and not options.no_mirror:
        print(f"fewer than {options.goal:g} % of provable detours shortened: {', '.join(short)}")
    return 1 if wrong or (short and not options.no_mirror) or number < len(jobs) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the fates of packets with the mirror and without it.")
    parser.add_argument("--cases", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (default 1)")
    parser.add_argument(
        "--features",
        default="all",
        help="a+b,c: these features in turn; plain, each (alone), together, mix (some), all (those four; the default)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time (default 1)")
    parser.add_argument("--goal", type=float, default=95.0, help="percent of provable detours to shorten (default 95)")
    parser.add_argument("--no-mirror", action="store_true", help="compare the model with the kernels, without daemons")
    parser.add_argument("--minimal", action="store_true", help="leave out of a case that differs all that it can spare")
    parser.add_argument("--quiet", action="store_true", help="report the table only, not each difference")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there too")
    parser.add_argument("--list", action="store_true", help="name the features and end")
    options = parser.parse_args()
    if options.list:
        from ansible_collections.ekho.ynl_mirror.tests.equivalence.generate import FEATURES

        print("\n".join(f"{name:18} {(function.__doc__ or '').strip()}" for name, function in FEATURES.items()))
        sys.exit(0)
    return options


def _jobs(options: argparse.Namespace) -> Iterator[tuple[str, int, tuple[str, ...], bool, bool]]:
    """(row of the table, seed, features, ...) of each case."""
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.generate import CHANGING, STANDING, TOGETHER, mix

    alone = [(name, (name,)) for name in (*STANDING, *CHANGING)]
    kinds: dict[str, list[tuple[str, tuple[str, ...] | None]]] = {
        "plain": [("plain", ())],
        "each": [*alone],
        "together": [("together", TOGETHER)],
        "mix": [("mix", None)],
    }
    kinds["all"] = [*kinds["plain"], *alone, *kinds["together"], *[("mix", None)] * (len(alone) // 2)]
    turn: list[tuple[str, tuple[str, ...] | None]] = []
    for word in options.features.split(","):
        turn += kinds.get(word, [(word, tuple(word.split("+")))])
    for number in range(options.cases):
        row, features = turn[number % len(turn)]
        seed = options.seed + number
        yield row, seed, mix(seed) if features is None else features, not options.no_mirror, options.minimal


def _stop(*_signal: object) -> None:
    """Told to end: so are the workers, whose machines go with them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for worker in multiprocessing.active_children():
        worker.terminate()
    raise KeyboardInterrupt


def _begin() -> None:
    """A worker's lab, which goes when the worker does."""
    global _lab  # noqa: PLW0603 - one for each process
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab

    folder = tempfile.TemporaryDirectory()
    _lab = Lab(Path(folder.name))
    multiprocessing.util.Finalize(_lab, _end, (_lab, folder), exitpriority=10)
    made = _lab

    def stop(*_signal: object) -> None:
        _end(made, folder)
        os._exit(143)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _end(made: Lab, folder: tempfile.TemporaryDirectory[str]) -> None:
    made.close()
    folder.cleanup()


def _play(job: tuple[str, int, tuple[str, ...], bool, bool]) -> Played:
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.generate import case
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.play import minimal, play

    row, seed, features, mirror, smaller = job
    assert _lab is not None
    began = time.monotonic()
    made = case(seed, features)
    outcome = play(_lab, made, mirror)
    script = outcome.trouble and made.script()
    if outcome.differences:
        worst = outcome.differences[0]
        if smaller:
            less = minimal(_lab, made, lambda seen: any(one.what == worst.what for one in seen.differences))
            worst = (play(_lab, less, mirror, force=True).differences or [worst])[0]
        script = worst.script()
    told = [str(one) for one in outcome.differences[:_TOLD]]
    return Played(row, made.name, outcome.tally, told, outcome.trouble, script, time.monotonic() - began)


def _report(played: Played, options: argparse.Namespace, rows: dict[str, Tally], troubles: Counter[str]) -> None:
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import leave
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.compare import Tally

    rows.setdefault(played.row, Tally()).add(played.tally)
    troubles[played.row] += bool(played.trouble)
    if not played.script:
        return
    script = leave(played.name, played.script)
    if not options.quiet:
        print(f"== {played.name}: {played.tally.wrong} of {played.tally.fates} fates are wrong, {script}")
        print(*([played.trouble] if played.trouble else []), *played.told, sep="\n", flush=True)


def _progress(number: int, of: int, rows: dict[str, Tally], seconds: float) -> None:
    fates, wrong = sum(tally.fates for tally in rows.values()), sum(tally.wrong for tally in rows.values())
    text = f"{number} of {of} cases, {number / seconds:.1f} a second: {fates} fates, {wrong} wrong"
    print(text, file=sys.stderr, flush=True)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 100.0


def _table(rows: dict[str, Tally]) -> str:
    """The summary, by feature."""
    from ansible_collections.ekho.ynl_mirror.tests.equivalence.compare import Tally

    whole = Tally()
    head = f"{'feature':18} {'cases':>6} {'wrong':>6} {'fates':>8} {'wrong':>7} {'detours':>8} {'short':>7} "
    lines = [f"{head}{'provable':>8} {'short':>7} {'uneven':>6}  what is wrong; why detours stay"]
    for row, tally in [*rows.items(), ("all", whole)]:
        if tally is not whole:
            whole.add(tally)
        why = [f"{what} {count}" for what, count in tally.kinds.most_common(3)]
        stay = [f"{what} {count}" for what, count in tally.doubts.most_common(3)]
        lines.append(
            f"{row:18} {tally.cases:6} {tally.wrong_cases:6} {tally.fates:8} {tally.wrong:7} {tally.detours:8} "
            f"{_percent(tally.shortened, tally.detours):6.1f}% {tally.provable:8} "
            f"{_percent(tally.provable_shortened, tally.provable):6.1f}% {tally.uneven:6}  "
            f"{', '.join(why)}{'; ' if stay else ''}{', '.join(stay)}".rstrip()
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
