#!/usr/bin/python
# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: traceroute
short_description: Trace the path to a destination
description:
  - Runs Debian's C(traceroute) and returns which address answered at each hop and how fast. A play can check by it
    which path packets take.
  - Changes nothing on the machine, and runs in check mode too.
  - Named for the command, like M(ansible.builtin.ping), and not C(*_info), since it does not read the state of the
    machine. It sends probes through the network, and fails if the destination does not answer (O(must_reach)).
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
extends_documentation_fragment:
  - ekho.ynl_mirror.attributes.info
options:
  dest:
    description: Address or name of the destination.
    type: str
    required: true
  family:
    description:
      - The address family to use.
      - V(auto) follows O(dest). For a name with addresses of both families the resolver decides.
    type: str
    choices: [auto, ipv4, ipv6]
    default: auto
  method:
    description:
      - Kind of probe. V(udp) goes to unlikely ports and works for every user.
      - V(icmp) (echo requests) and V(tcp) (to port 80) need root.
    type: str
    choices: [udp, icmp, tcp]
    default: udp
  max_hops:
    description: Give up after this many hops.
    type: int
    default: 30
  queries:
    description: Probes per hop, 1 to 10.
    type: int
    default: 3
  wait:
    description: Seconds to wait for an answer.
    type: float
    default: 5
  source:
    description: Source address of the probes, an address of the machine.
    type: str
  interface:
    description: Link to send the probes by. Needs root.
    type: str
  numeric:
    description: Whether to skip the look-up of names of the hops.
    type: bool
    default: true
  must_reach:
    description: Whether to fail if the destination does not answer. The hops are returned either way.
    type: bool
    default: true
requirements:
  - traceroute (the Debian package, "Modern traceroute for Linux")
seealso:
  - module: ekho.ynl_mirror.vrf_info
"""

EXAMPLES = r"""
- name: Trace the path to the other end host
  ekho.ynl_mirror.traceroute:
    dest: 192.168.12.2
    wait: 1
  register: trace

- name: Fail unless the DPU forwards by itself
  ansible.builtin.assert:
    that: trace.hop_count == 2
    fail_msg: "{{ trace.stdout_lines | join('\n') }}"
"""

RETURN = r"""
hops:
  description: The hops in order.
  type: list
  elements: dict
  returned: success, and if the destination was not reached
  contains:
    hop:
      description: Distance, from 1.
      type: int
    address:
      description: The address that answered first, V(null) if none did.
      type: str
    name:
      description: Name of that address, V(null) if O(numeric=true).
      type: str
    rtt_ms:
      description: The shortest round trip of this hop's probes in milliseconds, V(null) if none was answered.
      type: float
    annotation:
      description: The first annotation of an answer, for example V(!H) for host unreachable, V(null) without one.
      type: str
    probes:
      description: Every probe with its C(address), C(name), C(rtt_ms) and C(annotation).
      type: list
      elements: dict
  sample:
    - hop: 1
      address: 192.168.11.1
      name: null
      rtt_ms: 0.006
      annotation: null
      probes: [{address: 192.168.11.1, name: null, rtt_ms: 0.006, annotation: null}]
hop_count:
  description: Distance of the last hop.
  type: int
  returned: with RV(hops)
  sample: 4
reached:
  description: Whether the destination answered.
  type: bool
  returned: with RV(hops)
destination:
  description: Address of the destination.
  type: str
  returned: with RV(hops)
stdout_lines:
  description: The output of C(traceroute).
  type: list
  elements: str
  returned: with RV(hops)
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.traceroute.output import (
    Hop,
    Trace,
    TracerouteError,
    parse,
)

ARGUMENTS = {
    "dest": {"type": "str", "required": True},
    "family": {"type": "str", "choices": ["auto", "ipv4", "ipv6"], "default": "auto"},
    "method": {"type": "str", "choices": ["udp", "icmp", "tcp"], "default": "udp"},
    "max_hops": {"type": "int", "default": 30},
    "queries": {"type": "int", "default": 3},
    "wait": {"type": "float", "default": 5},
    "source": {"type": "str"},
    "interface": {"type": "str"},
    "numeric": {"type": "bool", "default": True},
    "must_reach": {"type": "bool", "default": True},
}
FLAGS = {"auto": [], "ipv4": ["-4"], "ipv6": ["-6"], "udp": [], "icmp": ["-I"], "tcp": ["-T"]}
HINTS = {
    "connect: Invalid argument": "an address that starts with fe80 needs its link, as in fe80::1%eth0",
    "Network is unreachable": "this host has no route to it",
    "No route to host": "this host has an unreachable route to it",
    "Permission denied": "this host has a prohibit route to it",
    "Name or service not known": "the name has no address",
    "Temporary failure in name resolution": "no name server answers",
    "Address family for hostname not supported": "it has no address of this family",
    "No such device": "there is no such interface on this host",
    "Cannot assign requested address": "the source is not an address of this host",
    "Operation not permitted": "this method or option needs root",
}


