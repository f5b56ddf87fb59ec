# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what only VRF devices show. Where root may make such devices they run here, elsewhere in a guest."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.elsewhere import REPORTS, Elsewhere, Reporter
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import CommandError, NamespaceFactory

HERE = Path(__file__).parent
#: The guest's own pytest limits each test; this one limits the wait for it, the making of the guest included.
SECONDS = 1500
_elsewhere = pytest.StashKey[Elsewhere]()


@functools.cache
def has_vrf_devices() -> bool:
    """Whether root's kernel makes a VRF device."""
    if os.geteuid() != 0:
        return False
    factory = NamespaceFactory()
    try:
        factory("probe").ip("link add name a type vrf table 10")
    except CommandError:
        return False
    finally:
        factory.close()
    return True


def pytest_configure(config: pytest.Config) -> None:
    """In a guest: report the outcomes of the tests to the outer pytest."""
    if REPORTS in os.environ:
        config.pluginmanager.register(Reporter(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where they need a guest, the tests of this folder are slow."""
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    if mine and not has_vrf_devices():
        for item in mine:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find the tests of this folder that are to run."""
    mine = [item for item in session.items if item.path.is_relative_to(HERE)]
    if mine and REPORTS not in os.environ and not session.config.option.collectonly and not has_vrf_devices():
        for item in mine:
            item.add_marker(pytest.mark.timeout(SECONDS))
        session.config.stash[_elsewhere] = Elsewhere(session.config, [item.nodeid for item in mine])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run a test of this folder in the guest, if there has to be one."""
    elsewhere = item.config.stash.get(_elsewhere, None)
    if elsewhere is None or not item.path.is_relative_to(HERE):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    call = pytest.CallInfo.from_call(
        lambda: elsewhere.reports(item.nodeid), when="call", reraise=(KeyboardInterrupt, pytest.exit.Exception)
    )
    reports = call.result if call.excinfo is None else [item.ihook.pytest_runtest_makereport(item=item, call=call)]
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the guest."""
    elsewhere = config.stash.get(_elsewhere, None)
    if elsewhere is not None:
        elsewhere.close()
