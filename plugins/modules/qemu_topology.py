#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_topology
short_description: A lab of virtual machines, brought up, repaired or removed as a whole
description:
  - Runs one QEMU guest per host on the controller, with cables between them, VRF devices, addresses, routes, policy
    rules and kernel settings from one description. A second run changes nothing; a machine that died is started again,
    and what has gone missing from its network is put back.
  - A run that was interrupted is finished by the next one. Two runs for one lab take turns.
  - Needs no root, no bridge and no libvirt. Cables are pairs of datagram sockets. Management is QEMU's user-mode
    network, with a free port of 127.0.0.1 forwarded to the SSH of each machine.
  - The machines start from an image that is built once from Debian's packages with mmdebstrap, booted once, and kept
    with the state of the booted machine in O(cache_dir). They go on from that state, which takes a second where a
    boot takes ten or more.
  - Tells its progress while it works, machine by machine.
  - Leaves in O(run_dir) a C(ssh_config) (C(ssh -F RUN_DIR/ssh_config ekho-HOST) works, with host keys known in
    advance), and the console of each machine as C(HOST/console.log).
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.topology
  - ekho.ynl_mirror.attributes.actiongroup_lab
options:
  name:
    description: Name of the lab. Labs of different names stand side by side.
    type: str
    required: true
  state:
    description:
      - V(present) brings the lab up or repairs it.
      - V(absent) ends its machines and removes O(run_dir). The cache stays.
    type: str
    choices: [present, absent]
    default: present
  run_dir:
    description: Folder for all that belongs to the lab.
    type: path
    required: true
  cache_dir:
    description:
      - Folder for images and saved states; labs share it.
      - The default is C($XDG_CACHE_HOME/ekho-lab), or C(~/.cache/ekho-lab).
    type: path
  image:
    description:
      - A cloud image (qcow2 or raw) to start from, instead of the image that is built from packages.
      - It is told its keys by cloud-init (NoCloud, from a small CD-ROM), and boots by itself, O(saved_state) or not.
      - It has to hold cloud-init, an SSH server, systemd, a kernel with VRF devices, and the programs ip, sysctl, tar,
        python3, ping and traceroute, as the machines reach no package index. What is missing is told.
    type: path
  image_kernel:
    description: A kernel to boot O(image) with. Otherwise it has a boot loader.
    type: path
  image_initrd:
    description: The initramfs for O(image_kernel), if it needs one.
    type: path
  image_arguments:
    description: Arguments for a kernel that is booted directly. The default is for a disk without partitions.
    type: str
    default: >-
      root=/dev/vda rootfstype=ext4 rw console=ttyS0 net.ifnames=0
      loglevel=4 mitigations=off audit=0 no_timer_check tsc=reliable random.trust_cpu=on
  accelerator:
    description:
      - What executes the guests. V(kvm) is the processor's virtualisation, V(tcg) QEMU's emulation.
      - V(auto) keeps to what the lab was made with. For a new lab it starts a guest under KVM for some seconds, and
        chooses V(tcg) unless that guest says something.
      - With V(kvm) the task fails when that guest says nothing. An O(image) without O(image_kernel) cannot be tried
        and runs under V(tcg).
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  memory:
    description: Memory of each machine in MiB.
    type: int
    default: 384
  saved_state:
    description:
      - Whether machines go on from the saved state of one that has booted. Otherwise each boots by itself.
      - A state that QEMU refuses is told and removed, and the machines boot.
    type: bool
    default: true
  timeout:
    description: Seconds that a machine may take for each step before the task fails with the end of its console.
    type: float
    default: 180
requirements:
  - on the controller, QEMU 7.2 or later (Debian's qemu-system-x86 and qemu-utils)
  - on the controller, the Python packages qemu.qmp and cryptography
  - to build the image, Debian's mmdebstrap, fakeroot and e2fsprogs, and a mirror of its packages
  - to build the image without root, Debian's uidmap, and subordinate user and group ids (C(/etc/subuid))
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode
    support: full
notes:
  - Works on the controller, whatever host the task is for.
seealso:
  - module: ekho.ynl_mirror.netns_topology
"""

EXAMPLES = r"""
- name: Two machines, a cable between them
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
  description: The machines by name, with the port of 127.0.0.1 that leads to SSH, and the process id of QEMU.
  type: dict
  returned: always
  sample: {"ekho-dpu": {"ssh_port": 40123, "pid": 4711}}
accelerator:
  description: What executes the guests.
  type: str
  returned: when O(state=present)
  sample: tcg
accelerator_reason:
  description: Why it was chosen.
  type: str
  returned: when O(state=present)
  sample: "/dev/kvm: No such file or directory"
ssh_config:
  description: The file for C(ssh -F).
  type: str
  returned: when O(state=present)
commands:
  description: What was done (in check mode, would be done).
  type: list
  elements: str
  returned: always
"""
