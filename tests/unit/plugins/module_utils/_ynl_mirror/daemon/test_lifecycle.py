# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemons share."""

from __future__ import annotations

import asyncio

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon import lifecycle


def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_AGAIN", 0.01)
    swallowed = []

    async def deaf_once() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.append(True)
        await asyncio.sleep(60)

    async def play() -> bool:
        task = asyncio.ensure_future(deaf_once())
        await asyncio.sleep(0)
        await asyncio.wait_for(lifecycle.end(task), 10)
        return task.cancelled()

    assert asyncio.run(play())
    assert swallowed == [True]


def test_ending_a_task_that_has_ended_changes_nothing() -> None:
    async def play() -> int:
        task = asyncio.ensure_future(asyncio.sleep(0, 5))
        await task
        await lifecycle.end(task)
        return task.result()

    assert asyncio.run(play()) == 5
