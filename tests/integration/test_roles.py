# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles with all their defaults, on a machine that has systemd and a bare Python: deployed, upgraded, removed.

The machine is a systemd booted in namespaces, where no package index can be reached. Agent and listener share it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages.wheelhouse import Wheelhouse
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CACHE, MACHINE_PYTHON
from ansible_collections.ekho.ynl_mirror.tests.support.labs.systemd import SYSTEMD, Systemd, booted
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

# A bare one: the system's, or the one below the environment that the matrix names.
PYTHON = Path("/usr/bin/python3" if sys.executable == MACHINE_PYTHON else MACHINE_PYTHON).resolve()
PACKAGES = ["uvicorn", "prometheus-client"]
TO_CERTIFICATES = "Install the certificates on the machine"
TO_AGENT = "Bring the agent into the requested state"
ROLES = ("mirror_certificates", "dpu_agent", "mirror_listener")
PLACES = ["/etc", "/usr/local", "/var/lib", "/run"]  # which the booted system has for itself
# What useradd and userdel leave, and what systemd and Ansible write by themselves.
OTHERS = ("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/run/systemd", "/run/log")

pytestmark = [
    pytest.mark.controller,
    pytest.mark.slow,
    pytest.mark.timeout(480),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="this machine has no systemd to boot"),
]


class Machine:
    """The booted system as a host of a play, which runs inside too."""

    def __init__(self, system: Systemd, root: Path) -> None:
        self._system = system
        self._root = root
        self.certificates = root / "ca"
        self.wheels = ""

    def sh(self, script: str) -> str:
        """What a script prints."""
        done = self._system.run("sh", "-euc", script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def play(
        self, *options: str, roles: Sequence[str | tuple[str, dict[str, str]]] = ROLES, **variables: Any
    ) -> dict[str, Any]:
        """Apply the roles, some with variables of their own.

        The sum of the play, and with it `output` and the `results` of its tasks, by their names.
        """
        given = {
            "mirror_certificates_ca_dir": str(self.certificates),
            "dpu_agent_python_packages_from": "wheels",
            "dpu_agent_wheels_dir": self.wheels,
            "dpu_agent_listen": [{"address": "127.0.0.1"}],
            "dpu_agent_vrfs": {"a": {"table": 10, "links": ["x1"]}, "b": {"table": 20, "links": ["x2"]}},
            "dpu_agent_static": [{"prefix": "192.0.2.0/24", "vrf": "a", "dev": "x1"}],
            "mirror_listener_python_packages_from": "wheels",
            "mirror_listener_wheels_dir": self.wheels,
            "dpu_agent_timeout": 90,  # on a loaded machine
            "mirror_listener_timeout": 90,
            "mirror_listener_agents": [{"address": "127.0.0.1", "server_name": "machine"}],
            **variables,
        }
        named = [(role, {}) if isinstance(role, str) else role for role in roles]
        tasks = [
            {"ansible.builtin.include_role": {"name": f"ekho.ynl_mirror.{role}"}, "name": role, "vars": own}
            for role, own in named
        ]
        play = {"hosts": "machine", "gather_facts": False, "vars": given, "tasks": tasks}
        (self._root / "play.json").write_text(json.dumps([play]))
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(PYTHON)}
        (self._root / "inventory.json").write_text(json.dumps({"all": {"hosts": {"machine": host}}}))
        done = self._system.run(
            str(Path(sys.executable).parent / "ansible-playbook"),
            str(self._root / "play.json"),
            f"--inventory={self._root / 'inventory.json'}",
            *options,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(CACHE / "packages"),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json",
                "ANSIBLE_LOCAL_TEMP": str(self._root),
                "ANSIBLE_REMOTE_TEMP": str(self._root),
                "ANSIBLE_PIPELINING": "1",
            },
            seconds=180,
        )
        assert done.stdout.startswith("{"), done.stdout + done.stderr
        said = json.loads(done.stdout)
        results: dict[str, Any] = {}
        for task in said["plays"][0]["tasks"]:
            results.setdefault(task["task"]["name"].rpartition(" : ")[2], task["hosts"]["machine"])
        failed = [result["msg"] for result in results.values() if result.get("failed")]
        assert not failed, failed
        return {**said["stats"]["machine"], "output": done.stdout, "results": results}

    def files(self) -> dict[str, str]:
        """Every file and folder with its mode, owner, and size; the users."""
        lines = self.sh(f"find {' '.join(PLACES)} -printf '%p\\t%y %m %u %g %s %l\\n'").splitlines()
        pairs = [line.split("\t") for line in lines]
        found = {path: told for path, told in pairs if not path.startswith(OTHERS)}
        # A folder's size and its time are the file system's own business.
        return {path: told.rsplit(" ", 2)[0] if told.startswith("d") else told for path, told in found.items()}

    def prints(self, script: str, wanted: str) -> None:
        """Wait until a script prints something."""
        until(lambda: self.sh(script), lambda printed: wanted in printed)


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder with the wheels for the machine's Python, downloaded once; what the role's own download leaves."""
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(CACHE / "packages"))
        Wheelhouse(PACKAGES).archive(version)
        return Wheelhouse(PACKAGES)._downloads(version)


def _opened(python: Path) -> str:
    """The script that lets every user run a Python which lies in root's home: all else there is hidden."""
    for folder in reversed(python.parents):
        if not folder.stat().st_mode & 0o001:
            inside = folder / python.relative_to(folder).parts[0]
            return f"""
                mkdir /mnt/opened && mount --bind {inside} /mnt/opened
                mount -t tmpfs -o mode=755 tmpfs {folder} && mkdir {inside} && mount --move /mnt/opened {inside}
            """
    return ""


