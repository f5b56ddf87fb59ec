# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations: what is accepted comes back equal, what is not is refused with the item's path and the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.agent import AgentConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.fields import ConfigError
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.files import load_agent, load_listener
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import ListenerConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.names import Names, read_names

TLS = {
    "ca": "/etc/ynl-mirror/tls/ca.crt",
    "certificate": "/etc/ynl-mirror/tls/us.crt",
    "key": "/etc/ynl-mirror/tls/us.key",
}
LISTENER: dict[str, Any] = {
    "tables": ["main", 100],
    "families": ["ipv6"],
    "filters": {
        "protocols": ["bgp", 4],
        "exclude_protocols": ["kernel"],
        "prefixes": ["10.0.0.0/8", "exact ::/0"],
        "exclude_prefixes": ["10.1.0.0/16"],
        "types": ["unicast", "blackhole"],
        "interfaces": ["eth1"],
    },
    "agents": [{"address": "192.0.2.1", "port": 2620, "server_name": "ekho-dpu"}, {"address": "dpu.example"}],
    "tls": {**TLS, "crl": "/etc/ynl-mirror/tls/crl.pem"},
    "http": {"address": "::1", "port": 0},
    "log_level": "debug",
    "capture": {"file": "/var/lib/x/capture.pcapng"},
}
AGENT: dict[str, Any] = {
    "plaintext": True,
    "listen": [{"address": "127.0.0.1", "port": 0}],
    "hosts": ["ekho-host", {"name": "other", "vrfs": ["b"], "types": ["unicast"], "routes": 5}],
    "host_defaults": {"prefixes": ["10.0.0.0/8", "exact ::/0"], "nexthops": 4, "withdraw_after": 60},
    "vrf_limits": {"a": 1000, "*": 2000},
    "vrfs": {"a": {"table": 10, "links": ["eth1", "eth3"]}, "b": {"table": 20, "links": ["eth2"]}},
    "inference": ["prefix", "static"],
    "static": [
        {"prefix": "10.0.0.0/8", "vrf": "a", "dev": "eth3", "via": "192.0.2.9"},
        {"gateway": "fd00::1", "vrf": "b", "dev": "eth2"},
    ],
    "imports": {"a": ["b"], "b": []},
    "metric": 0,
    "settle_time": 1,
    "http": {},
}


def test_a_listener_configuration_comes_back_equal_from_its_json() -> None:
    config = ListenerConfig.from_dict(LISTENER)
    assert ListenerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (config.tables, config.families, config.filters.protocols) == ((254, 100), ("ipv6",), (186, 4))
    assert config.filters.types == (1, 6)
    assert config.agents[1].port == 2620
    assert config.capture is not None
    assert config.capture.limit == 2**30


def test_an_agent_configuration_comes_back_equal_from_its_json() -> None:
    config = AgentConfig.from_dict(AGENT)
    assert AgentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.metric == 0
    assert config.vrfs["a"].links == ("eth1", "eth3")
    assert config.imports == {"a": ("b",), "b": ()}
    assert (config.host_names, config.policy_of("ekho-host")) == (("ekho-host", "other"), config.host_defaults)
    other = config.policy_of("other")
    assert (other.vrfs, other.types, other.routes) == (("b",), (1,), 5)
    # What it does not say itself is as for every host.
    assert (other.nexthops, other.withdraw_after) == (4, 60)
    assert other.prefixes == config.host_defaults.prefixes
    assert config.http is not None
    assert (config.http.address, config.http.port, config.http.allow_changes) == ("127.0.0.1", 4321, False)