def main() -> None:
    """Run traceroute and return its hops."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    for name, lowest, highest in (("max_hops", 1, 255), ("queries", 1, 10)):
        if not lowest <= options[name] <= highest:
            module.fail_json(msg=f"{name} is {options[name]}; it must be {lowest} to {highest}")
    if options["wait"] <= 0:
        module.fail_json(msg=f"wait is {options['wait']:g}; it must be more than 0 seconds")
    if not options["dest"].strip() or options["dest"].startswith("-"):
        module.fail_json(msg=f"dest is {options['dest']!r}, which is not an address or a name")
    command = [find_program(module), *arguments(options)]
    code, out, complaint = module.run_command(command, environ_update={"LC_ALL": "C"})
    if code:
        module.fail_json(msg=explain(options["dest"], complaint), cmd=command, rc=code, stderr=complaint)
    try:
        trace = parse(out)
    except TracerouteError as error:
        module.fail_json(msg=f"cannot read the output of {command[0]}: {error}", cmd=command, stdout=out)
    found = result(trace, out)
    if options["must_reach"] and not trace.reached:
        module.fail_json(msg=not_reached(trace), **found)
    module.exit_json(changed=False, **found)


def find_program(module: AnsibleModule) -> str:
    """Path of Debian's traceroute. The output of others (inetutils, busybox) differs."""
    for name in ("traceroute.db", "traceroute"):
        path = module.get_bin_path(name, opt_dirs=["/usr/sbin", "/usr/bin"])
        if path and "Modern traceroute for Linux" in "".join(module.run_command([path, "--version"])[1:]):
            return str(path)
    module.fail_json(msg="Debian's traceroute is missing on this host; install the package traceroute")
    return ""


def arguments(options: dict[str, Any]) -> list[str]:
    """Command line for the module's options."""
    words = FLAGS[options["family"]] + FLAGS[options["method"]]
    words += ["-m", str(options["max_hops"]), "-q", str(options["queries"]), "-w", f"{options['wait']:g}"]
    words += ["-n"] if options["numeric"] else []
    words += ["-s", options["source"]] if options["source"] else []
    words += ["-i", options["interface"]] if options["interface"] else []
    return [*words, options["dest"]]


def explain(dest: str, complaint: str) -> str:
    """Why traceroute did not start, with its own message."""
    lines = [line for line in complaint.splitlines() if line.strip()]
    for words, meaning in HINTS.items():
        for line in lines:
            if words in line:
                return f"cannot trace the path to {dest}: {meaning} ({line.strip()})"
    return f"cannot trace the path to {dest}: {lines[0].strip() if lines else 'traceroute failed without a message'}"


def not_reached(trace: Trace) -> str:
    """How far the trace came."""
    answered = [hop for hop in trace.hops if hop.answer.address]
    if not answered:
        return f"{trace.address} was not reached: no hop answered, up to hop {len(trace.hops)}"
    last = answered[-1]
    note = f" ({last.annotation})" if last.annotation else ""
    return (
        f"{trace.address} was not reached, up to hop {trace.hops[-1].number}: "
        f"the last answer came from {last.answer.address} at hop {last.number}{note}"
    )


def result(trace: Trace, out: str) -> dict[str, Any]:
    """The module's results."""
    return {
        "hops": [hop_values(hop) for hop in trace.hops],
        "hop_count": trace.hops[-1].number if trace.hops else 0,
        "reached": trace.reached,
        "destination": trace.address,
        "stdout_lines": out.splitlines(),
    }


def hop_values(hop: Hop) -> dict[str, Any]:
    """One hop as the module returns it."""
    return {
        "hop": hop.number,
        "address": hop.answer.address,
        "name": hop.answer.name,
        "rtt_ms": hop.best_rtt_ms,
        "annotation": hop.annotation,
        "probes": [asdict(probe) for probe in hop.probes],
    }


if __name__ == "__main__":
    main()
