# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz for as long as you like: every target of targets.py in turn, coverage-guided when atheris is installed.

    .venv/bin/python tests/fuzz/run.py --seconds 3600                 an hour, shared by all targets
    .venv/bin/python tests/fuzz/run.py --seconds 300 --target route   five minutes of one

Without atheris (`pip install -r tests/requirements-fuzz.txt`) hypothesis makes the input, without looking at coverage.
The first input that breaks a promise is made small and printed as a test for test_found.py; the exit code is 1 then.
Inputs that reached new code stay in .cache/fuzz, so that the next run starts from them.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CORPUS = CHECKOUT / ".cache" / "fuzz"
COLLECTION = "ansible_collections.ekho.ynl_mirror"
#: What comes before an input that broke a promise, in what a child prints.
_FOUND = "found: "
sys.path.insert(0, str(CHECKOUT / ".cache" / "collections"))


def main() -> int:
    """Share the time among the targets; a process for each, since libFuzzer never returns."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default 60)")
    parser.add_argument("--target", action="append", help="only this one; may be given several times")
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), help="default: atheris if it is installed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable()
    engine = arguments.engine or ("atheris" if importlib.util.find_spec("atheris") else "hypothesis")
    if arguments.inside:
        return {"atheris": _atheris, "hypothesis": _hypothesis}[engine](arguments.target[0], arguments.seconds)
    from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS

    names = arguments.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    failed = [name for name in names if not _child(name, arguments.seconds / len(names), engine)]
    print(
        f"{len(names) - len(failed)} of {len(names)} targets kept their promises"
        + "".join(f", not {x}" for x in failed)
    )
    return 1 if failed else 0


def _child(name: str, seconds: float, engine: str) -> bool:
    command = [sys.executable, __file__, "--inside", "--engine", engine, "--target", name, "--seconds", str(seconds)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    taken = time.monotonic() - started
    output = done.stdout + done.stderr
    runs = re.findall(r"(?:Done|stat::number_of_executed_units:) +(\d+)|^#(\d+)", output, re.MULTILINE)
    count = max((int(one or other) for one, other in runs), default=0)
    edges = re.findall(r" ft: (\d+)", output)
    found = f", {edges[-1]} features" if edges else ""
    print(f"{name:15} {engine:10} {count:9} inputs, {count / taken:7.0f}/s{found}", flush=True)
    found_input = re.search(rf"^{_FOUND}([0-9a-f]*)$", output, re.MULTILINE)
    if found_input:
        _report(name, bytes.fromhex(found_input[1]))
    elif done.returncode:
        print(output[-4000:], flush=True)
    return done.returncode == 0


def _atheris(name: str, seconds: float) -> int:
    import atheris

    with atheris.instrument_imports(include=[f"{COLLECTION}.plugins.module_utils"]):
        from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number:03}").write_bytes(seed)

    def run(data: bytes) -> None:
        try:
            target.run(data)
        except Exception:
            print(f"\n{_FOUND}{data.hex()}", flush=True)
            os._exit(1)  # libFuzzer would go on to write a crash file, and knows nothing about Python

    settings = [f"-max_total_time={max(1, round(seconds))}", "-max_len=4096", "-rss_limit_mb=1500", "-timeout=10"]
    # An input that takes too long or too much memory ends in a file there.
    settings += ["-print_final_stats=1", f"-artifact_prefix={CORPUS}/{name}-"]
    atheris.Setup([sys.argv[0], *settings, str(corpus)], run)
    atheris.Fuzz()
    return 0


def _hypothesis(name: str, seconds: float) -> int:
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import settings as profile

    from ansible_collections.ekho.ynl_mirror.tests.fuzz.mutate import inputs
    from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS

    target, end, count = TARGETS[name], time.monotonic() + seconds, 0

    class Enough(BaseException):
        """The time is over."""

    @profile(
        max_examples=10**9,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(inputs(target.seeds))
    def fuzz(data: bytes) -> None:
        nonlocal count
        if time.monotonic() > end:
            raise Enough
        count += 1
        try:
            target.run(data)
        except Exception:
            print(f"\n{_FOUND}{data.hex()}", flush=True)
            raise Enough from None

    try:
        fuzz()
    except Enough:
        print(f"Done {count}")
    return 0 if time.monotonic() > end else 1


def _report(name: str, data: bytes) -> None:
    """Print a fault with the smallest input that shows it, as a test."""
    from ansible_collections.ekho.ynl_mirror.tests.fuzz.mutate import smallest
    from ansible_collections.ekho.ynl_mirror.tests.fuzz.targets import TARGETS

    data = smallest(TARGETS[name].run, data)
    try:
        TARGETS[name].run(data)
    except Exception:
        traceback.print_exc(file=sys.stdout)
    print(
        f'\n\ndef test_found_in_{name}() -> None:\n    TARGETS["{name}"].run(bytes.fromhex("{data.hex()}"))\n',
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
