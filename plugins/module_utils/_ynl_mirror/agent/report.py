# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent reports: its status, its metrics, and the state of each announced route.

It reads the agent's parts at the time of the request, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic as now
from typing import Any

from ..daemon.tally import Tally
from ..mapping.view import View
from ..model.links import Vrf
from ..model.routes import AF_INET, AF_INET6, FAMILY_NAMES, Path, Prefix, protocol_name, table_name
from ..model.version import VERSION
from ..netlink.sockets import Monitor
from ..replica.describe import describe_path
from ..replica.follower import Follower
from ..replica.replica import Replica
from .admission import Denial
from .guard import Guard
from .host_session import HostSession
from .installer import Installer
from .lease import Lease

_FAMILIES = (AF_INET, AF_INET6)


@dataclass
class Rounds:
    """How often the agent has processed all routes: *remaps* mapped them again, *resyncs* read installed ones back."""

    remaps: int = 0
    resyncs: int = 0


@dataclass
class AgentReport:
    """Answers for `daemon/api.py`. *sessions* are those with connected hosts, by name, each with its task."""

    installer: Installer
    replica: Replica
    follower: Follower
    monitor: Monitor
    lease: Lease
    guard: Guard
    tally: Tally
    rounds: Rounds
    sessions: Mapping[str, tuple[HostSession, object]]
    ready: Callable[[], bool]
    crl: Callable[[], str | None]  # the digest of the revocation list in use
    started: float = field(default_factory=now)

    @property
    def _view(self) -> View:
        return self.installer.mapper.view

    # -- the agent

    def status(self) -> dict[str, Any]:
        """The agent's state, for /status."""
        limits = {} if self.installer.admission is None else self.installer.admission.status()
        return {
            "name": "agent",
            "version": VERSION,
            "uptime": round(now() - self.started, 1),
            "ready": self.ready(),
            "crl": self.crl(),
            "vrfs": [self._vrf(vrf) for vrf in self._view.vrfs],
            "hosts": [{**session.status(), **limits} for session, _task in self.sessions.values()],
            "lease": self.lease.status(),
            "host_links": sorted(self._view.link_name(index) for index in self.installer.mapper.host_links),
            "announced_routes": sum(map(len, self.installer.announced.values())),
            **self._counts(),
            "notifications": self.follower.notifications,
            "overruns": self.follower.overruns,
            "remaps": self.rounds.remaps,
            "fib_resyncs": self.rounds.resyncs,
            "audit": self.tally.status(),
            "held": {"withdrawals": self.guard.number, "reason": self.held()},
            "receive_buffer": self.monitor.granted,
        }

    def _vrf(self, vrf: Vrf) -> dict[str, Any]:
        limit = None if self.installer.admission is None else self.installer.admission.limit_of(vrf.name)
        return {
            "vrf": vrf.name,
            "table": vrf.table,
            "links": sorted(self._view.link_name(index) for index in vrf.links),
            "routes": sum(len(self.installer.installed.get((family, vrf.table), {})) for family in _FAMILIES),
            **({} if limit is None else {"routes_limit": limit}),
        }

    def _counts(self) -> dict[str, int]:
        announced = sum(map(len, self.installer.announced.values()))
        refused = [refusal.state for family in _FAMILIES for refusal in self.installer.refused[family].values()]
        failed, slow_path = refused.count("failed"), refused.count("slow_path")
        return {"offloaded": max(0, announced - failed - slow_path), "failed": failed, "slow_path": slow_path}

    def held(self) -> str | None:
        """Why withdrawals are held; None when none are."""
        held = self.guard.held
        return None if held is None else held.words(self.installer.vrf_name(held.scope[1]))

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        """The samples of /metrics."""
        yield "ynl_mirror_hosts_connected", "Hosts connected", "gauge", {}, len(self.sessions)
        for state, count in self._counts().items():
            yield "ynl_mirror_routes", "Announced routes, by state", "gauge", {"state": state}, count
        for vrf in self._view.vrfs:
            for family in _FAMILIES:
                labels = {"vrf": vrf.name, "family": FAMILY_NAMES[family]}
                count = len(self.installer.installed.get((family, vrf.table), {}))
                yield "ynl_mirror_vrf_routes", "Mirrored routes installed, by VRF", "gauge", labels, count
        for kind in ("added", "replaced", "deleted"):
            labels = {"operation": kind}
            yield (
                "ynl_mirror_route_writes",
                "Route writes to the kernel",
                "counter",
                labels,
                getattr(self.installer.writer, kind),
            )
        text = "Route writes refused by the kernel"
        yield "ynl_mirror_route_write_failures", text, "counter", {}, self.installer.failures
        text = "Route and link notifications received from the kernel"
        yield "ynl_mirror_netlink_notifications", text, "counter", {}, self.follower.notifications
        text = "Overruns of the netlink receive buffer"
        yield "ynl_mirror_netlink_overruns", text, "counter", {}, self.follower.overruns
        yield "ynl_mirror_remaps", "Times all announced routes were mapped again", "counter", {}, self.rounds.remaps
        text = "Times all mirrored routes were read back from the kernel"
        yield "ynl_mirror_fib_resyncs", text, "counter", {}, self.rounds.resyncs
        yield from self.tally.counters()
        ignored = sum(session.over_limit for session, _task in self.sessions.values())
        yield "ynl_mirror_routes_over_limit", "Routes ignored because of the route limit", "gauge", {}, ignored
        text = "Withdrawals held until the host confirms them"
        yield "ynl_mirror_held_withdrawals", text, "gauge", {}, self.guard.number

    # -- announced routes

    def routes(self, prefix: str | None = None, state: str | None = None) -> Iterator[dict[str, Any]]:
        """The announced routes, each with its state; only those of a PREFIX or in a STATE if given."""
        wanted = None if prefix is None else Prefix.parse(prefix)
        for family in _FAMILIES:
            if wanted is None:
                keys = self.installer.announced_keys(family)
            else:
                keys = [wanted.key] if wanted.family == family else []
            for key in keys:
                path = self.installer.announced_path(family, key)
                if path is not None:
                    found = self._route(family, key, path)
                    if state is None or found["state"] == state:
                        yield found

    def _route(self, family: int, key: int, path: Path) -> dict[str, Any]:
        state, reason = self.installer.state(family, key)
        return {
            "prefix": str(Prefix.from_key(family, key)),
            "announced": describe_path(path, None),
            "state": state,
            "reason": reason,
            "installed": [self._describe_installed(path) for path in self.installer.where(family, key)],
        }

    def _describe_installed(self, path: Path) -> dict[str, Any]:
        names = {index: link.name for index, link in self.replica.links.items()}
        vrf = next((vrf.name for vrf in self._view.vrfs if vrf.table == path.table), None)
        return {"vrf": vrf, "table": table_name(path.table), **describe_path(path, names)}

    def explain(self, prefix: str) -> dict[str, Any]:
        """What becomes of packets for a prefix or an address in each VRF, and why: by the longest match."""
        asked = Prefix.parse(prefix)
        family = asked.family
        match = self.installer.longest_match(family, asked.key)
        if match is None:
            reason = f"the host has announced no prefix that covers {asked}"
            return {"prefix": str(asked), "state": None, "reason": reason, "steps": [reason], "routes": []}
        announced = Prefix.from_key(family, match[0])
        path = match[1]
        gateways = ", ".join(str(hop.gateway) for hop in path.nexthops if hop.gateway is not None)
        hops = f"via {gateways}" if gateways else "without a gateway"
        steps = [f"the host announced {announced} {hops} proto {protocol_name(path.protocol)}"]
        self.installer.mapper.trace(asked.key, path, steps.append)
        steps += self.installer.admission.notes() if self.installer.admission is not None else ()
        route = self._route(family, match[0], path)
        if route["state"] == "failed":
            denied = isinstance(self.installer.refused[family].get(match[0]), Denial)
            steps.append(f"{'not admitted' if denied else 'refused by the kernel'}: {route['reason']}")
        steps += [self._placed(vrf, asked) for vrf in self._view.vrfs]
        return {**{key: route[key] for key in ("prefix", "state", "reason")}, "steps": steps, "routes": [route]}

    def _placed(self, vrf: Vrf, asked: Prefix) -> str:
        """The mirrored route that a VRF's packets for a prefix follow."""
        found = self.installer.follows(asked.family, asked.key, vrf.table)
        if found is None:
            return f"VRF {vrf.name}: no mirrored route; its own decides"
        key, path = found
        names = {index: link.name for index, link in self.replica.links.items()}
        hops = ", ".join(
            " ".join(f"{'via' if word == 'gateway' else word} {value}" for word, value in hop.items())
            for hop in describe_path(path, names)["nexthops"]
        )
        kind = "trap route" if path.oifs <= self.installer.mapper.host_links else "mirrored route"
        return f"VRF {vrf.name}: {kind} {Prefix.from_key(asked.family, key)} {hops}"

    def events(self, family: int, keys: list[int]) -> Iterator[dict[str, Any]]:
        """An event for each of these prefixes: its new state, or that it was withdrawn."""
        for key in keys:
            path = self.installer.announced_path(family, key)
            if path is None:
                yield {"event": "delete", "prefix": str(Prefix.from_key(family, key))}
            else:
                yield {"event": "update", **self._route(family, key, path)}
