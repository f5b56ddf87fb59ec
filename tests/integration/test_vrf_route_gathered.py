# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States gathered and rendered: what the module reads it takes, and what it prints iproute2 takes."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.tests.integration.test_vrf_route_merged import EVERY_OPTION
from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import NamespaceFactory
from ansible_collections.ekho.ynl_mirror.tests.support.labs.router import Router


@pytest.fixture
def router(namespaces: NamespaceFactory) -> Router:
    return Router.make(namespaces("router"))


#: Every option at once, each to a destination of its own.
ALL = [{**item, "metric": 100 + number} for number, (item, _line, _other) in enumerate(EVERY_OPTION)]


def test_gathered_routes_given_back_change_nothing(router: Router) -> None:
    router.task("merged", *ALL)
    result = router.task("gathered", routes=None)
    assert len(result["gathered"]) == len(ALL)
    assert not result["changed"]
    assert not router.task("overridden", *result["gathered"])["changed"]
    # On a machine that has none of them they make the same table.
    before = router.show()
    router.task("overridden")
    assert router.task("overridden", *result["gathered"])["stats"]["added"] == len(ALL)
    assert sorted(router.show()) == sorted(before)


def test_gathered_returns_routes_of_the_owner_and_family_only(router: Router) -> None:
    router.task("merged", {"dst": "10.0.0.0/8", "dev": "eth1"}, {"dst": "fd09::/16", "dev": "eth1"})
    router.namespace.ip("route add 11.0.0.0/8 dev eth1 proto bird table 10")

    def destinations(**options: object) -> list[str]:
        return [item["dst"] for item in router.task("gathered", routes=None, **options)["gathered"]]

    assert destinations() == ["10.0.0.0/8", "fd09::/16"]
    assert destinations(family="ipv6") == ["fd09::/16"]
    assert destinations(protocol="bird") == ["11.0.0.0/8"]
    assert destinations(protocol="any") == ["10.0.0.0/8", "11.0.0.0/8", "fd09::/16"]
    assert destinations(table=77) == []
    assert "for state gathered only" in str(router.refused("overridden", protocol="any"))


def test_routes_that_cannot_be_expressed_are_a_warning(router: Router) -> None:
    router.namespace.ip("route add throw 10.0.0.0/8 proto 121 table 10")
    result = router.task("gathered", routes=None)
    assert result["gathered"] == []
    assert "10.0.0.0/8" in result["warnings"][0]


def test_iproute2_accepts_every_command(router: Router, namespaces: NamespaceFactory) -> None:
    """The returned commands do on a twin what the module did: add, replace, delete."""
    twin = Router.make(namespaces("twin"))
    others = [{**other, "metric": 100 + number} for number, (_item, _line, other) in enumerate(EVERY_OPTION)]
    for state, items in (("merged", ALL), ("merged", others), ("overridden", ALL[::2]), ("deleted", ALL)):
        commands = router.task(state, *items)["commands"]
        assert commands
        for command in commands:
            twin.namespace.ip(command.removeprefix("ip "))
        assert sorted(twin.show()) == sorted(router.show())
    assert router.show() == []


def test_rendered_reads_nothing_and_iproute2_accepts_it(router: Router) -> None:
    result = router.task("rendered", *ALL, {"dst": "10.9.0.0/16", "dev": "no-such-link"})
    assert result["commands"].pop() == "ip route replace 10.9.0.0/16 dev no-such-link proto 121 table 10"
    assert router.show() == []
    for command in result["commands"]:
        router.namespace.ip(command.removeprefix("ip "))
    assert not router.task("overridden", *ALL)["changed"]


def test_rendered_names_the_vrf(router: Router) -> None:
    result = router.task("rendered", {"dst": "fd09::/16", "dev": "eth1"}, table=None, vrf="red")
    assert result["commands"] == ["ip -6 route replace fd09::/16 dev eth1 proto 121 metric 1024 vrf red"]
    assert "host bits" in str(router.refused("rendered", {"dst": "fd09::1/16", "dev": "eth1"}))


def test_a_vrf_that_does_not_exist_is_refused_by_name(router: Router) -> None:
    message = str(router.refused("gathered", routes=None, table=None, vrf="red"))
    assert message.startswith("vrf: no VRF named 'red'")
