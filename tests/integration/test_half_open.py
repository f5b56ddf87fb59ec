# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that vanishes silently: the kernel ends its connection with ETIMEDOUT, as TimeoutError in Python.

Since Python 3.11 that is what a wait that is over raises as well. The agent took the one for the other: it ended the
replay, sweeping all that it had not named, and asked the dead connection again, for ever and without a pause.
"""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.host_session import HostSession, serve
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.installer import Installer
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import frames
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Requests
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Rib
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory

MAIN = 254
PATH = Path(AF_INET, MAIN, protocol=4, nexthops=(NextHop(Address.parse("192.0.2.2"), 9),))
BEFORE, NAMED = (Prefix.parse(text).key for text in ("10.1.0.0/16", "10.2.0.0/16"))


def _impatient(sock: socket.socket) -> None:
    """What keep_alive() sets, for a test that does not want to wait for half a minute."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
        sock.setsockopt(socket.IPPROTO_TCP, option, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)


def _connected(dpu: Namespace, host: Namespace) -> tuple[socket.socket, socket.socket]:
    with dpu.entered(), socket.create_server(("192.0.2.1", 2620)) as server:
        with host.entered():
            theirs = socket.create_connection(("192.0.2.1", 2620), 10)
        ours, _address = server.accept()
    _impatient(ours)
    return ours, theirs


@pytest.mark.parametrize("complete", [False, True])
def test_a_connection_that_times_out_ends_its_session_and_sweeps_nothing(
    namespaces: NamespaceFactory, caplog: pytest.LogCaptureFixture, complete: bool
) -> None:
    caplog.set_level(logging.INFO)
    dpu, host = namespaces.pair("dpu", "host")
    ours, theirs = _connected(dpu, host)
    with dpu.entered():
        requests = Requests()
    mirror = Installer(requests, Mapper(View(), Policy()), (MAIN,), Rib(()))
    mirror.announced[AF_INET, MAIN] = {BEFORE: PATH}
    messages = RouteWriter(rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_CREATE).batch([(NAMED, PATH)])

    async def play() -> HostSession:
        reader, writer = await asyncio.open_connection(sock=ours)
        session = HostSession("host", mirror, 30.0, asyncio.Lock())
        task = asyncio.ensure_future(serve(session, reader, writer))
        theirs.sendall(b"".join(frames(messages + [rtnetlink.encode_done()] * complete)))
        assert await asyncio.get_running_loop().run_in_executor(None, theirs.recv, 1)
        host.ip("link set eth1 down")
        await asyncio.wait_for(task, 30)
        return session

    session = asyncio.run(play())
    theirs.close()
    requests.close()
    assert "host: connection lost ([Errno 110] Connection timed out); its routes stay" in caplog.text
    assert session.replayed == complete
    assert set(mirror.announced[AF_INET, MAIN]) == ({NAMED} if complete else {BEFORE, NAMED})
