# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BIRD 2 as a mirror: it learns the host's routes, carries them by BGP and writes them into the DPU's target table.

Set up to be as fast as BIRD goes: no graceful restart, the shortest waits before the session, no merging of paths, no
scans after the first, a receive buffer as big as the mirror's own.  BIRD does not infer egresses, so its import filter
names them: the covering prefixes of VRF a, looked up in a prefix set (which BIRD keeps as a trie) for every route.
"""

from __future__ import annotations

import shutil
import subprocess

from mirrorbench import lab, workload
from mirrorbench.mirror import Mirror
from mirrorbench.processes import Process

HOST = """\
log "{folder}/bird-host-messages.log" {{ warning, error, fatal, bug }};
router id {host};
protocol device {{ scan time 600; }}
protocol kernel {{
    learn;
    scan time 600;
    netlink rx buffer {buffer};
    ipv4 {{ import where source = RTS_INHERIT && ifname = "eth1"; export none; }};
}}
protocol bgp {{
    local {host} as 65001;
    neighbor {dpu} as 65002;
    direct;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 1;
    ipv4 {{ import none; export where source = RTS_INHERIT; next hop self; }};
}}
"""

DPU = """\
log "{folder}/bird-dpu-messages.log" {{ warning, error, fatal, bug }};
router id {dpu};
filter egresses {{
    if net ~ [ {first} ] then gw = {first_gateway}; else gw = {second_gateway};
    accept;
}}
protocol device {{ scan time 600; }}
protocol kernel {{
    kernel table {table};
    scan time 600;
    netlink rx buffer {buffer};
    ipv4 {{ import none; export where source = RTS_BGP; }};
}}
protocol bgp {{
    local {dpu} as 65002;
    neighbor {host} as 65001;
    direct;
    passive;
    connect delay time 1;
    error wait time 1, 1;
    ipv4 {{ import filter egresses; export none; }};
}}
"""

RECEIVE_BUFFER = 128 << 20


class Bird(Mirror):
    """Two instances of BIRD 2, one in each namespace."""

    name = "bird"

    @classmethod
    def missing(cls) -> str | None:
        """Return how to get BIRD when it is not installed."""
        return None if shutil.which("bird") else "the command `bird` is not installed: `apt-get install bird2`"

    @classmethod
    def version(cls) -> str:
        """Return what `bird --version` says."""
        done = subprocess.run(["bird", "--version"], capture_output=True, text=True, check=False)
        return (done.stderr or done.stdout).strip()

    def prepare(self) -> None:
        """Write one configuration for each instance."""
        first, second = workload.EGRESSES
        values = {
            "folder": self.folder,
            "host": lab.HOST_UPLINK,
            "dpu": lab.DPU_UPLINK,
            "buffer": RECEIVE_BUFFER,
            "table": lab.TARGET_TABLE,
            "first": ", ".join(f"{prefix}+" for prefix, leave in workload.covering(self.routes) if leave is first),
            "first_gateway": first.gateway,
            "second_gateway": second.gateway,
        }
        (self.folder / "bird-host.conf").write_text(HOST.format(**values))
        (self.folder / "bird-dpu.conf").write_text(DPU.format(**values))

    def start(self) -> None:
        """Start both instances in the foreground, so that they are children of the benchmark."""
        for role, namespace in (("dpu", self.lab.dpu), ("host", self.lab.host)):
            stem = f"bird-{role}"
            command = ["bird", "-f", "-c", f"{self.folder}/{stem}.conf", "-s", f"{self.folder}/{stem}.ctl"]
            self.processes.append(Process(stem, namespace, command, self.folder))
