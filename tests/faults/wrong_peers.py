# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that somebody makes: another host that claims the DPU, a peer that speaks garbage, a broken configuration."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import ssl
import struct

from ansible_collections.ekho.ynl_mirror.tests.faults.stage import Stage, told
from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import client
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import Producer, frame, message

#: Frames that are none, lie about their length, never end, or say nothing.
_GARBAGE = (
    random.Random(4).randbytes(1 << 20),
    struct.pack(">BBH", 1, 1, 3),
    struct.pack(">BBH", 1, 1, 65535) + bytes(20),
    frame(struct.pack("=IHHII", 1 << 31, 24, 0, 0, 0)),
    frame(message(24, b"\x02\x21" + bytes(10))),
    b"",
)
_NOOP = message(1, b"")


def two_listeners(stage: Stage) -> None:
    """Another host, which may connect as well, claims the DPU as long as the first is there."""
    host_a = stage.lab.host_a
    host_a.ip("route add 10.99.0.0/16 via 192.168.11.1")
    second = stage.lab.listener(
        namespace=host_a,
        tls=stage.ca.issue("ekho-second"),
        agents=[{"address": "192.168.11.1", "server_name": "ekho-dpu"}],
    )
    try:
        with stage.churn() as churn:
            for _number in range(stage.size.kills):
                told(stage.agent, len(stage.agent.log()), "refused: host ekho-host is connected")
                churn.some(40)
                stage.kill(second)
                second.start()
    finally:
        stage.kill(second)
        host_a.ip("route del 10.99.0.0/16")


def garbage(stage: Stage) -> None:
    """Peers with the host's own certificate, with that of another authority, and with none."""
    own = stage.usual("listener")["tls"]
    said = len(stage.agent.log())
    with stage.churn() as churn:
        for _number in range(stage.size.kills):
            for data in _GARBAGE:
                for context in (client(own, own["ca"]), client(None, own["ca"]), None):
                    _send(stage, data, context)
            churn.some(40)
        told(stage.agent, said, "not an FPM frame")
        _send(stage, frame(_NOOP) * 5 * stage.size.changes, client(own, own["ca"]))
    stage.connected()


def _send(stage: Stage, data: bytes, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):  # the agent hangs up, or the real host takes its place back
        server_name = None if context is None else "ekho-dpu"
        with Producer(stage.lab.host, "192.168.109.1", context=context, server_name=server_name) as peer:
            peer.sock.sendall(data)
            peer.sock.shutdown(socket.SHUT_WR)


def broken_configuration(stage: Stage) -> None:
    """No JSON, an unknown option, no certificate: each is reloaded, and then what was good."""
    files = [daemon.file for daemon in stage.daemons]
    with stage.churn() as churn:
        for broken in ("{", '{"agnets": []}', ""):
            for daemon, file in zip(stage.daemons, files):
                said = len(daemon.log())
                file.write_text(broken)
                daemon.signal(signal.SIGHUP)
                told(daemon, said, "configuration and certificates are unchanged")
            churn.some(40)
        stage.weather.reset()  # also a connection that is made now is made with what was good
        stage.connected()
        for daemon in stage.daemons:
            said = len(daemon.log())
            daemon.reload()
            told(daemon, said, "SIGHUP")
