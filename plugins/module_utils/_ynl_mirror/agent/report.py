# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tells of itself: how it is, its metrics, and what became of each of the host's routes.

It looks into the agent's parts at the time of the question, and changes nothing.
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
from .installer import Mirror
from .lease import Lease

_FAMILIES = (AF_INET, AF_INET6)


@dataclass
class Rounds:
    """How often the agent has gone over all routes: *remaps* mapped them again, *audits* read the own ones back."""

    remaps: int = 0
    audits: int = 0


@dataclass
class AgentReport:
    """Answers what `daemon/api.py` asks an agent. *sessions* are the connected hosts by name, each with its task."""

    mirror: Mirror
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
        return self.mirror.mapper.view

    # -- the agent

    def status(self) -> dict[str, Any]:
        """How the agent is."""
        limits = {} if self.mirror.admission is None else self.mirror.admission.status()
        return {
            "name": "agent",
            "version": VERSION,
            "uptime": round(now() - self.started, 1),
            "ready": self.ready(),
            "crl": self.crl(),
            "vrfs": [self._vrf(vrf) for vrf in self._view.vrfs],
            "hosts": [{**session.status(), **limits} for session, _task in self.sessions.values()],
            "lease": self.lease.status(),
            "host_links": sorted(self._view.link_name(index) for index in self.mirror.mapper.host_links),
            "announced_routes": sum(map(len, self.mirror.host.values())),
            **self._counts(),
            "notifications": self.follower.notifications,
            "overruns": self.follower.overruns,
            "remaps": self.rounds.remaps,
            "audits": self.rounds.audits,
            "audit": self.tally.status(),
            "held": {"routes": self.guard.number, "reason": self.held()},
            "receive_buffer": self.monitor.granted,
        }

    def _vrf(self, vrf: Vrf) -> dict[str, Any]:
        limit = None if self.mirror.admission is None else self.mirror.admission.limit_of(vrf.name)
        return {
            "vrf": vrf.name,
            "table": vrf.table,
            "links": sorted(self._view.link_name(index) for index in vrf.links),
            "mirrored": sum(len(self.mirror.installed.get((family, vrf.table), {})) for family in _FAMILIES),
            **({} if limit is None else {"limit": limit}),
        }

    def _counts(self) -> dict[str, int]:
        host = sum(map(len, self.mirror.host.values()))
        refused = [refusal.state for family in _FAMILIES for refusal in self.mirror.refused[family].values()]
        failed, unmapped = refused.count("failed"), refused.count("slow_path")
        return {"offloaded": max(0, host - failed - unmapped), "failed": failed, "slow_path": unmapped}

    def held(self) -> str | None:
        """What the host is to confirm, in words; None when there is nothing."""
        held = self.guard.held
        return None if held is None else held.words(self.mirror.vrf_name(held.scope[1]))

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        """What /metrics shows."""
        yield "ynl_mirror_hosts_connected", "Connected producers", "gauge", {}, len(self.sessions)
        for state, count in self._counts().items():
            yield "ynl_mirror_routes", "The host's routes by state", "gauge", {"state": state}, count
        for vrf in self._view.vrfs:
            for family in _FAMILIES:
                labels = {"vrf": vrf.name, "family": FAMILY_NAMES[family]}
                count = len(self.mirror.installed.get((family, vrf.table), {}))
                yield "ynl_mirror_vrf_routes", "Mirrored routes in a VRF", "gauge", labels, count
        for kind in ("added", "replaced", "deleted"):
            labels = {"operation": kind}
            yield "ynl_mirror_writes", "Routes written", "counter", labels, getattr(self.mirror, kind)
        yield "ynl_mirror_write_failures", "Writes that the kernel refused", "counter", {}, self.mirror.failures
        yield "ynl_mirror_notifications", "Kernel notifications", "counter", {}, self.follower.notifications
        yield "ynl_mirror_overruns", "Receive buffer overruns", "counter", {}, self.follower.overruns
        yield "ynl_mirror_remaps", "Times that everything was mapped again", "counter", {}, self.rounds.remaps
        yield "ynl_mirror_audits", "Times that the own routes were read back", "counter", {}, self.rounds.audits
        yield from self.tally.counters()
        held = self.guard.number
        unseen = sum(session.forgotten for session, _task in self.sessions.values())
        yield "ynl_mirror_refused_unseen", "Routes beyond what is remembered of a host", "gauge", {}, unseen
        yield "ynl_mirror_held_routes", "Withdrawals that the host is to confirm", "gauge", {}, held

    # -- its host's routes

    def routes(self, prefix: str | None = None, state: str | None = None) -> Iterator[dict[str, Any]]:
        """All routes of the host, with what became of each."""
        wanted = None if prefix is None else Prefix.parse(prefix)
        for family in _FAMILIES:
            keys = self.mirror.host_keys(family) if wanted is None else [wanted.key] if wanted.family == family else []
            for key in keys:
                path = self.mirror.wanted(family, key)
                if path is not None:
                    found = self._route(family, key, path)
                    if state is None or found["state"] == state:
                        yield found

    def _route(self, family: int, key: int, path: Path) -> dict[str, Any]:
        state, reason = self.mirror.state(family, key)
        return {
            "prefix": str(Prefix.from_key(family, key)),
            "host": describe_path(path, None),
            "state": state,
            "reason": reason,
            "installed": [self._describe_installed(path) for path in self.mirror.where(family, key)],
        }

    def _describe_installed(self, path: Path) -> dict[str, Any]:
        names = {index: link.name for index, link in self.replica.links.items()}
        vrf = next((vrf.name for vrf in self._view.vrfs if vrf.table == path.table), None)
        return {"vrf": vrf, "table": table_name(path.table), **describe_path(path, names)}

    def explain(self, prefix: str) -> dict[str, Any]:
        """Each step of the inference for one prefix."""
        wanted = Prefix.parse(prefix)
        path = self.mirror.wanted(wanted.family, wanted.key)
        if path is None:
            reason = f"the host has no route to exactly {wanted}"
            return {"prefix": str(wanted), "state": None, "reason": reason, "steps": [reason], "routes": []}
        gateways = ", ".join(str(hop.gateway) for hop in path.nexthops if hop.gateway is not None)
        steps = [f"the host routes {wanted} via {gateways or 'no gateway'} proto {protocol_name(path.protocol)}"]
        self.mirror.mapper.trace(wanted.key, path, steps.append)
        route = self._route(wanted.family, wanted.key, path)
        steps += self.mirror.admission.notes() if self.mirror.admission is not None else ()
        if route["state"] == "failed":
            denied = isinstance(self.mirror.refused[wanted.family].get(wanted.key), Denial)
            steps.append(f"{'not admitted' if denied else 'the kernel refused'}: {route['reason']}")
        return {**{key: route[key] for key in ("prefix", "state", "reason")}, "steps": steps, "routes": [route]}

    def events(self, family: int, keys: list[int]) -> Iterator[dict[str, Any]]:
        """A change for each of these prefixes: what became of it, or that it is gone."""
        for key in keys:
            path = self.mirror.wanted(family, key)
            if path is None:
                yield {"event": "delete", "prefix": str(Prefix.from_key(family, key))}
            else:
                yield {"event": "update", **self._route(family, key, path)}
