# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What turns a machine into a host of the lab: its files, its script, its repair."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.lab.plan import Host, parse_topology
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.qemu.guest import (
    DIGEST_FILE,
    NETWORK_SCRIPT,
    PROGRAMS,
    archive,
    identity,
    lacks_script,
    network_script,
    observe_script,
    observed_state,
    repair,
)

pytestmark = pytest.mark.controller

HOST_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n"


def host(**more: object) -> Host:
    """A host with a cable, and what else is given."""
    eth1 = {"name": "eth1", "addresses": ["192.0.2.1/24", "fd00:db8::1/64"]}
    given = {"name": "left", "interfaces": [eth1], **more}
    far = {"name": "right", "interfaces": [{"name": "eth1"}]}
    return parse_topology("lab", [given, far], [["left:eth1", "right:eth1"]]).host("left")


def router() -> Host:
    return host(
        vrfs=[{"name": "a", "table": 1000}],
        interfaces=[{"name": "eth1", "vrf": "a", "addresses": ["192.0.2.1/24"]}],
        sysctls={"net.ipv4.ip_forward": 1, "net.ipv6.icmp.ratemask": ""},
    )


def test_scripts_are_shell() -> None:
    for script in (
        network_script(),
        network_script(router()),
        network_script(router(), {"eth1": "52:54:00:00:00:01"}),
        observe_script(router()),
        lacks_script(),
    ):
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_the_boot_script_waits_for_every_card_before_it_configures_one() -> None:
    lines = network_script(router()).splitlines()
    waits = [number for number, line in enumerate(lines) if line.startswith("until ") and "eth1" in line]
    assert waits
    assert max(waits) < min(number for number, line in enumerate(lines) if line.startswith("ip -batch"))


def test_a_vrf_is_there_before_its_links_and_their_addresses() -> None:
    lines = repair(router(), set(), {})
    order = [
        next(number for number, line in enumerate(lines) if line.startswith(start))
        for start in (
            "link add name a type vrf table 1000",
            "link set dev eth1 master a",
            "address replace 192.0.2.1/24 dev eth1",
        )
    ]
    assert order == sorted(order)


def test_an_archive_is_the_same_for_the_same_files_and_belongs_to_root() -> None:
    entries = identity("ekho-left", host(), HOST_KEY, "ssh-ed25519 AAAA")
    assert archive(entries) == archive(dict(reversed(entries.items())))
    with tarfile.open(fileobj=io.BytesIO(archive(entries))) as packed:
        members = {member.name: member for member in packed}
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}
    assert members["etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert members["root/.ssh/authorized_keys"].mode == 0o600
    assert members[NETWORK_SCRIPT[1:]].mode == 0o755


def test_any_change_of_the_files_makes_another_digest() -> None:
    digests = {
        identity(name, of, key, login)[DIGEST_FILE].text
        for name in ("a", "b")
        for of in (host(), router())
        for key in ("x", "y")
        for login in ("p", "q")
    }
    assert len(digests) == 16


def test_an_empty_kernel_setting_is_no_missing_one() -> None:
    """`sysctl` prints `net.ipv6.icmp.ratemask = ` with nothing behind it."""
    nothing = "\n".join(["[]"] * 5)
    settings = "net.ipv4.ip_forward = 1\nnet.ipv6.icmp.ratemask = \nnet.ipv4.tcp_l3mdev_accept = 1\n"
    _present, found = observed_state(f"{nothing}\n{settings}net.ipv4.udp_l3mdev_accept = 1\n")
    assert not [line for line in repair(router(), set(), found) if line.startswith("sysctl")]


def test_what_iproute2_prints_of_a_vrf_is_recognised() -> None:
    """As iproute2 6.1 prints it in a guest with kernel 6.1; this machine's kernel may have no VRF devices."""
    links = [
        {"ifname": "lo", "flags": ["LOOPBACK", "UP"]},
        {
            "ifname": "a",
            "flags": ["NOARP", "MASTER", "UP"],
            "linkinfo": {"info_kind": "vrf", "info_data": {"table": 1000}},
        },
        {"ifname": "eth1", "flags": ["UP"], "master": "a", "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}]},
    ]
    closing = {"type": "7", "dst": "default", "metric": 4278198272, "table": "1000"}
    text = [json.dumps(part) for part in (links, [closing], [{**closing, "dev": "lo"}], [], [])]
    present, _settings = observed_state("\n".join(text))
    assert not [line for line in repair(router(), present, {}) if not line.startswith("sysctl")]
    del links[2]["master"]
    present, _settings = observed_state("\n".join([json.dumps(links), *text[1:]]))
    assert [line for line in repair(router(), present, {}) if "eth1" in line] == ["link set dev eth1 master a"]


def test_what_an_image_lacks_is_listed() -> None:
    assert subprocess.run(["sh", "-c", lacks_script()], capture_output=True, text=True, check=True).stdout == ""
    said = subprocess.run(
        ["/bin/sh", "-c", lacks_script().replace("PATH=$PATH:/usr/sbin:/sbin", "PATH=/nowhere")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == list(PROGRAMS)
