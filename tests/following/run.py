# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of a real kernel for as long as you like; needs root.

    .venv/bin/python tests/following/run.py --seconds 3600            an hour, seeds 0, 1, 2, ...
    .venv/bin/python tests/following/run.py --seconds 600 --seed 7    ten minutes from seed 7 on

The first history after which a follower is wrong is made small and printed with the script that does it again; the
exit code is 1 then.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import time
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

CHECKOUT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(CHECKOUT / ".cache" / "collections"))
#: Histories of one seed, and steps of each.
_HISTORIES, _STEPS = 20, 40


def main() -> int:
    """Try seed after seed until the time is over."""
    parser = argparse.ArgumentParser(description="Compare a follower with a real kernel after random histories.")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="the first one (default 0)")
    arguments = parser.parse_args()
    from ansible_collections.ekho.ynl_mirror.tests.following.history import SCRIPTS, History

    logging.disable()
    limits = settings(
        max_examples=_HISTORIES,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    end = time.monotonic() + arguments.seconds
    for seed in itertools.count(arguments.seed):
        if time.monotonic() > end:
            return 0
        first = SCRIPTS / f"history-{os.getpid()}-first.sh"
        machine = type("History", (History,), {"first": first})  # seed() marks its argument, and only once
        try:
            run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=limits)
        except Exception as error:
            # Where it depends on timing hypothesis cannot do it again, and reports that in place of the failure.
            print(f"seed {seed}:", *getattr(error, "__notes__", ()), error, f"in {first}: what failed first", sep="\n")
            return 1
        print(f"seed {seed}: {_HISTORIES} histories of up to {_STEPS} steps, each right", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
