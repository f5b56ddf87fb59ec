# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vrf_route by the name of a VRF in every state, and vrf_info, on a machine with VRF devices."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.map_facts import map_facts
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.target import TaskError
from ansible_collections.ekho.ynl_mirror.plugins.modules import vrf_info, vrf_route
from ansible_collections.ekho.ynl_mirror.tests.support.labs.mirror import batch
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace, NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router
from ansible_collections.ekho.ynl_mirror.tests.support.labs.vrf import ends, vrf

MODULES = {"vrf_info": vrf_info, "vrf_route": vrf_route}
OURS = "proto 121"
V4 = {"dst": "10.0.0.0/8", "gateway": "192.0.2.2"}
V6 = {"dst": "fd09::/16", "gateway": "fd00:1::2"}
V4_LINE = f"10.0.0.0/8 via 192.0.2.2 dev eth1 {OURS}"
V6_LINE = f"fd09::/16 via fd00:1::2 dev eth1 {OURS} metric 1024"


class VrfRouter(Router):
    """The router's eth1 in VRF red (table 1000), its eth2 in VRF blue (table 100000); red ends in an unreachable."""

    @classmethod
    def make(cls, namespace: Namespace) -> VrfRouter:
        """In as few processes as can be: each costs a guest long."""
        namespace.run("sysctl", "-q", "-w", "net.ipv6.conf.default.accept_dad=0")
        lines = [*vrf("red", 1000), *vrf("blue", 100000), *ends(1000)]
        for number, (name, network) in enumerate((("red", "192.0.2"), ("blue", "198.51.100")), start=1):
            link, peer = f"eth{number}", f"peer{number}"
            lines += [f"link add {link} type veth peer name {peer}", f"link set dev {link} master {name}"]
            lines += [f"link set dev {peer} up", f"link set dev {link} up"]
            lines += [f"address add {network}.1/24 dev {link}", f"address add fd00:{number}::1/64 dev {link} nodad"]
        batch(namespace, *lines)
        return cls(namespace)

    def task(self, state: str = "merged", *routes: object, **options: Any) -> dict[str, Any]:
        """Run a task on VRF red."""
        if not {"vrf", "table"} & options.keys():
            options["vrf"] = "red"
        return super().task(state, *routes, **{"table": None, **options})

    def mirrored(self, vrf: str = "red") -> list[str]:
        """What is ours in a VRF."""
        return self.show(f"vrf {vrf} proto 121")

    def others(self) -> list[str]:
        """The routes of other owners in the VRFs' tables."""
        return [line for line in self.show("table all") if " table 1000" in line and OURS not in line]


@pytest.fixture
def router(namespaces: NamespaceFactory) -> VrfRouter:
    return VrfRouter.make(namespaces("router"))


def test_merged_adds_routes_to_the_vrfs_table(router: VrfRouter) -> None:
    others = router.others()
    result = router.twice("merged", V4, V6, diff=True)
    assert gathered(router) == [{**V4, "dev": "eth1"}, {**V6, "dev": "eth1"}]
    assert (result["vrf"], result["table"]) == ("red", 1000)
    assert result["commands"] == [
        "ip route add 10.0.0.0/8 via 192.0.2.2 proto 121 vrf red",
        "ip -6 route add fd09::/16 via fd00:1::2 proto 121 metric 1024 vrf red",
    ]
    assert result["diff"]["after_header"] == "vrf red"
    assert result["diff"]["after"] == f"{V4_LINE}\n{V6_LINE}\n"
    assert router.others() == others
    assert router.mirrored("blue") == []


def test_replaced_removes_our_other_routes_to_the_destinations(router: VrfRouter) -> None:
    others = router.others()
    router.task("merged", V4, {**V4, "metric": 7}, V6)
    result = router.twice("replaced", {**V4, "gateway": "192.0.2.3"})
    assert (result["stats"]["replaced"], result["stats"]["deleted"]) == (1, 1)
    assert gathered(router) == [{**V4, "gateway": "192.0.2.3", "dev": "eth1"}, {**V6, "dev": "eth1"}]
    assert router.others() == others


