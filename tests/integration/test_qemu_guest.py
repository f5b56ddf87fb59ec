# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts and the seed of a lab's machine, read by a real kernel, by QEMU and by util-linux."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import Host, parse_topology
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.guest import (
    name_cards,
    observe_script,
    observed_state,
    repair,
)
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.machine import seed_file_system
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.seed import seed

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

pytestmark = pytest.mark.controller

HOSTS = [
    {
        "name": "left",
        "interfaces": [{"name": "eth1", "addresses": ["192.0.2.1/24", "fd00:db8::1/64"]}],
        "routes": [
            {"dst": "default", "gateway": "192.0.2.2"},
            {"dst": "198.51.100.0/24", "gateway": "192.0.2.2", "table": 200},
        ],
        "rules": [{"priority": 33000, "table": 200}],
        "sysctls": {"net.ipv4.ip_forward": 1},
    },
    {"name": "right", "interfaces": [{"name": "eth1"}]},
]


def observed(namespace: Namespace, host: Host) -> tuple[set[tuple[object, ...]], dict[str, str]]:
    return observed_state(namespace.run("sh", "-c", observe_script(host)).stdout)


def test_the_repair_of_a_real_kernel_adds_exactly_what_is_missing(netns: Namespace) -> None:
    host = parse_topology("lab", HOSTS, [["left:eth1", "right:eth1"]]).host("left")
    netns.ip("link add eth1 type veth peer name far")
    netns.ip("link set far up")
    netns.run("sh", "-ec", "\n".join(repair(host, *observed(netns, host))))
    assert repair(host, *observed(netns, host)) == []
    netns.ip("address delete 192.0.2.1/24 dev eth1")  # both routes go with it
    netns.ip("-6 rule delete priority 33000")
    netns.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    lines = repair(host, *observed(netns, host))
    assert [line for line in lines if line != "END"] == [
        "sysctl -q -w net.ipv4.ip_forward=1",
        "ip -batch - <<'END'",
        "address replace 192.0.2.1/24 dev eth1",
        "route replace 0.0.0.0/0 via 192.0.2.2 dev eth1 proto static table 254",
        "route replace 198.51.100.0/24 via 192.0.2.2 dev eth1 proto static table 200",
        "ip -6 -batch - <<'END'",
        "rule add pref 33000 lookup 200",
    ]
    netns.run("sh", "-ec", "\n".join(lines))
    assert repair(host, *observed(netns, host)) == []


def test_cards_of_a_cloud_image_get_their_names_by_their_addresses(netns: Namespace) -> None:
    netns.ip("link add ens17 address 52:54:00:00:00:01 type veth peer name ens18 address 52:54:00:00:00:02")
    script = "\n".join(["set -e", *name_cards({"eth1": "52:54:00:00:00:02", "eth2": "52:54:00:00:00:01"})])
    for _turn in range(2):
        netns.run("sh", "-c", script)
        shown = json.loads(netns.run("ip", "-j", "link").stdout)
        assert {link["ifname"]: link["address"] for link in shown if link["ifname"] != "lo"} == {
            "eth1": "52:54:00:00:00:02",
            "eth2": "52:54:00:00:00:01",
        }


def test_util_linux_takes_the_seed_for_nocloud(tmp_path: Path) -> None:
    """By its label, as cloud-init finds it."""
    folder, image = tmp_path / "a,b" / "seed", tmp_path / "image"
    folder.mkdir(parents=True)
    for name, text in seed("ekho-one", "PRIVATE", "PUBLIC", "LOGIN").items():
        (folder / name).write_text(text)
    options = f"driver=raw,{seed_file_system(str(folder))}"
    subprocess.run(["qemu-img", "convert", "-O", "raw", "--image-opts", options, str(image)], check=True)
    shown = subprocess.run(
        ["blkid", "-p", "-o", "export", str(image)], capture_output=True, text=True, check=True
    ).stdout
    assert {"LABEL=CIDATA", "TYPE=vfat"} <= set(shown.splitlines())
    assert all(file.read_bytes() in image.read_bytes() for file in folder.iterdir())
