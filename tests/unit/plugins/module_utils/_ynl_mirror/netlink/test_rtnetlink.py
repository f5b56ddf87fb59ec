# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink messages of any type: how they are walked, batched and answered, and what is malformed."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink

REQUESTS = st.binary(max_size=100).map(
    lambda payload: rtnetlink.request(rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST, payload)
)


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=20)), max_size=10))
def test_attributes_survive_encoding(many: list[tuple[int, bytes]]) -> None:
    buffer = b"".join(rtnetlink.attribute(kind, payload) for kind, payload in many)
    assert list(rtnetlink.attributes(buffer, 0, len(buffer))) == many


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_walkers_raise_nothing_but_wire_error(data: bytes) -> None:
    for walk in (
        lambda: list(rtnetlink.messages(data)),
        lambda: list(rtnetlink.attributes(data, 0, len(data))),
        lambda: rtnetlink.parse_acknowledgement(data, 0, len(data)),
    ):
        try:
            walk()
        except rtnetlink.WireError as error:
            assert str(error)


@given(REQUESTS, st.text(st.characters(exclude_characters="\0", codec="ascii"), max_size=100))
def test_an_error_survives_encoding(request: bytes, text: str) -> None:
    answer = rtnetlink.encode_error(request, errno.ENETUNREACH, text)
    [(kind, _flags, start, end)] = rtnetlink.messages(answer)
    assert kind == rtnetlink.NLMSG_ERROR
    assert rtnetlink.parse_acknowledgement(answer, start, end) == (errno.ENETUNREACH, text, request)


def test_the_end_of_a_replay_is_one_message() -> None:
    [(kind, _flags, start, end)] = rtnetlink.messages(rtnetlink.encode_done())
    assert (kind, end - start) == (rtnetlink.NLMSG_DONE, 20)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.integers(1, 100))
def test_batches_cover_all_messages_and_keep_the_limit(messages: list[bytes], limit: int) -> None:
    cut = list(rtnetlink.chunks(messages, limit))
    assert [index for start, stop in cut for index in range(start, stop)] == list(range(len(messages)))
    assert all(sum(map(len, messages[a:b])) <= limit or b - a == 1 for a, b in cut)
