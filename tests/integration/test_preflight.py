# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that would keep the mirror from working, made in namespaces one at a time, and found there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.main import PACKAGES
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.check import check
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.facts import PYTHON_PACKAGES
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.look import what_networkd_removes
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.preflight.look_network import kernel_vrf
from ansible_collections.ekho.ynl_mirror.tests.support.build.certificates import Authority
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import COLLECTIONS
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router
from ansible_collections.ekho.ynl_mirror.tests.support.peers.preflight import LAST, OPTIONS, Findings, look, only
from ansible_collections.ekho.ynl_mirror.tests.support.peers.zebra import Zebra
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

VRFS = {"a": {"table": 10, "links": ["eth1"]}, "b": {"table": 20, "links": ["eth2"]}}


def on_dpu(dpu: Namespace, agent: dict[str, Any] | None = None, **options: Any) -> Findings:
    return look(dpu, agent={"plaintext": True, "vrfs": VRFS, **(agent or {})}, **options)


def on_host(host: Namespace, listener: dict[str, Any] | None = None, **options: Any) -> Findings:
    agents = [{"address": "192.0.2.2", "port": 2620}]
    return look(host, listener={"plaintext": True, "agents": agents, **(listener or {})}, **options)


@pytest.fixture
def dpu(namespaces: NamespaceFactory) -> Namespace:
    """A DPU that is ready for the mirror, its VRFs made by policy rules, as every kernel has them."""
    namespace = Router.make(namespaces("dpu")).namespace
    namespace.sysctl("net.ipv4.ip_forward", 1)
    namespace.sysctl("net.ipv6.conf.all.forwarding", 1)
    namespace.sysctl("net.ipv4.conf.all.rp_filter", 0)
    for family in ("-4", "-6"):
        for link, table in (("eth1", 10), ("eth2", 20)):
            namespace.ip(f"{family} rule add iif {link} lookup {table} pref 1000")
            namespace.ip(f"{family} route add unreachable default {LAST} table {table}")
    for link in ("eth1", "eth2"):
        namespace.sysctl(f"net.ipv4.conf.{link}.rp_filter", 0)
    return namespace


def test_a_ready_machine_has_no_findings_but_ok_as_dpu_or_host(dpu: Namespace, namespaces: NamespaceFactory) -> None:
    assert on_dpu(dpu) == {}
    host, _agent = namespaces.pair("host", "agent")
    assert on_host(host) == {}  # no agent listens yet, but its machine is reachable


def test_a_check_changes_nothing(dpu: Namespace) -> None:
    def state() -> list[str]:
        return [dpu.ip(f"{family} {what} show") for family in ("-4", "-6") for what in ("rule", "route", "address")]

    before = state(), dpu.run("sysctl", "-a", "--pattern", r"net\.ipv4\.(conf|ip_forward)").stdout
    on_dpu(dpu)
    assert (state(), dpu.run("sysctl", "-a", "--pattern", r"net\.ipv4\.(conf|ip_forward)").stdout) == before


# -- the machine ------------------------------------------------------------------------------------------------------


def test_the_packages_checked_are_those_that_the_daemons_import() -> None:
    assert tuple(PACKAGES.values()) == PYTHON_PACKAGES


def test_a_python_without_the_packages_is_a_problem() -> None:
    params = {**OPTIONS, "agent": {"plaintext": True, "vrfs": VRFS}}
    code = f"import sys; sys.path.insert(0, {str(COLLECTIONS)!r}); from {check.__module__} import check\n"
    code += f"print(*[finding['found'] for finding in check({params!r})['findings']], sep='\\n')"
    # -S: without site-packages
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert f"{sys.executable} lacks uvicorn, prometheus-client\n" in done.stdout


def test_missing_privilege_is_a_problem(dpu: Namespace) -> None:
    def as_nobody(params: dict[str, Any]) -> dict[str, Any]:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return check(params)

    result = dpu.call(as_nobody, {**OPTIONS, "agent": {"plaintext": True, "vrfs": VRFS}})
    found = {finding["check"]: finding for finding in result["findings"]}
    assert found["privilege"]["found"] == "modules run as uid 65534"
    assert found["privilege"]["level"] == "problem"
    # SO_RCVBUFFORCE is for CAP_NET_ADMIN; anybody else gets what net.core.rmem_max allows.
    assert found["receive buffer"]["level"] == "warning"
    assert "of 128 MiB" in found["receive buffer"]["found"]


