# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two network namespaces, a host and a DPU, joined as the mirror's field of use joins them.

```
 NAME-host                               NAME-dpu
   main table: the workload
 192.168.101.2 eth1 ------------- eth1 192.168.101.1   VRF a (table 10): covering routes -> eth3, eth5; default -> eth1
 192.168.102.2 eth2 ------------- eth2 192.168.102.1   VRF b (table 20): default -> eth2; where mirrored routes go
                                  eth3 192.168.11.1 ---- far3 (gateway 192.168.11.2)
                                  eth5 192.168.13.1 ---- far5 (gateway 192.168.13.2)
```

The host's routes name 192.168.101.1 as gateway, so their source is VRF a; a mirror finds the egress in table 10, where
the default route points back at the host and must not be taken.  VRFs are policy rules and tables, which every kernel
has.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from mirrorbench import rtnl, workload

SOURCE_TABLE, TARGET_TABLE = 10, 20
HOST_UPLINK, DPU_UPLINK = "192.168.101.2", "192.168.101.1"
HOST_SECOND, DPU_SECOND = "192.168.102.2", "192.168.102.1"
#: Links of the DPU's two VRFs.
VRF_LINKS = {"a": ["eth1", *(leave.link for leave in workload.EGRESSES)], "b": ["eth2"]}
NAME_PREFIX = "ynlbench-"
NETNS_FOLDER = Path("/run/netns")


class Lab:
    """The two namespaces of one measurement; a context manager that builds them and takes them down."""

    def __init__(self, routes: int) -> None:
        """Prepare a lab whose VRF a covers ``routes`` bulk prefixes."""
        self.name = f"{NAME_PREFIX}{os.getpid()}"
        self.host, self.dpu = f"{self.name}-host", f"{self.name}-dpu"
        self._routes = routes

    def __enter__(self) -> Lab:
        """Build both namespaces; raises RuntimeError with the words of `ip` when that fails."""
        try:
            for namespace in (self.host, self.dpu):
                _ip("netns", "add", namespace)
            _batch(self.dpu, self._link_commands())
            _batch(self.host, self._host_commands())
            _batch(self.dpu, self._dpu_commands())
            with rtnl.inside(self.host):
                self.host_uplink_index = socket.if_nametoindex("eth1")
                # A host that forwards nothing drops what its DPU sends it, and a mirror must not deliver that.
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
            with rtnl.inside(self.dpu):
                self.egress_indexes = {leave: socket.if_nametoindex(leave.link) for leave in workload.EGRESSES}
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take both namespaces down."""
        self.close()

    def close(self) -> None:
        """Delete both namespaces, however far they came."""
        for namespace in (self.host, self.dpu):
            _delete(namespace)

    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """Return a new temporary folder, named so that the next run finds it if this one is killed."""
        return tempfile.TemporaryDirectory(prefix=f"{self.name}-")

    @property
    def own_subnets(self) -> set[bytes]:
        """Return the /24 destinations that the target table holds from the beginning."""
        return {socket.inet_aton(DPU_SECOND)[:3] + b"\0"}

    def route(self, kind: int) -> rtnl.Template:
        """Return the template of the host's routes, for RTM_NEWROUTE or RTM_DELROUTE."""
        return rtnl.Template.of(kind, DPU_UPLINK, self.host_uplink_index)

    def _link_commands(self) -> list[str]:
        commands = [f"link add eth{n} type veth peer name eth{n} netns {self.host}" for n in (1, 2)]
        return commands + [f"link add {leave.link} type veth peer name {_far(leave)}" for leave in workload.EGRESSES]

    def _host_commands(self) -> list[str]:
        return [
            "link set lo up",
            f"address add {HOST_UPLINK}/24 dev eth1",
            f"address add {HOST_SECOND}/24 dev eth2",
            "link set eth1 up",
            "link set eth2 up",
        ]

    def _dpu_commands(self) -> list[str]:
        addresses = {"eth1": DPU_UPLINK, "eth2": DPU_SECOND}
        addresses |= {leave.link: leave.address for leave in workload.EGRESSES}
        commands = ["link set lo up", *(f"link set {_far(leave)} up" for leave in workload.EGRESSES)]
        for table, links in zip((SOURCE_TABLE, TARGET_TABLE), VRF_LINKS.values(), strict=True):
            for link in links:
                subnet = addresses[link].rsplit(".", 1)[0] + ".0/24"
                commands += [
                    f"address add {addresses[link]}/24 dev {link}",
                    f"link set {link} up",
                    f"rule add iif {link} lookup {table}",
                    f"route add {subnet} dev {link} table {table}",
                ]
        commands += [
            f"route add default via {HOST_UPLINK} dev eth1 table {SOURCE_TABLE}",
            f"route add default via {HOST_SECOND} dev eth2 table {TARGET_TABLE}",
        ]
        for prefix, leave in workload.covering(self._routes):
            commands.append(f"route add {prefix} via {leave.gateway} dev {leave.link} table {SOURCE_TABLE}")
        return commands


def remove_leftovers() -> list[str]:
    """Delete the namespaces and temporary folders of benchmark runs whose process is gone; returns their paths."""
    found = [*NETNS_FOLDER.glob(f"{NAME_PREFIX}*"), *Path(tempfile.gettempdir()).glob(f"{NAME_PREFIX}*")]
    gone = [path for path in found if not Path("/proc", path.name.removeprefix(NAME_PREFIX).split("-")[0]).exists()]
    for path in gone:
        if path.parent == NETNS_FOLDER:
            _delete(path.name)
        else:
            shutil.rmtree(path)
    return [str(path) for path in gone]


def _far(leave: workload.Egress) -> str:
    return leave.link.replace("eth", "far")


def _delete(namespace: str) -> None:
    """Delete a namespace, its routes first: else the kernel would free them in the background of the next measure."""
    if not (NETNS_FOLDER / namespace).exists():
        return
    with contextlib.suppress(RuntimeError):
        _batch(namespace, [f"link set eth{n} down" for n in (1, 2, 3, 5)], force=True)
    _ip("netns", "delete", namespace)


def _batch(namespace: str, commands: list[str], *, force: bool = False) -> None:
    _ip("-n", namespace, *(["-force"] if force else []), "-batch", "-", text="\n".join(commands) + "\n")


def _ip(*arguments: str, text: str = "") -> None:
    done = subprocess.run(["ip", *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
