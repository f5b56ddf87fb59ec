# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that speak garbage, half frames, absurd lengths, a million frames, or nothing at all, to real daemons."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import Authority
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import NOTHING, OFFLOADED, Daemon, MirrorLab
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    OFFLOAD,
    RTM_DELROUTE,
    Consumer,
    Producer,
    frame,
    message,
    route,
)
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

GOOD = route("192.168.11.0/24", "192.168.101.1")
NOOP = message(1, b"")


def _wrong_lengths() -> dict[str, tuple[bytes, str]]:
    headers = ((1, 1, length) for length in range(4))
    return {f"a frame of length {n}": (struct.pack(">BBH", v, k, n), rf"type {k}, length {n};") for v, k, n in headers}


#: What is sent, and what the agent says about it.
GARBAGE: dict[str, tuple[bytes, str]] = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "not an FPM frame: version 71, type 69"),
    "another version": (struct.pack(">BBH", 2, 1, 4), "not an FPM frame: version 2"),
    "another type": (struct.pack(">BBH", 1, 2, 4), "not an FPM frame: version 1, type 2"),
    **_wrong_lengths(),
    "random bytes": (random.Random(4).randbytes(1 << 20), "not an FPM frame"),
    "a message that is longer than its frame": (
        frame(struct.pack("=IHHII", 1 << 31, 24, 0, 0, 0)),
        "netlink message of 2147483648 bytes, but only 16 are left",
    ),
    "half a header": (frame(b"\x20\0\0\0\x18\0"), "6 stray bytes after the last netlink message"),
    "an attribute that is longer than its message": (
        frame(GOOD[:28] + struct.pack("=HH", 65535, 1) + GOOD[32:]),
        "attribute 1 of 65535 bytes",
    ),
    "host bits": (frame(route("192.168.11.0/24")[:-1] + b"\7"), r"192\.168\.11\.7/24 has host bits set"),
    "a prefix that is too long": (frame(GOOD[:17] + b"\x21" + GOOD[18:]), "prefix length 33"),
}


def _memory(daemon: Daemon, what: str) -> float:
    """VmRSS or VmHWM (the most there ever was) of a daemon, in MiB."""
    assert daemon.process is not None
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def _descriptors(daemon: Daemon) -> int:
    assert daemon.process is not None
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


def _lives(agent: Daemon) -> None:
    assert agent.process is not None
    assert agent.process.poll() is None
    assert agent.status()["ready"]
    assert "Traceback" not in agent.log()


