# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One link of every kind that the kernel makes, in the states that links get into, with addresses and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

#: `ip link add` of each kind, those first that others stand on.
KINDS = {
    "veth": "name v0 type veth peer name v1",
    "bridge": "name br0 type bridge stp_state 1",
    "vlan": "link v0 name v0.5 type vlan id 5",
    "macvlan": "link v0 name mv0 type macvlan mode bridge",
    "macvtap": "link v0 name mt0 type macvtap mode vepa",
    "ipvlan": "link v1 name iv0 type ipvlan mode l3",
    "vxlan": "name vx0 type vxlan id 7 dstport 4789 remote 192.0.2.9 dev v0",
    "bond": "name bond0 type bond mode active-backup miimon 100",
    "team": "name team0 type team",
    "dummy": "name dummy0 type dummy",
    "ifb": "name ifb0 type ifb",
    "vrf": "name red type vrf table 4000000000",
    "gre": "name gre9 type gre remote 192.0.2.9 local 192.0.2.1 key 7",
    "ipip": "name ipip9 type ipip remote 192.0.2.9 local 192.0.2.1",
    "sit": "name sit9 type sit remote 192.0.2.9 local 192.0.2.1",
    "ip6tnl": "name tnl9 type ip6tnl remote fd00::9 local fd00::1",
    "vti": "name vti9 type vti remote 192.0.2.9 local 192.0.2.1 key 7",
    "xfrm": "name xfrm0 type xfrm dev lo if_id 7",
    "wireguard": "name wg0 type wireguard",
    "geneve": "name gnv0 type geneve id 5 remote 192.0.2.9",
    "nlmon": "name nlmon0 type nlmon",
}
#: Those that every kernel that runs the tests makes.
ALWAYS = {"veth", "bridge", "macvlan", "vxlan"}
_ALTNAME = "an-alternative-name-of-" + "x" * 100
_STATES = (
    "link set v0 up mtu 9000 alias 'uplink to the DPU'",
    "link set v1 up",
    "link set v1 down",  # v0 has lost its carrier
    f"link property add dev v0 altname {_ALTNAME} altname second",
    "link add name fifteen-letters type veth peer name member",
    "link set member master br0 up",
    "link set fifteen-letters up",
    "link set br0 up",
    "link set lo up",
)
#: What only some kernels take, as they lack the kind.
_MEMBERS = ("link set fifteen-letters master red", "link set dummy0 master bond0", "link set red up")
_ADDRESSES = (
    "address add 192.0.2.1/24 dev v0 label v0:one",
    "address add 192.0.2.1 peer 192.0.2.2 dev v0",
    "address add 198.51.100.1/31 dev member metric 77 valid_lft 300 preferred_lft 60",
    "address add fd00:1::1/64 dev v0 nodad",
    "address add fd00:2::1 peer fd00:2::2/128 dev member nodad",
)
_RULES = (
    "rule add from 198.51.100.0/24 lookup 70000 pref 5",
    "rule add from 198.51.100.77/24 iif v0 to 203.0.113.0/24 lookup 20 pref 6",  # the kernel keeps the host bits
    "rule add fwmark 0xca6c/0xff lookup 51820 pref 7 suppress_prefixlength 0",
    "rule add iif v0.5 ipproto 6 dport 22-80 sport 1000 unreachable pref 8",
    "rule add oif v0 uidrange 0-1000 tos 0x10 lookup main pref 9",
    "rule add pref 10 goto 32766",
    "-6 rule add from fd00:9::/32 iif v0 lookup 20 pref 5",
    "-6 rule add l3mdev pref 1000",
)


def make_links(machine: Namespace) -> set[str]:
    """Make links, addresses and rules; the kinds of links that there are."""
    made = {kind for kind, line in KINDS.items() if _taken(machine, f"link add {line}")}
    assert made >= ALWAYS, f"the kernel made only {made}"
    for line in (*_STATES, *_ADDRESSES, *_RULES):
        machine.ip(line)
    for line in _MEMBERS:
        _taken(machine, line)
    return made


def _taken(machine: Namespace, line: str) -> bool:
    return machine.run("ip", *line.split(), check=False).returncode == 0