def test_overridden_leaves_only_the_named_routes_and_those_of_others(router: VrfRouter) -> None:
    """Of red's table only what others own stays: connected routes, addresses, the unreachable default."""
    router.task("merged", V4, V6)
    blue = {"dst": "10.0.0.0/8", "gateway": "198.51.100.2"}
    router.task("merged", blue, vrf="blue")
    others = router.others()
    wanted = {"dst": "10.1.0.0/16", "gateway": "192.0.2.9"}
    result = router.twice("overridden", wanted)
    assert (result["stats"]["added"], result["stats"]["deleted"]) == (1, 2)
    assert gathered(router) == [{**wanted, "dev": "eth1"}]
    assert gathered(router, "blue") == [{**blue, "dev": "eth2"}]
    assert router.others() == others


def test_deleted_removes_named_routes_or_all_of_ours(router: VrfRouter) -> None:
    others = router.others()
    router.task("merged", V4, {**V4, "metric": 7}, V6)
    result = router.twice("deleted", {"dst": "10.0.0.0/8", "metric": 7})
    assert result["commands"] == ["ip route del 10.0.0.0/8 via 192.0.2.2 dev eth1 proto 121 metric 7 vrf red"]
    router.twice("deleted", routes=None)
    assert gathered(router) == []
    assert router.others() == others
    # The unreachable default is not the mirror's: it is deleted only with its owner's protocol.
    with pytest.raises(TaskError, match=r"protocol boot owns this route"):
        router.task("deleted", {"dst": "0.0.0.0/0"})


def test_gathered_returns_routes_that_a_task_accepts(router: VrfRouter) -> None:
    router.task("merged", V4, V6)
    result = router.task("gathered", routes=None)
    assert (result["vrf"], result["table"], result["changed"]) == ("red", 1000, False)
    assert [(item["dst"], item["dev"]) for item in result["gathered"]] == [
        ("10.0.0.0/8", "eth1"),
        ("fd09::/16", "eth1"),
    ]
    everybodys = router.task("gathered", routes=None, protocol="any")["gathered"]
    found = {(item["dst"], item["type"]) for item in everybodys}
    assert {("0.0.0.0/0", "unreachable"), ("::/0", "unreachable"), ("192.0.2.0/24", "unicast")} <= found
    # Gathered routes are valid items.
    again = router.task("merged", *result["gathered"], vrf="red")
    assert not again["changed"]


def test_rendered_accepts_a_vrf_that_does_not_exist(router: VrfRouter) -> None:
    """The VRF does not have to exist."""
    result = router.task("rendered", V4, vrf="green")
    assert result["commands"] == ["ip route replace 10.0.0.0/8 via 192.0.2.2 proto 121 vrf green"]


def test_the_returned_commands_have_the_same_effect(router: VrfRouter, namespaces: NamespaceFactory) -> None:
    twin = VrfRouter.make(namespaces("twin"))
    multipath = {"dst": "10.3.0.0/16", "nexthops": [{"gateway": "192.0.2.2", "weight": 3}, {"gateway": "192.0.2.3"}]}
    steps = (
        ("merged", [V4, V6, multipath, {"dst": "10.4.0.0/16", "type": "blackhole"}]),
        ("replaced", [{**V4, "gateway": "192.0.2.3", "mtu": 1400}, {**V6, "metric": 5}]),
        ("overridden", [multipath, {"dst": "10.5.0.0/16", "dev": "eth2"}]),
        ("deleted", [{"dst": "10.3.0.0/16"}]),
    )
    for state, items in steps:
        for command in router.task(state, *items)["commands"]:
            twin.namespace.run(*command.split())
        assert twin.mirrored() == router.mirrored()
        assert gathered(twin) == gathered(router)