def test_a_clock_that_is_off_is_a_warning_and_with_tls_a_problem(netns: Namespace) -> None:
    for off, level in ((0, "ok"), (200, "warning"), (1000, "problem")):
        tls = dict.fromkeys(("ca", "certificate", "key"), "/nowhere")
        params = {**OPTIONS, "agent": {"tls": tls}, "controller_time": time.time() - off}
        found = [f for f in netns.call(check, params)["findings"] if f["check"] == "clock" and "ahead" in f["found"]]
        assert [finding["level"] for finding in found] == ([] if level == "ok" else [level])


def test_a_full_disk_is_a_problem(dpu: Namespace, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], check=True)
    try:
        finding = only(on_dpu(dpu, lib_dir=str(tmp_path / "lib")), "disk", "problem")
        assert finding["found"] == f"1 MiB free at {tmp_path}"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_an_invalid_variable_is_named(dpu: Namespace) -> None:
    finding = only(on_dpu(dpu, {"vrfs": {"a": {"tabel": 10}}}), "variables", "problem")
    assert finding["found"] == "vrfs.a.table: missing; did you misspell it as 'tabel'?"
    finding = only(on_host(dpu, {"agents": [{"addres": "192.0.2.2"}]}), "variables", "problem")
    assert finding["found"].startswith("agents[0].address: missing")


# -- VRFs -------------------------------------------------------------------------------------------------------------


def test_fewer_than_two_vrfs_are_a_problem(dpu: Namespace) -> None:
    found = on_dpu(dpu, {"vrfs": {}})
    assert found["vrfs"][0]["found"].startswith("no VRF device; the mirror needs two")
    found = on_dpu(dpu, {"vrfs": {"a": VRFS["a"]}})
    assert found["vrfs"][0]["found"].startswith("only VRF a; the mirror needs two")


def test_a_link_that_does_not_exist_is_a_problem(dpu: Namespace) -> None:
    found = on_dpu(dpu, {"vrfs": {**VRFS, "b": {"table": 20, "links": ["eth2", "eth9"]}}})
    assert only(found, "vrfs", "problem")["found"] == "dpu_agent_vrfs.b.links: no link 'eth9' on this machine"


def test_a_vrf_without_links_is_a_warning(dpu: Namespace) -> None:
    for family in ("-4", "-6"):
        dpu.ip(f"{family} route add unreachable default {LAST} table 30")
    found = on_dpu(dpu, {"vrfs": {**VRFS, "c": {"table": 30}}})
    assert only(found, "vrfs", "warning")["found"] == "VRF c (table 30) has no link"


def test_a_link_without_carrier_is_a_warning(dpu: Namespace) -> None:
    dpu.ip("link set peer1 down")
    assert only(on_dpu(dpu), "vrfs", "warning")["found"] == "VRF a: down or without carrier: eth1"


def test_a_missing_unreachable_default_is_a_warning_whose_fix_works(dpu: Namespace) -> None:
    dpu.ip(f"-6 route delete unreachable default {LAST} table 20")
    finding = only(on_dpu(dpu), "unreachable default", "warning")
    assert finding["found"].startswith("VRF b, ipv6: destinations that its table lacks are looked up in table main")
    dpu.ip("-6 route add default dev eth2 table 20")
    assert "without its default route" in only(on_dpu(dpu), "unreachable default", "warning")["found"]
    dpu.run(*finding["fix"].split())  # the fix works
    assert on_dpu(dpu) == {}


def test_a_link_without_a_rule_is_a_problem_whose_fix_works(dpu: Namespace) -> None:
    dpu.ip("rule delete iif eth2 lookup 20")
    finding = only(on_dpu(dpu), "rules", "problem")
    assert finding["found"] == "VRF b, ipv4: no rule sends packets from eth2 to table 20"
    dpu.run(*finding["fix"].split())
    assert on_dpu(dpu) == {}


