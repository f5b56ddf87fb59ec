# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a daemon's systemd unit: start, restart and sandbox. docs/services.md has the reasons.

For systemd 247 and later. Besides its sockets a daemon only reads: program, configuration, certificates, iproute2's
names. Everything is read-only, except the directory of its control socket.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

CAPABILITY = "CAP_NET_ADMIN"
HOMES = ("/home", "/root", "/run/user")
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  # nothing is put there

UNIT = """\
# Managed by the Ansible collection ekho.ynl_mirror: changes are overwritten.
[Unit]
Description=ynl-mirror {name}
Documentation=https://docs.kernel.org/netlink/specs/rt-route.html
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{environment}
Restart=always
RestartSec=500ms
RestartPreventExitStatus=2
TimeoutStartSec=300
TimeoutStopSec={stop:.0f}
WatchdogSec=60

{account}CapabilityBoundingSet={capability}
NoNewPrivileges=yes
UMask=0077
{writable}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp={temporary}
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""


def unit_text(
    name: str,
    command: Iterable[str],
    environment: Mapping[str, str],
    *,
    user: str | None,
    runtime_dir: str,
    reads: Iterable[str],
    stop_seconds: float,
) -> str:
    """The unit of the daemon NAME; without a USER it runs as root, without root's privileges.

    READS are the files and directories that it needs: a home or /tmp is not hidden if it has one of them.
    """
    needed = list(reads)
    return UNIT.format(
        name=name,
        command=" ".join(command),
        environment="\n".join(f"Environment={key}={value}" for key, value in environment.items()),
        stop=stop_seconds,
        account=f"User={user}\nAmbientCapabilities={CAPABILITY}\n" if user is not None else "",
        capability=CAPABILITY,
        writable=_writable(runtime_dir),
        home="read-only" if _any_below(needed, HOMES) else "yes",
        temporary="no" if _any_below([*needed, runtime_dir], TEMPORARY) else "yes",
    )


def _writable(runtime_dir: str) -> str:
    """The directory of the control socket. systemd creates it below /run, which is empty after a boot.

    It stays when the daemon ends: the other daemon may have its socket in it.
    """
    if runtime_dir.startswith("/run/"):
        return f"RuntimeDirectory={runtime_dir[5:]}\nRuntimeDirectoryPreserve=yes"
    return f"ReadWritePaths={runtime_dir}"


def _any_below(paths: Iterable[str], folders: Iterable[str]) -> bool:
    """Whether one of the paths, as written or resolved, is in one of the directories."""
    places = {place for path in paths for place in (os.path.normpath(path), os.path.realpath(path))}
    return any(place.startswith(folder + "/") for place in places for folder in folders)
