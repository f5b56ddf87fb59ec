# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible sends to a machine for a module: the module and the files that it imports, however indirectly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, PROGRAMS

#: Rooms and files of the daemons.
DAEMONS = {"daemon", "listener", "agent", "cli", "install", "fpm", "capture", "config/agent.py", "config/listener.py"}
OPTIONS = {"config/common.py", "config/options.py", "config/filters.py", "config/host_policy.py"}
#: The most that a module may ship of the private code, in files and bytes (some percent more than it does ship), and
#: rooms and files that it has no use for.
BOUNDS = {
    "vrf_route": (15, 145_000, DAEMONS | OPTIONS | {"replica", "mapping", "preflight", "lab"}),
    "vrf_info": (20, 178_000, DAEMONS | OPTIONS | {"preflight", "lab"}),
    "netlink_route_info": (20, 158_000, DAEMONS | {"mapping", "preflight", "lab", "config/host_policy.py"}),
    "traceroute": (1, 5_500, DAEMONS | OPTIONS | {"config", "netlink", "vrf", "preflight"}),
    "mirror_machine": (5, 18_500, (DAEMONS - {"install"}) | OPTIONS | {"config", "netlink", "vrf", "preflight", "lab"}),
}


def shipped(module: str, folder: Path) -> dict[str, int]:
    """The private files that Ansible ships with a module (room/file), with their bytes; the task itself may fail."""
    subprocess.run(
        [PROGRAMS / "ansible", "localhost", f"--module-name=ekho.ynl_mirror.{module}"],
        cwd=CHECKOUT,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache" / "collections"),
            "ANSIBLE_KEEP_REMOTE_FILES": "1",
            "ANSIBLE_PIPELINING": "0",
            "ANSIBLE_REMOTE_TMP": str(folder / "remote"),
        },
        capture_output=True,
        check=False,
    )
    (program,) = (folder / "remote").rglob("AnsiballZ_*.py")
    subprocess.run([sys.executable, program, "explode"], env={"HOME": str(folder)}, capture_output=True, check=True)
    (root,) = folder.rglob("module_utils/_ynl_mirror")
    files = [path for path in root.rglob("*.py") if path.name != "__init__.py"]
    return {str(path.relative_to(root)): path.stat().st_size for path in files}


@pytest.mark.parametrize("module", BOUNDS)
def test_a_module_ships_what_it_needs_and_no_more(module: str, tmp_path: Path) -> None:
    most_files, most_bytes, useless = BOUNDS[module]
    files = shipped(module, tmp_path)
    print(f"{module}: {len(files)} files, {sum(files.values())} bytes: {' '.join(sorted(files))}")
    assert sorted(name for name in files if {name, name.partition("/")[0]} & useless) == []
    assert 0 < len(files) <= most_files
    assert sum(files.values()) <= most_bytes
