# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent: an FPM server that maps announced routes onto the DPU's VRFs and keeps them installed.

It follows the DPU's kernel (links, VRFs, addresses, routes) and maps every route again that a change there affects.
Three tasks share one event loop and, where they write, one lock: the session with the host, the follower of the kernel,
and the remapper.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from time import monotonic as now
from typing import Any

from ..capture.recorder import recorded
from ..config.agent import AgentConfig
from ..daemon import lifecycle
from ..daemon.logs import about
from ..daemon.reload import read_again
from ..daemon.tally import FIB, REPLICA, WIRE, Tally
from ..daemon.tcp import accept, keep_alive, listening_socket
from ..fpm.tls import TlsError, crl_digest, identities, server_context, trust_of
from ..mapping.host import HostFacts
from ..mapping.placement import Mapper
from ..mapping.view import View, address_owners, discover_vrfs, own_routes, shared_subnets
from ..mapping.wanted import longest_first
from ..model.links import Vrf
from ..model.routes import AF_INET, AF_INET6, Address, Path, TableKey
from ..netlink import rtnetlink
from ..netlink import sockets as kernel
from ..replica import audit
from ..replica.entry import best_path
from ..replica.follower import Follower
from ..replica.replica import Replica
from ..replica.rib import Rib
from .admission import Denial
from .fib_audit import FibAudit
from .guard import CONFIRM_TIMEOUT, Guard
from .host_session import HostSession, serve
from .installer import Installer
from .lease import Lease
from .manual_routes import ManualRoutes
from .report import AgentReport, Rounds
from .settings import admit_host, lease_term, mapping_policy, warn_of_unknown_vrfs
from .wire_audit import WireAudit

_LOG = logging.getLogger("ynl_mirror.agent")
_FAMILIES = (AF_INET, AF_INET6)
#: Seconds to wait for the rest of a burst of changes before mapping again.
_SETTLE = 0.02
#: Routes mapped before others get a turn on the event loop.
_SLICE = 2048
#: Own routes of the DPU's that change at a time, from which all announced routes are mapped again.
_MANY = 256
#: Seconds between attempts to install what the kernel refused.
_RETRY = 10.0


Touch = tuple[int, int, Path]  # (RTM_NEWROUTE or RTM_DELROUTE, prefix key, path)