@pytest.fixture
def machine(_root: None, tmp_path: Path, wheels: Path) -> Iterator[Machine]:
    with booted(tmp_path / "units") as system:
        made = Machine(system, tmp_path)
        made.sh(_opened(PYTHON))
        # A link of each VRF, and a route of the host whose configured egress is x1. VRF b leads to the host by x2. As
        # the host is this machine, it has no address that the kernel takes for a gateway: so a link-local one.
        made.sh("ip link add x1 type veth peer name x2; ip link set x1 up; ip link set x2 up")
        made.sh("ip address add 10.1.0.1/24 dev x2; ip route add 192.0.2.0/24 via 10.1.0.9")
        made.sh("ip route add default via 169.254.0.9 dev x2 onlink table 20")
        made.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
        yield made


def _but_made(result: dict[str, Any]) -> list[str]:
    """What a task has done; what two of them need is made by the first, and announced by both."""
    return [action for action in result["actions"] if not action.startswith("create ")]


def test_deployed_used_and_removed_without_a_trace(machine: Machine) -> None:
    before, users = machine.files(), machine.sh("cat /etc/passwd /etc/group")

    announced = machine.play("--check", "--diff")
    assert announced["changed"] > 0
    assert machine.files() == before

    first = machine.play("--diff")
    (key,) = machine.certificates.glob("machine.key")
    secret = key.read_text().splitlines()[1]
    assert "PRIVATE KEY" not in first["output"]
    assert secret not in first["output"]
    for name in (TO_CERTIFICATES, TO_AGENT):
        assert _but_made(announced["results"][name]) == _but_made(first["results"][name])

    machine.prints("ip route show table 20", "192.0.2.0/24 dev x1 proto ynl_mirror")
    status = machine.sh("cat /proc/$(systemctl show --value -p MainPID ynl-mirror-agent)/status")
    assert "CapEff:\t0000000000001000\n" in status
    uid = machine.sh("id -u ynl-mirror").strip()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status
    machine.sh("systemctl reload ynl-mirror-agent")
    machine.prints("journalctl -u ynl-mirror-agent -o cat --no-pager", "SIGHUP: certificates reloaded")
    modes = machine.sh("stat -c '%a %U %G %n' /etc/ynl-mirror /etc/ynl-mirror/tls /etc/ynl-mirror/tls/machine.key")
    assert modes.splitlines() == [
        "755 root root /etc/ynl-mirror",
        "750 root ynl-mirror /etc/ynl-mirror/tls",
        "600 ynl-mirror ynl-mirror /etc/ynl-mirror/tls/machine.key",
    ]

    assert machine.play()["changed"] == 0
    assert machine.play("--check", "--diff")["changed"] == 0

    gone = {f"{role}_state": "absent" for role in ROLES}
    assert machine.play("--diff", **gone)["changed"] > 0
    assert machine.files() == before
    assert machine.sh("cat /etc/passwd /etc/group") == users
    machine.prints("systemctl list-units --all 'ynl-mirror*' --no-legend | wc -l", "0")  # forgotten in its own time
    assert "192.0.2.0/24" in machine.sh("ip route show table 20")  # what it has installed stays


