# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FRR's zebra and staticd in a namespace, as Debian's package frr installs them, with files of their own."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

PROGRAMS = Path("/usr/lib/frr")
USER = "frr"  # of the package; its group frrvty may use the vty sockets


class Zebra:
    """zebra with the module dplane_fpm_nl, which feeds ``address``, and staticd with static routes.

    By default zebra sends nexthop groups, and routes that name one; with *objects* False each route has its hops.
    """

    def __init__(self, namespace: Namespace, address: str, routes: Iterable[str] = (), objects: bool = True) -> None:
        if not (PROGRAMS / "zebra").exists() or shutil.which("vtysh") is None:
            pytest.fail("FRR's zebra is not installed here: apt-get install frr", pytrace=False)
        self._namespace = namespace
        # Not below pytest's folder, which user frr may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="ynl-mirror-frr-"))
        shutil.chown(self._folder, USER, USER)
        fpm = f"fpm address {address} port 2620\n"
        (self._folder / "zebra.conf").write_text(fpm + ("" if objects else "no fpm use-next-hop-groups\n"))
        self.configure(routes)
        self._processes: list[subprocess.Popen[str]] = []

    def configure(self, routes: Iterable[str]) -> None:
        """The static routes of the next start, such as ``10.0.0.0/8 192.0.2.1``."""
        lines = [f"{'ipv6' if ':' in route else 'ip'} route {route}\n" for route in routes]
        (self._folder / "staticd.conf").write_text("".join(lines))

    def start(self) -> Zebra:
        """Start both; zebra connects to the consumer within a few seconds."""
        # staticd looks for zebra once, and then not before ten seconds have passed.
        (self._folder / "zserv.api").unlink(missing_ok=True)
        self._start("zebra", "-M", "dplane_fpm_nl")
        until((self._folder / "zserv.api").exists, True)
        self._start("staticd")
        return self

    def _start(self, program: str, *options: str) -> None:
        folder = self._folder
        command = [str(PROGRAMS / program), *options, "-u", USER, "-g", USER, "-A", "127.0.0.1", "-P", "0"]
        command += ["-f", f"{folder}/{program}.conf", "-i", f"{folder}/{program}.pid"]
        command += ["--vty_socket", str(folder), "-z", f"{folder}/zserv.api"]
        with (folder / "output").open("a") as output:
            self._processes.append(self._namespace.start(*command, stdout=output))

    def kill(self) -> None:
        """End both at once, as a crash does; the host's kernel keeps their routes."""
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        self._processes.clear()

    def show(self, command: str) -> str:
        """The output of a command of vtysh; an AssertionError while the daemons are not up."""
        result = self._namespace.run("vtysh", "--vty_socket", str(self._folder), "-c", command, check=False)
        assert result.returncode == 0, result.stdout + result.stderr + (self._folder / "output").read_text()
        return result.stdout

    def set(self, line: str) -> None:
        """One line of configuration, such as ``no ip route 10.0.0.0/8 192.0.2.1``."""
        command = ("vtysh", "--vty_socket", str(self._folder), "-c", "configure terminal", "-c", line)
        self._namespace.run(*command)

    def counters(self) -> dict[str, int]:
        """`show fpm counters`: name (as printed) -> number."""
        found = re.findall(r"^\s*(\w[\w ]*): (\d+)$", self.show("show fpm counters"), re.MULTILINE)
        return {name: int(number) for name, number in found}

    def close(self) -> None:
        """End both and remove their files."""
        self.kill()
        shutil.rmtree(self._folder)