def test_forwarding_that_is_off_is_found_per_link_and_family(dpu: Namespace) -> None:
    dpu.sysctl("net.ipv4.conf.eth2.forwarding", 0)
    assert only(on_dpu(dpu), "forwarding", "problem")["found"] == "ipv4 forwarding is off on eth2"
    dpu.sysctl("net.ipv4.ip_forward", 1)
    dpu.sysctl("net.ipv4.conf.eth2.forwarding", 1)
    dpu.sysctl("net.ipv6.conf.all.forwarding", 0)
    assert only(on_dpu(dpu), "forwarding", "warning")["found"] == "ipv6 forwarding is off on eth1, eth2"


@pytest.mark.parametrize("link", ["all", "eth1"])
def test_a_strict_rp_filter_is_a_warning_whose_fix_works(dpu: Namespace, link: str) -> None:
    dpu.sysctl(f"net.ipv4.conf.{link}.rp_filter", 1)
    finding = only(on_dpu(dpu), "rp_filter", "warning")
    assert finding["found"].startswith(f"strict on {'eth1, eth2' if link == 'all' else 'eth1'}: ")
    dpu.sysctl("net.ipv4.conf.all.rp_filter", 2)  # the fix: the larger number applies
    assert on_dpu(dpu) == {}


def test_whether_a_kernel_can_make_vrf_devices_is_read_from_its_files(tmp_path: Path) -> None:
    assert kernel_vrf(str(tmp_path)) == "unknown"
    modules = tmp_path / "lib" / "modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/drivers/net/veth.ko.xz:\n")
    assert kernel_vrf(str(tmp_path)) == "no"
    (modules / "modules.dep").write_text("kernel/drivers/net/veth.ko.xz:\nkernel/drivers/net/vrf.ko.xz:\n")
    assert kernel_vrf(str(tmp_path)) == "yes"
    (modules / "modules.dep").unlink()
    (tmp_path / "boot").mkdir()
    config = tmp_path / "boot" / f"config-{os.uname().release}"
    config.write_text("#\n# CONFIG_NET_VRF is not set\n")
    assert kernel_vrf(str(tmp_path)) == "no"
    config.write_text("#\nCONFIG_NET_VRF=y\n")
    assert kernel_vrf(str(tmp_path)) == "yes"


def test_whether_this_kernel_can_make_vrf_devices_is_true(netns: Namespace) -> None:
    made = netns.run("ip", "link", "add", "trial", "type", "vrf", "table", "10", check=False).returncode == 0
    assert kernel_vrf() in ("unknown", "yes" if made else "no")


# -- how hosts reach the agent ----------------------------------------------------------------------------------------


