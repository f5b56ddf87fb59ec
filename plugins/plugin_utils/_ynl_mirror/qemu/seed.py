# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that cloud-init's data source NoCloud gives a cloud image at its first boot. Pure: no I/O.

QEMU presents their folder to the guest as a small FAT file system (see `machine.command`). They hold only what SSH
needs: the machine's name and host key, the login key, and the address of the management link. SSH does the rest.
"""

from __future__ import annotations

import json

from .guest import MANAGEMENT, name_cards
from .machine import MANAGEMENT_ADDRESS, MANAGEMENT_MAC


def seed(name: str, host_key: str, host_key_public: str, login_key: str) -> dict[str, str]:
    """The files by name, for a machine with this host key (both halves) that accepts a login key (its public half)."""
    user = {
        "hostname": name,
        "preserve_hostname": False,
        "users": [],
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_authorized_keys": [login_key],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key, "ed25519_public": host_key_public},
        # For an image whose cloud-init configures no network.
        "bootcmd": ["\n".join([*name_cards({"eth0": MANAGEMENT_MAC}), *MANAGEMENT])],
        # Its other jobs need a network that leads somewhere.
        "cloud_config_modules": [],
        "cloud_final_modules": [],
    }
    link = {"match": {"macaddress": MANAGEMENT_MAC}, "set-name": "eth0", "addresses": [f"{MANAGEMENT_ADDRESS}/24"]}
    network = {"version": 2, "ethernets": {"management": link}}
    # JSON is YAML.
    return {
        "meta-data": json.dumps({"instance-id": name, "local-hostname": name}),
        "network-config": json.dumps(network),
        "user-data": "#cloud-config\n" + json.dumps(user),
    }
