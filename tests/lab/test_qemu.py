# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror's life on machines of its own: a distribution's kernel, VRF devices, systemd, SSH.

One lab lives through the tests in their order: fresh, deployed by the Molecule scenario `qemu`, restarted, rebooted,
upgraded, cleaned up. What plays by itself is a step of the scenario; what has to be watched meanwhile is here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.version import VERSION
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import copy_checkout
from ansible_collections.ekho.ynl_mirror.tests.support.labs.qemu_mirror import (
    DPU,
    HOPS_TO_FAR_SIDE,
    HOST,
    SECONDS,
    TTL_OF_TWO_HOPS,
    Pings,
    QemuMirrorLab,
    changes,
    count_changed,
)
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

pytestmark = [pytest.mark.controller, pytest.mark.slow, pytest.mark.timeout(1500)]

DAEMONS = {DPU: "agent", HOST: "listener"}
NEXT_VERSION = "99.0.0"
#: What an administrator would have: the routes come at boot, with the network.
OWN_ROUTES = """\
[Unit]
Description=Routes of the operator of this host
After=ekho-lab-network.service
Before=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip route replace 192.168.11.0/24 via 192.168.101.1 proto static
ExecStart=ip route replace 192.168.12.0/24 via 192.168.102.1 proto static
ExecStart=ip route replace fd00:11::/64 via fd00:101::1 proto static
ExecStart=ip route replace fd00:12::/64 via fd00:102::1 proto static

[Install]
WantedBy=multi-user.target
"""


class Fresh:
    """A lab without a mirror, and what is on its machines."""

    def __init__(self, lab: QemuMirrorLab) -> None:
        self.lab = lab
        self.files = self.look()
        self.announced: list[str] = []

    def look(self) -> dict[str, list[str]]:
        """The files and accounts of the machines that the mirror goes onto."""
        return {machine: self.lab.files(machine) + self._accounts(machine) for machine in DAEMONS}

    def _accounts(self, machine: str) -> list[str]:
        return self.lab.shell(machine, "cat /etc/passwd /etc/group; systemctl list-unit-files --no-legend").splitlines()


@pytest.fixture(scope="module")
def fresh() -> Iterator[Fresh]:
    lab = QemuMirrorLab(f"ekho-tests-{os.getpid()}")
    try:
        lab.molecule("reset")  # where a run before was killed, Molecule takes the lab for made
        lab.molecule("create")
        yield Fresh(lab)
    finally:
        lab.molecule("destroy")
        assert not lab.run_dir.exists()


@pytest.fixture(scope="module")
def converged(fresh: Fresh) -> str:
    """What Molecule printed when it deployed the mirror."""
    return fresh.lab.molecule("converge")


@pytest.fixture(scope="module")
def lab(fresh: Fresh, converged: str) -> QemuMirrorLab:
    """The lab with the mirror."""
    fresh.lab.wait_for_hops(2)
    return fresh.lab


def expect_none_lost(pings: Pings) -> None:
    """Every ping was answered, at a rate that shows it was asked, and every answer came by the DPU alone."""
    assert not any(pings.lost.values()), pings.lost
    assert pings.ttls == {TTL_OF_TWO_HOPS}
    assert pings.fewest > 10


def expect_far_side(lab: QemuMirrorLab) -> None:
    """The DPU's addresses in the other VRF, inside of what may be offloaded, answer over the host, now as ever."""
    assert set(lab.hops_to_far_side().values()) == {HOPS_TO_FAR_SIDE}
    lab.shell("ekho-host-b", "ping -n -c 1 -W 10 192.168.11.1")


def test_a_check_of_fresh_machines_announces_and_changes_nothing(fresh: Fresh) -> None:
    assert set(fresh.lab.hops().values()) == {4}
    expect_far_side(fresh.lab)
    checked = fresh.lab.play("mirror", "--check", "--diff")
    fresh.announced = changes(checked)
    assert {machine.partition(":")[0] for machine in fresh.announced} == set(DAEMONS)
    assert "+++ after: /etc/ynl-mirror/agent.json" in checked
    assert "+++ after: /etc/systemd/system/ynl-mirror-listener.service" in checked
    assert fresh.look() == fresh.files