class Agent(ManualRoutes):
    """The DPU's side of the mirror."""

    name = "agent"

    def __init__(self, config: AgentConfig, read: Callable[[], AgentConfig] | None = None) -> None:
        self._config = config
        self._read = read  # reads the configuration file again, for SIGHUP
        self._policy = mapping_policy(config)
        self._context = server_context(config.tls) if config.tls else None
        self._trust = trust_of(config.tls)
        self._lease = Lease(lambda host: lease_term(host, self._config))
        if config.plaintext:
            _LOG.warning("plaintext: routes are sent unencrypted, and any peer that can connect may change the VRFs")
        self.rib = Rib((), accept=lambda path: path.protocol != config.protocol, rejected=self._by_somebody_else)
        self.rib.recording = True
        self._replica = Replica(self.rib)
        self._requests = kernel.Requests()
        super().__init__()
        self._monitor = lifecycle.monitor(config.receive_buffer, deaf_to=self._requests.port)
        # The follower dumps on its own socket: a dump spans turns of the event loop, and writes continue meanwhile.
        sockets = (self._monitor, kernel.Requests(), self._on_change)
        vrfs = {name: vrf.to_dict() for name, vrf in config.vrfs.items()}
        settings = {"protocol": config.protocol, "vrfs": vrfs}
        self._follower = Follower(self._replica, *recorded(config.capture, settings, sockets))
        self._view = View()
        self._facts = HostFacts()
        mapper = Mapper(self._view, self._policy, self._facts)
        self.installer = Installer(self._requests, mapper, config.host_tables, self.rib)
        self.watchers = lifecycle.Watchers()
        self.subscribe = self.watchers.subscribe
        self.installer.watched = self.watchers.__bool__
        self.installer.on_change = self._publish
        self._lock = asyncio.Lock()
        self._work_to_do = asyncio.Event()
        self._resync_due = self._remap_all = False
        self._recoveries = 0  # of the follower, as far as they have been handled
        self._own_changed: dict[TableKey, set[int]] = {}  # own routes of the DPU's, as far as the view lacks them
        self._dirty: dict[int, set[int]] = {AF_INET: set(), AF_INET6: set()}
        self.installer.settled = False
        self._meanwhile: list[Touch] | None = None  # during a resync: changes to mirrored routes by others
        self._sessions: dict[str, tuple[HostSession, asyncio.Task[None]]] = {}
        self.started = asyncio.Event()
        self._rounds = Rounds()
        self._tally = Tally().watch(REPLICA, WIRE, FIB)
        self._audits = self._kernel_audits()
        self._guard = self.installer.adj.guard = Guard(config.guard_share, config.guard_routes)
        self.installer.adj.on_forwarding = self._map_everything
        self._facts.forwarding = self.installer.adj.forwarding
        self._report = AgentReport(
            installer=self.installer,
            replica=self._replica,
            follower=self._follower,
            monitor=self._monitor,
            lease=self._lease,
            guard=self._guard,
            tally=self._tally,
            rounds=self._rounds,
            sessions=self._sessions,
            ready=self.ready,
            crl=lambda: crl_digest(self._trust),
        )
        self.status, self.counters = self._report.status, self._report.counters
        self.routes, self.explain = self._report.routes, self._report.explain

    # -- tasks

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The daemon's tasks."""
        return [self._follow()]

    async def _follow(self) -> None:
        await self._follower.load()
        await self._resync()
        self._own_changed.clear()
        self._rebuild_view()
        # The routes found installed are compared with the announced ones at the end of the replay, not now.
        for keys in self._dirty.values():
            keys.clear()
        self._work_to_do.clear()
        sockets = [self._listen(listen.address, listen.port) for listen in self._config.listen]
        self.started.set()
        _LOG.info("%d VRFs: %s", len(self._view.vrfs), ", ".join(_show_vrf(vrf, self._view) for vrf in self._view.vrfs))
        warn_of_unknown_vrfs(self._config, (vrf.name for vrf in self._view.vrfs))
        work = [self._follower.run(), self._remapper(), self._retrier(), self._lease.run(self._withdraw)]
        if self._config.audit_interval:
            work.append(audit.run(self._config.audit_interval, *self._audits))
        work += [accept(sock, lambda: self._context, self._connected) for sock in sockets]
        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks += [task for _session, task in self._sessions.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _listen(self, address: str, port: int) -> socket.socket:
        # If IPv4 has its own socket on this port, :: is for IPv6 only.
        both = address == "::" and not any(":" not in x.address for x in self._config.listen if x.port == port)
        try:
            sock = listening_socket(address, port, both)
        except OSError as error:
            raise lifecycle.Stop(f"cannot listen on {address} port {port}: {error.strerror or error}") from None
        _LOG.info("FPM on %s port %d%s", address, port, "" if self._context else " (plaintext)")
        return sock

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        name = self._admit(writer.get_extra_info("ssl_object"), peer)
        if name is None:
            writer.transport.abort()
            return
        keep_alive(writer)
        # The same host connected again: the old session is half open at best. While it ends, yet another may begin.
        while name in self._sessions and not self._sessions[name][1].done():
            await lifecycle.end(self._sessions[name][1])
        _LOG.info("%s: connected from %s", name, peer, extra=about(host=name, peer=peer))
        config = self._config
        admit_host(name, config, self.installer)
        self._keep_connected(writer.get_extra_info("peername"))
        wire_audit = WireAudit(name, self.installer.adj, config.audit_interval, self._tally)
        session = HostSession(
            *(name, self.installer, config.settle_time, self._lock, self._check_learnt),
            audit=wire_audit if config.audit_interval else None,
            sync=self._sync,
        )
        task = asyncio.ensure_future(serve(session, reader, writer))
        self._sessions[name] = (session, task)
        self._lease.arrived(name)
        try:
            await task
        except asyncio.CancelledError:
            task.cancel()
        finally:
            if self._sessions.get(name) == (session, task):
                del self._sessions[name]
                self._lease.left(session.replayed)

    def _keep_connected(self, peer: tuple[str, ...] | None) -> None:
        """A mirrored route must not take the mirror's own connection elsewhere."""
        with contextlib.suppress(ValueError, TypeError, IndexError):
            address = Address.parse((peer or ())[0].partition("%")[0].replace("::ffff:", "", 1))
            for family, keys in self.installer.pin(address).items():
                self._dirty[family] |= keys
                self._work_to_do.set()

    def _admit(self, tls: ssl.SSLObject | None, peer: str) -> str | None:
        """The name of a peer that may announce routes; None, with the reason in the log, when it may not."""
        names = identities(tls.getpeercert() or {}) if tls is not None else [peer]
        allowed = [name for name in names if self._may_connect(name)]
        if not allowed:
            text = f"{', '.join(names) or 'a certificate without a name'} is not in `hosts`"
            _LOG.warning("%s: refused: %s", peer, text, extra=about(peer=peer, reason=text))
            return None
        others = [name for name in self._sessions if name not in names]
        if others:
            text = f"host {others[0]} is connected already, and a DPU mirrors one host only"
            _LOG.warning("%s: refused: %s", allowed[0], text, extra=about(host=allowed[0], peer=peer, reason=text))
            return None
        return allowed[0]

    def _may_connect(self, name: str) -> bool:
        return not self._config.hosts or name in self._config.host_names

    # -- the DPU's own kernel

    def _on_change(self) -> None:
        """The replica has changed."""
        changed = self.rib.take_changed()
        if self._replica.view_changed:
            self._replica.view_changed = False
            self._follow_vrfs()
            # With links and addresses the kernel deletes mirrored routes, without a notification.
            self._resync_due = self._remap_all = True
        if self._follower.recoveries != self._recoveries:
            # The lost notifications may have been about mirrored routes, which the replica does not hold.
            self._recoveries = self._follower.recoveries
            self._resync_due = self._remap_all = True
        for scope, keys in changed.items():
            self._own_changed.setdefault(scope, set()).update(keys)
            installed = self.installer.installed.get(scope, {})
            # A REPLACE by others may delete a mirrored route of the same prefix and metric, and names only itself.
            self._resync_due = self._resync_due or any(key in installed for key in keys)
        self._remap_all = self._remap_all or sum(map(len, self._own_changed.values())) > _MANY
        if self._remap_all or self._own_changed or any(self._dirty.values()):
            self._work_to_do.set()

    def _follow_vrfs(self) -> None:
        self.rib.follow(vrf.table for vrf in self._vrfs())

    def _vrfs(self) -> tuple[Vrf, ...]:
        named = {name: (spec.table, spec.links) for name, spec in self._config.vrfs.items()}
        return discover_vrfs(self._replica.links, self._replica.rules, named)

    def _by_somebody_else(self, kind: int, key: int, path: Path) -> None:
        """Somebody else changed a route of the mirror's protocol number: repair it."""
        if self._meanwhile is not None:
            self._meanwhile.append((kind, key, path))
            return
        scope = (path.family, path.table)
        if kind == rtnetlink.RTM_DELROUTE:
            self.installer.lost(scope, key, path)
        else:
            self.installer.appeared(scope, key, path)
        self._dirty[path.family].add(key)

    def _rebuild_view(self) -> None:
        """Take a new view of links, addresses, VRFs and the DPU's own routes."""
        vrfs = self._vrfs()
        addresses = self._replica.addresses
        self._view = View(
            vrfs,
            self._replica.links,
            address_owners(addresses),
            own_routes(self.rib, vrfs),
            shared_subnets(addresses),
        )
        self.installer.mapper = Mapper(self._view, self._policy, self._facts)

    def _change_view(self) -> None:
        """Take what has changed of the DPU's own routes into the view, and note which prefixes that concerns."""
        changed, self._own_changed = self._own_changed, {}
        for scope, keys in changed.items():
            lpm, entries = self._view.lpm(*scope), self.rib.tables.get(scope, {})
            for key in keys:
                best = best_path(entries.get(key))
                if best is None:
                    lpm.remove(key)
                else:
                    lpm.set(key, best)
        self._view = dataclasses.replace(self._view)
        self.installer.mapper = Mapper(self._view, self._policy, self._facts)
        for (family, _table), keys in changed.items():
            self._dirty[family] |= self.installer.keys_around(family, keys)

    def _map_everything(self) -> None:
        self._remap_all = True
        self._work_to_do.set()

    async def _remapper(self) -> None:
        """Map the routes again that a change on the DPU affects."""
        while True:
            await self._work_to_do.wait()
            await asyncio.sleep(_SETTLE)
            self._work_to_do.clear()
            if self._resync_due or self.installer.in_doubt:
                await self._resync()
            if self._remap_all:
                self._remap_all = False
                self._own_changed.clear()
                self._rounds.remaps += 1
                self._rebuild_view()
                await self._sync_all()
            else:
                if self._own_changed:
                    self._change_view()
                for family in _FAMILIES:
                    keys, self._dirty[family] = self._dirty[family], set()
                    if not self._replay_complete():
                        # Routes that the host has not announced yet may still come; the end of the replay sweeps them.
                        known = {key for key in keys if self.installer.path_of(family, key) is not None}
                        self._dirty[family] |= keys - known
                        keys = known
                    await self._sync(family, list(keys))

    async def _retrier(self) -> None:
        """Retry the routes that the kernel refused, periodically."""
        while True:
            await asyncio.sleep(_RETRY)
            self._release_overdue()
            for family in _FAMILIES:
                refused = self.installer.refused[family]
                again = [key for key, why in refused.items() if why.state == "failed" and not isinstance(why, Denial)]
                await self._sync(family, list({*again, *self.installer.unblock(family)}))
            if self.installer.in_doubt:
                self._work_to_do.set()

    def _release_overdue(self) -> None:
        """Apply held withdrawals that the host has not confirmed in time."""
        held = self._guard.held
        if held is None or now() - held.since < CONFIRM_TIMEOUT:
            return
        text = "held withdrawals not confirmed within %g s; applying them: %s"
        _LOG.warning(text, CONFIRM_TIMEOUT, self._report.held())
        for family, keys in self.installer.adj.release().items():
            self._dirty[family] |= keys
        self._map_everything()

    async def _sync_all(self) -> None:
        for family in _FAMILIES:
            keys = self.installer.announced_keys(family)
            if self._replay_complete():
                keys += self.installer.stale_keys(family)
            self._dirty[family] = set()
            await self._sync(family, keys)

    def _replay_complete(self) -> bool:
        """Whether routes that are installed but not announced are known to be stale."""
        if self._lease.withdrawn is not None:
            return True
        return self._guard.held is None and any(session.replayed for session, _task in self._sessions.values())

    async def _withdraw(self) -> int:
        """Withdraw all routes: the lease of the host has ended. Returns how many were installed."""
        installed = sum(map(len, self.installer.installed.values()))
        named = self.installer.adj.clear()
        for family in _FAMILIES:
            await self._sync(family, list(named.get(family, set()).union(self.installer.stale_keys(family))))
        return installed

    async def _sync(self, family: int, keys: list[int]) -> None:
        """Map these prefixes again: the longest first, and what has to go afterwards, the shortest first."""
        if len(keys) <= _SLICE:
            await self._sync_in_slices(family, keys, remove=True)
            return
        going = await self._sync_in_slices(family, longest_first(family, keys), remove=False)
        await self._sync_in_slices(family, sorted(set(going)), remove=True)

    async def _sync_in_slices(self, family: int, keys: list[int], remove: bool) -> list[int]:
        left: list[int] = []
        for start in range(0, len(keys), _SLICE):
            part = keys[start : start + _SLICE]
            refused = self.installer.refused[family]
            async with self._lock:
                before = [refused.get(key) for key in part]
                left += self.installer.sync(family, part, remove)
                changed = [key for key, old in zip(part, before) if refused.get(key) != old]
            if changed:
                for session, _task in self._sessions.values():
                    session.state_changed(family, changed)
            self._check_learnt()
            if self.installer.in_doubt:
                self._work_to_do.set()
            await asyncio.sleep(0)
        return left

    def _check_learnt(self) -> None:
        """After a change: see whether other routes are affected.

        Map everything again when a link turns out to lead to the host, since routes may have used it as egress. Routes
        that waited under a limit may be admitted now.
        """
        for family, restated in self.installer.restated.items():
            for session, _task in self._sessions.values() if restated else ():
                session.state_changed(family, restated)
            restated.clear()
        if not self.installer.settled and self._replay_complete():
            for family in _FAMILIES:
                self._dirty[family] |= self.installer.settle(family)
            self._work_to_do.set()
        if self.installer.mapper.learnt:
            self.installer.mapper.learnt = False
            self._remap_all = True
            self._work_to_do.set()
        if self.installer.admission is not None:
            for family, keys in self.installer.admission.with_room().items():
                self._dirty[family].update(keys)
                self._work_to_do.set()

    async def _resync(self) -> None:
        """Read every route of the mirror's protocol number back; those whose record was wrong are mapped again."""
        self._resync_due = self.installer.in_doubt = False
        self._rounds.resyncs += 1
        async with self._lock:
            self._meanwhile = []
            try:
                for family in _FAMILIES:
                    await kernel.repeated(partial(self._read_back, family))
            finally:
                # Somebody may have changed a route after the dump passed it: notifications since then take precedence.
                meanwhile, self._meanwhile = self._meanwhile, None
                for touch in meanwhile:
                    self._by_somebody_else(*touch)

    def _kernel_audits(self) -> tuple[audit.Audit, ...]:
        """The audits against the DPU's kernel: of the replica, and of the mirrored routes."""
        requests, follower, protocol = kernel.Requests(), self._follower, self._config.protocol
        return (
            audit.ReplicaAudit(self.rib, follower, requests, self._tally),
            FibAudit(
                *(self.installer, follower, requests, self.rib.reader, protocol),
                resyncs=lambda: self._rounds.resyncs,
                repair=self._repair,
                tally=self._tally,
            ),
        )

    def _repair(self, family: int, keys: set[int]) -> None:
        self._dirty[family] |= keys
        self._work_to_do.set()

    async def _read_back(self, family: int) -> None:
        found: dict[TableKey, dict[int, Path]] = {}
        surplus: list[tuple[int, Path]] = []
        request = rtnetlink.route_dump_request(family, protocol=self._config.protocol)
        dump: Iterable[bytes] = self._requests.dump(request)
        if family == AF_INET6:
            dump = list(dump)  # at once: a dump of IPv6 skips routes when others are deleted meanwhile
        for number, chunk in enumerate(dump):
            for message in self.rib.reader.routes(chunk):
                routes = found.setdefault((family, message.path.table), {})
                # The kernel uses the first route of a prefix. A second one is left over from an agent with another
                # metric configured, or somebody else added it.
                if routes.setdefault(message.key, message.path) is not message.path:
                    surplus.append((message.key, message.path))
            if number % 8 == 0:
                await asyncio.sleep(0)
        for scope in {*found, *(s for s in self.installer.installed if s[0] == family)}:
            self._dirty[family] |= self.installer.found(family, scope[1], found.get(scope, {}))
        if surplus:
            self.installer.remove_surplus(surplus)

    def reload(self) -> None:
        """SIGHUP: read configuration and certificates again; hosts that may no longer connect are disconnected."""
        found = read_again(self._config, self._read, server_context)
        if found is None:
            return
        before, trust = self._config, self._trust
        self._config, self._context = found
        with contextlib.suppress(TlsError):  # the files have changed since
            self._trust = trust_of(self._config.tls)
        _LOG.info("SIGHUP: certificates reloaded, configuration %s", _changed(before != self._config))
        for name, (_session, task) in self._sessions.items():
            if trust != self._trust or not self._may_connect(name):
                _LOG.info("%s: disconnecting it: CA, CRL or `hosts` have changed", name, extra=about(host=name))
                task.cancel()
        if before != self._config:
            self._policy = mapping_policy(self._config)
            warn_of_unknown_vrfs(self._config, (vrf.name for vrf in self._view.vrfs))
            if self._lease.host is not None:
                admit_host(self._lease.host, self._config, self.installer)
            self._lease.changed()
            self._remap_all = True
            self._work_to_do.set()

    # -- for daemon/api.py

    def ready(self) -> bool:
        """Whether the DPU's tables have been read and the FPM port is open."""
        return self.started.is_set()

    def _publish(self, family: int, keys: list[int]) -> None:
        """Send the watchers the new state of these prefixes."""
        for event in self._report.events(family, keys):
            self.watchers.publish(event)


def _show_vrf(vrf: Vrf, view: View) -> str:
    links = ", ".join(sorted(view.link_name(index) for index in vrf.links))
    return f"{vrf.name} (table {vrf.table}: {links or 'no links'})"


def _changed(changed: bool) -> str:
    return "reloaded" if changed else "unchanged"


def run(config: AgentConfig, read: Callable[[], AgentConfig] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; returns the exit code. READ reads the configuration again (SIGHUP)."""
    return lifecycle.run(lambda: Agent(config, read), config.control_socket, config.http)