def test_garbage_is_refused_with_the_reason_and_the_routes_stay(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    mirror.listener.signal(signal.SIGSTOP)  # it would be back before the garbage is there
    for what, (data, reason) in GARBAGE.items():
        with Producer(lab.host) as producer:
            with contextlib.suppress(OSError):
                producer.sock.sendall(data)
            assert producer.closed(), what
        mirror.agent.says(rf"192\.168\.101\.2: .*{reason}.*disconnected, its routes stay")
        assert lab.mirrored() == OFFLOADED, what
    _lives(mirror.agent)
    mirror.listener.signal(signal.SIGCONT)
    until(lambda: mirror.listener.status()["agents"][0]["replays"], 2)
    mirror.synced()
    lab.host.ip("route del 192.168.11.0/24")
    until(lab.mirrored, {**OFFLOADED, "b": ["fd00:11::/64 dev eth3"]})


def test_what_came_before_the_garbage_counts(lab: MirrorLab) -> None:
    """It was noted and never installed, and shown as installed all the same."""
    agent = lab.agent().ready()
    with Producer(lab.host) as producer:
        producer.sock.sendall(frame(GOOD) + b"garbage")
        assert producer.closed()
    until(lab.mirrored, {"a": [], "b": ["192.168.11.0/24 dev eth3"]})
    assert agent.state("192.168.11.0/24") == ("offloaded", None)
    _lives(agent)


@pytest.mark.parametrize("pause", [None, 1.0])
def test_half_a_frame_is_no_replay_and_times_out(lab: MirrorLab, pause: float | None) -> None:
    """The settle time is over long before: had it ended the replay, the other routes would have been swept."""
    lab.deploy()
    mirror = lab.mirror(agent={"settle_time": 0.5})
    mirror.listener.end(signal.SIGKILL)
    with Producer(lab.host) as producer:
        data = frame(GOOD)
        producer.sock.sendall(frame(GOOD) + data[:20])
        started = time.monotonic()
        with contextlib.suppress(OSError):  # cut off while it sends
            for byte in data[20:-1] if pause else b"":  # each byte in time, the frame not
                producer.sock.sendall(bytes((byte,)))
                time.sleep(pause or 0)
        assert producer.closed()
        assert time.monotonic() - started < 30
    mirror.agent.says(r"192\.168\.101\.2: incomplete frame \(\d+ bytes\) after 10 s; disconnected")
    always(lab.mirrored, OFFLOADED)
    _lives(mirror.agent)


def test_a_connection_that_says_nothing_is_no_empty_replay(lab: MirrorLab) -> None:
    """It took the listener's place and, after the settle time, all routes with it."""
    lab.deploy()
    mirror = lab.mirror(agent={"settle_time": 0.5})
    mirror.listener.signal(signal.SIGSTOP)
    with Producer(lab.host) as silent:
        assert silent.closed()
        mirror.agent.says("no frame within 10 s after connecting; disconnected, its routes stay")
    always(lab.mirrored, OFFLOADED)
    mirror.listener.signal(signal.SIGCONT)
    until(lambda: mirror.listener.status()["agents"][0]["replays"], 2)
    mirror.synced()


def test_a_million_tiny_frames_cost_time_and_no_memory(lab: MirrorLab) -> None:
    lab.deploy()
    agent = lab.agent().ready()
    with Producer(lab.host) as producer:
        producer.send(GOOD, DONE)
        assert producer.take(1)[0].flags == OFFLOAD
        before = _memory(agent, "VmRSS")
        producer.sock.settimeout(60)
        for tiny in (frame(), frame(NOOP)):
            for _block in range(50):
                producer.sock.sendall(tiny * 10_000)
        head = frame(route("10.0.0.0/32", kind=RTM_DELROUTE))[:-4]
        for block in range(100):  # withdrawals of routes that nobody ever had
            numbers = range(block * 3000, (block + 1) * 3000)
            producer.sock.sendall(b"".join(head + struct.pack(">I", 0x0A000000 + number) for number in numbers))
        producer.send(route("192.168.12.0/24", "192.168.102.1"))
        assert producer.take(1)[0].flags == OFFLOAD
        assert _memory(agent, "VmHWM") - before < 48
        assert lab.mirrored() == {"a": ["192.168.12.0/24 dev eth4"], "b": ["192.168.11.0/24 dev eth3"]}
        assert agent.status()["announced_routes"] == 2
    _lives(agent)


def test_a_peer_that_never_reads_its_answers_is_read_no_more(lab: MirrorLab) -> None:
    agent = lab.agent().ready()
    before = _memory(agent, "VmRSS")
    # Each answer carries the reason, and is several times as long as the question.
    block = frame(*(route("10.0.0.0/8", "10.9.9.9") for _number in range(500))) * 20
    with Producer(lab.host) as producer:
        producer.sock.settimeout(3)
        with pytest.raises(socket.timeout):  # TimeoutError since Python 3.10
            producer.sock.sendall(block * 100)
        assert _memory(agent, "VmHWM") - before < 48
        _lives(agent)
        until(lambda: agent.status()["hosts"], [])
        agent.says(r"192\.168\.101\.2: connection lost \(.*timed out\); its routes stay")


def test_connections_without_a_handshake_cost_little_and_time_out(lab: MirrorLab, tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    lab.deploy()
    agent = lab.agent(tls=ca.issue("ekho-dpu")).ready()
    before = _descriptors(agent)
    with contextlib.ExitStack() as stack:
        with lab.host.entered():
            for _number in range(300):
                stack.enter_context(socket.create_connection(("192.168.101.1", 2620), 10))
        agent.says(r"192\.168\.101\.2: more than 64 connections with an unfinished TLS handshake")
        until(lambda: _descriptors(agent), lambda count: count <= before + 64)
        # From another address or the same, a peer that belongs here gets in beside them.
        lab.listener(tls=ca.issue("ekho-host"), agents=[{"address": "192.168.101.1", "server_name": "ekho-dpu"}])
        until(lab.mirrored, OFFLOADED)
        until(lambda: _descriptors(agent), lambda count: count <= before + 1, seconds=30)
        assert len(agent.log()) < 100_000
    _lives(agent)


def test_many_connections_of_one_host_at_once_leave_one(lab: MirrorLab) -> None:
    """Those that came while the one before them was ending stayed all, and all wrote."""
    agent = lab.agent().ready()
    before = _descriptors(agent)
    agent.signal(signal.SIGSTOP)  # so that they are all there when it looks
    with contextlib.ExitStack() as stack:
        with lab.host.entered():
            for _number in range(40):
                stack.enter_context(socket.create_connection(("192.168.101.1", 2620), 10))
        agent.signal(signal.SIGCONT)
        agent.says("connected from", times=40)
        until(lambda: _descriptors(agent), lambda count: count <= before + 1, seconds=5)
    _lives(agent)


def test_an_agent_that_answers_garbage_is_left_and_tried_again(lab: MirrorLab) -> None:
    lab.deploy()
    consumer = Consumer(lab.dpu, "192.168.101.1")
    try:
        listener = lab.listener().ready()
        for data, reason in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an FPM frame"),
            (frame(message(2, b"\xa1\xff\xff\xff" + GOOD[:16])), "route message of 16 bytes"),
        ):
            with consumer.accept() as stream:
                stream.sock.sendall(data)
                assert stream.closed()
                listener.says(rf"192\.168\.101\.1:2620 .*{reason}.*retrying")
        assert listener.state("192.168.11.0/24")[0] == "pending"
        _lives(listener)
    finally:
        consumer.close()
    assert lab.mirrored() == NOTHING