def test_a_route_may_leave_by_a_link_of_another_vrf(router: VrfRouter) -> None:
    """Without a gateway `dev` is enough; a gateway in another VRF needs onlink."""
    far = [
        {"dst": "10.1.0.0/16", "dev": "eth2"},
        {"dst": "10.2.0.0/16", "gateway": "198.51.100.2", "dev": "eth2", "onlink": True},
        {"dst": "10.3.0.0/16", "dev": "blue"},
        {"dst": "fd10::/32", "dev": "eth2"},
        {"dst": "fd11::/32", "gateway": "fd00:2::2", "dev": "eth2", "onlink": True},
        {"dst": "fd12::/32", "dev": "blue"},
    ]
    result = router.twice("merged", *far)
    assert result["stats"]["added"] == len(far)
    error = router.refused("merged", {"dst": "10.4.0.0/16", "gateway": "198.51.100.2"})
    assert "set dev and onlink" in str(error)
    for link, left in (("blue", 4), ("eth2", 0)):
        router.namespace.ip(f"link set dev {link} down")
        assert len(router.task("gathered", routes=None)["gathered"]) == left
        router.namespace.ip(f"link set dev {link} up")
    assert router.twice("merged", *far)["stats"]["added"] == len(far)


def test_the_result_for_a_table_names_its_vrf(router: VrfRouter) -> None:
    result = router.task("merged", V4, table=1000)
    assert (result["vrf"], result["commands"][0].split()[-2:]) == ("red", ["table", "1000"])
    batch(router.namespace, "link set dev red down", "link set dev red name green", "link set dev green up")
    assert gathered(router, "green") == [{**V4, "dev": "eth1"}]


def test_a_vrf_recreated_with_another_table_has_none_of_its_routes(router: VrfRouter) -> None:
    router.task("merged", V4)
    batch(router.namespace, "link del dev red", *vrf("red", 4294967295, "eth1"))
    result = router.twice("merged", V4)
    assert (result["table"], result["stats"]["added"]) == (4294967295, 1)
    assert router.show("table 1000 proto 121") == []


def test_an_unknown_vrf_is_refused_with_those_that_exist(router: VrfRouter) -> None:
    known = "choose from: blue (table 100000), red (table 1000)"
    for name, words in (("rde", "no VRF named 'rde'"), ("eth1", "link eth1 is not a VRF device (kind veth)")):
        assert str(router.refused("merged", V4, vrf=name)) == f"vrf: {words}; {known}"


def test_vrf_info_shows_devices_addresses_routes_and_the_l3mdev_rule(router: VrfRouter) -> None:
    router.task("merged", V4)
    router.namespace.ip("address add 192.0.2.77/32 dev red")
    facts = module(router, "vrf_info")
    assert facts["vrfs"] == [
        {"name": "red", "table": 1000, "links": ["eth1"], "device": True},
        {"name": "blue", "table": 100000, "links": ["eth2"], "device": True},
    ]
    links = {link["name"]: link for link in facts["links"]}
    assert (links["eth1"]["vrf"], links["eth1"]["master"], links["eth1"]["table"]) == ("red", "red", None)
    assert (links["red"]["kind"], links["red"]["table"]) == ("vrf", 1000)
    assert (links["peer1"]["vrf"], links["peer1"]["master"]) == (None, None)
    addresses = {fact["address"]: (fact["link"], fact["vrf"]) for fact in facts["addresses"]}
    assert addresses["192.0.2.1"] == ("eth1", "red")
    assert addresses["192.0.2.77"] == ("red", "red")
    ours = [route for route in facts["routes"] if route["protocol"] == "ynl_mirror"]
    assert [(route["dst"], route["vrf"], route["table"]) for route in ours] == [("10.0.0.0/8", "red", 1000)]
    assert {route["vrf"] for route in facts["routes"]} == {"red", "blue", None}
    [rule] = [rule for rule in facts["rules"] if rule["priority"] == 1000 and rule["family"] == "ipv4"]
    assert rule["l3mdev"] is True


