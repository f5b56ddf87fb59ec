#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_topology
short_description: Create, repair or remove a lab of virtual machines
description:
  - Runs a QEMU guest for each host on the controller, with cables between them, VRF devices, addresses, routes, policy
    rules and kernel settings, from one description. A second run starts machines that have exited and repairs what is
    missing in their network, and otherwise changes nothing.
  - The next run completes an interrupted one. Two runs for one lab take turns.
  - Needs no root, no bridge and no libvirt. Cables are pairs of datagram sockets. Management is QEMU's user-mode
    network, with a free port of 127.0.0.1 forwarded to SSH on each machine.
  - Needs SSH key pairs in C(RUN_DIR/keys), C(login) for the login as root and C(ekho-HOST) for each host, created with
    C(community.crypto.openssh_keypair). The role P(ekho.ynl_mirror.ekho_lab#role) does this.
  - The machines start from an image that is built once from Debian packages with mmdebstrap, booted once, and kept with
    the state of the booted machine in O(cache_dir). They resume from that state in a second, where a boot takes ten or
    more.
  - Reports progress machine by machine.
  - Writes an C(ssh_config) to O(run_dir), for C(ssh -F RUN_DIR/ssh_config ekho-HOST) with host keys known in advance.
    The console of each machine is in C(RUN_DIR/HOST/console.log).
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.topology
  - ekho.ynl_mirror.attributes.actiongroup_lab
options:
  name:
    description: Name of the lab. Labs of different names coexist.
    type: str
    required: true
  state:
    description:
      - V(present) creates or repairs the lab.
      - V(absent) stops its machines and removes O(run_dir). The cache stays.
    type: str
    choices: [present, absent]
    default: present
  run_dir:
    description: Folder for all files of the lab.
    type: path
    required: true
  cache_dir:
    description:
      - Folder for images and saved states, which all labs share.
      - The default is C($XDG_CACHE_HOME/ekho-lab), or C(~/.cache/ekho-lab).
    type: path
  image:
    description:
      - A cloud image (qcow2 or raw) to start from, instead of the image that is built from packages.
      - Cloud-init installs its keys (NoCloud, from a small FAT file system). The machines boot, whatever
        O(saved_state) is.
      - It must contain cloud-init, an SSH server, systemd, a kernel with VRF devices and vfat, and the programs ip,
        sysctl, tar, python3, ping and traceroute, since the machines reach no package index. Missing programs are an
        error.
    type: path
  image_kernel:
    description: A kernel to boot O(image) with, if it has no boot loader.
    type: path
  image_initrd:
    description: The initramfs for O(image_kernel), if it needs one.
    type: path
  image_arguments:
    description: Command line for O(image_kernel). The default is for a disk without partitions.
    type: str
    default: >-
      root=/dev/vda rootfstype=ext4 rw console=ttyS0 net.ifnames=0
      loglevel=4 mitigations=off audit=0 no_timer_check tsc=reliable random.trust_cpu=on
  accelerator:
    description:
      - QEMU's accelerator. V(kvm) is the processor's virtualization, V(tcg) QEMU's emulation.
      - With V(auto) an existing lab keeps what it was created with. For a new lab a test guest is started under KVM for
        some seconds; if it prints nothing, V(tcg) is used.
      - With V(kvm) the task fails if the test guest prints nothing. An O(image) without O(image_kernel) cannot be
        tested and runs under V(tcg).
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  memory:
    description: Memory of each machine in MiB.
    type: int
    default: 384
  saved_state:
    description:
      - Whether machines resume from the saved state of a booted machine. Otherwise each machine boots.
      - If QEMU refuses the state, it is removed, and the machines boot.
    type: bool
    default: true
  timeout:
    description: Time limit in seconds for each step of a machine. The task then fails with the end of its console.
    type: float
    default: 180
requirements:
  - on the controller, QEMU 7.2 or later (Debian's qemu-system-x86 and qemu-utils) and OpenSSH's client
  - on the controller, the Python package qemu.qmp
  - to build the image, Debian's mmdebstrap, fakeroot and e2fsprogs, and a Debian mirror
  - to build the image without root, Debian's uidmap, and subordinate user and group IDs (C(/etc/subuid))
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode
    support: full
notes:
  - Runs on the controller, whatever the task's host is.
seealso:
  - module: ekho.ynl_mirror.netns_topology
"""

EXAMPLES = r"""
- name: Create a folder for the SSH keys
  ansible.builtin.file:
    path: "{{ lookup('ansible.builtin.env', 'HOME') }}/pair/keys"
    state: directory
    mode: "0700"

- name: Create the SSH keys
  community.crypto.openssh_keypair:
    path: "{{ lookup('ansible.builtin.env', 'HOME') }}/pair/keys/{{ item }}"
    type: ed25519
  loop: [login, ekho-left, ekho-right]

- name: Create two machines and a cable between them
  ekho.ynl_mirror.qemu_topology:
    name: pair
    run_dir: "{{ lookup('ansible.builtin.env', 'HOME') }}/pair"
    hosts:
      - name: left
        interfaces: [{name: eth1, addresses: [192.0.2.1/24, "fd00:db8::1/64"]}]
      - name: right
        interfaces: [{name: eth1, addresses: [192.0.2.2/24, "fd00:db8::2/64"]}]
    links:
      - ["left:eth1", "right:eth1"]

- name: Remove them
  ekho.ynl_mirror.qemu_topology:
    name: pair
    run_dir: "{{ lookup('ansible.builtin.env', 'HOME') }}/pair"
    state: absent
"""

RETURN = r"""
machines:
  description: The machines by name, with the port of 127.0.0.1 that is forwarded to SSH, and the process ID of QEMU.
  type: dict
  returned: always
  sample: {"ekho-dpu": {"ssh_port": 40123, "pid": 4711}}
accelerator:
  description: QEMU's accelerator.
  type: str
  returned: when O(state=present)
  sample: tcg
accelerator_reason:
  description: The reason for RV(accelerator).
  type: str
  returned: when O(state=present)
  sample: "/dev/kvm: No such file or directory"
ssh_config:
  description: The file for C(ssh -F).
  type: str
  returned: when O(state=present)
commands:
  description: What was done, or in check mode would be done.
  type: list
  elements: str
  returned: always
"""
