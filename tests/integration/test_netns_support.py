# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace fixture itself: everything else in tests/integration stands on it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import NoReturn

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import CommandError, Namespace, NamespaceFactory


def _links() -> list[str]:
    return sorted(name for _index, name in socket.if_nameindex())


def _fail() -> NoReturn:
    raise ValueError("the child's own words")


def test_pair_is_joined_for_both_families(namespaces: NamespaceFactory) -> None:
    left, _right = namespaces.pair()
    left.run("ping", "-c", "1", "-W", "2", "192.0.2.2")
    left.run("ping", "-c", "1", "-W", "2", "fd00:db8::2")


def test_call_runs_inside_and_returns_the_result(netns: Namespace) -> None:
    netns.ip("link add only-here type veth peer name other-end")
    assert netns.call(_links) == ["lo", "only-here", "other-end"]
    assert "only-here" not in _links()


def test_call_raises_what_the_child_raised(netns: Namespace) -> None:
    with pytest.raises(AssertionError, match="the child's own words"):
        netns.call(_fail)


def test_call_is_bounded(netns: Namespace) -> None:
    with pytest.raises(AssertionError, match=r"took over 0\.2 s"):
        netns.call(time.sleep, 20, seconds=0.2)


def test_entered_socket_keeps_its_namespace_and_the_thread_comes_home(netns: Namespace) -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    with netns.entered():
        assert os.readlink("/proc/thread-self/ns/net") != home
        server = socket.create_server(("127.0.0.1", 0))
    assert os.readlink("/proc/thread-self/ns/net") == home
    with server:
        assert f":{server.getsockname()[1]}" in netns.run("ss", "-Htln").stdout


def test_ip_json_of_an_absent_table_is_empty(netns: Namespace) -> None:
    assert netns.ip_json("route show table 4711") == []


def test_a_failed_ip_names_the_command_and_its_error(netns: Namespace) -> None:
    with pytest.raises(CommandError, match=r"(?s)route add.*no-such-link"):
        netns.ip("route add 10.0.0.0/8 dev no-such-link")


def test_close_ends_processes_and_deletes_everything(namespaces: NamespaceFactory) -> None:
    left, right = namespaces.pair()
    process = left.start("sleep", "600")
    namespaces.close()
    assert process.poll() is not None
    assert not Path("/run/netns", left.name).exists()
    assert not Path("/run/netns", right.name).exists()
