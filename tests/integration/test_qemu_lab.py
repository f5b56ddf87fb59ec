# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of virtual machines on real QEMU: up, again, repaired, broken in every way that we know, down.

Most tests share one lab of two machines and leave it as they found it, in the order of this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import requirements
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import KERNEL_ARGUMENTS, Machine
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.place import LabFailure
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.process import MachineError, monitor
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import COLLECTIONS
from ansible_collections.ekho.ynl_mirror.tests.support.labs.qemu import HOSTS, LINKS, SOLO, QemuLab, command_lines

# The first test may have to build the image.
pytestmark = [pytest.mark.controller, pytest.mark.slow, pytest.mark.timeout(900)]

ANSIBLE = Path(sys.executable).with_name("ansible")


@pytest.fixture(scope="session")
def _qemu() -> None:
    """Without QEMU these tests are skipped - never in CI, where that would hide them."""
    try:
        requirements.check(build=True)
    except requirements.Lacking as lacking:
        if os.environ.get("CI"):
            pytest.fail(str(lacking))
        pytest.skip(str(lacking))


Labs = Callable[..., QemuLab]


@contextlib.contextmanager
def _labs() -> Iterator[Labs]:
    folder = Path(tempfile.mkdtemp(prefix="ynl-qemu-"))  # not pytest's: a socket's path must be short
    made: list[QemuLab] = []

    def make(name: str = "one", hosts: Any = None, links: Any = ()) -> QemuLab:
        made.append(QemuLab(folder, name, SOLO if hosts is None else hosts, links))
        return made[-1]

    try:
        yield make
    finally:
        for lab in made:
            lab.remove()
        assert command_lines(str(folder)) == []
        assert list(folder.iterdir()) == []
        folder.rmdir()


@pytest.fixture
def labs(_qemu: None) -> Iterator[Labs]:
    """Call it for a lab; afterwards every one is removed, and nothing may be left of any."""
    with _labs() as make:
        yield make


@pytest.fixture(scope="module")
def pair(_qemu: None) -> Iterator[QemuLab]:
    """Two machines and a cable, up."""
    with _labs() as make:
        lab = make("pair", HOSTS, LINKS)
        lab.make()
        yield lab


def at_work(lab: QemuLab) -> None:
    """Both ends hear each other, and the left one by way of its VRF."""
    lab.ssh("left", "ip vrf exec a ping -c 1 -w 20 192.0.2.2 && ping -c 1 -w 20 -I a fd00:db8::2")


# Up


def test_progress_is_reported_by_machine_with_seconds(pair: QemuLab) -> None:
    for name in ("left", "right"):
        lines = [line.split(maxsplit=3) for line in pair.progress if line.startswith(f"ekho-{name} ")]
        assert [what for *_rest, what in lines if "still busy" not in what] == [
            "resuming from the saved state",
            "booted",
            "network configured",
            "ready: SSH answers",
        ]
        seconds = [float(number) for _name, number, _unit, _what in lines]
        assert seconds == sorted(seconds)


def test_machines_are_what_the_topology_says(pair: QemuLab) -> None:
    at_work(pair)
    assert pair.ssh("left", "hostname; ip -br link show master a | cut -d ' ' -f 1; uname -r").split()[:2] == [
        "ekho-left",
        "eth1",
    ]
    assert "192.0.2.2 dev eth1" in pair.ssh("left", "ip route show vrf a 198.51.100.0/24")


