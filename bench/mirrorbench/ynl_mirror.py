# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror itself as a peer: `ynl-mirror listener` on the host, `ynl-mirror agent` on the DPU, mutual TLS between."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from mirrorbench import certificates, lab
from mirrorbench.mirror import Mirror
from mirrorbench.processes import Process

CHECKOUT = Path(__file__).resolve().parents[2]
LIBRARY = CHECKOUT / "plugins" / "module_utils" / "_ynl_mirror"
PORT = 2620
SERVER_NAME, CLIENT_NAME = "ekho-dpu", "ekho-host"


class YnlMirror(Mirror):
    """Listener and agent, run from this checkout's files under the package name that a deployment gives them."""

    name = "ynl-mirror"
    #: Where to write a cProfile of each daemon; None runs them as they are.
    profiles: Path | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Return what is missing: the daemons' files, or a Python package that they need."""
        for file in (LIBRARY / "cli/main.py", LIBRARY / "listener/listener.py", LIBRARY / "agent/agent.py"):
            if not file.is_file():
                return f"{file} is not there: run the benchmark from a whole checkout"
        absent = [
            name for name in ("cryptography", "uvicorn", "prometheus_client") if not importlib.util.find_spec(name)
        ]
        if absent:
            return f"{sys.executable} lacks {', '.join(absent)}: run it with .venv/bin/python"
        return None

    @classmethod
    def version(cls) -> str:
        """Return the collection's version."""
        lines = (CHECKOUT / "galaxy.yml").read_text().splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("version:")), "unknown")

    def prepare(self) -> None:
        """Write certificates, both configurations, and the package folder as a deployment lays it out."""
        (self.folder / "lib").mkdir()
        (self.folder / "lib" / "ynl_mirror").symlink_to(LIBRARY)
        tls = certificates.make(self.folder, [SERVER_NAME, CLIENT_NAME])
        self._write("listener", {
            "agents": [{"address": lab.DPU_UPLINK, "port": PORT, "server_name": SERVER_NAME}],
            "tls": tls[CLIENT_NAME],
        })  # fmt: skip
        self._write("agent", {
            "listen": [{"address": lab.DPU_UPLINK, "port": PORT}],
            "tls": tls[SERVER_NAME],
            "hosts": [CLIENT_NAME],
            "vrfs": {
                "a": {"table": lab.SOURCE_TABLE, "links": lab.VRF_LINKS["a"]},
                "b": {"table": lab.TARGET_TABLE, "links": lab.VRF_LINKS["b"]},
            },
            "inference": ["nexthop"],
        })  # fmt: skip

    def _write(self, role: str, config: dict[str, Any]) -> None:
        config |= {"control_socket": f"{self.folder}/{role}.sock", "http": None, "log_level": "warning"}
        (self.folder / f"{role}.json").write_text(json.dumps(config, indent=2))

    def start(self) -> None:
        """Start agent and listener in the foreground."""
        for role, namespace in (("agent", self.lab.dpu), ("listener", self.lab.host)):
            line = [sys.executable, *self._profiler(role), "-m", "ynl_mirror.cli.main", role]
            line += ["--config", f"{self.folder}/{role}.json"]
            self.processes.append(Process(role, namespace, line, self.folder, {"PYTHONPATH": f"{self.folder}/lib"}))

    def _profiler(self, role: str) -> list[str]:
        """Return the words that put a daemon under cProfile, into a file of its own for each start."""
        if self.profiles is None:
            return []
        number = len(list(self.profiles.glob(f"{role}-*.pstats"))) + 1
        file = self.profiles / f"{role}-{number}.pstats"
        file.touch()
        return ["-m", "cProfile", "-o", str(file)]