def test_a_port_in_use_is_a_problem_that_names_the_process(dpu: Namespace) -> None:
    code = "import socket,time; s=socket.create_server(('127.0.0.1',2620)); print('up',flush=True); time.sleep(99)"
    process = dpu.start(sys.executable, "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    finding = only(on_dpu(dpu), "listen", "problem")
    assert finding["found"].startswith(f":: port 2620 is in use by {os.path.basename(sys.executable)} (pid ")
    other = {"listen": [{"address": "192.0.2.1", "port": 2620}]}
    assert on_dpu(dpu, other) == {}  # another address, another socket
    assert on_dpu(dpu, {"listen": [{"address": "::", "port": 2621}]}) == {}
    assert list(on_dpu(dpu, {**other, "http": {"port": 2620}})) == ["listen"]


def test_an_address_of_another_machine_is_a_problem(dpu: Namespace) -> None:
    found = on_dpu(dpu, {"listen": [{"address": "203.0.113.9", "port": 2620}]})
    assert only(found, "listen", "problem")["found"] == "203.0.113.9 port 2620 is not an address of this machine"


def test_hosts_that_connect_to_another_address_or_port_are_found(dpu: Namespace) -> None:
    assert on_dpu(dpu, expected=[{"address": "192.0.2.1"}]) == {}
    assert on_dpu(dpu, expected=[{"address": "fd00:1:0::1"}]) == {}  # however it is written
    assert on_dpu(dpu, expected=[{"address": "dpu.example"}]) == {}
    finding = only(on_dpu(dpu, expected=[{"address": "203.0.113.9"}]), "address", "warning")
    assert "no host's mirror_listener_agents lists an address of this machine" in finding["found"]
    finding = only(on_dpu(dpu, expected=[{"address": "192.0.2.1", "port": 2621}]), "address", "problem")
    assert finding["found"] == "hosts connect to port 2621, but dpu_agent_listen has 2620"


AGENTS: dict[str, tuple[str, str]] = {
    "192.0.2.9": ("", "no answer within 0.5 s"),  # no machine has that address
    "192.0.2.2": ("route add blackhole 192.0.2.1/32", "no answer within 0.5 s"),  # the answer gets lost
    "198.51.100.1": ("", "Network is unreachable"),
    "nowhere.invalid": ("", "name"),
    "192.0.2.2." + "x" * 64: ("", "not a host name: "),
}


@pytest.mark.parametrize(("address", "broken", "message"), [(a, *case) for a, case in AGENTS.items()])
def test_an_unreachable_agent_is_a_problem_that_says_why(
    namespaces: NamespaceFactory, address: str, broken: str, message: str
) -> None:
    host, agent = namespaces.pair("host", "agent")
    if broken:
        agent.ip(broken)
    found = on_host(host, {"agents": [{"address": address}]})
    finding = only(found, "agents", "problem")
    assert finding["found"].startswith(f"{address} port 2620 is unreachable: ")
    assert message in finding["found"]


def test_every_agent_is_tried_and_reported(namespaces: NamespaceFactory) -> None:
    host, agent = namespaces.pair("host", "agent")
    agent.start(sys.executable, "-c", "import socket,time; s=socket.create_server(('192.0.2.2',2620)); time.sleep(99)")
    agents = [{"address": address} for address in ("192.0.2.2", "192.0.2.7", "192.0.2.8", "fd00:db8::2")]

    def report() -> list[str]:
        result = host.call(check, {**OPTIONS, "listener": {"plaintext": True, "agents": agents}})
        return [finding["found"] for finding in result["findings"] if finding["check"] == "agents"]

    assert [text.split(":")[0] for text in report()] == [
        "192.0.2.7 port 2620 is unreachable",
        "192.0.2.8 port 2620 is unreachable",
    ]
    agents[1:3] = []
    [found] = until(report, lambda texts: "is open" in texts[0])
    assert "192.0.2.2 port 2620 is open" in found
    assert "fd00:db8::2 port 2620 is closed: reachable, no agent yet" in found


def test_a_listener_without_agents_is_a_problem(netns: Namespace) -> None:
    assert only(on_host(netns, {"agents": []}), "agents", "problem")["found"] == "mirror_listener_agents is empty"


def test_routes_are_counted_and_silent_ipv6_losses_are_reported(namespaces: NamespaceFactory) -> None:
    host, _agent = namespaces.pair("host", "agent")
    host.ip("route add 10.0.0.0/8 via 192.0.2.2")
    host.sysctl("net.ipv6.route.skip_notify_on_dev_down", 1)
    params = {**OPTIONS, "listener": {"plaintext": True, "agents": [{"address": "192.0.2.2"}], "families": ["ipv4"]}}
    found = {finding["check"]: finding["found"] for finding in host.call(check, params)["findings"]}
    assert found["routes"].startswith("2 in table main; ")
    assert "skip_notify_on_dev_down=1" in found["ipv6 events"]


# -- certificates -----------------------------------------------------------------------------------------------------


def with_tls(namespace: Namespace, tls: dict[str, str], **options: Any) -> Findings:
    agent = {"plaintext": False, "tls": tls}
    return on_dpu(namespace, agent, names=["dpu1"], **options)


def test_good_certificates_are_ok(dpu: Namespace, tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").issue("dpu1", "192.0.2.1")
    assert with_tls(dpu, tls, expected=[{"address": "192.0.2.1", "server_name": "dpu1"}]) == {}
    assert with_tls(dpu, tls, expected=[{"address": "192.0.2.1"}]) == {}  # the address is in the certificate too


def test_each_fault_of_a_certificate_is_a_problem_that_names_it(dpu: Namespace, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    good = authority.issue("dpu1")

    def message(**files: str) -> str:
        return only(with_tls(dpu, {**good, **files}), "certificates", "problem")["found"]

    expired = authority.issue("old", "dpu1", expired=True)
    assert message(certificate=expired["certificate"], key=expired["key"]).startswith("expired on 20")
    foreign = other.issue("dpu1")
    refused = message(certificate=foreign["certificate"], key=foreign["key"])
    assert refused == "peers would reject it: unable to get local issuer certificate"
    assert "are not a certificate and its key" in message(key=foreign["key"])
    assert message(key="/nowhere/machine.key") == "no machine.key"
    assert "is not a CA certificate in PEM format" in message(ca=good["key"])
    os.chmod(good["key"], 0o640)
    assert message() == f"tls.key: {good['key']} has mode 0640; run chmod 0600 {good['key']}"


def test_a_certificate_of_another_machine_is_a_problem(dpu: Namespace, tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").issue("dpu2")
    finding = only(with_tls(dpu, tls, expected=[{"address": "192.0.2.1", "server_name": "dpu1"}]), "names", "problem")
    assert finding["found"] == "hosts expect a certificate for dpu1, but this machine is dpu2"
    found = on_host(dpu, {"agents": [], "plaintext": False, "tls": tls}, accepted=["host1"])
    assert found["names"][0]["found"] == "dpu_agent_hosts lists host1, but this machine is dpu2"


def test_a_certificate_that_expires_soon_is_a_warning(dpu: Namespace, tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").issue("dpu1")  # for 30 days
    assert with_tls(dpu, tls, renew_days=29) == {}
    assert only(with_tls(dpu, tls, renew_days=31), "certificates", "warning")["found"].startswith("expires on 20")


def test_a_key_that_the_daemons_user_cannot_read_is_a_problem(dpu: Namespace, tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").issue("dpu1")
    finding = only(with_tls(dpu, tls, user="nobody"), "certificates", "problem")
    assert finding["found"] == "the key belongs to root; the daemon's user nobody cannot read it"
    shutil.chown(tls["key"], "nobody")
    assert with_tls(dpu, tls, user="nobody") == {}


def test_a_fault_in_a_file_that_the_role_replaces_is_a_warning(dpu: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    tls = {name: str(folder / file) for name, file in
           (("ca", "ca.crt"), ("certificate", "machine.crt"), ("key", "machine.key"))}  # fmt: skip
    assert with_tls(dpu, tls, certificates_dir=str(folder)) == {}  # none yet
    made = Authority(tmp_path / "ca").issue("dpu2", expired=True)
    for name, path in made.items():
        shutil.copy(path, tls[name])
    found = with_tls(dpu, tls, certificates_dir=str(folder), authority_sha256="of another one")["certificates"]
    assert [finding["level"] for finding in found] == ["warning"] * 3
    assert {finding["fix"] for finding in found} == {"ekho.ynl_mirror.mirror replaces it"}
    assert found[0]["found"].startswith("expired on 20")
    assert found[1]["found"] == "not signed by the controller's authority"
    assert found[2]["found"] == "issued for dpu2, but this machine is dpu1"
    # Without an authority on the controller they are the user's own, though they are where the role installs them.
    found = with_tls(dpu, tls, certificates_dir=str(folder))["certificates"]
    assert [(finding["level"], finding["fix"]) for finding in found] == [("problem", "renew it")]


def test_each_state_of_the_authority_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "ca"

    def report(**options: Any) -> tuple[str, str]:
        [finding] = check({**OPTIONS, "authority_dir": str(folder), **options})["findings"]
        return finding["level"], finding["found"]

    assert report() == ("ok", f"none yet: ekho.ynl_mirror.mirror creates it in {folder}")
    authority = Authority(folder)
    assert report() == ("warning", f"{folder} has ca.crt but no ca.key")
    key = folder / "ca.key"
    shutil.copy(authority.issue("dpu1")["key"], key)
    assert report()[0] == "problem"
    assert "are not a certificate and its key" in report()[1]
    key.write_bytes(authority.private_key)
    assert report()[0] == "ok"
    assert report(renew_days=400)[0] == "warning"
    key.chmod(0o644)
    assert report() == ("problem", f"tls.key: {key} has mode 0644; run chmod 0600 {key}")


# -- who else manages routes ------------------------------------------------------------------------------------------


def test_routes_with_the_mirrors_protocol_are_a_problem_unless_an_agent_is_deployed(
    dpu: Namespace, tmp_path: Path
) -> None:
    dpu.ip("route add 10.0.0.0/8 dev eth1 proto 121 table 10")
    finding = only(on_dpu(dpu), "ownership", "problem")
    assert finding["found"].startswith("VRF a has 1 route with protocol 121, but no agent is deployed here")
    assert on_dpu(dpu, {"protocol": 99})["owners"][0]["level"] == "warning"  # then they have another owner
    (tmp_path / "agent.json").write_text("{}")
    assert on_dpu(dpu, config_dir=str(tmp_path)) == {}


def test_routes_of_other_owners_are_counted_by_protocol(dpu: Namespace) -> None:
    for protocol, prefix in (("ospf", "10.1.0.0/16"), ("bgp", "10.2.0.0/16"), ("bgp", "10.3.0.0/16")):
        dpu.ip(f"route add {prefix} dev eth2 proto {protocol} metric 20 table 20")
    found = only(on_dpu(dpu), "owners", "warning")["found"]
    assert found == "VRF b (table 20) has routes of other owners: 2 bgp, 1 ospf"


def test_a_bird_that_writes_into_a_vrf_is_a_warning(dpu: Namespace, tmp_path: Path) -> None:
    (tmp_path / "bird.conf").write_text(
        "router id 192.0.2.1; protocol device {} protocol static { ipv4; route 10.0.0.0/8 blackhole; }\n"
        "protocol kernel { kernel table 10; ipv4 { export all; }; }\n"
    )
    dpu.start("bird", "-f", "-c", str(tmp_path / "bird.conf"), "-s", str(tmp_path / "bird.ctl"))
    found = until(lambda: on_dpu(dpu), lambda found: set(found) == {"owners", "daemons"})
    assert found["owners"][0]["found"] == "VRF a (table 10) has routes of other owners: 1 bird"
    assert found["daemons"][0]["found"].startswith("bird (pid ")
    assert "`learn`" in found["daemons"][0]["fix"]


def test_a_running_zebra_is_a_warning(dpu: Namespace) -> None:
    zebra = Zebra(dpu, "192.0.2.1").start()
    try:
        assert "redistribute kernel" in only(on_dpu(dpu), "daemons", "warning")["fix"]
    finally:
        zebra.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [("systemd-networkd", "removes foreign routes and policy rules"), ("NetworkManager", "may rewrite")],
)
def test_a_network_manager_is_a_warning_only_in_this_network_namespace(
    dpu: Namespace, other: Namespace, tmp_path: Path, name: str, message: str
) -> None:
    # A program of that name: the real ones work on the files of the whole machine.
    program = tmp_path / name
    shutil.copy("/bin/sleep", program)
    other.start(str(program), "99")
    assert on_dpu(dpu) == {}  # in another network namespace
    dpu.start(str(program), "99")
    found = until(lambda: on_dpu(dpu), bool)
    assert message in only(found, "daemons", "warning")["found"]


@pytest.fixture
def other(namespaces: NamespaceFactory) -> Namespace:
    return namespaces("other")


def test_networkds_settings_are_read_from_its_files_in_their_order(tmp_path: Path) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for folder in (etc, lib):
        (folder / "networkd.conf.d").mkdir(parents=True)

    def removed() -> list[str]:
        return [name.removeprefix("ManageForeign") for name in what_networkd_removes((str(etc), str(lib)))]

    everything = ["Routes", "RoutingPolicyRules"]
    assert removed() == everything  # the default
    (lib / "networkd.conf").write_text("[Network]\nManageForeignRoutes=no\n")
    assert removed() == ["RoutingPolicyRules"]
    (etc / "networkd.conf").write_text("[Network]\n#ManageForeignRoutes=no\nSpeedMeter=%t\n[DHCPv4]\nDUIDType=vendor\n")
    assert removed() == everything  # the first such file counts, and no other
    (lib / "networkd.conf.d" / "50-keep.conf").write_text("[Network]\nManageForeignRoutes = FALSE\n")
    assert removed() == ["RoutingPolicyRules"]
    (etc / "networkd.conf.d" / "60-all.conf").write_text("[Network]\nManageForeignRoutes=yes\n")
    assert removed() == everything  # the last setting
    (etc / "networkd.conf.d" / "60-all.conf").write_text("nonsense\n")
    assert removed() == ["RoutingPolicyRules"]
    (etc / "networkd.conf.d" / "70-rules.conf").write_text("[Network]\nManageForeignRoutingPolicyRules=0\n")
    assert removed() == []
    (etc / "networkd.conf.d" / "50-keep.conf").write_text("")
    assert removed() == ["Routes"]  # a file of the same name takes the place of the other