def test_check_mode_predicts_what_the_module_does(router: VrfRouter) -> None:
    task = {"vrf": "red", "dst": "10.0.0.0/8", "gateway": "192.0.2.2"}
    predicted = module(router, "vrf_route", _ansible_check_mode=True, _ansible_diff=True, **task)
    assert router.mirrored() == []
    done = module(router, "vrf_route", _ansible_diff=True, **task)
    for result in (predicted, done):
        assert (result["changed"], result["vrf"], result["table"]) == (True, "red", 1000)
        assert result["commands"] == ["ip route add 10.0.0.0/8 via 192.0.2.2 proto 121 vrf red"]
    assert predicted["diff"]["after"] == "10.0.0.0/8 via 192.0.2.2 proto 121\n"
    assert done["diff"]["after"] == f"{V4_LINE}\n"
    assert not module(router, "vrf_route", **task)["changed"]


def test_a_host_is_offloaded_without_daemons_by_facts_filter_and_module(router: VrfRouter) -> None:
    """The offload without daemons; the gateway is an address of red's own device. Blue leads to the host by eth2."""
    batch(
        router.namespace,
        *("address add 192.0.2.77/32 dev red", "address add fd00::77/128 dev red nodad"),
        *("route add 0.0.0.0/0 via 198.51.100.2 vrf blue", "route add ::/0 via fd00:2::2 vrf blue"),
    )
    host = [
        {"dst": "192.0.2.0/24", "gateway": "192.0.2.77"},
        {"dst": "fd00:1::/64", "gateway": "fd00::77"},
        {"dst": "198.51.100.0/24", "dev": "uplink"},
    ]
    mapped = map_facts([{"dst": "10.9.0.0/16", "gateway": "192.0.2.77"}, *host], module(router, "vrf_info"), Policy())
    assert mapped["slow_path"][0]["reason"].startswith("nexthop: VRF red has unreachable 0.0.0.0/0")
    blue = mapped["vrfs"]["blue"]
    assert (blue["table"], mapped["vrfs"]["red"]["routes"]) == (100000, [])
    router.twice("overridden", *blue["routes"], vrf="blue")
    found = gathered(router, "blue")
    offloads = [item for item in found if item["dev"] == "eth1"]
    assert offloads == [{"dst": "192.0.2.0/24", "dev": "eth1"}, {"dst": "fd00:1::/64", "dev": "eth1"}]
    # Red's own addresses are reached over the host, as without the mirror.
    traps = {item["dst"]: item["gateway"] for item in found if item["dev"] == "eth2"}
    wanted = {"192.0.2.1/32": "198.51.100.2", "192.0.2.77/32": "198.51.100.2", "fd00:1::1/128": "fd00:2::2"}
    assert traps.items() >= wanted.items()
    # The next run ignores mirrored routes.
    assert map_facts(host, module(router, "vrf_info"), Policy())["vrfs"] == {**mapped["vrfs"]}


def gathered(router: VrfRouter, vrf: str = "red") -> list[dict[str, Any]]:
    """Our routes as items, without the options that have their defaults."""
    usual = {"type": ("unicast",), "metric": (0, 1024)}
    items = router.task("gathered", routes=None, vrf=vrf)["gathered"]
    return [{key: value for key, value in item.items() if value not in usual.get(key, ())} for item in items]


def module(router: VrfRouter, name: str, **arguments: object) -> dict[str, Any]:
    """Run a module with all that Ansible puts around it but the transport; its result."""
    return router.namespace.call(_main, name, arguments)


def _main(name: str, arguments: dict[str, object]) -> dict[str, Any]:
    # What Ansible's wrapper does on the machine, in the process that the module runs in.
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        MODULES[name].main()
    result = json.loads(written.getvalue())
    assert isinstance(result, dict)
    assert "failed" not in result, result
    return result