def test_the_first_run_does_what_was_announced(fresh: Fresh, converged: str) -> None:
    assert changes(converged) == sorted([*fresh.announced, "ekho-host: Set the kernel routes: present"])


def test_a_second_run_of_every_playbook_changes_nothing(lab: QemuMirrorLab) -> None:
    lab.molecule("idempotence")


def test_two_hops_through_vrfs_that_were_found(lab: QemuMirrorLab) -> None:
    lab.molecule("verify")


def test_four_hops_when_the_routes_are_withdrawn_and_two_when_they_are_back(lab: QemuMirrorLab) -> None:
    withdrawn = lab.play("kernel_routes", "-e", "kernel_routes_state=absent", "--diff")
    assert changes(withdrawn) == ["ekho-host: Set the kernel routes: absent"]
    lab.wait_for_hops(4)
    expect_far_side(lab)
    assert lab.shell(DPU, "ip route show table all proto ynl_mirror; ip -6 route show table all proto ynl_mirror") == ""
    lab.play("kernel_routes")
    lab.wait_for_hops(2)
    expect_far_side(lab)


@pytest.mark.parametrize("machine", DAEMONS)
def test_the_daemon_runs_confined(lab: QemuMirrorLab, machine: str) -> None:
    unit = f"ynl-mirror-{DAEMONS[machine]}"
    running = lab.shell(machine, f"cat /proc/$(systemctl show --value -p MainPID {unit})/status").replace("\t", " ")
    number = lab.shell(machine, "id -u ynl-mirror").strip()
    assert f"Uid: {number} {number} {number} {number}\n" in running
    assert number != "0"
    for kind in ("Prm", "Eff", "Bnd", "Amb"):
        assert f"Cap{kind}: 0000000000001000\n" in running  # CAP_NET_ADMIN alone
    assert "NoNewPrivs: 1\n" in running
    analysed = lab.shell(machine, f"systemd-analyze security --no-pager {unit}")
    score = re.search(r"Overall exposure level for .*: ([\d.]+)", analysed)
    assert score is not None
    assert float(score.group(1)) < 2.0
    modes = lab.shell(machine, "cd /etc/ynl-mirror; stat -c '%n %a %U:%G' . tls tls/machine.key").splitlines()
    assert modes == [". 755 root:root", "tls 750 root:ynl-mirror", "tls/machine.key 600 ynl-mirror:ynl-mirror"]
    lab.shell(machine, "! setpriv --reuid=nobody --regid=nogroup --clear-groups cat /etc/ynl-mirror/tls/machine.key")


def test_a_line_of_the_journal_has_fields(lab: QemuMirrorLab) -> None:
    found = lab.shell(DPU, "journalctl -b -u ynl-mirror-agent -o json --no-pager YNL_MIRROR_HOST=ekho-host")
    entry = json.loads(found.splitlines()[0])
    assert entry["MESSAGE"] == "ekho-host: connected from 192.168.101.2"
    assert (entry["YNL_MIRROR_PEER"], entry["PRIORITY"]) == ("192.168.101.2", "6")
    assert (entry["SYSLOG_IDENTIFIER"], entry["LOGGER"]) == ("ynl-mirror-agent", "ynl_mirror.agent")


def test_a_check_of_deployed_machines_announces_nothing(lab: QemuMirrorLab) -> None:
    # By the lab's inventory file, as for machines of one's own; the scenario has found the lab by its name.
    checked = lab.play("mirror", "--check", "--diff")
    assert count_changed(checked) == 0, checked


def test_a_check_shows_a_changed_option_and_no_secret(lab: QemuMirrorLab) -> None:
    checked = lab.play("mirror", "--check", "--diff", "-e", "dpu_agent_settle_time=2.5")
    assert changes(checked) == ["ekho-dpu: Bring the agent into the requested state"]
    lines = [line for line in checked.splitlines() if re.match(r"[-+](?!--|\+\+)", line)]
    assert lines[:2] == ['-  "settle_time": 5.0,', '+  "settle_time": 2.5,']
    assert [line.partition("=")[0] for line in lines[2:]] == ["-Environment", "+Environment"]  # what asks for a restart
    for key in (lab.run_dir / "ca").glob("*.key"):
        secret = key.read_text().splitlines()[1]
        assert secret not in checked
    assert '"settle_time": 5.0' in lab.shell(DPU, "cat /etc/ynl-mirror/agent.json")


