# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sysctls of links: a message of a kernel, there and back, and damaged bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import ALL_LINKS, NetConf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, AF_INET6
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import netconf_codec, rtnetlink

#: What Linux 6.18 answers about lo, on little-endian machines.
KERNEL = bytes.fromhex(
    "4c0000005000020001000000b853000002000000080001000100000008000200000000000800030000000000"
    "08000400000000000800080000000000080005000000000008000600000000004c000000"
)[:76]


def test_a_message_of_the_kernel_is_read() -> None:
    assert netconf_codec.decode(KERNEL) == NetConf(AF_INET, 1, forwarding=False, ignores_linkdown=False)


def test_a_notification_has_the_sysctl_that_changed_only() -> None:
    body = bytes((AF_INET6, 0, 0, 0)) + rtnetlink.attribute(1, b"\xff" * 4) + rtnetlink.attribute(6, b"\1\0\0\0")
    found = netconf_codec.decode(rtnetlink.request(rtnetlink.RTM_NEWNETCONF, 0, body))
    assert found == NetConf(AF_INET6, ALL_LINKS, forwarding=None, ignores_linkdown=True)


@given(st.sampled_from((AF_INET, AF_INET6)), st.integers(-2, 0x7FFFFFFF), st.booleans())
def test_forwarding_goes_there_and_back(family: int, index: int, forwarding: bool) -> None:
    message = netconf_codec.encode(NetConf(family, index, forwarding, True))
    assert message[4] == rtnetlink.RTM_NEWNETCONF
    assert netconf_codec.decode(message) == NetConf(family, index, forwarding)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (rtnetlink.request(80, 0), "netconf message of 16 bytes"),
        (rtnetlink.request(80, 0, bytes(4)), "NETCONFA_IFINDEX of 0 bytes"),
        (rtnetlink.request(80, 0, bytes(4) + rtnetlink.attribute(1, b"\0")), "NETCONFA_IFINDEX of 1 bytes"),
        (KERNEL[:-4] + b"\0\0\0\0"[:1], "attribute 6 of 8 bytes"),
    ],
)
def test_a_malformed_message_is_an_error(message: bytes, error: str) -> None:
    with pytest.raises(rtnetlink.WireError, match=error):
        netconf_codec.decode(message)


@given(st.binary(max_size=100))
def test_random_bytes_raise_nothing_but_wire_error(data: bytes) -> None:
    try:
        netconf_codec.decode(data)
    except rtnetlink.WireError as error:
        assert str(error)
