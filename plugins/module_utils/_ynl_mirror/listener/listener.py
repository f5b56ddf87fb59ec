# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener: announces the host's routes, one best path per prefix, to every agent, and keeps the answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine, Iterator
from time import monotonic as now
from typing import Any

from ..capture.recorder import recorded
from ..config.common import TlsConfig
from ..config.listener import ListenerConfig
from ..daemon import lifecycle
from ..daemon.reload import read_again
from ..daemon.tally import REPLICA, Tally
from ..fpm.tls import TlsError, client_context, crl_digest, trust_of
from ..model.routes import FAMILIES, FAMILY_NAMES, Path, Prefix, TableKey, table_name
from ..model.version import VERSION
from ..netlink import sockets as kernel
from ..replica import audit
from ..replica.describe import describe_path, events
from ..replica.entry import best_path, paths_of
from ..replica.filters import Selection
from ..replica.follower import Follower
from ..replica.replica import Replica
from ..replica.rib import Rib
from .agent_session import AgentSession

_LOG = logging.getLogger("ynl_mirror.listener")


class Listener:
    """Follows the host's kernel and keeps one :class:`~.agent_session.AgentSession` per agent up to date."""

    name = "listener"

    def __init__(self, config: ListenerConfig, read: Callable[[], ListenerConfig] | None = None) -> None:
        self._config = config
        self._read = read  # reads the configuration file again, for SIGHUP
        self._started = now()
        families = {FAMILIES[name] for name in config.families}
        accept = None if len(families) == len(FAMILIES) else lambda path: path.family in families
        self.rib = Rib(config.tables, accept)
        self._replica = Replica(self.rib)
        self._monitor = lifecycle.monitor(config.receive_buffer)
        sockets = (self._monitor, kernel.Requests(), self._on_change)
        settings = {"tables": config.tables, "families": config.families}
        self._follower = Follower(self._replica, *recorded(config.capture, settings, sockets))
        self._tally = Tally().watch(REPLICA)
        self._audit = audit.ReplicaAudit(self.rib, self._follower, kernel.Requests(), self._tally)
        self.selection = self._select()
        self.watchers = lifecycle.Watchers()
        self.subscribe = self.watchers.subscribe
        self._trust: tuple[bytes, ...] = ()
        self._read_trust()
        self._sessions = [AgentSession(self, agent, config.tls) for agent in config.agents]
        if config.plaintext:
            _LOG.warning("plaintext: routes are sent unencrypted, and the identity of agents is not checked")
        self.started = asyncio.Event()

    # -- following

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The daemon's tasks."""
        return [self._follow()]

    async def _follow(self) -> None:
        await self._follower.load()
        self._replica.view_changed = False
        self.selection = self._select()
        self.rib.recording = True
        self.started.set()
        work = [self._follower.run(), *(session.run() for session in self._sessions)]
        if self._config.audit_interval:
            work.append(audit.run(self._config.audit_interval, self._audit))
        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
        try:
            # None of them should end: if one does after a fault, stop rather than leave an agent without updates.
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _select(self) -> Selection:
        return Selection(self._config.filters, self._replica.links, self.rib.reader)

    async def resync(self) -> None:
        """Read the followed tables again: what is sent from now on is what the kernel has."""
        self.rib.ask()
        await self._follower.caught_up()

    def flush(self) -> None:
        """Pass on what has changed in the replica, without waiting for the follower to report it."""
        self._on_change()

    def _on_change(self) -> None:
        changed = self.rib.take_changed()
        if self._replica.view_changed:
            self._replica.view_changed = False
            self.selection = self._select()
            if self._config.filters.interfaces and self.started.is_set():
                # A name may mean another link now, for routes that did not change themselves.
                for scope, table in self.rib.tables.items():
                    changed.setdefault(scope, set()).update(table)
        if not changed:
            return
        for session in self._sessions:
            session.mark(changed)
        if self.watchers:
            self._publish(changed)

    def _publish(self, changed: dict[TableKey, set[int]]) -> None:
        for event in events(self.rib, changed, self._replica.links):
            self.watchers.publish(event)

    def reload(self) -> None:
        """SIGHUP: reconnect, with configuration and certificates as they are now."""
        found = read_again(self._config, self._read, _client_context)
        if found is None:
            return
        self._config, _context = found
        self._read_trust()
        self.selection = self._select()
        _LOG.info("SIGHUP: certificates reloaded, all sessions reconnect")
        for session in self._sessions:
            session.restart(self._config.tls)

    def _read_trust(self) -> None:
        with contextlib.suppress(TlsError):  # which each session logs
            self._trust = trust_of(self._config.tls)

    # -- for daemon/api.py

    def ready(self) -> bool:
        """Whether the first dump is complete."""
        return self.started.is_set()

    def status(self) -> dict[str, Any]:
        """The listener's state, for /status."""
        return {
            "name": self.name,
            "version": VERSION,
            "uptime": round(now() - self._started, 1),
            "ready": self.ready(),
            "crl": crl_digest(self._trust),
            "tables": [table_name(table) for table in self._config.tables],
            "routes": sum(len(table) for table in self.rib.tables.values()),
            "notifications": self._follower.notifications,
            "overruns": self._follower.overruns,
            "rereads": self._follower.rereads,
            "receive_buffer": self._monitor.granted,
            "audit": self._tally.status(),
            "agents": [session.status() for session in self._sessions],
        }

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        """The samples of /metrics."""
        for (family, table), entries in self.rib.tables.items():
            labels = {"family": FAMILY_NAMES[family], "table": table_name(table)}
            yield "ynl_mirror_table_routes", "Routes in the followed tables", "gauge", labels, len(entries)
        follower = self._follower
        text = "Route and link notifications received from the kernel"
        yield "ynl_mirror_netlink_notifications", text, "counter", {}, follower.notifications
        text = "Overruns of the netlink receive buffer"
        yield "ynl_mirror_netlink_overruns", text, "counter", {}, follower.overruns
        text = "Tables and links read again from the kernel"
        yield "ynl_mirror_netlink_rereads", text, "counter", {}, follower.rereads
        yield from self._tally.counters()
        for session in self._sessions:
            status = session.status()
            labels = {"agent": status["agent"]}
            text = "Whether the session with the agent is up (1) or down (0)"
            yield "ynl_mirror_agent_up", text, "gauge", labels, float(session.connected)
            for state in ("pending", "offloaded", "failed", "slow_path"):
                text = "Announced routes, by agent and state"
                yield "ynl_mirror_agent_routes", text, "gauge", {**labels, "state": state}, status[state]

    def routes(self, prefix: str | None = None, state: str | None = None) -> Iterator[dict[str, Any]]:
        """The routes of the followed tables, each with its state; only those of a PREFIX or in a STATE if given."""
        wanted = None if prefix is None else Prefix.parse(prefix)
        for (family, table), entries in list(self.rib.tables.items()):
            keys = list(entries) if wanted is None else [wanted.key] if wanted.family == family else []
            for key in keys:
                best = best_path(entries.get(key))
                if best is not None:
                    found = self._route(family, table, key, best)
                    if state is None or found["state"] == state:
                        yield found

    def _route(self, family: int, table: int, key: int, best: Path) -> dict[str, Any]:
        reason = self.selection.reason(family, key, best)
        state = "slow_path" if reason else "pending"
        by_agent = {}
        if reason is None:
            for session in self._sessions:
                by_agent[session.name] = dict(zip(("state", "reason"), session.state_of((family, table), key)))
            # The worst state of them is the route's.
            order = ("failed", "slow_path", "pending", "offloaded")
            worst = min(by_agent.values(), key=lambda item: order.index(item["state"] or ""), default=None)
            if worst is not None:
                state, reason = worst["state"] or "", worst["reason"]
        out: dict[str, Any] = {"prefix": str(Prefix.from_key(family, key)), "table": table_name(table)}
        out.update(self.describe_path(best))
        out.update(state=state, reason=reason, agents=by_agent)
        return out

    def describe_path(self, path: Path) -> dict[str, Any]:
        """A path as a JSON object, with the names of links."""
        return describe_path(path, {index: link.name for index, link in self._replica.links.items()})

    def explain(self, prefix: str) -> dict[str, Any]:
        """The steps from the kernel's table to the agents, for one prefix."""
        wanted = Prefix.parse(prefix)
        steps, routes = [], []
        for (family, table), entries in self.rib.tables.items():
            if family != wanted.family or wanted.key not in entries:
                continue
            for number, path in enumerate(paths_of(entries[wanted.key]), 1):
                steps.append(f"table {table_name(table)}, path {number}: {_path_text(self.describe_path(path))}")
            best = best_path(entries[wanted.key])
            if best is None:
                steps.append("no best path: the kernel uses none of them for every packet")
                continue
            route = self._route(family, table, wanted.key, best)
            routes.append(route)
            steps.append(f"best path: {_path_text(route)}")
            steps.append(route["reason"] if not route["agents"] and route["reason"] else "permitted by the filters")
            for name, answer in route["agents"].items():
                state = str(answer["state"]).replace("_", " ")
                steps.append(f"agent {name}: {state}" + (f", {answer['reason']}" if answer["reason"] else ""))
        if not routes:
            steps = steps or [f"{wanted} is not in a followed table"]
        first = routes[0] if routes else {"state": None, "reason": steps[-1]}
        return {
            "prefix": str(wanted),
            "state": first["state"],
            "reason": first["reason"],
            "steps": steps,
            "routes": routes,
        }


def _path_text(route: dict[str, Any]) -> str:
    hops = ", ".join(
        " ".join(f"{k} {v}" for k, v in hop.items()).replace("gateway", "via") for hop in route["nexthops"]
    )
    return f"{hops or 'no next hop'} proto {route['protocol']} metric {route['metric']}"


def _client_context(tls: TlsConfig) -> ssl.SSLContext:
    return client_context(tls, check_hostname=True)


def run(config: ListenerConfig, read: Callable[[], ListenerConfig] | None = None) -> int:
    """Run the listener until SIGTERM or SIGINT; returns the exit code. READ reads the configuration again (SIGHUP)."""
    return lifecycle.run(lambda: Listener(config, read), config.control_socket, config.http)