@pytest.mark.parametrize("machine", DAEMONS)
def test_a_restart_loses_no_packet(lab: QemuMirrorLab, machine: str) -> None:
    unit = f"ynl-mirror-{DAEMONS[machine]}"
    before = lab.shell(machine, f"systemctl show --value -p MainPID {unit}")
    with lab.pings() as pings:
        lab.shell(machine, f"systemctl restart {unit}")
        until(lambda: _connected(lab), True, SECONDS, f"{unit} has not come back")
        lab.wait_for_hops(2)
    expect_none_lost(pings)
    assert lab.shell(machine, f"systemctl show --value -p MainPID {unit}") != before


def test_an_upgrade_loses_no_packet(lab: QemuMirrorLab, tmp_path: Path) -> None:
    upgraded = tmp_path / "ansible_collections" / "ekho" / "ynl_mirror"
    copy_checkout(upgraded)
    for name in ("galaxy.yml", "plugins/module_utils/_ynl_mirror/model/version.py"):
        text = (upgraded / name).read_text()
        assert text.count(VERSION) == 1
        (upgraded / name).write_text(text.replace(VERSION, NEXT_VERSION))
    with lab.pings() as pings:
        played = lab.play("mirror", collections=tmp_path)
        until(lambda: _connected(lab), True, SECONDS, "the listener has not come back")
        lab.wait_for_hops(2)
    expect_none_lost(pings)
    assert changes(played) == [
        "ekho-dpu: Bring the agent into the requested state",
        "ekho-host: Bring the listener into the requested state",
    ]
    assert json.loads(lab.shell(DPU, "ynl-mirror status --json"))["version"] == NEXT_VERSION
    assert NEXT_VERSION in lab.shell(HOST, "ynl-mirror status --json")


def test_a_reboot_of_the_dpu_comes_back_to_two_hops(lab: QemuMirrorLab) -> None:
    lab.reboot(DPU)
    lab.wait_for_hops(2)
    assert lab.shell(DPU, "systemctl is-system-running --wait || true").strip() == "running"


def test_a_reboot_of_the_host_loses_no_packet(lab: QemuMirrorLab) -> None:
    unit = "/etc/systemd/system/own-routes.service"
    lab.shell(HOST, f"cat > {unit} <<'END'\n{OWN_ROUTES}END\nsystemctl enable own-routes")
    with lab.pings() as pings:
        lab.reboot(HOST)
        until(lambda: _connected(lab), True, SECONDS, "the listener has not come back")
        lab.wait_for_hops(2)
    expect_none_lost(pings)
    # Not just left behind: they follow the host's routes again.
    lab.shell(HOST, "ip route del 192.168.11.0/24")
    until(lambda: lab.hops()["192.168.11.2"], 4, SECONDS, "the listener does not follow any more")
    lab.shell(HOST, f"systemctl restart own-routes; systemctl disable own-routes; rm -f {unit}")
    lab.wait_for_hops(2)


def test_the_end_leaves_nothing(fresh: Fresh, lab: QemuMirrorLab) -> None:
    lab.molecule("cleanup")
    left = fresh.look()
    for machine in DAEMONS:
        assert sorted(set(left[machine]) ^ set(fresh.files[machine])) == []
    assert lab.shell(DPU, "find /run /tmp -name '*ynl*'; ip route show table all proto 121") == ""
    lab.wait_for_hops(4)


def _connected(lab: QemuMirrorLab) -> bool:
    """Whether the agent has the listener's routes of this session."""
    asked = lab.shell(DPU, "ynl-mirror status --json || true")
    hosts = json.loads(asked)["hosts"] if asked.startswith("{") else []
    return [(host["connected"], host["replay"]) for host in hosts] == [(True, "complete")]
