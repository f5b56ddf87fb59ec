# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ``ansible_collections.ekho.ynl_mirror`` and offers real network namespaces.

Tests import the library by its full name, as Ansible does::

    from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import Route
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling
    from xdist.workermanage import WorkerController

    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory

CHECKOUT = Path(__file__).resolve().parent.parent
COLLECTIONS = CHECKOUT / ".cache" / "collections"


def _link_checkout() -> None:
    """Make COLLECTIONS/ansible_collections/ekho/ynl_mirror lead to this checkout (the set-up step does the same)."""
    link = COLLECTIONS / "ansible_collections" / "ekho" / "ynl_mirror"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.resolve() != CHECKOUT:
        link.unlink(missing_ok=True)
        link.symlink_to(CHECKOUT, target_is_directory=True)


_link_checkout()
sys.path.insert(0, str(COLLECTIONS))
# For every ansible command that a test starts.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)

# What is quick and says most comes first. Among the slow ones the longest does, so that the others run beside it.
ORDER = (
    "unit",
    "tooling/test_lint.py",
    "integration/test_wrong_input.py",
    "faults",
    "tooling/test_package.py",
    "integration",
)
SLOW_ORDER = ("lab", "tooling/test_molecule.py", "fuzz", "tooling/test_sanity.py", "integration/test_roles.py")


def _position(item: pytest.Item) -> tuple[bool, int]:
    place = item.path.relative_to(CHECKOUT / "tests").as_posix()
    slow = item.get_closest_marker("slow") is not None
    order = SLOW_ORDER if slow else ORDER
    return slow, next((number for number, prefix in enumerate(order) if place.startswith(prefix)), len(order))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests after the others, each kind in its order; within one group it stays as collected."""
    items.sort(key=_position)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Hand out tests by file, with two exceptions.

    All of tests/vrf goes to one process: elsewhere each would start a guest for its part. Each linter counts as a file.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/tooling/test_lint.py"):
                return nodeid
            return "tests/vrf" if nodeid.startswith("tests/vrf/") else super()._split_scope(nodeid)

        def _reschedule(self, node: WorkerController) -> None:
            # xdist hands out more when two tests are left. Each may take minutes, and a process needs to know but one.
            if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each folder of tests and for each tool: how many tests, how they ended, how many seconds."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            path, _sep, test = report.nodeid.removeprefix("tests/").partition("::")
            group = path.removesuffix(".py") if path.startswith("tooling/") else path.rpartition("/")[0]
            if group == "tooling/test_lint":
                group = f"{group}: {test}"
            outcomes[group][outcome] += 1
            seconds[group] += getattr(report, "duration", 0.0)  # a file that cannot be imported has none
    if not outcomes:
        return
    terminalreporter.section("what ran")
    for group, counts in outcomes.items():
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"{group:56} {told:28} {seconds[group]:7.1f} s")


@pytest.fixture(scope="session")
def _root() -> None:
    """Network namespaces need root. Without it kernel tests are skipped - never in CI, where that would hide them."""
    if os.geteuid() == 0:
        return
    message = "network namespaces need root: run the tests with sudo"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def namespaces(_root: None) -> Iterator[NamespaceFactory]:
    """Call it for a fresh network namespace (loopback up); every one is deleted after the test, whatever happened."""
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory

    factory = NamespaceFactory()
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def netns(namespaces: NamespaceFactory) -> Namespace:
    """One fresh network namespace."""
    return namespaces()
