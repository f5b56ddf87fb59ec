# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs of virtual machines for tests: real QEMU, the cached image, no Ansible around it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import parse_topology
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image as qemu_image
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.lab import Lab
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Accelerator, Software
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.place import LOGIN, Place
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.requirements import choose_accelerator

SECONDS = 180.0
MEMORY = 384  # what the lab's machines have, so that all start from one saved state

#: Two hosts and a cable; the left end is in a VRF.
HOSTS: list[dict[str, Any]] = [
    {
        "name": "left",
        "vrfs": [{"name": "a", "table": 1000}],
        "interfaces": [{"name": "eth1", "vrf": "a", "addresses": ["192.0.2.1/24", "fd00:db8::1/64"]}],
        "routes": [{"dst": "198.51.100.0/24", "vrf": "a", "gateway": "192.0.2.2"}],
        "sysctls": {"net.ipv4.ip_forward": 1},
    },
    {"name": "right", "interfaces": [{"name": "eth1", "addresses": ["192.0.2.2/24", "fd00:db8::2/64"]}]},
]
LINKS = [["left:eth1", "right:eth1"]]
SOLO: list[dict[str, Any]] = [{"name": "solo"}]


class QemuLab:
    """A lab in a folder of its own; ``progress`` has the messages that a user would see."""

    def __init__(
        self, folder: Path, name: str, hosts: Sequence[Mapping[str, Any]], links: Sequence[Sequence[str]]
    ) -> None:
        self.place = Place(name, str(folder / name))
        self.hosts = hosts
        self.links = links
        self.progress: list[str] = []
        self.images = 0

    def make(self, *, dry: bool = False, seconds: float = SECONDS, **changes: Any) -> list[str]:
        """Bring it up or repair it; returns the commands. CHANGES are those of `Software`, and ``state`` of `Image`."""
        if not dry:
            make_keys(self.place, [host["name"] for host in self.hosts])
        lab = Lab(self.place, self.progress.append, dry=dry, seconds=seconds)

        async def image(_made_with: Accelerator | None) -> qemu_image.Image:
            self.images += 1
            return await self._image(changes)

        asyncio.run(lab.make(parse_topology(self.place.name, self.hosts, self.links), image))
        return lab.commands

    def remove(self) -> list[str]:
        """Take it down; returns the commands."""
        lab = Lab(self.place, self.progress.append)
        lab.remove()
        return lab.commands

    def pid(self, host: str) -> int:
        """QEMU's process, as it wrote it down."""
        return int(Path(self.place.run_dir, host, "pid").read_text())

    def ssh(self, host: str, script: str, seconds: float = 60.0) -> str:
        """Run a line of shell as a user would; CalledProcessError when it fails."""
        words = ["ssh", "-F", self.place.ssh_config, f"ekho-{host}", script]
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    async def _image(self, changes: dict[str, Any]) -> qemu_image.Image:
        cache = qemu_image.cache_folder()
        disk, kernel, initrd = qemu_image.base_image(cache, qemu_image.Recipe(), self.progress.append)
        accelerator, _reason = choose_accelerator("auto", kernel)
        image = qemu_image.Image(disk, Software(accelerator, MEMORY, kernel, initrd))
        state = changes.pop("state", "saved")
        if changes:
            return dataclasses.replace(image, software=dataclasses.replace(image.software, **changes))
        image = await qemu_image.booted(cache, image, self.progress.append)
        return image if state == "saved" else dataclasses.replace(image, state=state)


def make_keys(place: Place, hosts: Sequence[str]) -> None:
    """Create the key pairs that are missing, as the role ekho_lab does with community.crypto."""
    for name in (LOGIN, *(f"ekho-{host}" for host in hosts)):
        key = Path(place.key(name))
        key.parent.mkdir(parents=True, exist_ok=True)
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)


def command_lines(text: str) -> list[int]:
    """The processes in whose command line the text is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(text) in words:
                found.append(int(entry.name))
    return found
