# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a machine -> findings: a machine without problems, and one fault at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.agent import AgentConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import (
    ListenerConfig,
    PeerAddress,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.facts import (
    Daemon,
    Dpu,
    Facts,
    Finding,
    Host,
    LinkState,
    Machine,
    Place,
    Port,
    Reach,
    Task,
    Tls,
    VrfState,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.judge import judge, judge_authority

NOW = 1_800_000_000.0
DAY = 86400
MIB = 1 << 20
BOTH = frozenset(("ipv4", "ipv6"))
TLS = {"ca": "/etc/tls/ca.crt", "certificate": "/etc/tls/machine.crt", "key": "/etc/tls/machine.key"}

MACHINE = Machine(
    release="5.10.0-28-arm64",
    python=(3, 9, 2),
    executable="/usr/bin/python3",
    uid=0,
    net_admin=True,
    strict_dumps="",
    now=NOW,
    clock_kept=True,
    memory_available=4096 * MIB,
    disk_free=4096 * MIB,
    disk_path="/usr/local/lib",
)
CERTIFICATE = Tls(
    start=NOW - DAY, end=NOW + 300 * DAY, ca_end=NOW + 3000 * DAY, names=("dpu1",), ca_sha256="0f", owner="root"
)


def vrf(name: str, table: int, *links: str) -> VrfState:
    states = tuple(LinkState(link, forwarding={"ipv4": True, "ipv6": True}, ruled=BOTH) for link in links)
    return VrfState(name, table, True, states, {2: 6, 4: 2}, unreachable=BOTH)


DPU = Dpu(
    vrfs=(vrf("a", 10, "eth1", "eth3"), vrf("b", 20, "eth2", "eth4")),
    links=("lo", "a", "b", "eth0", "eth1", "eth2", "eth3", "eth4"),
    kernel_vrf="yes",
    l3mdev_rules=BOTH,
    tcp_l3mdev_accept=True,
    places={"127.0.0.1": Place("lo"), "192.0.2.1": Place("eth0"), "192.168.101.1": Place("eth1", "a")},
    ports=(Port("::", 2620),),
)
AGENT = AgentConfig.from_dict({"tls": TLS, "hosts": ["host1"]})
LISTENER = ListenerConfig.from_dict({"tls": TLS, "agents": [{"address": "192.168.101.1", "server_name": "dpu1"}]})
HOST = Host(reaches=(Reach("192.168.101.1", 2620, "connected", 0.4),), routes={254: 1000})

ON_THE_DPU = Facts(MACHINE, dpu=DPU, tls=CERTIFICATE, receive_buffer=AGENT.receive_buffer)
ON_THE_HOST = Facts(
    MACHINE, host=HOST, tls=replace(CERTIFICATE, names=("host1",)), receive_buffer=LISTENER.receive_buffer
)
FOR_THE_AGENT = Task(
    agent=AGENT,
    names=("dpu1",),
    expected=(PeerAddress("192.168.101.1", 2620, "dpu1"),),
    authority_sha256="0f",
    controller_time=NOW,
)
FOR_THE_LISTENER = Task(
    listener=LISTENER, names=("host1",), accepted=("host1",), authority_sha256="0f", controller_time=NOW
)

Changes = Mapping[str, Any]
SAME: Changes = MappingProxyType({})


def on_dpu(machine: Changes = SAME, dpu: Changes = SAME, tls: Changes = SAME, **task: Any) -> list[Finding]:
    facts = replace(
        ON_THE_DPU, machine=replace(MACHINE, **machine), dpu=replace(DPU, **dpu), tls=replace(CERTIFICATE, **tls)
    )
    return judge(facts, replace(FOR_THE_AGENT, **task))


def not_ok(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


def one(findings: list[Finding]) -> Finding:
    [finding] = not_ok(findings)
    assert finding.fix, finding
    return finding


def agent(**options: Any) -> AgentConfig:
    return AgentConfig.from_dict({"tls": TLS, **options})


def changed_vrf(**changes: Any) -> tuple[VrfState, ...]:
    return (replace(DPU.vrfs[0], **changes), DPU.vrfs[1])


def changed_link(**changes: Any) -> tuple[VrfState, ...]:
    first, *others = DPU.vrfs[0].links
    return changed_vrf(links=(replace(first, **changes), *others))


def test_a_ready_dpu_and_a_ready_host_have_no_findings_but_ok() -> None:
    for findings in (judge(ON_THE_DPU, FOR_THE_AGENT), judge(ON_THE_HOST, FOR_THE_LISTENER)):
        assert not_ok(findings) == []
        assert all(finding.found and not finding.fix for finding in findings)


MACHINES: list[tuple[Changes, Changes, str, str, str]] = [
    ({"release": "5.9.1"}, {}, "kernel", "problem", "Linux 5.9.1"),
    ({"release": "unknown"}, {}, "kernel", "problem", "Linux unknown"),
    ({"strict_dumps": "no netlink socket"}, {}, "kernel", "problem", "no netlink socket"),
    ({"python": (3, 8, 10)}, {}, "python", "problem", "3.8.10 (/usr/bin/python3)"),
    ({"missing_packages": ("uvicorn",)}, {}, "packages", "problem", "/usr/bin/python3 lacks uvicorn"),
    (
        {},
        {"packages_from": "wheels", "wheels_found": False},
        "packages",
        "problem",
        "dpu_agent_wheels_dir does not exist on the controller",
    ),
    ({"missing_for_venv": ("ensurepip",)}, {"packages_from": "pip"}, "packages", "problem", "no ensurepip"),
    ({"missing_for_venv": ("venv", "ensurepip")}, {"packages_from": "wheels"}, "packages", "problem", "no venv"),
    ({"uid": 1000, "net_admin": False}, {}, "privilege", "problem", "modules run as uid 1000"),
    ({"net_admin": False}, {}, "privilege", "problem", "root without CAP_NET_ADMIN"),
    ({"now": NOW + 301}, {}, "clock", "problem", "301 s ahead of the controller's"),
    ({"now": NOW - 301}, {}, "clock", "problem", "301 s behind the controller's"),
    ({"now": NOW + 121}, {}, "clock", "warning", "121 s ahead of the controller's"),
    ({"now": NOW - 31}, {}, "clock", "warning", "31 s behind the controller's"),
    ({"now": NOW + 301}, {"agent": AgentConfig.from_dict({"plaintext": True})}, "clock", "warning", "301 s ahead"),
    ({"clock_kept": False}, {}, "clock", "warning", "not synchronised, according to the kernel"),
    ({"disk_free": 99 * MIB}, {"packages_from": "pip"}, "disk", "problem", "99 MiB free at /usr/local/lib"),
    ({"disk_free": 9 * MIB}, {}, "disk", "problem", "9 MiB free at /usr/local/lib"),
]


@pytest.mark.parametrize(("machine", "task", "check", "level", "message"), MACHINES)
def test_each_fault_of_a_machine_is_one_finding(
    machine: Changes, task: Changes, check: str, level: str, message: str
) -> None:
    finding = one(on_dpu(machine, **task))
    assert (finding.check, finding.level) == (check, level)
    assert message in finding.found


def test_a_machine_within_the_limits_is_ok() -> None:
    assert not_ok(on_dpu({"now": NOW + 119})) == not_ok(on_dpu({"now": NOW - 29})) == []
    assert not_ok(on_dpu({"missing_packages": ("uvicorn",)}, packages_from="pip")) == []
    assert not_ok(on_dpu({"missing_for_venv": ("venv",), "has_venv": True}, packages_from="pip")) == []
    assert not_ok(on_dpu({"missing_for_venv": ("ensurepip",)}, packages_from="wheels")) == []
    assert not_ok(on_dpu({"disk_free": 20 * MIB, "has_venv": True}, packages_from="wheels")) == []
    assert not_ok(on_dpu(controller_time=None)) == []


CERTIFICATES: list[tuple[Changes, str]] = [
    ({"absent": ("machine.key",)}, "no machine.key"),
    ({"error": "tls.key: /etc/tls/machine.key has mode 0644"}, "has mode 0644"),
    ({"chain": "unable to get local issuer certificate"}, "peers would reject it: unable to get local issuer"),
    ({"end": NOW - DAY}, "expired on 2027-01-14"),
    ({"start": NOW + DAY}, "not valid before 2027-01-16"),
    ({"ca_end": NOW - DAY}, "the authority's certificate expired on 2027-01-14"),
]


@pytest.mark.parametrize(("tls", "message"), CERTIFICATES)
def test_a_bad_certificate_is_a_problem_if_it_is_the_users_and_a_warning_if_the_role_replaces_it(
    tls: Changes, message: str
) -> None:
    own = one(on_dpu(tls=tls, own_certificates=True))
    made = one(on_dpu(tls=tls))
    assert (own.check, own.level) == ("certificates", "problem")
    assert (made.level, made.fix) == ("warning", "ekho.ynl_mirror.mirror replaces it")
    assert own.found == made.found
    assert message in own.found


def test_a_certificate_that_expires_soon_is_a_warning() -> None:
    for own, message in ((True, "renew it"), (False, "ekho.ynl_mirror.mirror renews it")):
        finding = one(on_dpu(tls={"end": NOW + 29 * DAY}, own_certificates=own))
        assert (finding.level, finding.found, finding.fix) == ("warning", "expires on 2027-02-13", message)
        assert not_ok(on_dpu(tls={"end": NOW + 31 * DAY}, own_certificates=own)) == []


def test_missing_certificates_are_ok_if_the_role_creates_them() -> None:
    all_three = ("ca.crt", "machine.crt", "machine.key")
    assert not_ok(on_dpu(tls={"absent": all_three})) == []
    assert one(on_dpu(tls={"absent": all_three}, own_certificates=True)).found == "no ca.crt, machine.crt, machine.key"


def test_a_certificate_of_another_machine_or_authority_is_found() -> None:
    assert "issued for other, but this machine is dpu1" in one(on_dpu(tls={"names": ("other",)})).found
    assert one(on_dpu(tls={"ca_sha256": "aa"})).found == "not signed by the controller's authority"
    assert not_ok(on_dpu(tls={"ca_sha256": "aa"}, authority_sha256="")) == []
    assert not_ok(on_dpu(tls={"ca_sha256": "aa"}, own_certificates=True)) == []


def test_a_key_that_the_daemons_user_cannot_read_is_a_problem() -> None:
    finding = one(on_dpu(own_certificates=True, user="ynl-mirror"))
    assert finding.level == "problem"
    assert finding.found == "the key belongs to root; the daemon's user ynl-mirror cannot read it"
    assert finding.fix.startswith("chown ynl-mirror /etc/tls/machine.key, or set dpu_agent_user to '' to run as root")
    assert not_ok(on_dpu(tls={"owner": "ynl-mirror"}, own_certificates=True, user="ynl-mirror")) == []
    assert not_ok(on_dpu(user="ynl-mirror")) == []  # the role gives it to its user


def test_names_that_peers_do_not_expect_are_a_problem() -> None:
    finding = one(on_dpu(expected=(PeerAddress("192.168.101.1", 2620, "dpu9"),)))
    assert (finding.check, finding.level) == ("names", "problem")
    assert finding.found == "hosts expect a certificate for dpu9, but this machine is dpu1"
    finding = one(on_dpu(expected=(PeerAddress("192.168.101.1"),)))
    assert finding.found == "hosts expect a certificate for 192.168.101.1, but this machine is dpu1"
    finding = one(judge(ON_THE_HOST, replace(FOR_THE_LISTENER, accepted=("host7", "host8"))))
    assert (finding.check, finding.found) == ("names", "dpu_agent_hosts lists host7, host8, but this machine is host1")
    assert finding.fix == "add host1 to dpu_agent_hosts"
    assert not_ok(judge(ON_THE_HOST, replace(FOR_THE_LISTENER, accepted=()))) == []


def test_the_names_come_from_the_users_own_certificate() -> None:
    expected = (PeerAddress("192.168.101.1", 2620, "dpu.example"),)
    names = {"names": ("dpu.example",)}
    assert not_ok(on_dpu(tls=names, own_certificates=True, expected=expected)) == []
    assert one(on_dpu(own_certificates=True, expected=expected)).check == "names"


AUTHORITIES: list[tuple[Tls, str, str]] = [
    (Tls(absent=("ca.crt", "ca.key")), "ok", "none yet: ekho.ynl_mirror.mirror creates it in /ca"),
    (Tls(absent=("ca.crt",)), "ok", "none yet"),
    (Tls(ca_end=NOW + 31 * DAY), "ok", "/ca is valid until 2027-02-15"),
    (Tls(absent=("ca.key",)), "warning", "/ca has ca.crt but no ca.key"),
    (Tls(ca_end=NOW + 29 * DAY), "warning", "/ca expires on 2027-02-13"),
    (Tls(ca_end=NOW - DAY), "warning", "/ca expired on 2027-01-14"),
    (Tls(error="no certificate and its key"), "problem", "no certificate and its key"),
]


@pytest.mark.parametrize(("tls", "level", "message"), AUTHORITIES)
def test_the_authority_is_ok_or_one_finding_says_why_not(tls: Tls, level: str, message: str) -> None:
    [finding] = judge_authority(tls, "/ca", NOW, 30)
    assert (finding.check, finding.level) == ("authority", level)
    assert message in finding.found


RULES = agent(vrfs={"a": {"table": 10, "links": ["eth1", "eth3"]}, "b": {"table": 20, "links": ["eth2", "eth4"]}})
DPUS: list[tuple[Changes, Changes, str, str, str, str]] = [
    ({"vrfs": ()}, {}, "vrfs", "problem", "no VRF device; the mirror needs two", "ip link add name NAME type vrf"),
    (
        {"vrfs": (), "kernel_vrf": "no"},
        {},
        "vrfs",
        "problem",
        "no VRF device; the mirror needs two",
        "this kernel has no vrf module",
    ),
    ({"vrfs": DPU.vrfs[:1]}, {}, "vrfs", "problem", "only VRF a; the mirror needs two VRFs or more", "ip link add"),
    ({"vrfs": changed_vrf(links=())}, {}, "vrfs", "warning", "VRF a (table 10) has no link", "master a"),
    (
        {"vrfs": changed_vrf(links=(), device=False)},
        {"agent": RULES},
        "vrfs",
        "warning",
        "VRF a (table 10) has no link",
        "dpu_agent_vrfs.a",
    ),
    (
        {"vrfs": changed_link(up=False)},
        {},
        "vrfs",
        "warning",
        "VRF a: down or without carrier: eth1",
        "set the link up",
    ),
    ({"vrfs": changed_link(carrier=False)}, {}, "vrfs", "warning", "VRF a: down or without carrier: eth1", "the cable"),
    ({}, {"agent": agent(imports={"a": ["c"]})}, "vrfs", "problem", "dpu_agent_imports.a: no VRF 'c' on", "a, b"),
    ({}, {"agent": agent(host_links=["eth8"])}, "vrfs", "problem", "dpu_agent_host_links[0]: no link 'eth8' on", "eth"),
    (
        {},
        {"agent": agent(static=[{"prefix": "10.0.0.0/8", "vrf": "aa", "dev": "eth3"}])},
        "vrfs",
        "problem",
        "dpu_agent_static[0].vrf: no VRF 'aa' on",
        "did you mean 'a'?",
    ),
    (
        {},
        {"agent": agent(static=[{"prefix": "10.0.0.0/8", "vrf": "a", "dev": "eht3"}])},
        "vrfs",
        "problem",
        "dpu_agent_static[0].dev: no link 'eht3' on",
        "did you mean 'eth3'?",
    ),
    (
        {"links": ("lo", "eth2", "eth3", "eth4")},
        {"agent": RULES},
        "vrfs",
        "problem",
        "dpu_agent_vrfs.a.links: no link 'eth1' on this machine",
        "did you mean",
    ),
    (
        {"vrfs": changed_vrf(unreachable=frozenset(("ipv4",)))},
        {},
        "unreachable default",
        "warning",
        "VRF a, ipv6: destinations that its table lacks are looked up in table main",
        "ip -6 route add unreachable default metric 4278198272 vrf a",
    ),
    (
        {"vrfs": changed_vrf(unreachable=frozenset(("ipv6",)), default=BOTH)},
        {},
        "unreachable default",
        "warning",
        "VRF a, ipv4: without its default route, destinations",
        "ip route add unreachable default metric 4278198272 vrf a",
    ),
    (
        {"l3mdev_rules": frozenset(("ipv4",))},
        {},
        "rules",
        "problem",
        "no l3mdev rule for ipv6",
        "ip -6 rule add l3mdev",
    ),
    (
        {"vrfs": changed_link(forwarding={"ipv4": False, "ipv6": True})},
        {},
        "forwarding",
        "problem",
        "ipv4 forwarding is off on eth1",
        "sysctl -w net.ipv4.ip_forward=1",
    ),
    (
        {"vrfs": changed_link(forwarding={"ipv4": True, "ipv6": False})},
        {},
        "forwarding",
        "warning",
        "ipv6 forwarding is off on eth1",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ),
    ({"vrfs": changed_link(rp_filter=1)}, {}, "rp_filter", "warning", "strict on eth1", "rp_filter=2"),
    (
        {"ports": (Port("::", 2620, "fpmsyncd (pid 7)"),)},
        {},
        "listen",
        "problem",
        ":: port 2620 is in use by fpmsyncd (pid 7)",
        "dpu_agent_listen",
    ),
    (
        {"ports": (Port("10.0.0.1", 2620),)},
        {},
        "listen",
        "problem",
        "10.0.0.1 port 2620 is not an address of this machine",
        ":: for all",
    ),
    (
        {"ports": (Port("192.168.101.1", 2620),)},
        {},
        "listen",
        "problem",
        "192.168.101.1 port 2620 is in VRF a; the agent cannot bind to it",
        "tcp_l3mdev_accept=1",
    ),
    ({"ipv6": False}, {}, "listen", "problem", ":: port 2620: IPv6 is disabled on this machine", "0.0.0.0"),
    (
        {"tcp_l3mdev_accept": False},
        {},
        "address",
        "problem",
        "in VRF a, where the agent accepts no connection",
        "accept=1",
    ),
    (
        {"ports": (Port("::", 2621),)},
        {},
        "address",
        "problem",
        "hosts connect to port 2620, but dpu_agent_listen has 2621",
        "same port",
    ),
    (
        {},
        {"expected": (PeerAddress("198.51.100.1"),)},
        "address",
        "warning",
        "lists an address of this machine (it has 192.0.2.1, 192.168.101.1)",
        "list one of them there",
    ),
    (
        {},
        {"expected": (PeerAddress("192.168.101.1", server_name="dpu1"),) * 2},
        "address",
        "warning",
        "2 hosts send their routes to this agent, which mirrors one host at a time",
        "all mirror_listener_agents but one",
    ),
    (
        {"vrfs": changed_vrf(owners={2: 6, 186: 12, 200: 1}), "protocol_names": {200: "openr2"}},
        {},
        "owners",
        "warning",
        "VRF a (table 10) has routes of other owners: 12 bgp, 1 openr2",
        "the lower metric wins",
    ),
    (
        {"vrfs": changed_vrf(owners={2: 6, 121: 3})},
        {},
        "ownership",
        "problem",
        "VRF a has 3 routes with protocol 121, but no agent is deployed here",
        "vrf_route vrf=a protocol=121 state=deleted",
    ),
]


@pytest.mark.parametrize(("dpu", "task", "check", "level", "message", "fix"), DPUS)
def test_each_fault_of_a_dpu_is_one_finding_with_its_fix(
    dpu: Changes, task: Changes, check: str, level: str, message: str, fix: str
) -> None:
    finding = one(on_dpu(dpu=dpu, **task))
    assert (finding.check, finding.level) == (check, level)
    assert message in finding.found
    assert fix in finding.fix


def test_vrfs_of_policy_rules_need_no_device_but_a_rule_for_each_link_and_family() -> None:
    rules = tuple(replace(vrf, device=False) for vrf in DPU.vrfs)
    spared = {"l3mdev_rules": frozenset(), "tcp_l3mdev_accept": False, "kernel_vrf": "no", "vrfs": rules}
    places = {"places": {"192.168.101.1": Place("eth1")}}
    assert not_ok(on_dpu(dpu={**spared, **places}, agent=RULES)) == []
    bare = replace(rules[0], links=(replace(rules[0].links[0], ruled=frozenset(("ipv6",))), rules[0].links[1]))
    finding = one(on_dpu(dpu={**spared, **places, "vrfs": (bare, rules[1])}, agent=RULES))
    assert (finding.check, finding.level) == ("rules", "problem")
    assert finding.found == "VRF a, ipv4: no rule sends packets from eth1 to table 10"
    assert finding.fix == "ip rule add iif eth1 lookup 10 pref 1000"
    closing = one(on_dpu(dpu={**spared, **places, "vrfs": (replace(rules[0], unreachable=BOTH - {"ipv4"}), rules[1])}))
    assert closing.fix.endswith("table 10")


def test_a_dpu_may_have_routes_ports_and_names_of_the_deployed_agent() -> None:
    ours = changed_vrf(owners={121: 3})
    assert not_ok(on_dpu(dpu={"vrfs": ours, "deployed": True})) == []
    assert not_ok(on_dpu(dpu={"vrfs": ours}, agent=agent(protocol=99, hosts=[]))) != []  # then 121 has another owner
    assert not_ok(on_dpu(dpu={"ports": (Port("::", 2620, "ynl-mirror (pid 7)", ours=True),)})) == []
    assert not_ok(on_dpu(dpu={"ports": (Port("::", 2620), Port("127.0.0.9", 4321))})) == []
    assert not_ok(on_dpu(expected=(PeerAddress("dpu1.example"),))) == []  # a name may lead here
    assert not_ok(on_dpu(expected=())) == []  # hosts that are not in the inventory
    assert not_ok(on_dpu(dpu={"vrfs": changed_link(rp_filter=2)})) == []


DAEMONS: list[tuple[str, str, str]] = [
    (
        "systemd-network",
        "systemd-networkd (pid 7) removes foreign routes whenever it starts or configures a link",
        "set `ManageForeignRoutes=no` under `[Network]` in /etc/systemd/networkd.conf.d/ynl-mirror.conf",
    ),
    (
        "NetworkManager",
        "may rewrite the routes of links that it manages",
        "list eth1, eth3, eth2, eth4 as unmanaged-devices",
    ),
    ("zebra", "zebra (pid 7) may import the mirrored routes", "redistribute kernel"),
    ("bird", "bird (pid 7) may import the mirrored routes", "learn"),
]


@pytest.mark.parametrize(("name", "message", "fix"), DAEMONS)
def test_a_daemon_that_manages_routes_is_a_warning(name: str, message: str, fix: str) -> None:
    removes = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
    finding = one(on_dpu({"daemons": (Daemon(name, 7),), "networkd_removes": removes}))
    assert (finding.check, finding.level) == ("daemons", "warning")
    assert message in finding.found
    assert fix in finding.fix


def test_networkd_is_a_warning_only_if_it_removes_what_the_mirror_needs() -> None:
    def judged(*removes: str, **task: Any) -> list[Finding]:
        machine = {"daemons": (Daemon("systemd-network", 7),), "networkd_removes": removes}
        return [finding for finding in on_dpu(machine, **task) if finding.check == "daemons"]

    assert [finding.level for finding in judged()] == ["ok"]
    assert [finding.level for finding in judged("ManageForeignRoutingPolicyRules")] == ["ok"]  # VRF devices need none
    [finding] = judged("ManageForeignRoutes", "ManageForeignRoutingPolicyRules", agent=RULES)
    assert "removes foreign routes and policy rules whenever" in finding.found
    assert "`ManageForeignRoutes=no`, `ManageForeignRoutingPolicyRules=no`" in finding.fix


HOSTS: list[tuple[Changes, str, str, str]] = [
    ({"reaches": ()}, "agents", "problem", "mirror_listener_agents is empty"),
    (
        {"reaches": (Reach("192.168.101.1", 2620, "no answer within 3 s"),)},
        "agents",
        "problem",
        "192.168.101.1 port 2620 is unreachable: no answer within 3 s",
    ),
    ({"routes": {254: 20_000_000}}, "routes", "warning", "20,000,000 in table main; 4,096 MiB of memory available"),
]


@pytest.mark.parametrize(("host", "check", "level", "message"), HOSTS)
def test_each_fault_of_a_host_is_one_finding(host: Changes, check: str, level: str, message: str) -> None:
    finding = one(judge(replace(ON_THE_HOST, host=replace(HOST, **host)), FOR_THE_LISTENER))
    assert (finding.check, finding.level, finding.found) == (check, level, message)


def test_a_host_without_faults_still_reports_its_agents_and_ipv6_events() -> None:
    host = Host(reaches=(Reach("192.168.101.1", 2620, "refused", 0.4),), routes={254: 7}, skip_notify=True)
    found = {finding.check: finding for finding in judge(replace(ON_THE_HOST, host=host), FOR_THE_LISTENER)}
    assert found["agents"].found == "192.168.101.1 port 2620 is closed: reachable, no agent yet (0.4 ms)"
    assert "skip_notify_on_dev_down=1" in found["ipv6 events"].found
    assert {finding.level for finding in found.values()} == {"ok"}


def test_a_receive_buffer_that_the_kernel_does_not_grant_is_a_warning() -> None:
    finding = one(judge(replace(ON_THE_HOST, receive_buffer=212_992), FOR_THE_LISTENER))
    assert (finding.check, finding.level) == ("receive buffer", "warning")
    assert finding.found == "the kernel grants 0 MiB of 128 MiB"
    assert "net.core.rmem_max=134217728" in finding.fix
