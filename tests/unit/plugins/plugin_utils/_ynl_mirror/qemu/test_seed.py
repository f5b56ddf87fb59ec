# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for cloud-init in a cloud image."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.seed import seed

pytestmark = pytest.mark.controller


def test_the_machine_gets_its_keys_its_name_and_its_management_address() -> None:
    files = seed("ekho-one", "PRIVATE\n", "PUBLIC", "LOGIN")
    first, _newline, rest = files["user-data"].partition("\n")
    assert first == "#cloud-config"
    user = json.loads(rest)
    assert user["ssh_keys"] == {"ed25519_private": "PRIVATE\n", "ed25519_public": "PUBLIC"}
    assert (user["ssh_authorized_keys"], user["disable_root"], user["hostname"]) == (["LOGIN"], False, "ekho-one")
    assert json.loads(files["meta-data"])["instance-id"] == "ekho-one"
    (link,) = json.loads(files["network-config"])["ethernets"].values()
    assert (link["set-name"], link["addresses"]) == ("eth0", ["10.0.2.15/24"])
