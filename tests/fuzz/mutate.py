# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid input made wrong, as hypothesis shrinks it: a few edits of a seed; and a failing input made small."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

#: Numbers at which lengths and counters break.
_WORDS = tuple(struct.pack("=I", number) for number in (0, 1, 3, 4, 15, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))


@st.composite
def inputs(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed, or two in a row, after some edits; or just bytes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.booleans()):
        data += draw(st.sampled_from(seeds))
    for _number in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        edit = draw(st.sampled_from(("byte", "word", "cut", "repeat", "insert", "end", "length")))
        if edit == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif edit == "word":
            data[at & ~3 : (at & ~3) + 4] = draw(st.sampled_from(_WORDS))
        elif edit == "length":
            data[at & ~3 : (at & ~3) + 2] = struct.pack("=H", draw(st.integers(0, 64)))
        elif edit == "cut":
            del data[at : at + draw(st.integers(1, 16))]
        elif edit == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        elif edit == "insert":
            data[at:at] = draw(st.binary(max_size=16))
        else:
            del data[at:]
    return bytes(data)


def smallest(run: Callable[[bytes], None], data: bytes, seconds: float = 30.0) -> bytes:
    """The input with everything taken away that is not needed for it to fail in the same way, as far as time allows."""
    wanted = failure(run, data)
    size = max(1, len(data) // 2)
    end = time.monotonic() + seconds
    while size and time.monotonic() < end:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if failure(run, shorter) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def failure(run: Callable[[bytes], None], data: bytes) -> str | None:
    """The kind of fault that an input finds, None when it finds none."""
    try:
        run(data)
    except Exception as error:
        return type(error).__name__
    return None