def test_defaults_are_those_of_the_documentation() -> None:
    listener = ListenerConfig.from_dict({"tls": TLS})
    assert (listener.tables, listener.families, listener.agents) == ((254,), ("ipv4", "ipv6"), ())
    agent = AgentConfig.from_dict({"tls": TLS, "metric": None, "http": None})
    assert (agent.protocol, agent.metric, agent.settle_time, agent.host_tables) == (121, None, 5.0, (254,))
    assert [(listen.address, listen.port) for listen in agent.listen] == [("::", 2620)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agnts": []}, "agnts: unknown field; did you mean 'agents'?"),
        (
            {"agents": [{"address": "192.0.2.1", "port": 0}]},
            "agents[0].port: expected a whole number from 1 to 65535, got 0",
        ),
        ({"agents": [{"address": "h", "port": "2620"}]}, "agents[0].port: expected a whole number"),
        ({"agents": [{"port": 2620}]}, "agents[0].address: missing; add it"),
        ({"agents": {}}, "agents: expected a list"),
        ({"capture": {"file": "j"}}, "capture.file: 'j' is a relative path"),
        ({"capture": {"limit": 1}}, "capture.file: missing"),
        ({"agents": [{"address": "h"}, {"address": "h"}]}, "agents[1]: {'address': 'h'} is listed twice"),
        ({"tables": ["mian"]}, "tables[0]: no number for 'mian' in rt_tables; did you mean 'main'?"),
        ({"tables": [0]}, "tables[0]: expected a whole number from 1"),
        ({"tables": []}, "tables: empty; list at least one table"),
        ({"families": ["ip"]}, "families[0]: unknown value 'ip'"),
        (
            {"filters": {"prefixes": ["10.0.0.1/8"]}},
            "filters.prefixes[0]: '10.0.0.1/8' has host bits set; write '10.0.0.0/8'",
        ),
        ({"filters": {"prefixes": ["fe80::%eth0/64"]}}, "filters.prefixes[0]: 'fe80::%eth0/64' names a link; write"),
        ({"filters": {"prefixes": ["exact fe80::1%eth0"]}}, "filters.prefixes[0]: 'fe80::1%eth0' names a link"),
        ({"filters": {"prefixes": ["ten"]}}, "filters.prefixes[0]: 'ten' is not a prefix"),
        ({"filters": {"types": ["unicst"]}}, "filters.types[0]: unknown value 'unicst'; did you mean 'unicast'?"),
        (
            {"filters": {"interfaces": ["a-name-of-16-byte"]}},
            "filters.interfaces[0]: 'a-name-of-16-byte' is not a link name",
        ),
        ({"filters": {"protocols": [4], "exclude_protocols": [4]}}, "filters: protocol 4 is both in"),
        ({"filters": {"protocols": [True]}}, "filters.protocols[0]: expected a whole number"),
        ({"tls": None}, "tls: missing; give ca, certificate and key, or set plaintext"),
        ({"plaintext": True}, "plaintext: true and tls are both given; remove one"),
        ({"plaintext": "yes"}, "plaintext: expected true or false, got 'yes'"),
        ({"tls": {**TLS, "key": "us.key"}}, "tls.key: 'us.key' is a relative path"),
        ({"tls": {**TLS, "crl": "crl.pem"}}, "tls.crl: 'crl.pem' is a relative path"),
        ({"http": {"address": "192.0.2.1"}}, "http.address: 192.0.2.1 is not a loopback address"),
        ({"http": {"address": "::"}}, "write 127.0.0.1 or ::1, and connect through SSH"),
        ({"control_socket": "/" + "x" * 107}, "control_socket: "),
        ({"http": {"address": "localhost"}}, "http.address: 'localhost' is not an IP address"),
        ({"http": {"allow_changes": True}}, "http.allow_changes: unknown field"),
        ({"receive_buffer": 1}, "receive_buffer: expected a whole number from 4096"),
        ({"audit_interval": "1 min"}, "audit_interval: expected a number from 0 to 86400, got '1 min'"),
        ({"log_level": "chatty"}, "log_level: unknown value 'chatty'"),
    ],
)
def test_a_listener_configuration_with_a_fault_names_it(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ListenerConfig.from_dict({**LISTENER, **change})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listen": []}, "listen: empty"),
        ({"listen": [{"address": "dpu"}]}, "listen[0].address: 'dpu' is not an IP address"),
        ({"vrfs": {"a": {"table": 255}}}, "vrfs.a.table: 255 is the kernel's local table"),
        ({"vrfs": {"a": {}}}, "vrfs.a.table: missing"),
        ({"vrfs": ["a"]}, "vrfs: expected an object of names"),
        ({"vrfs": {"a": {"table": 10}, "b": {"table": 10}}}, "vrfs.b.table: 10 is VRF a's too"),
        (
            {"vrfs": {"a": {"table": 10, "links": ["eth1"]}, "b": {"table": 20, "links": ["eth1"]}}},
            "vrfs.b.links[0]: eth1 is in VRF a too",
        ),
        ({"static": [{"vrf": "a", "dev": "eth3"}]}, "static[0]: give exactly one of prefix and gateway"),
        ({"static": [{"prefix": "::/0", "vrf": "c", "dev": "eth3"}]}, "static[0].vrf: no VRF 'c' in vrfs"),
        (
            {"static": [{"gateway": "fe80::1%eth3", "vrf": "a", "dev": "eth3"}]},
            "static[0].gateway: 'fe80::1%eth3' names a link; write fe80::1 and give the link separately (dev)",
        ),
        (
            {"static": [{"gateway": "eth3", "vrf": "a", "dev": "eth3"}]},
            "'eth3' is not an IP address; write one such as",
        ),
        ({"imports": {"a": ["c"]}}, "imports.a[0]: no VRF 'c' in vrfs; known here: a, b"),
        ({"imports": {"a": "b"}}, "imports.a: expected a list, got 'b'; write ['b']"),
        ({"inference": ["static", "static"]}, "inference[1]: 'static' is listed twice"),
        ({"inference": ["nexthops"]}, "inference[0]: unknown value 'nexthops'; did you mean 'nexthop'?"),
        ({"protocol": "kernel"}, "protocol: 2 is what others install under"),
        ({"protocol": 122}, "protocol: 122 is what others install under"),
        ({"metric": -1}, "metric: expected a whole number from 0"),
        ({"audit_interval": -1}, "audit_interval: expected a number from 0 to 86400"),
        ({"guard_share": 1.5}, "guard_share: expected a number from 0 to 1, got 1.5"),
        ({"guard_routes": -1}, "guard_routes: expected a whole number from 0"),
        ({"settle_time": -0.5}, "settle_time: expected a number from 0 to 3600"),
        ({"hosts": [""]}, "hosts[0]: expected a non-empty string"),
        ({"hosts": ["h", {"name": "h"}]}, "hosts[1]: {'name': 'h'} is listed twice; remove one"),
        ({"hosts": ["h", {"name": "h", "routes": 5}]}, "hosts[1]: h is listed twice; say all about a host in one item"),
        ({"hosts": [{"vrfs": ["a"]}]}, "hosts[0].name: missing; add it"),
        ({"hosts": [{"name": "h", "route": 1}]}, "hosts[0].route: unknown field; did you mean 'routes'?"),
        ({"hosts": [{"name": "h", "routes": 0}]}, "hosts[0].routes: expected a whole number from 1"),
        ({"hosts": [{"name": "h", "vrfs": ["c"]}]}, "hosts[0].vrfs[0]: no VRF 'c' in vrfs; known here: a, b"),
        ({"hosts": [{"name": "h", "prefixes": ["10.0.0.1/8"]}]}, "hosts[0].prefixes[0]: '10.0.0.1/8' has host bits"),
        ({"host_defaults": {"types": ["unicst"]}}, "host_defaults.types[0]: unknown value 'unicst'"),
        ({"host_defaults": {"withdraw_after": -1}}, "host_defaults.withdraw_after: expected a number from 0"),
        ({"vrf_limits": {"c": 5}}, "vrf_limits.c: no VRF 'c' in vrfs"),
        ({"vrf_limits": {"a": "5"}}, "vrf_limits.a: expected a whole number"),
    ],
)
def test_an_agent_configuration_with_a_fault_names_it(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AgentConfig.from_dict({**AGENT, **change})
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_a_configuration_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(ConfigError, match="the configuration: expected an object"):
        ListenerConfig.from_dict(data)


def test_names_come_from_iproute2_files_and_their_directories(tmp_path: Path) -> None:
    (tmp_path / "rt_tables.d").mkdir()
    (tmp_path / "rt_tables").write_text("# reserved\n0x64\tblue # hex\nnonsense\n\n254 main\n")
    (tmp_path / "rt_tables.d" / "own.conf").write_text("101 green\n")
    names = read_names([str(tmp_path), str(tmp_path / "absent")])
    assert names.tables == {"default": 253, "main": 254, "local": 255, "blue": 100, "green": 101}
    config = ListenerConfig.from_dict({"tls": TLS, "tables": ["blue", "green"]}, names)
    assert config.tables == (100, 101)
    assert names.protocols == Names().protocols
    # What Debian's frr brings along: `ip route add ... proto static` means 4 all the same.
    (tmp_path / "rt_protos.d").mkdir()
    (tmp_path / "rt_protos.d" / "frr.conf").write_text("186  bgp\n190  ripng\n196  static\n")
    assert read_names([str(tmp_path)]).protocols == {**Names().protocols, "ripng": 190}


def _files(tmp_path: Path) -> dict[str, str]:
    files = {name: tmp_path / name for name in ("ca", "certificate", "key")}
    for file in files.values():
        file.write_text("-")
        file.chmod(0o600)
    return {name: str(file) for name, file in files.items()}


def test_a_configuration_file_is_loaded_with_its_certificates_checked(tmp_path: Path) -> None:
    file = tmp_path / "listener.json"
    file.write_text(json.dumps({"tls": _files(tmp_path)}))
    assert load_listener(str(file)).tls is not None
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"listener.json: tls.key: .* has mode 0644; run chmod 0600"):
        load_listener(str(file))
    (tmp_path / "ca").unlink()
    with pytest.raises(ConfigError, match=r"tls.ca: .*/ca cannot be read: No such file"):
        load_listener(str(file))


def test_a_configuration_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent.json: cannot be read: No such file or directory; deploy"):
        load_agent(str(tmp_path / "agent.json"))
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(ConfigError, match=r"agent.json: not valid JSON: .*; correct the file"):
        load_agent(str(tmp_path / "agent.json"))
