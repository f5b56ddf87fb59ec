# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent: an FPM server that maps what the host routes onto the DPU's VRFs and keeps it installed there.

It follows its own kernel for the truth about links, VRFs, addresses and routes, and maps again whatever a change there
touches. Three tasks share one event loop and, where they write, one lock: the connection to the host, the follower of
the kernel, and the remapper.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from ..daemon.tally import MIRRORED, REPLICA, WIRE, Tally
from ..daemon.tcp import accept, keep_alive, listening_socket
from ..fpm.tls import TlsError, crl_digest, identities, server_context, trust_of
from ..mapping.inference import Mapper
from ..mapping.view import View, address_owners, discover_vrfs, own_routes
from ..model.links import Vrf
from ..model.routes import AF_INET, AF_INET6, Address, Path, TableKey
from ..netlink import rtnetlink
from ..netlink import sockets as kernel
from ..replica import audit
from ..replica.follower import Follower
from ..replica.replica import Replica
from ..replica.rib import Rib
from .admission import Denial
from .fib_audit import FibAudit
from .guard import PATIENCE, Guard
from .host_session import HostSession, serve
from .installer import Mirror
from .lease import Lease
from .manual_routes import ManualRoutes
from .report import AgentReport, Rounds
from .settings import admit_host, lease_term, mapping_policy, warn_of_unknown_vrfs
from .wire_audit import HostAudit

_LOG = logging.getLogger("ynl_mirror.agent")
_FAMILIES = (AF_INET, AF_INET6)
#: Seconds to wait for the rest of a flock of changes before mapping again.
_SETTLE = 0.02
#: Routes mapped before others get a turn on the event loop.
_SLICE = 2048
#: Seconds between attempts to install what the kernel refused.
_RETRY = 10.0


Touch = tuple[int, int, Path]  # (RTM_NEWROUTE or RTM_DELROUTE, prefix key, path)


