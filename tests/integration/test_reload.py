# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGHUP: a valid configuration takes effect while the daemons run, an invalid one changes nothing; both are logged."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import Authority
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import OFFLOADED, MirrorLab, Pair, RouteMonitor
from ansible_collections.ekho.ynl_mirror.tests.support.until import always, until

DPU = [{"address": "192.168.101.1", "server_name": "ekho-dpu"}]
HOST = "192.168.101.2"
STAYS = "configuration and certificates are unchanged"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def _secure(lab: MirrorLab, ca: Authority) -> Pair:
    return lab.mirror(
        agent={"tls": ca.issue("ekho-dpu"), "hosts": ["ekho-host"]},
        listener={"tls": ca.issue("ekho-host"), "agents": DPU},
    )


def test_policies_and_rules_of_the_agent_take_effect_without_a_restart(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    process = mirror.agent.process
    mirror.agent.reload(hosts=[{"name": HOST, "vrfs": ["b"]}])
    until(lab.mirrored, {**OFFLOADED, "a": []})
    until(lambda: mirror.listener.state("192.168.12.0/24")[0], "failed")
    mirror.agent.reload(hosts=[HOST], vrf_limits={"b": 1})
    until(lambda: [len(routes) for routes in lab.mirrored().values()], [2, 1])
    mirror.agent.reload(vrf_limits={}, metric=77)
    until(lambda: sum(route.endswith(" metric 77") for routes in lab.mirrored().values() for route in routes), 4)
    mirror.agent.reload(metric=None)
    until(lab.mirrored, OFFLOADED)
    until(lambda: mirror.listener.state("192.168.12.0/24"), ("offloaded", None))
    assert mirror.agent.process is process
    assert "Traceback" not in mirror.agent.log()


def test_what_needs_a_restart_is_named_and_left_as_it_was(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    mirror.agent.reload(listen=[{"address": "::", "port": 2621}], host_tables=[100], log_level="info")
    mirror.agent.says("SIGHUP: listen, host_tables: changed, takes effect at the next restart")
    mirror.listener.reload(tables=[100])
    mirror.listener.says("SIGHUP: tables: changed, takes effect at the next restart")
    until(lambda: mirror.listener.status()["agents"][0]["replays"], 2)
    mirror.synced()
    assert lab.mirrored() == OFFLOADED


def test_filters_of_the_listener_take_effect_without_a_restart(lab: MirrorLab) -> None:
    lab.deploy()
    mirror = lab.mirror()
    mirror.listener.reload(filters={"exclude_prefixes": ["192.168.11.0/24"]})
    until(lab.mirrored, {**OFFLOADED, "b": ["fd00:11::/64 dev eth3"]})
    mirror.listener.reload(filters={})
    until(lab.mirrored, OFFLOADED)


@pytest.mark.parametrize("kind", ["agent", "listener"])
def test_a_broken_configuration_or_certificate_changes_nothing(lab: MirrorLab, ca: Authority, kind: str) -> None:
    lab.deploy()
    mirror = _secure(lab, ca)
    monitor = RouteMonitor(lab.dpu, lab.folder)
    daemon = {"agent": mirror.agent, "listener": mirror.listener}[kind]
    tls = daemon.config["tls"]
    daemon.reload(log_levle="info")
    daemon.says(rf"SIGHUP: .*{kind}.json: log_levle: unknown field; did you mean 'log_level'\?; {STAYS}")
    del daemon.config["log_levle"]
    certificate = Path(tls["certificate"]).read_bytes()
    Path(tls["certificate"]).write_text("no certificate")
    daemon.reload()
    daemon.says(f"SIGHUP: {tls['certificate']} and {tls['key']} are not a certificate and its key: .*; {STAYS}")
    # Also a connection that is made now goes on with what was good.
    other = mirror.listener if kind == "agent" else mirror.agent
    other.end(signal.SIGKILL)
    other.start().ready()
    mirror.synced()
    assert [host["host"] for host in mirror.agent.status()["hosts"]] == ["ekho-host"]
    Path(tls["certificate"]).write_bytes(certificate)
    daemon.reload()
    daemon.says("SIGHUP: certificates reloaded")
    assert "Traceback" not in daemon.log()
    assert monitor.lines() == []


def test_certificates_are_exchanged_while_the_daemons_run(lab: MirrorLab, ca: Authority, tmp_path: Path) -> None:
    """A new authority: first both trust both, then both have new certificates, then nobody trusts the old one."""
    lab.deploy()
    mirror = _secure(lab, ca)
    new = Authority(tmp_path / "new", "new CA")
    both = tmp_path / "both.crt"
    both.write_text(Path(ca.file).read_text() + Path(new.file).read_text())
    monitor = RouteMonitor(lab.dpu, lab.folder)
    for daemon, name in ((mirror.agent, "ekho-dpu"), (mirror.listener, "ekho-host")):
        daemon.reload(tls={**daemon.config["tls"], "ca": str(both)})
        mirror.synced()
        files = new.issue(name)
        for file in ("certificate", "key"):
            shutil.copyfile(files[file], daemon.config["tls"][file])
    for daemon in (mirror.agent, mirror.listener):
        daemon.reload()
        mirror.synced()
    for daemon in (mirror.agent, mirror.listener):
        daemon.reload(tls={**daemon.config["tls"], "ca": new.file})
    until(lambda: mirror.listener.status()["agents"][0]["connected"], True)
    mirror.synced()
    always(lab.mirrored, OFFLOADED, rounds=3)
    assert monitor.lines() == []


def test_a_host_that_is_struck_off_the_list_is_disconnected(lab: MirrorLab, ca: Authority) -> None:
    mirror = _secure(lab, ca)
    mirror.agent.reload(hosts=["another-host"])
    until(lambda: mirror.agent.status()["hosts"], [])
    mirror.agent.says("192.168.101.2: refused: ekho-host is not in `hosts`")
