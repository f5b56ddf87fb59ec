# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router in a namespace, and tasks of vrf_route on it without the detour over an Ansible process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.apply import Task, run
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.target import TaskError

if TYPE_CHECKING:
    from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

TABLE = 10


@dataclass
class Router:
    """Links eth1 (192.0.2.1/24, fd00:1::1/64) and eth2 (198.51.100.1/24, fd00:2::1/64), each with carrier."""

    namespace: Namespace

    @cached_property
    def indexes(self) -> dict[str, int]:
        """The ifindex of each link."""
        return {link["ifname"]: link["ifindex"] for link in self.namespace.ip_json("link show")}

    @classmethod
    def make(cls, namespace: Namespace) -> Router:
        for number, network in ((1, "192.0.2"), (2, "198.51.100")):
            link = f"eth{number}"
            namespace.ip(f"link add {link} type veth peer name peer{number}")
            namespace.sysctl(f"net.ipv6.conf.{link}.accept_dad", 0)
            namespace.ip(f"link set peer{number} up")
            namespace.ip(f"link set {link} up")
            namespace.ip(f"address add {network}.1/24 dev {link}")
            namespace.ip(f"address add fd00:{number}::1/64 dev {link} nodad")
        return cls(namespace)

    def task(self, state: str = "merged", *routes: object, **options: Any) -> dict[str, Any]:
        """Run a task on table 10; items as positional arguments, ``routes=None`` for a task without any."""
        options = {"table": TABLE, "routes": list(routes), **options}
        with self.namespace.entered():
            return run(Task(state=state, **options))

    def twice(self, state: str, *routes: object, **options: Any) -> dict[str, Any]:
        """Run a task in check mode, for real, and again; all three have to agree. Returns the real run's result."""
        predicted = self.task(state, *routes, **options, check=True)
        result = self.task(state, *routes, **options)
        for name in ("changed", "stats", "commands", "before"):
            assert predicted[name] == result[name], name
        again = self.task(state, *routes, **options)
        assert not again["changed"], again["commands"]
        assert again["before"] == again["after"] == result["after"]
        return result

    def refused(self, state: str, *routes: object, **options: Any) -> TaskError:
        """Run a task that has to fail, and return the error."""
        try:
            result = self.task(state, *routes, **options)
        except TaskError as error:
            return error
        raise AssertionError(f"not refused: {result}")

    def show(self, arguments: str = "table 10") -> list[str]:
        """The lines of ``ip route show`` of both families, default IPv6 attributes left out."""
        lines = []
        for family in ("-4", "-6"):
            # A multipath route takes several lines, the hops indented.
            text = self.namespace.ip(f"{family} route show {arguments}", check=False).replace("\n\t", " ")
            lines += [" ".join(line.replace(" pref medium", "").split()) for line in text.splitlines()]
        return lines
