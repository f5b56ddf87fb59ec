# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener: announces to every agent what the host's kernel does with forwarded packets, and keeps the answers."""

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
from ..daemon.logs import about
from ..daemon.reload import read_again
from ..daemon.tally import REPLICA, Tally
from ..fpm.tls import TlsError, client_context, crl_digest, trust_of
from ..model.links import ALL_LINKS, NetConf
from ..model.routes import (
    AF_INET,
    AF_INET6,
    FAMILIES,
    FAMILY_NAMES,
    ROUTE_TYPE_NAMES,
    RT_TABLE_MAIN,
    RTN_UNICAST,
    Path,
    Prefix,
    TableKey,
    table_name,
)
from ..model.version import VERSION
from ..netlink import sockets as kernel
from ..replica import audit
from ..replica.describe import describe_path, events
from ..replica.entry import paths_of
from ..replica.filters import Selection
from ..replica.follower import Follower
from ..replica.replica import Replica
from ..replica.rib import Rib
from .agent_session import AgentSession
from .fib_view import Decision, FibView
from .layers import Layer, Machine, layers_of

_LOG = logging.getLogger("ynl_mirror.listener")
_LOOPBACK = 1


class Listener:
    """Follows the host's kernel and keeps one :class:`~.agent_session.AgentSession` per agent up to date."""

    name = "listener"

    def __init__(self, config: ListenerConfig, read: Callable[[], ListenerConfig] | None = None) -> None:
        self._config = config
        self._read = read  # reads the configuration file again, for SIGHUP
        self._started = now()
        families = {FAMILIES[name] for name in config.families}
        accept = None if len(families) == len(FAMILIES) else lambda path: path.family in families
        self.rib = Rib((), accept)
        self.rib.minds_tos = True
        self._replica = Replica(self.rib)
        self.view = FibView(self.rib)
        self._uplinks = 0  # how many were known when the rules were looked at last
        self._unruled: list[int] = []  # tables of the configuration that no rule looks up
        self._off: dict[str, list[str]] = {}  # family -> links that do not forward
        self._told_off: dict[str, list[str]] = {}  # those of them that the log has
        self._monitor = lifecycle.monitor(config.receive_buffer)
        sockets = (self._monitor, kernel.Requests(), self._on_change)
        settings = {"tables": config.tables, "families": config.families, "ignore_rules": config.ignore_rules}
        self._follower = Follower(self._replica, *recorded(config.capture, settings, sockets))
        self._tally = Tally().watch(REPLICA)
        self._audit = audit.ReplicaAudit(self.rib, self._follower, kernel.Requests(), self._tally)
        self._selection = self._select()
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
        self.view = FibView(self.rib)  # nothing is known by it from before the tables were complete
        self._selection = self._select()
        self._compile()
        self._look_at_sysctls()
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
        return Selection(self._config.filters, self._replica.links)

    async def resync(self) -> None:
        """Read the followed tables again: what is sent from now on is what the kernel has."""
        self.rib.ask()
        await self._follower.caught_up()

    def flush(self) -> None:
        """Pass on what has changed in the replica, without waiting for the follower to report it."""
        self._on_change()

    def sysctls(self) -> list[NetConf]:
        """The sysctls of forwarding."""
        return list(self._replica.netconf.values())

    def _on_change(self) -> None:
        replica = self._replica
        by_table = self.rib.take_changed()
        changed = self.view.changed(by_table) if by_table else {}
        if replica.view_changed or len(self.rib.uplinks) != self._uplinks:
            if replica.view_changed and self._config.filters.interfaces:
                self._selection = self._select()  # a name may mean another link now
            replica.view_changed = False
            for family, keys in self._compile().items():
                changed[family] = changed.get(family, set()) | keys
            self._look_at_sysctls()
        if replica.netconf_changed:
            sysctls, replica.netconf_changed = replica.netconf_changed, {}
            for session in self._sessions:
                session.mark_sysctls(sysctls)
            self._look_at_sysctls()
        if changed:
            for session in self._sessions:
                session.mark(changed)
        if by_table and self.watchers:
            self._publish(by_table)

    def _compile(self) -> dict[int, set[int]]:
        """Make the view of the rules and filters as they are now; returns the prefixes that may have changed."""
        replica, ignored = self._replica, self._config.ignore_rules
        self._uplinks = len(self.rib.uplinks)
        machine = Machine(replica.links, {index for _family, index in self.rib.uplinks})
        layers = {
            family: layers_of(family, replica.rules, machine, ignored)
            for family in (FAMILIES[name] for name in self._config.families)
        }
        changed = self.view.compile(layers, self._selection, self._config.tables)
        self.rib.follow(replica.ruled_tables(ignored))
        if replica.rules:
            self._look_for_unruled(layers)
        return changed

    def _look_for_unruled(self, layers: dict[int, list[Layer]]) -> None:
        """Report tables that the user lists, and that no packet is looked up in."""
        ruled = {layer.table for found in layers.values() for layer in found}
        unruled = [table for table in self._config.tables if table not in ruled]
        for table in unruled:
            if table not in self._unruled:
                _LOG.warning("table %s is in `tables`, but no rule looks it up", table_name(table))
        self._unruled = unruled

    def _look_at_sysctls(self) -> None:
        """Report links with routes through gateways that do not forward."""
        off = self._not_forwarding()
        for family, names in off.items():
            uplinks = [
                self._replica.links[index].name
                for of_family, index in sorted(self.rib.uplinks)
                if of_family == FAMILIES[family] and index in self._replica.links
            ]
            concerned = [name for name in uplinks if name in names or "all" in names]
            if concerned and concerned != self._told_off.get(family):
                sysctl = "net.ipv4.ip_forward" if family == "ipv4" else "net.ipv6.conf.all.forwarding"
                text = f"{family} forwarding is off on {', '.join(concerned)}, which routes with gateways leave by"
                _LOG.warning("%s; nothing of it is offloaded, set %s=1", text, sysctl, extra=about(reason=text))
            self._told_off[family] = concerned
        self._off = off

    def _not_forwarding(self) -> dict[str, list[str]]:
        """The links on which packets are not forwarded, by family. Of IPv6 the kernel asks for `all` only."""
        conf, links = self._replica.netconf, self._replica.links
        off = [
            link.name
            for index, link in sorted(links.items())
            if index != _LOOPBACK and (found := conf.get((AF_INET, index))) is not None and found.forwarding is False
        ]
        every = conf.get((AF_INET6, ALL_LINKS))
        found_off = {
            "ipv4": ["all"] if off and len(off) == len([index for index in links if index != _LOOPBACK]) else off,
            "ipv6": ["all"] if every is not None and every.forwarding is False else [],
        }
        return {name: found_off[name] for name in self._config.families}

    def _publish(self, changed: dict[TableKey, set[int]]) -> None:
        listed = {scope: keys for scope, keys in changed.items() if scope[1] in self._config.tables}
        for event in events(self.rib, listed, self._replica.links):
            self.watchers.publish(event)

    def reload(self) -> None:
        """SIGHUP: reconnect, with configuration and certificates as they are now."""
        found = read_again(self._config, self._read, _client_context)
        if found is None:
            return
        self._config, _context = found
        self._read_trust()
        self._selection = self._select()
        self._compile()  # the replay shows what has changed
        self._follower.look()  # for tables that were ignored before
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
            "tables_without_rule": [table_name(table) for table in self._unruled],
            "forwarding_off": self._off,
            "routes": sum(self.view.size(family) for family in self.view.steps),
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
        """The routes of the FIB view, each with its state; only those of a PREFIX or in a STATE if given.

        A PREFIX that a table has, and that the view has not because something shorter decides, is shown with that.
        """
        wanted = None if prefix is None else Prefix.parse(prefix)
        for family in list(self.view.steps):
            keys = self.view.keys(family) if wanted is None else [wanted.key] if wanted.family == family else []
            for key in keys:
                decision = self.view.found(family, key)
                if decision is None and wanted is not None and self.view.own_path(family, key) is not None:
                    decision = self.view.decision(wanted)
                if decision is not None:
                    found = self._route(decision, wanted or decision.prefix)
                    if state is None or found["state"] == state:
                        yield found

    def _route(self, decision: Decision, shown: Prefix) -> dict[str, Any]:
        """A route to the prefix *shown*, about which the decision is."""
        prefix, path = decision.prefix, decision.path
        scope = (prefix.family, RT_TABLE_MAIN)
        state, reason = "pending", None
        by_agent = {
            session.name: dict(zip(("state", "reason"), session.state_of(scope, prefix.key)))
            for session in self._sessions
        }
        # The worst state of them is the route's.
        order = ("failed", "slow_path", "pending", "offloaded")
        worst = min(by_agent.values(), key=lambda item: order.index(item["state"] or ""), default=None)
        if worst is not None:
            state, reason = worst["state"] or "", worst["reason"]
        if path.reason is not None and state != "failed":
            state, reason = "slow_path", path.reason
        own = self.view.own_path(prefix.family, shown.key) or path
        table = None if decision.table is None else table_name(decision.table)
        out: dict[str, Any] = {"prefix": str(shown), "table": table}
        if own.type != RTN_UNICAST and own.reason is None:
            out["type"] = ROUTE_TYPE_NAMES.get(own.type, str(own.type))
        out.update(self.describe_path(own))
        out.update(state=state, reason=reason, agents=by_agent)
        return out

    def describe_path(self, path: Path) -> dict[str, Any]:
        """A path as a JSON object, with the names of links."""
        return describe_path(path, {index: link.name for index, link in self._replica.links.items()})

    def explain(self, prefix: str) -> dict[str, Any]:
        """The steps from the kernel's tables to the agents, for an address or a prefix."""
        wanted = Prefix.parse(prefix)
        decision = self.view.decision(wanted)
        steps = list(self._known_paths(wanted, None if decision is None else decision.prefix))
        routes = []
        if decision is None:
            steps.append(f"no table that the rules look up has a route to {wanted}")
        else:
            route = self._route(decision, decision.prefix)
            routes.append(route)
            steps.append(f"longest match {decision.prefix}, by {decision.words}")
            steps.append(f"best path: {_path_text(route)}")
            steps.append(f"slow path: {decision.path.reason}" if decision.path.reason else "permitted by the filters")
            for name, answer in route["agents"].items():
                state = str(answer["state"]).replace("_", " ")
                steps.append(f"agent {name}: {state}" + (f", {answer['reason']}" if answer["reason"] else ""))
        first = routes[0] if routes else {"state": None, "reason": steps[-1]}
        return {
            "prefix": str(wanted),
            "state": first["state"],
            "reason": first["reason"],
            "steps": steps,
            "routes": routes,
        }

    def _known_paths(self, *prefixes: Prefix | None) -> Iterator[str]:
        """What the tables have for these prefixes, in the order of the rules."""
        for prefix in dict.fromkeys(prefixes):
            if prefix is None:
                continue
            layers = [step.layer for step in self.view.steps.get(prefix.family, []) if step.layer is not None]
            for table in dict.fromkeys(layer.table for layer in layers if layer.table is not None):
                entry = self.rib.tables.get((prefix.family, table), {}).get(prefix.key)
                for number, path in enumerate(paths_of(entry), 1):
                    text = _path_text({**self.describe_path(path), "type": ROUTE_TYPE_NAMES.get(path.type)})
                    yield f"table {table_name(table)}, {prefix}, path {number}: {text}"


def _path_text(route: dict[str, Any]) -> str:
    hops = ", ".join(
        " ".join(f"{k} {v}" for k, v in hop.items()).replace("gateway", "via") for hop in route["nexthops"]
    )
    kind = "" if route.get("type") in (None, "unicast") else f"{route['type']} "
    return f"{kind}{hops or 'no next hop'} proto {route['protocol']} metric {route['metric']}"


def _client_context(tls: TlsConfig) -> ssl.SSLContext:
    return client_context(tls, check_hostname=True)


def run(config: ListenerConfig, read: Callable[[], ListenerConfig] | None = None) -> int:
    """Run the listener until SIGTERM or SIGINT; returns the exit code. READ reads the configuration again (SIGHUP)."""
    return lifecycle.run(lambda: Listener(config, read), config.control_socket, config.http)
