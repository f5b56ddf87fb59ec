# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of the lab of virtual machines when somebody interrupts it."""

from __future__ import annotations

import signal

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.action.qemu_topology import _interrupted_in_order

pytestmark = pytest.mark.controller


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_interrupted_ends_what_is_at_work(number: int) -> None:
    """Ansible sends its workers SIGINT and then SIGTERM, which would cut the tidying short."""
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    done = []

    def work() -> None:
        with _interrupted_in_order():
            try:
                signal.raise_signal(number)
                done.append("work")
            finally:
                signal.raise_signal(signal.SIGTERM)
                done.append("tidying")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["tidying"]
    assert {one: signal.getsignal(one) for one in handlers} == handlers