class Agent(ManualRoutes):
    """The DPU's side of the mirror."""

    name = "agent"

    def __init__(self, config: AgentConfig, read: Callable[[], AgentConfig] | None = None) -> None:
        self._config = config
        self._read = read  # the configuration again, for SIGHUP
        self._policy = mapping_policy(config)
        self._context = server_context(config.tls) if config.tls else None
        self._trust = trust_of(config.tls)
        self._lease = Lease(lambda host: lease_term(host, self._config))
        if config.plaintext:
            _LOG.warning("plaintext: routes travel unencrypted and anybody who can connect may change the VRFs")
        self.rib = Rib((), accept=lambda path: path.protocol != config.protocol, rejected=self._by_somebody_else)
        self.rib.recording = True
        self._replica = Replica(self.rib)
        self._requests = kernel.Requests()
        super().__init__()
        self._monitor = lifecycle.monitor(config.receive_buffer, deaf_to=self._requests.port)
        # The follower dumps on a socket of its own: a dump spans turns of the event loop, and writes go on meanwhile.
        sockets = (self._monitor, kernel.Requests(), self._on_change)
        vrfs = {name: vrf.to_dict() for name, vrf in config.vrfs.items()}
        settings = {"protocol": config.protocol, "vrfs": vrfs}
        self._follower = Follower(self._replica, *recorded(config.capture, settings, sockets))
        self._view = View()
        self._gateways: set[Address] = set()
        mapper = Mapper(self._view, self._policy, self._gateways)
        self.mirror = Mirror(self._requests, mapper, config.host_tables, self.rib)
        self.watchers = lifecycle.Watchers()
        self.subscribe = self.watchers.subscribe
        self.mirror.watched = self.watchers.__bool__
        self.mirror.on_change = self._publish
        self._lock = asyncio.Lock()
        self._work_to_do = asyncio.Event()
        self._audit_due = self._remap_all = False
        self._recoveries = 0  # of the follower, as far as they have been seen to
        self._dirty: dict[int, set[int]] = {AF_INET: set(), AF_INET6: set()}
        self._meanwhile: list[Touch] | None = None  # what somebody else did to mirrored routes during an audit
        self._sessions: dict[str, tuple[HostSession, asyncio.Task[None]]] = {}
        self.started = asyncio.Event()
        self._rounds = Rounds()
        self._tally = Tally().watch(REPLICA, WIRE, MIRRORED)
        self._slow_audits = self._kernel_audits()
        self._guard = Guard(config.guard_share, config.guard_routes)
        self._report = AgentReport(
            *(self.mirror, self._replica, self._follower, self._monitor, self._lease, self._guard, self._tally),
            *(self._rounds, self._sessions, self.ready, lambda: crl_digest(self._trust)),
        )
        self.status, self.counters = self._report.status, self._report.counters
        self.routes, self.explain = self._report.routes, self._report.explain

    # -- tasks

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The daemon's tasks."""
        return [self._follow()]

    async def _follow(self) -> None:
        await self._follower.load()
        await self._audit()
        self._rebuild_view()
        # What was found installed is compared with the host's wishes at the end of its replay, not now.
        for keys in self._dirty.values():
            keys.clear()
        self._work_to_do.clear()
        sockets = [self._listen(listen.address, listen.port) for listen in self._config.listen]
        self.started.set()
        _LOG.info("%d VRFs: %s", len(self._view.vrfs), ", ".join(_show_vrf(vrf, self._view) for vrf in self._view.vrfs))
        warn_of_unknown_vrfs(self._config, (vrf.name for vrf in self._view.vrfs))
        work = [self._follower.run(), self._remapper(), self._retrier(), self._lease.run(self._withdraw)]
        if self._config.audit_interval:
            work.append(audit.run(self._config.audit_interval, *self._slow_audits))
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
        # Where IPv4 has its own socket on this port, :: leaves it alone.
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
        # The same host anew: the connection before is half open at best. While it ends, yet another may have come.
        while name in self._sessions and not self._sessions[name][1].done():
            await lifecycle.end(self._sessions[name][1])
        _LOG.info("%s: connected from %s", name, peer, extra=about(host=name, peer=peer))
        config = self._config
        admit_host(name, config, self.mirror)
        audit = HostAudit(name, self.mirror.host, config.host_tables, config.audit_interval, self._tally, self._guard)
        session = HostSession(
            *(name, self.mirror, config.host_tables, config.settle_time, self._lock, self._check_learnt),
            compared=audit if config.audit_interval else None,
            guard=self._guard,
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

    def _admit(self, tls: ssl.SSLObject | None, peer: str) -> str | None:
        """The name of a peer that may produce routes, None (and a word in the log) when it may not."""
        names = identities(tls.getpeercert() or {}) if tls is not None else [peer]
        allowed = [name for name in names if self._may_connect(name)]
        if not allowed:
            text = f"{', '.join(names) or 'a certificate without a name'} is not among hosts"
            _LOG.warning("%s: refused: %s", peer, text, extra=about(peer=peer, reason=text))
            return None
        others = [name for name in self._sessions if name not in names]
        if others:
            text = f"the host {others[0]} is connected, and one DPU mirrors one host"
            _LOG.warning("%s: refused: %s", allowed[0], text, extra=about(host=allowed[0], peer=peer, reason=text))
            return None
        return allowed[0]

    def _may_connect(self, name: str) -> bool:
        return not self._config.hosts or name in self._config.host_names

    # -- the DPU's own kernel

    def _on_change(self) -> None:
        """The replica moved."""
        changed = self.rib.take_changed()
        if self._replica.view_changed:
            self._replica.view_changed = False
            self._follow_vrfs()
            # Links and addresses that go take mirrored routes along without a word.
            self._audit_due = self._remap_all = True
        if self._follower.recoveries != self._recoveries:
            # What was lost may have been about mirrored routes, which the replica's own re-read leaves out.
            self._recoveries = self._follower.recoveries
            self._audit_due = self._remap_all = True
        for scope, keys in changed.items():
            self._remap_all = True
            installed = self.mirror.installed.get(scope, {})
            # Somebody's REPLACE takes a mirrored route of the same prefix and metric away, and names only itself.
            self._audit_due = self._audit_due or any(key in installed for key in keys)
        if self._remap_all or any(self._dirty.values()):
            self._work_to_do.set()

    def _follow_vrfs(self) -> None:
        self.rib.follow(vrf.table for vrf in self._vrfs())

    def _vrfs(self) -> tuple[Vrf, ...]:
        named = {name: (spec.table, spec.links) for name, spec in self._config.vrfs.items()}
        return discover_vrfs(self._replica.links, self._replica.rules, named)

    def _by_somebody_else(self, kind: int, key: int, path: Path) -> None:
        """A route under the mirror's protocol number changed, and not by the mirror: put it right."""
        if self._meanwhile is not None:
            self._meanwhile.append((kind, key, path))
            return
        scope = (path.family, path.table)
        if kind == rtnetlink.RTM_DELROUTE:
            self.mirror.lost(scope, key, path)
        else:
            self.mirror.appeared(scope, key, path)
        self._dirty[path.family].add(key)

    def _rebuild_view(self) -> None:
        """Look at links, addresses, VRFs and own routes afresh."""
        vrfs = self._vrfs()
        self._view = View(
            vrfs, self._replica.links, address_owners(self._replica.addresses), own_routes(self.rib, vrfs)
        )
        self.mirror.mapper = Mapper(self._view, self._policy, self._gateways)

    async def _remapper(self) -> None:
        """Map again what a change on the DPU touched."""
        while True:
            await self._work_to_do.wait()
            await asyncio.sleep(_SETTLE)
            self._work_to_do.clear()
            if self._audit_due or self.mirror.in_doubt:
                await self._audit()
            if self._remap_all:
                self._remap_all = False
                self._rounds.remaps += 1
                self._rebuild_view()
                await self._sync_all()
            else:
                for family in _FAMILIES:
                    keys, self._dirty[family] = self._dirty[family], set()
                    if not self._replay_complete():
                        # What the host has not named yet may be wanted all the same; the replay's end sweeps the rest.
                        keys = {key for key in keys if self.mirror.wanted(family, key) is not None}
                    await self._sync(family, list(keys))

    async def _retrier(self) -> None:
        """Try again what the kernel refused, now and then."""
        while True:
            await asyncio.sleep(_RETRY)
            self._end_patience()
            for family in _FAMILIES:
                refused = self.mirror.refused[family]
                again = [key for key, why in refused.items() if why.state == "failed" and not isinstance(why, Denial)]
                await self._sync(family, again)
            if self.mirror.in_doubt:
                self._work_to_do.set()

    def _end_patience(self) -> None:
        """Carry out what the host was to confirm and did not: it is held for a while, not for ever."""
        held = self._guard.held
        if held is None or now() - held.since < PATIENCE:
            return
        _LOG.warning("%s; not confirmed within %g s, and carried out", self._report.held(), PATIENCE)
        for scope, keys in self._guard.release().items():
            for key in keys:
                self.mirror.host.get(scope, {}).pop(key, None)
            self._dirty[scope[0]] |= keys
        self._remap_all = True
        self._work_to_do.set()

    async def _sync_all(self) -> None:
        for family in _FAMILIES:
            keys = self.mirror.host_keys(family)
            if self._replay_complete():
                keys += self.mirror.stale_keys(family)
            self._dirty[family] = set()
            await self._sync(family, keys)

    def _replay_complete(self) -> bool:
        """Whether what is installed but not wanted is known to be stale."""
        if self._lease.withdrawn is not None:
            return True
        return self._guard.held is None and any(session.replayed for session, _task in self._sessions.values())

    async def _withdraw(self) -> int:
        """Withdraw everything: the lease of the host has ended. The number of routes that were installed."""
        installed = sum(map(len, self.mirror.installed.values()))
        named = {family: self.mirror.host_keys(family) for family in _FAMILIES}
        for routes in self.mirror.host.values():
            routes.clear()
        self._guard.release()  # nothing is left of the host that it could confirm
        for family in _FAMILIES:
            await self._sync(family, list(dict.fromkeys((*named[family], *self.mirror.stale_keys(family)))))
        return installed

    async def _sync(self, family: int, keys: list[int]) -> None:
        for start in range(0, len(keys), _SLICE):
            part = keys[start : start + _SLICE]
            refused = self.mirror.refused[family]
            async with self._lock:
                before = [refused.get(key) for key in part]
                self.mirror.sync(family, part)
                moved = [key for key, old in zip(part, before) if refused.get(key) != old]
            if moved:
                for session, _task in self._sessions.values():
                    session.moved(family, moved)
            self._check_learnt()
            if self.mirror.in_doubt:
                self._work_to_do.set()
            await asyncio.sleep(0)

    def _check_learnt(self) -> None:
        """After a change: what it means for other routes.

        Map everything again when a link proved to lead to the host that was taken for an egress before. What waited for
        room may have some.
        """
        if self.mirror.mapper.learnt:
            self.mirror.mapper.learnt = False
            self._remap_all = True
            self._work_to_do.set()
        if self.mirror.admission is not None:
            for family, keys in self.mirror.admission.with_room().items():
                self._dirty[family].update(keys)
                self._work_to_do.set()

    async def _audit(self) -> None:
        """Read back every route under the mirror's protocol number; what is not as believed is mapped again."""
        self._audit_due = self.mirror.in_doubt = False
        self._rounds.audits += 1
        async with self._lock:
            self._meanwhile = []
            try:
                for family in _FAMILIES:
                    await kernel.repeated(partial(self._read_back, family))
            finally:
                # A dump may have passed by before somebody touched a route: what was heard since has the last word.
                meanwhile, self._meanwhile = self._meanwhile, None
                for touch in meanwhile:
                    self._by_somebody_else(*touch)

    def _kernel_audits(self) -> tuple[audit.Audit, ...]:
        """What is compared with the own kernel now and then: what others routed, and what is mirrored."""
        requests, follower, protocol = kernel.Requests(), self._follower, self._config.protocol
        return (
            audit.ReplicaAudit(self.rib, follower, requests, self._tally),
            FibAudit(
                *(self.mirror, follower, requests, self.rib.reader, protocol),
                audits=lambda: self._rounds.audits,
                put_right=self._put_right,
                tally=self._tally,
            ),
        )

    def _put_right(self, family: int, keys: set[int]) -> None:
        self._dirty[family] |= keys
        self._work_to_do.set()

    async def _read_back(self, family: int) -> None:
        found: dict[TableKey, dict[int, Path]] = {}
        surplus: list[tuple[int, Path]] = []
        request = rtnetlink.route_dump_request(family, protocol=self._config.protocol)
        dump: Iterable[bytes] = self._requests.dump(request)
        if family == AF_INET6:
            dump = list(dump)  # in one go: a dump of IPv6 misses routes when others are deleted meanwhile
        for number, chunk in enumerate(dump):
            for message in self.rib.reader.routes(chunk):
                routes = found.setdefault((family, message.path.table), {})
                # The first one of a prefix is what the kernel uses. A second one is left of an agent that had another
                # metric configured, or somebody's.
                if routes.setdefault(message.key, message.path) is not message.path:
                    surplus.append((message.key, message.path))
            if number % 8 == 0:
                await asyncio.sleep(0)
        for scope in {*found, *(s for s in self.mirror.installed if s[0] == family)}:
            self._dirty[family] |= self.mirror.found(family, scope[1], found.get(scope, {}))
        if surplus:
            self.mirror.remove_surplus(surplus)

    def reload(self) -> None:
        """SIGHUP: configuration and certificates are read again. Nobody who may not connect any more stays."""
        found = read_again(self._config, self._read, server_context)
        if found is None:
            return
        before, trust = self._config, self._trust
        self._config, self._context = found
        with contextlib.suppress(TlsError):  # gone again since
            self._trust = trust_of(self._config.tls)
        _LOG.info("SIGHUP: certificates are read again, the configuration %s", _changed(before != self._config))
        for name, (_session, task) in self._sessions.items():
            if trust != self._trust or not self._may_connect(name):
                _LOG.info("%s: has to connect anew, since what is trusted has changed", name, extra=about(host=name))
                task.cancel()
        if before != self._config:
            self._policy = mapping_policy(self._config)
            warn_of_unknown_vrfs(self._config, (vrf.name for vrf in self._view.vrfs))
            if self._lease.host is not None:
                admit_host(self._lease.host, self._config, self.mirror)
            self._lease.changed()
            self._remap_all = True
            self._work_to_do.set()

    # -- what daemon/api.py asks

    def ready(self) -> bool:
        """Whether own tables are read and the FPM port is open."""
        return self.started.is_set()

    def _publish(self, family: int, keys: list[int]) -> None:
        """Tell the watchers what became of these prefixes."""
        for event in self._report.events(family, keys):
            self.watchers.publish(event)


def _show_vrf(vrf: Vrf, view: View) -> str:
    links = ", ".join(sorted(view.link_name(index) for index in vrf.links))
    return f"{vrf.name} (table {vrf.table}: {links or 'no links'})"


def _changed(changed: bool) -> str:
    return "has changed" if changed else "is as it was"


def run(config: AgentConfig, read: Callable[[], AgentConfig] | None = None) -> int:
    """Run the agent until it is told to stop; its exit code. READ reads the configuration again (SIGHUP)."""
    return lifecycle.run(lambda: Agent(config, read), config.control_socket, config.http)
