# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What those get who should get nothing: docs/security.md names the test behind each "cannot"."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import Authority, client
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import run_tool
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import (
    NOTHING,
    OFFLOADED,
    Daemon,
    MirrorLab,
    mirror_lab,
)
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import (
    DONE,
    OFFLOAD,
    RTM_DELROUTE,
    TRAP,
    Consumer,
    Producer,
    message,
    route,
)
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

DPU = [{"address": "192.168.101.1", "server_name": "ekho-dpu"}]
NOBODY = 65534
ROUTE = route("192.168.11.0/24", "192.168.101.1")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where anybody may look: what protects a file in here is the file's own mode."""
    with tempfile.TemporaryDirectory(prefix="mt-security-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def lab(_root: None, folder: Path) -> Iterator[MirrorLab]:
    with mirror_lab(folder) as made:
        yield made


@pytest.fixture
def ca(folder: Path) -> Authority:
    return Authority(folder / "ca")


# -- somebody without privileges on the same machine


def _become_nobody() -> None:
    """A user who owns nothing and is in no group but its own, with no capability left."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        return f"did it: {attempt()!r}"
    except OSError as error:
        return type(error).__name__


def _is_cut_off(producer: Producer) -> None:
    """Sends a route, and sees the connection end. TLS 1.3 lets a client send before it hears what is wrong with it."""
    with contextlib.suppress(OSError):
        producer.send(ROUTE, DONE)
    with contextlib.suppress(ssl.SSLError):
        assert producer.closed()


def _connect(family: int, address: Any) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect(address)
    return "connected"


def _forge() -> str:
    """Send a notification of a route to the daemons' netlink sockets, in the kernel's place."""
    forged = message(24, ROUTE[16:])
    lines = [line.split() for line in Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]]
    ports = [int(port) for _sock, protocol, port, groups, *_rest in lines if protocol == "0" and int(groups, 16)]
    assert ports, "nobody listens"
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        for port in ports:
            sock.sendto(forged, (port, 0))
    return "sent"


def _attempts(control: str, files: list[str], process: int) -> dict[str, str]:
    """What comes of all that a user who owns nothing may think of."""
    _become_nobody()
    add = ["ip", "route", "add", "10.66.0.0/16", "dev", "lo", "table", "20", "proto", "121"]
    tried: dict[str, Callable[[], object]] = {
        "control socket": lambda: _connect(socket.AF_UNIX, control),
        "replace the control socket": lambda: os.unlink(control),
        "memory": lambda: os.open(f"/proc/{process}/mem", os.O_RDONLY),
        "environment": lambda: Path(f"/proc/{process}/environ").read_bytes(),
        "signal": lambda: os.kill(process, signal.SIGHUP),
        "forged notification": _forge,
        **{file: partial(os.open, file, os.O_RDONLY) for file in files},
    }
    outcomes = {name: _outcome(attempt) for name, attempt in tried.items()}
    outcomes["write a route"] = subprocess.run(add, capture_output=True, text=True, check=False).stderr
    return outcomes


@pytest.mark.parametrize("kind", ["agent", "listener"])
def test_a_local_user_without_privileges_gets_nothing(lab: MirrorLab, ca: Authority, kind: str) -> None:
    lab.deploy()
    capture = {"file": str(lab.folder / "capture.pcapng")}
    agent: dict[str, Any] = {"tls": ca.issue("ekho-dpu"), "hosts": ["ekho-host"]}
    listener: dict[str, Any] = {"tls": ca.issue("ekho-host"), "agents": DPU}
    (agent if kind == "agent" else listener)["capture"] = capture
    mirror = lab.mirror(agent, listener)
    daemon: Daemon = getattr(mirror, kind)
    assert daemon.process is not None
    before = lab.others()
    files = [daemon.config["tls"]["key"], capture["file"]]
    outcomes = daemon.namespace.call(_attempts, daemon.socket, files, daemon.process.pid)
    assert outcomes.pop("write a route") == "RTNETLINK answers: Operation not permitted\n"
    assert set(outcomes.values()) == {"PermissionError"}, outcomes
    assert daemon.command("status").returncode == 0
    assert (lab.mirrored(), lab.others()) == (OFFLOADED, before)


def test_a_local_user_without_a_certificate_installs_nothing_over_the_fpm_port(lab: MirrorLab, ca: Authority) -> None:
    agent = lab.agent(tls=ca.issue("ekho-dpu")).ready()
    for context in (None, client(None, ca.file)):
        with Producer(lab.dpu, "192.168.101.1", context=context, server_name="ekho-dpu") as producer:
            _is_cut_off(producer)
    agent.says("refused: TLS handshake failed", times=2)
    always(lab.mirrored, NOTHING)


@pytest.mark.parametrize("kind", ["agent", "listener"])
def test_http_is_never_wider_than_loopback(lab: MirrorLab, kind: str) -> None:
    http = {"address": "192.168.101.1", "port": 4321}
    daemon = lab.agent(http=http) if kind == "agent" else lab.listener(http=http)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 2
    assert "http.address: 192.168.101.1 is not a loopback address" in daemon.log()
    assert "write 127.0.0.1 or ::1, and connect through SSH" in daemon.log()


# -- other machines, and other network namespaces


def _reach(control: str) -> dict[str, str]:
    _become_nobody()
    return {
        "control socket": _outcome(lambda: _connect(socket.AF_UNIX, control)),
        "http": _outcome(lambda: _connect(socket.AF_INET, ("127.0.0.1", 4321))),
        "fpm": _outcome(lambda: _connect(socket.AF_INET, ("192.168.101.1", 2620))),
    }


def test_another_network_namespace_reaches_nothing_and_its_routes_are_its_own(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    mirror = lab.mirror(
        {"tls": ca.issue("ekho-dpu"), "http": {}},
        {"tls": ca.issue("ekho-host"), "agents": DPU},
    )
    elsewhere = lab.namespace("elsewhere")
    elsewhere.ip("link set lo up")
    outcomes = elsewhere.call(_reach, mirror.agent.socket)
    assert outcomes == {"control socket": "PermissionError", "http": "ConnectionRefusedError", "fpm": "OSError"}
    # Even root in there moves nothing here, by a route with the mirror's own mark.
    notifications = mirror.agent.status()["notifications"]
    elsewhere.ip("route add 10.66.0.0/16 dev lo table 20 proto 121")
    always(lambda: mirror.agent.status()["notifications"], notifications)
    assert elsewhere.ip("-N route show table 20 proto 121").split()[0] == "10.66.0.0/16"
    assert lab.mirrored() == OFFLOADED


def test_an_end_host_beside_the_dpu_reaches_no_http_and_gets_nothing_in(lab: MirrorLab, ca: Authority) -> None:
    agent = lab.agent(tls=ca.issue("ekho-dpu"), http={}).ready()
    assert _refused(lab.host_a, "192.168.11.1", 4321)
    with Producer(lab.host_a, "192.168.11.1", context=client(None, ca.file), server_name="ekho-dpu") as producer:
        _is_cut_off(producer)
    agent.says("192.168.11.2: refused: TLS handshake failed: .*peer did not return a certificate")
    always(lab.mirrored, NOTHING)


def _refused(namespace: Namespace, address: str, port: int) -> bool:
    return namespace.call(_outcome, lambda: _connect(socket.AF_INET, (address, port))) == "ConnectionRefusedError"


# -- certificates

#: Who comes: (the certificate, given the authority and another one; what the agent's log says).
PEERS: dict[str, tuple[Callable[[Authority, Authority], dict[str, str]], str]] = {
    "wrong CA": (lambda _ca, other: other.issue("ekho-host"), "certificate verify failed: unable to get local issuer"),
    "expired": (lambda ca, _other: ca.issue("ekho-host", expired=True), "certificate has expired"),
    "revoked": (lambda ca, _other: ca.issue("ekho-host"), "certificate revoked"),
    "of another host": (lambda ca, _other: ca.issue("host2"), "host2 is not in `hosts`"),
    "of the DPU itself": (lambda ca, _other: ca.issue("ekho-dpu"), "ekho-dpu is not in `hosts`"),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_gets_nothing_in_with_a_certificate(lab: MirrorLab, ca: Authority, folder: Path, peer: str) -> None:
    make, reason = PEERS[peer]
    own = ca.issue("ekho-dpu")
    theirs = make(ca, Authority(folder / "other", "another CA"))
    crl = ca.revoke(*(["ekho-host"] if peer == "revoked" else []))
    agent = lab.agent(tls={**own, "crl": crl}, hosts=["ekho-host"]).ready()
    with Producer(lab.host, context=client(theirs, ca.file), server_name="ekho-dpu") as producer:
        _is_cut_off(producer)
    agent.says(f"192.168.101.2: refused: .*{reason}")
    always(lab.mirrored, NOTHING)
    assert (agent.status()["hosts"], agent.status()["announced_routes"]) == ([], 0)
    # The very same, were it the host with its certificate, gets in.
    good = ca.issue("ekho-host")
    with Producer(lab.host, context=client(good, ca.file), server_name="ekho-dpu") as producer:
        producer.send(ROUTE, DONE)
        assert producer.take(1)[0].flags == OFFLOAD


def test_a_host_whose_certificate_is_revoked_is_disconnected_and_stays_out(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    own, theirs = ca.issue("ekho-dpu"), ca.issue("ekho-host")
    mirror = lab.mirror({"tls": {**own, "crl": ca.revoke()}}, {"tls": theirs, "agents": DPU})
    ca.revoke("ekho-host")
    mirror.agent.signal(signal.SIGHUP)
    until(lambda: mirror.agent.status()["hosts"], [])
    mirror.agent.says("refused: TLS handshake failed: .*certificate revoked", times=2)
    always(lab.mirrored, OFFLOADED)  # what it left is the lease's to withdraw


def test_a_listener_sends_nothing_to_an_agent_whose_certificate_is_revoked(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    agent = lab.agent(tls=ca.issue("ekho-dpu")).ready()
    theirs = ca.issue("ekho-host")
    listener = lab.listener(tls={**theirs, "crl": ca.revoke("ekho-dpu")}, agents=DPU).ready()
    listener.says("ekho-dpu .*certificate revoked")
    assert agent.status()["announced_routes"] == 0
    ca.revoke()
    listener.signal(signal.SIGHUP)
    until(lab.mirrored, OFFLOADED)


def test_nobody_gets_in_while_the_revocation_list_is_out_of_date(lab: MirrorLab, ca: Authority) -> None:
    own, theirs = ca.issue("ekho-dpu"), ca.issue("ekho-host")
    agent = lab.agent(tls={**own, "crl": ca.revoke(outdated=True)}).ready()
    lab.listener(tls=theirs, agents=DPU)
    agent.says("refused: TLS handshake failed: .*CRL has expired")
    always(lab.mirrored, NOTHING)


def test_no_session_can_be_resumed_past_a_revocation(lab: MirrorLab, ca: Authority) -> None:
    lab.agent(tls=ca.issue("ekho-dpu")).ready()
    with Producer(lab.host, context=client(ca.issue("ekho-host"), ca.file), server_name="ekho-dpu") as producer:
        producer.send(ROUTE, DONE)
        producer.take(1)
        assert isinstance(producer.sock, ssl.SSLSocket)
        assert producer.sock.session is not None
        assert not producer.sock.session.has_ticket


# -- a host or a DPU that is in other hands


def test_a_host_names_no_table_of_the_dpu_and_takes_away_nothing_of_others(lab: MirrorLab) -> None:
    lab.dpu.ip("route add 10.1.0.0/16 dev eth4 table 20 proto static")
    agent = lab.agent().ready()
    before = lab.others()
    with Producer(lab.host) as producer:
        producer.send(route("10.2.0.0/16", "192.168.101.1", table=20))
        assert producer.take(1)[0].flags == TRAP
        for table in (20, 254):
            for prefix in ("10.1.0.0/16", "192.168.12.0/24", "0.0.0.0/0"):
                producer.send(route(prefix, kind=RTM_DELROUTE, table=table))
        producer.send(DONE)
        until(lambda: agent.status()["hosts"][0]["replay"], "complete")
        assert (lab.others(), lab.mirrored()) == (before, NOTHING)


def test_an_agent_in_other_hands_changes_nothing_on_the_host(lab: MirrorLab) -> None:
    lab.deploy()
    consumer = Consumer(lab.dpu, "192.168.101.1")
    try:
        listener = lab.listener().ready()
        before = lab.host.ip("-N route show table all")
        with consumer.accept() as stream:
            stream.take(4)
            stream.send(route("10.66.0.0/16", "192.168.101.1"), route("192.168.11.0/24", kind=RTM_DELROUTE), DONE)
            always(lambda: lab.host.ip("-N route show table all"), before)
            assert listener.command("status").returncode == 0
    finally:
        consumer.close()


# -- what is written down


def _secret(key: str) -> str:
    """A line of a key file that is in no other file."""
    return Path(key).read_text().splitlines()[1]


def test_no_key_is_in_argv_environment_log_capture_status_or_configuration(lab: MirrorLab, ca: Authority) -> None:
    lab.deploy()
    files = (ca.issue("ekho-dpu"), ca.issue("ekho-host"))
    mirror = lab.mirror(
        {"tls": files[0], "capture": {"file": str(lab.folder / "agent.pcapng")}},
        {"tls": files[1], "agents": DPU, "capture": {"file": str(lab.folder / "listener.pcapng")}},
    )
    told = ""
    for daemon in (mirror.agent, mirror.listener):
        assert daemon.process is not None
        for name in ("cmdline", "environ"):
            told += Path(f"/proc/{daemon.process.pid}/{name}").read_text()
        told += json.dumps(daemon.status())
    written = [path for path in lab.folder.rglob("*") if path.is_file() and path.suffix != ".key"]
    assert {".pcapng", ".log", ".json"} <= {path.suffix for path in written}
    told += "".join(path.read_text(errors="replace") for path in written)
    assert "PRIVATE KEY" not in told
    assert not [key for key in (files[0]["key"], files[1]["key"]) if _secret(key) in told]


def test_the_diff_of_a_module_has_no_key_in_it(folder: Path, ca: Authority) -> None:
    tls = ca.issue("ekho-dpu")
    places = {
        name: str(folder / name) for name in ("config_dir", "state_dir", "runtime_dir", "log_dir", "lib_dir", "bin_dir")
    }
    arguments = json.dumps({"tls": tls, "service_manager": "supervised", **places})
    shown = run_tool(
        *("ansible", "localhost", "-m", "ekho.ynl_mirror.dpu_agent", "-a", arguments, "--check", "--diff", "-vvv"),
        seconds=120,
    )
    assert re.search(r"^\+.*" + re.escape(tls["key"]), shown, re.MULTILINE), shown  # a diff with the path
    assert "PRIVATE KEY" not in shown
    assert _secret(tls["key"]) not in shown
