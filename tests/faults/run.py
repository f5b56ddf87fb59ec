# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the faults of rows.py happen, for as long and as hard as you like, and measure what each costs.

    .venv/bin/python tests/faults/run.py                                   all of them, as in docs/reliability.md
    .venv/bin/python tests/faults/run.py --row killed --kills 500          one, for longer
    .venv/bin/python tests/faults/run.py --json faults.json                the numbers for a program

Needs root, for the network namespaces. A row that breaks its promise is reported at once, and the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent.parent
COLLECTIONS = CHECKOUT / ".cache" / "collections"
sys.path.insert(0, str(COLLECTIONS))
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)  # the daemons are started from there

_HEAD = f"{'fault':14} {'s to exact':>10} {'lost':>6} {'of':>7} {'agent MiB':>10} {'listener MiB':>13}"


def main() -> int:
    """Play the rows that are asked for; 0 when all of them kept their promises."""
    from ansible_collections.ekho.ynl_mirror.tests.faults.rows import ROWS
    from ansible_collections.ekho.ynl_mirror.tests.faults.stage import Size, stage

    options = _options([row.name for row in ROWS])
    rows = [row for row in ROWS if not options.row or row.name in options.row]
    if options.list:
        print("\n".join(f"{row.name:14} {row.what}" for row in rows))
        return 0
    if os.geteuid() != 0:
        sys.exit("network namespaces need root: run it with sudo")
    size = Size(options.kills, options.changes, options.seconds, fresh=True)
    outcomes, failed = [], []
    logs = io.StringIO()  # what the lab prints of the daemons' logs in the end
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(logs))
        made = stack.enter_context(stage(Path(folder), size))
        for row in rows:
            _tell(f"{row.name}: {row.what} ...", end=" ")
            began = time.monotonic()
            try:
                outcomes.append(made.play(row))
                _tell(f"exact ({time.monotonic() - began:.0f} s in all)")
            except AssertionError as error:
                failed.append(row.name)
                _tell(f"FAILED: {str(error) or type(error).__name__}")
    if failed and options.logs:
        _tell(logs.getvalue())
    _tell("")
    _tell(_HEAD)
    for one in outcomes:
        found = f"{one.name:14} {one.seconds:10.2f} {one.lost:6} {one.sent:7}"
        _tell(f"{found} {one.agent_mib:10.0f} {one.listener_mib:13.0f}")
    machine = {"kernel": platform.release(), "cores": os.cpu_count(), "python": platform.python_version()}
    _tell(f"{machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}")
    _tell(f"{len(outcomes)} of {len(rows)} faults were survived" + "".join(f", not {name}" for name in failed))
    if options.json:
        told: dict[str, Any] = {"machine": machine, "options": vars(options), "failed": failed}
        told["outcomes"] = [one.to_dict() for one in outcomes]
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")
    return 1 if failed else 0


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make faults happen to both daemons, and measure what each costs.")
    parser.add_argument("--row", action="append", choices=names, metavar="NAME", help="only this one; several times")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    parser.add_argument("--kills", type=int, default=50, help="kills, resets, swaps and overruns (default 50)")
    parser.add_argument("--changes", type=int, default=200_000, help="changes that meet a slow DPU (default 200000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which links are cut (default 60)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there too")
    parser.add_argument("--logs", action="store_true", help="when a row fails, print the daemons' logs in the end")
    return parser.parse_args()


def _tell(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    sys.exit(main())