def test_a_machine_reaches_nothing_but_the_lab(pair: QemuLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        connect = f"import socket; socket.create_connection(('10.0.2.2', {outside.getsockname()[1]}), 3)"
        assert pair.ssh("right", f'python3 -c "{connect}" 2>&1 | tail -n 1') != ""


def test_another_host_key_is_refused(pair: QemuLab) -> None:
    """Host keys are known in advance, and not ignored."""
    known = Path(pair.place.known_hosts).read_text()
    left, right = known.splitlines()
    other = f"{left.split()[0]} {' '.join(right.split()[1:])}\n"
    Path(pair.place.known_hosts).write_text(other)
    try:
        with pytest.raises(AssertionError, match=r"Host key verification failed|IDENTIFICATION HAS CHANGED"):
            pair.ssh("left", "true")
    finally:
        Path(pair.place.known_hosts).write_text(known)


# Again


def test_a_second_run_changes_nothing_and_needs_no_image(pair: QemuLab) -> None:
    images = pair.images
    assert pair.make() == []
    assert pair.images == images
    assert pair.make(dry=True) == []


def test_what_is_missing_is_put_back_and_reported(pair: QemuLab) -> None:
    pair.ssh("left", "ip link set eth1 nomaster; sysctl -qw net.ipv4.ip_forward=0")  # takes the VRF's routes with it
    pair.ssh("right", "ip address delete 192.0.2.2/24 dev eth1")
    os.unlink(pair.place.ssh_config)
    expected = {
        "ekho-left: sysctl -q -w net.ipv4.ip_forward=1",
        "ekho-left: link set dev eth1 master a",
        "ekho-left: route replace 198.51.100.0/24 via 192.0.2.2 dev eth1 proto static table 1000",
        "ekho-right: address replace 192.0.2.2/24 dev eth1",
    }
    dry = pair.make(dry=True)
    assert expected <= set(dry)
    assert not os.path.exists(pair.place.ssh_config)
    assert sorted(pair.make()) == sorted(dry)
    at_work(pair)
    assert pair.make() == []


def test_a_paused_machine_continues(pair: QemuLab) -> None:
    """As QEMU does it to one that cannot write because the disk is full."""
    machine = Machine("ekho-left", os.path.join(pair.place.run_dir, "left"))

    async def pause() -> None:
        async with monitor(machine) as qmp:
            await qmp.execute("stop")

    asyncio.run(pause())
    assert pair.make(dry=True) == ["continue ekho-left"]
    assert pair.make() == ["continue ekho-left"]
    at_work(pair)


def test_two_at_once_take_turns(pair: QemuLab) -> None:
    pair.ssh("right", "ip address delete 192.0.2.2/24 dev eth1")
    runs: list[list[str]] = []
    threads = [threading.Thread(target=lambda: runs.append(pair.make())) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(map(len, runs))[0] == 0
    assert "ekho-right: address replace 192.0.2.2/24 dev eth1" in max(runs, key=len)
    assert "another run is using lab pair; waiting for it" in pair.progress


def test_a_second_lab_shares_nothing_with_the_first(pair: QemuLab, labs: Labs) -> None:
    second = labs("second", HOSTS, LINKS)
    second.make()
    at_work(second)
    address = "cat /sys/class/net/eth1/address"
    assert second.ssh("left", address) != pair.ssh("left", address)
    known = [Path(lab.place.known_hosts).read_text().split()[2] for lab in (pair, second)]
    assert known[0] != known[1]
    second.remove()
    at_work(pair)


def test_other_cables_are_refused(pair: QemuLab) -> None:
    lab = QemuLab(Path(pair.place.run_dir).parent, "pair", [{"name": "left"}, {"name": "right"}], [])
    with pytest.raises(LabFailure, match="lab pair was created with other links; take it down first"):
        lab.make()
    at_work(pair)


# Broken


def test_a_killed_machine_boots_from_its_disk(pair: QemuLab) -> None:
    """With its network, by itself, and the same key; its neighbour notices nothing."""
    pair.ssh("left", "echo kept > /root/file; sync")
    known, neighbour = Path(pair.place.known_hosts).read_text(), pair.pid("right")
    os.kill(pair.pid("left"), signal.SIGKILL)
    commands = pair.make()
    assert [line for line in commands if line.startswith("start")] == ["start ekho-left"]
    assert not [line for line in commands if "replace" in line or "master" in line]  # it did that itself
    assert pair.ssh("left", "cat /root/file") == "kept\n"
    assert (Path(pair.place.known_hosts).read_text(), pair.pid("right")) == (known, neighbour)
    at_work(pair)
    assert pair.make() == []


def test_the_next_run_completes_one_that_was_killed(labs: Labs) -> None:
    """Killed while QEMU is there but its guest does not run yet."""
    lab = labs()
    folder = Path(lab.place.run_dir).parent
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(COLLECTIONS)!r})
from ansible_collections.ekho.ynl_mirror.tests.support.labs.qemu import SOLO, QemuLab
QemuLab(Path({str(folder)!r}), "one", SOLO, []).make()
"""
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not command_lines(f"{lab.place.run_dir}/solo/pid"):
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    assert lab.make(dry=True) != []
    lab.make()
    assert lab.ssh("solo", "hostname") == "ekho-solo\n"
    assert len(command_lines(f"{lab.place.run_dir}/solo/pid")) == 1
    assert lab.make() == []


def test_a_saved_state_that_qemu_refuses_is_reported_and_the_machine_boots(labs: Labs, tmp_path: Path) -> None:
    lab = labs()
    state = tmp_path / "state"
    state.write_bytes(b"QEVM" + bytes(1000))
    lab.make(state=str(state))
    said = next(line for line in lab.progress if "cannot resume from the saved state" in line)
    assert said.endswith("booting instead")
    assert not tmp_path.exists()  # the folder in the cache, so that the next lab does not stumble
    assert lab.ssh("solo", "hostname") == "ekho-solo\n"


def test_a_kernel_panic_is_reported_at_once_with_its_console(labs: Labs) -> None:
    lab = labs()
    begun = time.monotonic()
    with pytest.raises(MachineError) as caught:
        lab.make(arguments=f"{KERNEL_ARGUMENTS} init=/bin/true")
    assert str(caught.value).startswith("ekho-solo: its kernel has panicked. The end of its console (/")
    assert "Attempted to kill init!" in str(caught.value)
    assert time.monotonic() - begun < 100


def test_a_machine_that_dies_while_it_boots_is_reported_at_once(labs: Labs) -> None:
    lab = labs()

    def kill() -> None:
        while not any("booting" in line for line in lab.progress):
            time.sleep(0.02)
        time.sleep(1.5)
        os.kill(lab.pid("solo"), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MachineError, match="ekho-solo: QEMU has exited"):
        lab.make(arguments=f"{KERNEL_ARGUMENTS} console=ttyS0")
    killer.join()


def test_qemus_own_errors_are_quoted(labs: Labs) -> None:
    with pytest.raises(MachineError, match=r"ekho-solo: QEMU could not be started: .*Cannot allocate memory"):
        labs().make(memory=1 << 26)


# Down


def test_down_leaves_nothing_in_any_state(labs: Labs) -> None:
    """A shared connection of OpenSSH, a damaged note, a machine without the file of its process."""
    lab = labs()
    lab.make()
    master = [
        "-o",
        "ControlMaster=yes",
        "-o",
        f"ControlPath={lab.place.masters}/0123456789",
        "-o",
        "ControlPersist=300",
    ]
    subprocess.run(
        ["ssh", "-F", lab.place.ssh_config, *master, "ekho-solo", "true"],
        timeout=60,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    assert command_lines(f"ssh: {lab.place.run_dir}")
    Path(lab.place.record_file).write_text('{"backend": "qe')
    with pytest.raises(LabFailure, match=r"lab.json is damaged .* take the lab down"):
        lab.make()
    Path(lab.place.run_dir, "solo", "pid").unlink()
    assert lab.remove()[-1] == f"rm -r {lab.place.run_dir}"
    assert command_lines(lab.place.run_dir) == []
    assert not os.path.exists(lab.place.run_dir)
    assert lab.remove() == []


def test_down_stops_machines_without_a_folder(labs: Labs) -> None:
    lab = labs()
    lab.make()
    shutil.rmtree(lab.place.run_dir)
    assert command_lines(lab.place.run_dir)
    assert lab.remove()
    assert command_lines(lab.place.run_dir) == []


def test_down_removes_no_folder_with_other_files(labs: Labs) -> None:
    lab = labs()
    folder = Path(lab.place.run_dir)
    folder.mkdir()
    (folder / "letters").mkdir()
    (folder / "letters" / "mine").write_text("Dear")
    assert lab.remove() == []
    with pytest.raises(LabFailure, match="contains letters, which does not belong to a lab"):
        lab.make()
    (folder / "lab.json").write_text(json.dumps({"backend": "netns", "vrf": "rules"}))
    for attempt in (lab.remove, lab.make):
        with pytest.raises(LabFailure, match="contains a lab of the backend netns; take that lab down first"):
            attempt()
    (folder / "lab.json").write_text("{")
    with pytest.raises(LabFailure, match="is damaged, and letters beside it does not belong to a lab"):
        lab.remove()
    assert (folder / "letters" / "mine").read_text() == "Dear"
    shutil.rmtree(folder)


# With Ansible around it


def ansible(arguments: str, *options: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)
    command = [str(ANSIBLE), "localhost", "-m", "ekho.ynl_mirror.qemu_topology", "-a", arguments, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    output = done.stdout[done.stdout.index("{\n") :]
    result: dict[str, Any] = json.loads(output)["plays"][0]["tasks"][0]["hosts"]["localhost"]
    return result


@pytest.mark.usefixtures("_qemu")
def test_check_mode_reports_what_would_change_and_creates_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="ynl-qemu-") as folder:  # not pytest's: a socket's path must be short
        given = json.dumps({"name": "one", "run_dir": f"{folder}/labs/one", "hosts": SOLO, "links": []})
        result = ansible(given, "--check", "--diff")
        assert result["changed"], result.get("msg")
        assert "+ start ekho-solo\n" in result["diff"]["prepared"]
        assert os.listdir(folder) == []


def test_down_where_there_is_no_lab_is_no_change(tmp_path: Path) -> None:
    result = ansible(json.dumps({"name": "one", "run_dir": str(tmp_path / "labs" / "one"), "state": "absent"}))
    assert (result["changed"], result["machines"]) == (False, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_a_message_and_no_traceback(tmp_path: Path) -> None:
    given = {"name": "one", "run_dir": str(tmp_path), "hosts": [{"name": "No!"}]}
    result = ansible(json.dumps(given))
    assert result["failed"]
    assert result["msg"].startswith("host 'No!': use lower-case letters")
