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

# Those that take minutes come first, so that the others run beside them; then what is quick and says most.
LONG = ("lab", "tooling/test_oldest_python.py", "tooling/test_molecule.py", "tooling/test_sanity.py", "vrf")
ORDER = (*LONG, "unit", "tooling/test_lint.py", "integration")


def _position(item: pytest.Item) -> int:
    place = item.path.relative_to(CHECKOUT / "tests").as_posix()
    return next((number for number, prefix in enumerate(ORDER) if place.startswith(prefix)), len(ORDER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests in ORDER; within one group the order stays as collected."""
    items.sort(key=_position)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Hand out tests by file, but all of tests/vrf to one process: elsewhere each would start a guest for its part."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/vrf" if nodeid.startswith("tests/vrf/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each folder of tests and for each tool: how many tests, how they ended, how many seconds."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            path, _sep, test = report.nodeid.removeprefix("tests/").partition("::")
            group = (
                f"{path.partition('/')[0]}: {test.partition('[')[0]}"
                if path.startswith("tooling/")
                else path.rpartition("/")[0]
            )
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
