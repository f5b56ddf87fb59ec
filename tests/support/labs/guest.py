# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine of the lab with this checkout inside, for tests that want another kernel than this machine's.

It starts from the lab's cached image. The Python packages that tests need are copied out of the environment that pytest
runs in here, so both sides run the same versions and no package index is asked.
"""

from __future__ import annotations

import asyncio
import io
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import parse_topology
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import image as qemu_image
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu import requirements
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.lab import Lab
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import Accelerator, Software
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.place import Place
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files
from ansible_collections.ekho.ynl_mirror.tests.support.labs.qemu import make_keys

NAME = "tests"
MEMORY = 384  # MB; what the lab's own machines have, so that both start from one saved state
SECONDS = 180.0
PACKAGES = ("pytest", "pytest-timeout", "pyroute2", "uvicorn", "prometheus-client")
#: Where the guest's Python looks for packages that its distribution does not own.
SITE = "usr/local/lib/python{version}/dist-packages"
_ANSIBLE = ("ansible/__init__.py", "ansible/release.py", "ansible/_vendor/__init__.py")
FOLDERS = ("plugins", "tests", "pyproject.toml")


class Guest:
    """A machine that runs for as long as the block lasts; nothing of it but the image's cache stays behind."""

    def __init__(self) -> None:
        self.progress: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="ynl-guest-"))  # not pytest's: a socket's path must be short
        self._lab = Lab(Place(NAME, str(self.folder / "lab")), self.progress.append, seconds=SECONDS)
        # However this process ends, its end of the pipe is closed then, and the machine goes with it.
        script = f"read -r _; kill $(cat {self.folder}/lab/{NAME}/pid); rm -r {self.folder}"
        nothing = subprocess.DEVNULL
        self._keeper = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True
        )

    def __enter__(self) -> Guest:
        try:
            topology = parse_topology(NAME, [{"name": NAME}], [])
            make_keys(self._lab.place, [NAME])
            asyncio.run(self._lab.make(topology, self._image))
            self._send()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the machine."""
        self._lab.remove()
        self._keeper.communicate()

    def command(self, script: str) -> list[str]:
        """The command that runs a line of shell in the guest's copy of the checkout."""
        return ["ssh", "-F", self._lab.place.ssh_config, f"ekho-{NAME}", f"cd /root/checkout && {script}"]

    async def _image(self, _created_with: Accelerator | None) -> qemu_image.Image:
        requirements.check(build=True)
        cache = qemu_image.cache_folder()
        disk, kernel, initrd = qemu_image.base_image(cache, qemu_image.Recipe(), self.progress.append)
        accelerator, _reason = requirements.choose_accelerator("auto", kernel)
        image = qemu_image.Image(disk, Software(accelerator, MEMORY, kernel, initrd))
        return await qemu_image.booted(cache, image, self.progress.append)

    def _send(self) -> None:
        version = self._run("mkdir -p /root/checkout; python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'")
        self._run("tar -xz -C / --no-same-owner", packed(SITE.format(version=version.strip())))

    def _run(self, script: str, data: bytes = b"") -> str:
        command = ["ssh", "-F", self._lab.place.ssh_config, f"ekho-{NAME}", script]
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"in the guest: {shlex.join(command)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()


def packed(site: str) -> bytes:
    """The archive of all that tests need: the packages for the folder *site*, and the checkout."""
    buffer = io.BytesIO()
    # To pack costs less than it spares: an emulated processor decrypts what comes by SSH.
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=4) as archive:
        for path, name in [*_packages(site), *_checkout()]:
            archive.add(path, name, recursive=False)
            for compiled in _compiled(path):
                archive.add(compiled, str(Path(name).parent / "__pycache__" / compiled.name))
    return buffer.getvalue()


def _checkout() -> Iterator[tuple[Path, str]]:
    for path in checkout_files():
        if path.parts[0] in FOLDERS:
            yield CHECKOUT / path, f"root/checkout/{path}"


def _packages(site: str) -> Iterator[tuple[Path, str]]:
    for one in _distributions(PACKAGES):
        for file in one.files or ():
            path = Path(str(one.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                yield path, f"{site}/{file}"
    # What Ansible ships with every module.
    ansible = distribution("ansible-core")
    for file in ansible.files or ():
        wanted = file.parts[:2] == ("ansible", "module_utils") or str(file) in _ANSIBLE
        if wanted and file.suffix == ".py":
            yield Path(str(ansible.locate_file(file))), f"{site}/{file}"


def _distributions(names: Iterable[str]) -> Iterable[Distribution]:
    """The distributions of that name and all that they require, from this environment."""
    found: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        one = distribution(todo.pop())
        name = one.metadata["Name"].lower()
        if name not in found:
            found[name] = one
            wanted = map(Requirement, one.requires or ())
            todo += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found.values()


def _compiled(source: Path) -> Iterable[Path]:
    """What this Python has compiled of a file, with pytest's assertions too: compiling takes a guest long.

    A Python of another version does not look at it.
    """
    if source.suffix != ".py":
        return ()
    return source.parent.glob(f"__pycache__/{source.stem}.{sys.implementation.cache_tag}*.pyc")
