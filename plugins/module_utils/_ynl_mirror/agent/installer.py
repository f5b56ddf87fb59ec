# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs announced routes on the DPU: compares what the host announced with what is installed, writes the difference.

An announced route is in one of four states, each with a reason: pending (its batch is being written), offloaded, failed
(refused by the kernel, or by the host's policy, see admission) and slow path (the mapping found no egress). Only routes
of the mirror's protocol number are ever changed: new ones are added with NLM_F_EXCL, which leaves a route of another
owner in place; replaced ones are known to be ours; deletes name the protocol, which keeps the kernel to our routes.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from ..daemon.logs import about
from ..mapping.inference import Mapper, Outcome, PathMapper
from ..model.refusal import Refusal
from ..model.routes import AF_INET, AF_INET6, Path, Prefix, TableKey
from ..netlink import rtnetlink, sockets
from ..netlink.route_codec import RouteWriter
from ..replica.entry import paths_of
from ..replica.rib import Rib
from .adj_rib_in import AdjRibIn
from .admission import Admission, Denial

_LOG = logging.getLogger("ynl_mirror.agent.installer")

_CREATE = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL
# CREATE as well: somebody may have deleted ours a moment ago.
_REPLACE = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
Item = tuple[int, Path]  # (prefix key, path)


class _Change:
    """The pending writes to one table of the DPU."""

    def __init__(self, table: int, installed: dict[int, Path]) -> None:
        self.table = table
        self.installed = installed
        self.adds: list[Item] = []
        self.replacements: list[Item] = []
        self.replaced: dict[int, Path] = {}  # the old paths of the replacements
        self.removals: list[Item] = []


class Installer:
    """Keeps installed routes (by family and DPU table) in sync with announced ones (by family and host table)."""

    def __init__(self, requests: sockets.Requests, mapper: Mapper, host_tables: tuple[int, ...], others: Rib) -> None:
        self.mapper = mapper
        self.admission: Admission | None = None  # None admits every announced route
        self._others = others  # the DPU's routes that are not the mirror's
        self.adj = AdjRibIn(host_tables)
        self.announced = self.adj.routes
        self.installed: dict[TableKey, dict[int, Path]] = {}
        self.refused: dict[int, dict[int, Refusal]] = {AF_INET: {}, AF_INET6: {}}
        self.touched: set[int] | None = None  # during an audit: prefixes whose installed routes were written meanwhile
        self.in_doubt = False  # the kernel contradicted our record of what is installed
        # Called with the prefixes whose state changed, while somebody watches.
        self.watched: Callable[[], bool] = bool
        self.on_change: Callable[[int, list[int]], None] = lambda _family, _keys: None
        self.added = self.replaced = self.deleted = self.failures = 0
        self._host_tables = host_tables
        self._requests = requests
        self._add = RouteWriter(rtnetlink.RTM_NEWROUTE, _CREATE)
        self._replace = RouteWriter(rtnetlink.RTM_NEWROUTE, _REPLACE)
        self._delete = RouteWriter(rtnetlink.RTM_DELROUTE, rtnetlink.NLM_F_REQUEST)

    # -- what the host announced

    def announced_path(self, family: int, key: int) -> Path | None:
        """The announced path of a prefix, from the first of the host's tables that has one."""
        return self.adj.path(family, key)

    def announced_keys(self, family: int) -> list[int]:
        """Every announced prefix."""
        return self.adj.keys(family)

    def stale_keys(self, family: int) -> list[int]:
        """Prefixes that are installed but not announced."""
        found: dict[int, None] = {}
        for (of, _table), installed in self.installed.items():
            if of == family:
                found.update((key, None) for key in installed if self.announced_path(family, key) is None)
        return list(found)

    # -- writing the difference

    def sync(self, family: int, keys: Iterable[int]) -> None:
        """Bring the DPU's tables up to date: additions and replacements first, then removals. KEYS are distinct."""
        if not self.watched():
            self._sync(family, keys)
            return
        keys = list(keys)
        before = [self._shown(family, key) for key in keys]
        self._sync(family, keys)
        self.on_change(family, [key for key, old in zip(keys, before) if self._shown(family, key) != old])

    def _shown(self, family: int, key: int) -> tuple[Refusal | None, list[Path]]:
        """What a watcher sees of a prefix."""
        return self.refused[family].get(key), list(self.where(family, key))

    def _sync(self, family: int, keys: Iterable[int]) -> None:
        for vrf in self.mapper.view.vrfs:
            self.installed.setdefault((family, vrf.table), {})
        tables = [_Change(table, routes) for (of, table), routes in self.installed.items() if of == family]
        single = self.announced.setdefault((family, self._host_tables[0]), {}) if len(self._host_tables) == 1 else None
        refused = self.refused[family]
        admission = self.admission if self.admission is not None and self.admission.needed else None
        if admission is not None:
            admission.open(self.mapper.view.vrfs, self.installed)
        last: Path | None = None
        rule: PathMapper | None = None
        refusal: Refusal | None = None
        make: Callable[[str], Refusal] = _slow_path
        for key in keys:
            path = single.get(key) if single is not None else self.announced_path(family, key)
            if path is None:
                targets, reason = _NOTHING, None
            else:
                if path is not last or rule is None:  # routes come in runs with one path
                    last, rule = path, self.mapper.rule(path)
                targets, reason = rule.outcome(key)
            if admission is not None:
                targets, reason, make = _admit(admission, family, key, path, Outcome(targets, reason))
            if reason is not None:
                if refusal is None or reason is not refusal.reason:  # one object for a million routes
                    refusal = make(reason)
                refused[key] = refusal
            elif refused:
                refused.pop(key, None)
            for change in tables:
                want = targets.get(change.table)
                have = change.installed.get(key)
                if want is have:
                    continue
                if have is None and want is not None:
                    change.adds.append((key, want))
                elif have != want:
                    self._plan_change(change, key, have, want)
        self._write(family, tables)

    def _plan_change(self, change: _Change, key: int, have: Path | None, want: Path | None) -> None:
        if have is None:
            return
        if want is not None and self._may_replace(key, want, have):
            change.replacements.append((key, want))
            change.replaced[key] = have
            return
        change.removals.append((key, have))
        if want is not None:
            change.adds.append((key, want))

    def _may_replace(self, key: int, want: Path, have: Path) -> bool:
        """Whether NLM_F_REPLACE hits our route only: it replaces the first of its prefix and metric, of any owner."""
        if want.metric != have.metric:
            return False
        there = paths_of(self._others.tables.get((have.family, have.table), {}).get(key))
        return not any(path.metric == have.metric and path.tos == have.tos for path in there)

    def _write(self, family: int, changes: list[_Change]) -> None:
        messages: list[bytes] = []
        sent: list[tuple[_Change, str, list[Item]]] = []
        # Additions, then replacements, of all tables before any removal: traffic always has a route.
        for kind, writer in (("adds", self._add), ("replacements", self._replace), ("removals", self._delete)):
            for change in changes:
                items: list[Item] = getattr(change, kind)
                if items:
                    messages += writer.batch(items)
                    sent.append((change, kind, items))
        if not messages:
            return
        refusals = self._carry_out(messages)
        if self.touched is not None:
            self.touched.update(key for _change, _kind, items in sent for key, _path in items)
        for change, kind, items in reversed(sent):
            if kind == "removals":
                for key, _path in items:
                    del change.installed[key]
            else:
                change.installed.update(items)
        self._count(sent)
        left: list[tuple[_Change, int]] = []
        for refusal in refusals:
            index = refusal.index
            for change, kind, items in sent:
                if index < len(items):
                    self._refusal(family, change, kind, items[index], refusal)
                    if kind == "replacements":
                        left.append((change, items[index][0]))
                    break
                index -= len(items)
        if left:
            self._withdraw(family, left)

    def _carry_out(self, messages: list[bytes]) -> list[sockets.Failure]:
        try:
            return self._requests.write(messages)
        except sockets.LostAnswers as error:
            _LOG.warning("%s; reading the installed routes back", error)
            self.in_doubt = True
            return error.failures

    def _withdraw(self, family: int, left: list[tuple[_Change, int]]) -> None:
        """Remove the routes whose replacement was refused: the host no longer announces their old paths."""
        old = [(change, (key, change.replaced[key])) for change, key in left]
        refusals = self._carry_out(self._delete.batch(item for _change, item in old))
        self.deleted += len(old)
        for refusal in refusals:
            change, item = old[refusal.index]
            self._refusal(family, change, "removals", item, refusal)

    def _count(self, sent: list[tuple[_Change, str, list[Item]]]) -> None:
        for _change, kind, items in sent:
            if kind == "adds":
                self.added += len(items)
            elif kind == "replacements":
                self.replaced += len(items)
            else:
                self.deleted += len(items)

    def _refusal(self, family: int, change: _Change, kind: str, item: Item, refusal: sockets.Failure) -> None:
        key, path = item
        if kind == "removals":
            if refusal.errno not in (errno.ESRCH, errno.ENOENT, errno.ENODEV):
                change.installed[key] = path
                self.in_doubt = True
                prefix = Prefix.from_key(family, key)
                fields = about(prefix=prefix, reason=refusal.text)
                _LOG.warning("%s: cannot remove the route: %s", prefix, refusal.text, extra=fields)
            return
        change.installed.pop(key, None)
        self.failures += 1
        text = refusal.text or _error_text(refusal.errno)
        vrf = self.vrf_name(path.table)
        if refusal.errno == errno.EEXIST:
            text = "the table has a route with this prefix and metric that the mirror did not install"
        if refusal.errno in (errno.EEXIST, errno.ENOENT):
            self.in_doubt = True
        self.refused[family][key] = Refusal("failed", f"VRF {vrf}: {text}")
        if _LOG.isEnabledFor(logging.DEBUG):
            prefix = Prefix.from_key(family, key)
            _LOG.debug("%s: VRF %s: %s", prefix, vrf, text, extra=about(prefix=prefix, vrf=vrf, reason=text))

    # -- what the kernel has

    def found(self, family: int, table: int, routes: dict[int, Path]) -> set[int]:
        """Record what a dump of the mirror's routes showed; returns the prefixes whose record was wrong."""
        believed = self.installed.get((family, table), {})
        differing = {key for key in believed if key not in routes}
        for key, path in routes.items():
            if believed.get(key) != path:
                differing.add(key)
            else:
                routes[key] = believed[key]  # the shared object, so that ``is`` finds them equal
        self.installed[family, table] = routes
        return differing

    def remove_surplus(self, surplus: list[Item]) -> None:
        """Remove duplicate mirrored routes; the first one of each prefix stays and carries the traffic."""
        refusals = {refusal.index: refusal for refusal in self._requests.write(self._delete.batch(surplus))}
        self.deleted += len(surplus) - len(refusals)
        for index, (key, path) in enumerate(surplus):
            prefix = Prefix.from_key(path.family, key)
            if index in refusals:
                reason = refusals[index].text or _error_text(refusals[index].errno)
                _LOG.warning(
                    "%s table %d: cannot remove the duplicate mirrored route: %s",
                    *(prefix, path.table, reason),
                    extra=about(prefix=prefix, reason=reason),
                )
            else:
                fields = about(prefix=prefix)
                _LOG.info("%s table %d: removed a duplicate mirrored route", prefix, path.table, extra=fields)

    def lost(self, scope: TableKey, key: int, path: Path) -> None:
        """Somebody else removed a route of the mirror's protocol number."""
        self._touch(key)
        installed = self.installed.get(scope, {})
        if installed.get(key) == path:
            del installed[key]
        elif key in installed:
            self.in_doubt = True  # a duplicate of it, or part of it

    def appeared(self, scope: TableKey, key: int, path: Path) -> None:
        """Somebody else wrote a route under the mirror's protocol number."""
        self._touch(key)
        if self.installed.setdefault(scope, {}).setdefault(key, path) != path:
            self.in_doubt = True  # it replaced ours or was added to it: the message does not say

    def _touch(self, key: int) -> None:
        if self.touched is not None:
            self.touched.add(key)

    # -- names and states

    def vrf_name(self, table: int) -> str:
        """The name of the VRF that a table belongs to, otherwise the table's number."""
        return next((vrf.name for vrf in self.mapper.view.vrfs if vrf.table == table), str(table))

    def state(self, family: int, key: int) -> tuple[str, str | None]:
        """(state, reason) of an announced route."""
        refusal = self.refused[family].get(key)
        if refusal is not None:
            return refusal
        return ("offloaded", None) if any(self.where(family, key)) else ("pending", "not written yet")

    def where(self, family: int, key: int) -> Iterator[Path]:
        """The installed routes to a prefix, one per VRF."""
        for (of, _table), routes in self.installed.items():
            if of == family and key in routes:
                yield routes[key]


_NOTHING: Mapping[int, Path] = {}


def _admit(
    admission: Admission, family: int, key: int, path: Path | None, outcome: Outcome
) -> tuple[Mapping[int, Path], str | None, Callable[[str], Refusal]]:
    """The part of an outcome that the host's policy admits, the reason if that is not all, and how to refuse it."""
    if path is not None and outcome.targets:
        return (*admission.admit(family, key, path, outcome.targets), _denied)
    admission.leave(family, key)
    return (*outcome, _slow_path)


def _slow_path(reason: str) -> Refusal:
    return Refusal("slow_path", reason)


def _denied(reason: str) -> Refusal:
    return Denial("failed", reason)


def _error_text(number: int) -> str:
    return sockets.KernelError(number).text
