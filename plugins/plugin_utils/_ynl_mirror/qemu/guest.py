# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What turns a machine of the base image into a host of the lab: files, and the commands that apply them. Pure.

The host's part of the plan (`lab.plan`) becomes a script that runs at every boot, and restores VRFs, addresses and
routes after a reboot. The same plan, compared with what the machine has, repairs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....module_utils._ynl_mirror.lab.plan import Host, Key, VrfKind, missing, observed, wanted, wanted_sysctls
from .machine import MANAGEMENT_ADDRESS

FOLDER = "/etc/ekho-lab"
NETWORK_SCRIPT = f"{FOLDER}/network"
#: Shows which `identity` was written to a machine.
DIGEST_FILE = f"{FOLDER}/digest"
NETWORK_UNIT = f"""\
[Unit]
Description=Network of this lab machine
DefaultDependencies=no
After=local-fs.target systemd-udevd.service systemd-sysctl.service
Before=network.target shutdown.target
Conflicts=shutdown.target
Wants=network.target

[Service]
Type=oneshot
ExecStart={NETWORK_SCRIPT}
TimeoutStartSec=60
RemainAfterExit=yes
StandardError=journal+console

[Install]
WantedBy=sysinit.target
"""
#: Otherwise a cloud image's systemd-networkd waits for DHCP on the cables and removes foreign addresses and routes.
UNMANAGED = "[Match]\nName=eth[1-9]*\n\n[Link]\nUnmanaged=yes\n"
#: What a cloud image needs besides cloud-init and an SSH server: the guests reach no package index.
PROGRAMS = ("systemctl", "ip", "sysctl", "tar", "python3", "ping", "traceroute")
MANAGEMENT = (f"ip address replace {MANAGEMENT_ADDRESS}/24 dev eth0", "ip link set dev eth0 up")
_OBSERVE = {
    "addresses": "ip -d -j address",
    "route 4": "ip -4 -d -N -j route show table all",
    "route 6": "ip -6 -d -N -j route show table all",
    "rule 4": "ip -4 -d -N -j rule show",
    "rule 6": "ip -6 -d -N -j rule show",
}


@dataclass(frozen=True)
class Entry:
    """A file in the guest: its text, or the target of a symbolic link."""

    text: str = ""
    mode: int = 0o644
    link: str | None = None


def network_script(host: Host | None = None, cards: Mapping[str, str] | None = None) -> str:
    """The script that configures the network at boot: the management link, and all links of a host of the lab.

    With CARDS (hardware addresses by name) it first names the cards, for an image that names them differently.
    """
    lines = [
        "#!/bin/sh -e",
        "# Written by `make lab`, which overwrites changes.",
        *(name_cards(cards) if cards else ()),
        wait_for("eth0"),
        *MANAGEMENT,
    ]
    if host is not None:
        lines += [wait_for(interface.name) for interface in host.interfaces]
        lines += repair(host, set(), {})
    return "\n".join(lines) + "\n"


def repair(host: Host, present: set[Key], settings: Mapping[str, str]) -> list[str]:
    """The shell lines that add what is missing; *settings* are the current values of the kernel settings."""
    lines = []
    changes = {k: v for k, v in wanted_sysctls(host, VrfKind.DEVICE).items() if settings.get(k) != v}
    if changes:
        lines.append("sysctl -q -w " + " ".join(shlex.quote(f"{key}={value}") for key, value in changes.items()))
    for option, batch in missing(wanted(host, VrfKind.DEVICE), present).items():
        lines += [" ".join(["ip", *option.split(), "-batch", "-", "<<'END'"]), *batch, "END"]
    return lines


def wait_for(interface: str) -> str:
    """Waits for a card, whose driver may still be loading. The caller limits the time."""
    return f"until [ -e /sys/class/net/{interface} ]; do sleep 0.1; done"


def name_cards(cards: Mapping[str, str]) -> list[str]:
    """The shell lines that name each card, which is identified by its hardware address."""
    lines = ["for card in /sys/class/net/*; do", '  old=${card##*/} new=$old; case "$(cat "$card/address")" in']
    lines += [f"    {address}) new={name} ;;" for name, address in cards.items()]
    lines += ["  esac", '  [ "$old" = "$new" ] || { ip link set dev "$old" down; ip link set dev "$old" name "$new"; }']
    return [*lines, "done"]


def lacks_script() -> str:
    """Prints which of PROGRAMS are missing."""
    return (
        f"for one in {' '.join(PROGRAMS)}; do PATH=$PATH:/usr/sbin:/sbin command -v $one >/dev/null || echo $one; done"
    )


def observe_script(host: Host) -> str:
    """Prints lines of JSON, then of text, for `observed_state`."""
    lines = [f"{command} | tr -d '\\n'; echo" for command in _OBSERVE.values()]
    lines.append(f"sysctl -e {' '.join(wanted_sysctls(host, VrfKind.DEVICE))} || true")
    return "\n".join(lines) + "\n"


def observed_state(text: str) -> tuple[set[Key], dict[str, str]]:
    """The output of `observe_script`: the keys of what the machine has, and its kernel settings."""
    lines = text.splitlines()
    read: dict[str, Any] = {name: json.loads(line or "[]") for name, line in zip(_OBSERVE, lines)}
    settings = {
        key.strip(): value.strip() for key, _equals, value in (line.partition("=") for line in lines[len(_OBSERVE) :])
    }
    routes = {family: read[f"route {family}"] for family in (4, 6)}
    rules = {family: read[f"rule {family}"] for family in (4, 6)}
    return observed(read["addresses"], routes, rules), settings


def identity(
    name: str, host: Host, host_key: str, login_key: str, cards: Mapping[str, str] | None = None
) -> dict[str, Entry]:
    """The files of a host called *name*, which accepts *login_key* for root.

    CARDS (see `network_script`) are for a cloud image, which has no files of the lab.
    """
    entries = {
        "/etc/hostname": Entry(name + "\n"),
        "/etc/hosts": Entry(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"),
        "/etc/ssh/ssh_host_ed25519_key": Entry(host_key, 0o600),
        "/root/.ssh/authorized_keys": Entry(login_key + "\n", 0o600),
        "/etc/systemd/system/multi-user.target.wants/ssh.service": Entry(link="/lib/systemd/system/ssh.service"),
        NETWORK_SCRIPT: Entry(network_script(host, cards), 0o755),
    }
    if cards is not None:
        unit = "/etc/systemd/system/ekho-lab-network.service"
        entries[unit] = Entry(NETWORK_UNIT)
        entries["/etc/systemd/system/sysinit.target.wants/ekho-lab-network.service"] = Entry(link=unit)
        entries["/etc/systemd/network/00-ekho-lab.network"] = Entry(UNMANAGED)
    return {**entries, DIGEST_FILE: Entry(hashlib.sha256(archive(entries)).hexdigest() + "\n")}


#: Reads the archive of an identity from its standard input.
APPLY = """\
set -e
tar -C / -x
hostname -F /etc/hostname
systemctl restart --no-block ssh
"""
#: The same for a cloud image, where cloud-init has set the host name and the SSH server's key.
APPLY_CLOUD = """\
set -e
tar -C / -x
systemctl daemon-reload
if systemctl is-active --quiet systemd-networkd; then networkctl reload; fi
"""


def archive(entries: Mapping[str, Entry]) -> bytes:
    """The files as a tar archive, all owned by root; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for path, entry in sorted(entries.items()):
            member = tarfile.TarInfo(path.lstrip("/"))
            member.mode = entry.mode
            if entry.link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
                packed.addfile(member)
                continue
            data = entry.text.encode()
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