def test_the_order_of_removal_does_not_matter(machine: Machine) -> None:
    before = machine.files()
    roles = ["mirror_certificates", "dpu_agent"]
    machine.play(roles=roles)
    gone = {f"{role}_state": "absent" for role in roles}
    told = machine.play("--check", "--diff", roles=roles[::-1], **gone)
    assert told["changed"] == machine.play(roles=roles[::-1], **gone)["changed"] > 0
    assert machine.files() == before


def test_other_packages_make_another_environment_and_no_route_is_lost(machine: Machine, wheels: Path) -> None:
    given: dict[str, Any] = {"roles": ROLES[1:], "dpu_agent_plaintext": True, "mirror_listener_plaintext": True}
    machine.play(**given)
    machine.prints("ip route show table 20", "192.0.2.0/24 dev x1")
    machine.sh("ip monitor route > /run/seen 2>&1 & echo $! > /run/monitor")
    folder = machine._root / "wheels"
    shutil.copytree(wheels, folder)
    with zipfile.ZipFile(folder / "hello-1.0-py3-none-any.whl", "w") as file:
        file.writestr("hello.py", "")
        file.writestr("hello-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
        file.writestr("hello-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("hello-1.0.dist-info/RECORD", "")
    machine.wheels = str(folder)
    pids = "systemctl show --value -p MainPID ynl-mirror-agent ynl-mirror-listener"
    old = machine.sh(pids)
    assert machine.play(**given, mirror_common_python_packages=[*PACKAGES, "hello"])["changed"] > 0
    assert len(set(machine.sh(pids).split()) - set(old.split())) == 2
    python = "/proc/$(systemctl show --value -p MainPID ynl-mirror-agent)/exe"
    assert machine.sh(f"readlink {python}")
    assert "import hello" not in machine.sh("head -1 /usr/local/bin/ynl-mirror")
    machine.sh("$(head -1 /usr/local/bin/ynl-mirror | cut -c3-) -c 'import hello, uvicorn'")
    assert len(machine.sh("ls -d /usr/local/lib/ynl-mirror/python*").split()) == 2  # a daemon may have run in it
    machine.sh("kill $(cat /run/monitor)")
    assert "Deleted 192.0.2.0/24" not in machine.sh("cat /run/seen")
    assert machine.play(**given, mirror_common_python_packages=[*PACKAGES, "hello"])["changed"] == 0


def test_a_revoked_host_is_refused_without_a_restart_until_it_gets_another_key(machine: Machine) -> None:
    folder = "/etc/ynl-mirror/host-tls"
    host = {"mirror_certificates_name": "ekho-host", "mirror_certificates_dir": folder}
    host["mirror_listener_certificates_dir"] = folder
    roles = [("mirror_certificates", {}), ("dpu_agent", {}), ("mirror_certificates", host), ("mirror_listener", host)]
    given: dict[str, Any] = {"roles": roles, "dpu_agent_hosts": ["ekho-host"]}
    connected = "ynl-mirror status --socket agent --json | tr -d ' \"' | tr , '\\n' | sed -n /^replay:/p"
    machine.play(**given)
    machine.prints(connected, "replay:complete")
    machine.sh("ip monitor route > /run/seen 2>&1 & echo $! > /run/monitor")
    pid = machine.sh("systemctl show --value -p MainPID ynl-mirror-agent")

    revoked = {**given, "roles": roles[:2], "mirror_certificates_revoked": ["ekho-host"]}
    announced = machine.play("--check", **revoked)["results"][TO_AGENT]["actions"]
    done = machine.play(**revoked)["results"][TO_AGENT]["actions"]
    assert announced == done == ["write /etc/ynl-mirror/agent.json", "reload the agent"]
    machine.prints("journalctl -u ynl-mirror-agent -o cat --no-pager", "certificate revoked")
    assert "192.0.2.0/24 dev x1" in machine.sh("ip route show table 20")

    again = machine.play(**given)["results"]  # off the list, so it gets a new key; what was revoked stays so
    assert again[TO_AGENT]["actions"] == []
    machine.prints(connected, "replay:complete")
    assert "ca.crl" in machine.sh("cat /etc/ynl-mirror/agent.json")
    assert machine.sh("systemctl show --value -p MainPID ynl-mirror-agent") == pid
    machine.sh("kill $(cat /run/monitor)")
    assert "Deleted 192.0.2.0/24" not in machine.sh("cat /run/seen")
