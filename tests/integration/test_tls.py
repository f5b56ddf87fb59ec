# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutual TLS 1.3 between listener and agent: who gets in, who does not, and that somebody says why."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import Authority, client
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import NOTHING, OFFLOADED, Daemon, MirrorLab
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import DONE, OFFLOAD, Producer, route
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

DPU = [{"address": "192.168.101.1", "server_name": "ekho-dpu"}]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def other_ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other", "another CA")


def _error(listener: Daemon) -> str:
    agent = listener.status()["agents"][0]
    return "" if agent["connected"] else str(agent["error"])


def _nothing_gets_in(lab: MirrorLab, agent: Daemon) -> None:
    always(lab.mirrored, NOTHING)
    assert agent.status()["hosts"] == []
    assert agent.status()["announced_routes"] == 0
    assert "Traceback" not in agent.log()


# -- who gets in


def test_certificates_of_one_ca_let_listener_and_agent_talk(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    mirror = lab.mirror(
        agent={"tls": ca.issue("ekho-dpu"), "hosts": ["ekho-host"]},
        listener={"tls": ca.issue("ekho-host"), "agents": DPU},
    )
    assert lab.mirrored() == OFFLOADED
    assert [host["host"] for host in mirror.agent.status()["hosts"]] == ["ekho-host"]
    assert mirror.listener.status()["agents"][0]["agent"] == "ekho-dpu"
    assert "plaintext" not in mirror.agent.log() + mirror.listener.log()
    lab.host.ip("route del 192.168.11.0/24")
    until(lab.mirrored, {**OFFLOADED, "b": ["fd00:11::/64 dev eth3"]})


def test_without_server_name_the_certificate_must_name_the_address(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    agents = [{"address": "fd00:101::1"}]
    lab.mirror(
        agent={"tls": ca.issue("ekho-dpu", "192.168.101.1", "fd00:101::1")},
        listener={"tls": ca.issue("ekho-host"), "agents": agents},
    )
    assert lab.mirrored() == OFFLOADED


def test_plaintext_is_warned_of_on_both_sides(lab: MirrorLab) -> None:
    mirror = lab.mirror()
    assert "WARNING ynl_mirror.agent: plaintext" in mirror.agent.log()
    assert "WARNING ynl_mirror.listener: plaintext" in mirror.listener.log()


# -- who does not


OUT = "192.168.101.2: refused: "
NO_TLS = OUT + "TLS handshake failed: "
ITS_LOG = "if it refused this listener, its log has the reason"
#: What is wrong: (the listener's configuration, what the agent's log says, what the listener's status says).
FAULTS: dict[str, tuple[Callable[[Authority, Authority], dict[str, Any]], str, str]] = {
    "listener of another CA": (
        lambda ca, other: {"tls": other.issue("ekho-host", ca=ca.file)},
        NO_TLS + ".*certificate verify failed: unable to get local issuer",
        ITS_LOG,
    ),
    "expired listener": (
        lambda ca, _other: {"tls": ca.issue("ekho-host", expired=True)},
        NO_TLS + ".*certificate has expired",
        ITS_LOG,
    ),
    "not among hosts": (
        lambda ca, _other: {"tls": ca.issue("somebody-else", "192.168.101.2")},
        OUT + "somebody-else, 192.168.101.2 is not in `hosts`",
        ITS_LOG,
    ),
    "agent of another CA": (
        lambda ca, other: {"tls": ca.issue("ekho-host", ca=other.file)},
        NO_TLS,
        "certificate verify failed",
    ),
    "agent of another name": (
        lambda ca, _other: {"tls": ca.issue("ekho-host"), "agents": [{**DPU[0], "server_name": "other-dpu"}]},
        NO_TLS,
        "certificate is not valid for 'other-dpu'",
    ),
    "agent of another address": (
        lambda ca, _other: {"tls": ca.issue("ekho-host"), "agents": [{"address": "192.168.101.1"}]},
        NO_TLS,
        "certificate is not valid for '192.168.101.1'",
    ),
    "plaintext listener": (lambda _ca, _other: {}, NO_TLS + ".*WRONG_VERSION_NUMBER", ITS_LOG),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_who_does_not_belong_here_stays_out_and_both_sides_say_why(
    lab: MirrorLab, ca: Authority, other_ca: Authority, fault: str
) -> None:
    lab.deploy()
    config, log, error = FAULTS[fault]
    agent = lab.agent(tls=ca.issue("ekho-dpu"), hosts=["ekho-host"]).ready()
    listener = lab.listener(**{"agents": DPU, **config(ca, other_ca)}).ready()
    agent.says(log, times=2)  # it comes again
    until(lambda: _error(listener), lambda text: error in text)
    _nothing_gets_in(lab, agent)
    prefix = "192.168.11.0/24"
    state, reason = until(lambda: listener.state(prefix), lambda told: error in str(told[1]))
    assert (state, str(reason).startswith("not connected to ")) == ("pending", True)


def test_an_expired_agent_is_refused_until_it_has_a_new_certificate(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    agent = lab.agent(tls=ca.issue("ekho-dpu", expired=True)).ready()
    listener = lab.listener(tls=ca.issue("ekho-host"), agents=DPU).ready()
    until(lambda: _error(listener), lambda text: "certificate has expired" in text)
    _nothing_gets_in(lab, agent)
    ca.issue("ekho-dpu")  # into the same files
    agent.signal(signal.SIGHUP)
    agent.says("SIGHUP: certificates reloaded")
    listener.signal(signal.SIGHUP)
    until(lab.mirrored, OFFLOADED)


def test_a_client_without_a_certificate_stays_out(lab: MirrorLab, ca: Authority) -> None:
    agent = lab.agent(tls=ca.issue("ekho-dpu")).ready()
    # TLS 1.3: the client has done its part of the handshake before the agent misses the certificate.
    with Producer(lab.host, context=client(None, ca.file), server_name="ekho-dpu") as producer:
        with contextlib.suppress(OSError):
            producer.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        assert producer.closed()
    agent.says("192.168.101.2: refused: TLS handshake failed: .*peer did not return a certificate")
    _nothing_gets_in(lab, agent)


def test_a_client_of_tls_1_2_stays_out(lab: MirrorLab, ca: Authority) -> None:
    tls = ca.issue("ekho-host")
    agent = lab.agent(tls=ca.issue("ekho-dpu")).ready()
    old = client(tls, ca.file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError, match=r"SSL|EOF|reset"):
        Producer(lab.host, context=old, server_name="ekho-dpu")
    agent.says("192.168.101.2: refused: TLS handshake failed: .*UNSUPPORTED_PROTOCOL")
    _nothing_gets_in(lab, agent)
    # The very same client with 1.3 is let in: it was the version.
    with Producer(lab.host, context=client(tls, ca.file), server_name="ekho-dpu") as producer:
        assert isinstance(producer.sock, ssl.SSLSocket)
        assert producer.sock.version() == "TLSv1.3"
        producer.send(route("192.168.11.0/24", "192.168.101.1"), DONE)
        assert producer.take(1)[0].flags == OFFLOAD


def test_a_tls_listener_and_a_plaintext_agent_do_not_meet(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    agent = lab.agent().ready()
    listener = lab.listener(tls=ca.issue("ekho-host"), agents=DPU).ready()
    agent.says("not an FPM frame: version 22")
    until(lambda: _error(listener), bool)
    always(lab.mirrored, NOTHING)
    assert "Traceback" not in agent.log() + listener.log()


def test_a_silent_connection_keeps_nobody_out(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    agent = lab.agent(tls=ca.issue("ekho-dpu")).ready()
    with lab.host.entered():
        silent = [socket.create_connection(("192.168.101.1", 2620), 10) for _number in range(20)]
    with contextlib.ExitStack() as stack:
        for sock in silent:
            stack.enter_context(sock)
        lab.listener(tls=ca.issue("ekho-host"), agents=DPU)
        until(lab.mirrored, OFFLOADED)
    assert agent.status()["hosts"][0]["host"] == "ekho-host"


# -- files


@pytest.mark.parametrize("kind", ["agent", "listener"])
def test_a_key_that_others_can_read_is_refused(lab: MirrorLab, ca: Authority, kind: str) -> None:
    tls = ca.issue("somebody")
    Path(tls["key"]).chmod(0o644)
    daemon = lab.agent(tls=tls) if kind == "agent" else lab.listener(tls=tls, agents=DPU)
    assert daemon.process is not None
    assert daemon.process.wait(15) == 2
    assert f"tls.key: {tls['key']} has mode 0644; run chmod 0600 {tls['key']}" in daemon.log()
    assert "Traceback" not in daemon.log()
    Path(tls["key"]).chmod(0o600)
    daemon.start().ready()


def test_a_key_that_does_not_fit_is_named_with_its_certificate(lab: MirrorLab, ca: Authority) -> None:
    tls = ca.issue("ekho-dpu")
    shutil.copyfile(ca.issue("other")["key"], tls["key"])
    agent = lab.agent(tls=tls)
    assert agent.process is not None
    assert agent.process.wait(15) in (1, 2)
    assert tls["certificate"] in agent.log()
    assert "Traceback" not in agent.log()


# -- coming back


def test_the_listener_comes_back_to_an_agent_that_was_away(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    mirror = lab.mirror(
        agent={"tls": ca.issue("ekho-dpu"), "hosts": ["ekho-host"]},
        listener={"tls": ca.issue("ekho-host"), "agents": DPU},
    )
    mirror.agent.end(signal.SIGKILL)
    until(lambda: _error(mirror.listener), lambda text: "Connect call failed" in text)
    assert lab.mirrored() == OFFLOADED
    lab.host.ip("route del fd00:12::/64")
    mirror.agent.start()
    until(lab.mirrored, {**OFFLOADED, "a": ["192.168.12.0/24 dev eth4"]})
    mirror.synced()
    assert mirror.listener.status()["agents"][0]["replays"] == 2
