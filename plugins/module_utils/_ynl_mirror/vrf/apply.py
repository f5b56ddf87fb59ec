# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module vrf_route: read a table, plan, apply in batches, report the outcome of each route."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..model.routes import AF_INET, AF_INET6, FAMILIES, PROTO_MIRROR, Prefix, Route, RouteKey, protocol_name, table_name
from ..netlink.rtnetlink import WireError
from ..netlink.sockets import KernelError, Requests, read_links, read_routes
from . import plan
from .items import ItemErrors, ItemReader, ItemWriter, LinkNames, Selector, expressible
from .lines import LineWriter
from .plan import ADD, DELETE, REPLACE, Operation
from .target import TaskError, owner, resolve

#: Tables that hold the machine's own connectivity; states for a whole table need `force` there.
RESERVED_TABLES = frozenset((253, 254, 255))
#: Routes per batch. With `continue_on_error: false` the work stops after the batch that met an error.
_CHUNK = 1000
#: How often to read again what a change uncovered. More than one hidden route takes deliberate effort.
_ROUNDS = 3
_PAST = {ADD: "added", REPLACE: "replaced", DELETE: "deleted"}


@dataclass(frozen=True)
class Task:
    """The options of the module, *routes* still as items. *label* names the items in errors."""

    state: str
    vrf: str | None = None
    table: object = None
    protocol: object = PROTO_MIRROR
    routes: Sequence[object] | None = None
    label: str = "routes"
    family: str | None = None
    force: bool = False
    continue_on_error: bool = False
    return_routes: bool = True
    check: bool = False
    diff: bool = False


def run(task: Task) -> dict[str, Any]:
    """Do the task and return the module's result. TaskError when it cannot be done."""
    whose = None if task.protocol == "any" else owner(task.protocol)
    if whose is None and task.state != "gathered":
        raise TaskError("protocol: any is for state gathered only; set the owner of the routes to change")
    if task.state == "rendered":
        return _rendered(task, whose or 0)
    try:
        with Requests() as requests:
            return _Live(task, whose, requests).run()
    except (KernelError, WireError) as error:
        raise TaskError(f"cannot read the kernel: {error}") from None


def _rendered(task: Task, owner: int) -> dict[str, Any]:
    target = resolve(task.vrf, task.table, None)
    links = LinkNames(None)
    routes = _read(lambda: _reader(task, links, target.table, owner).routes(task.routes or ()))
    lines = LineWriter(links.name, target.words)
    return {
        "changed": False,
        "rendered": ItemWriter(links).items(routes),
        "commands": [lines.command(Operation(REPLACE, route)) for route in routes],
    }


def _reader(task: Task, links: LinkNames, table: int, owner: int) -> ItemReader:
    return ItemReader(links, table, owner, FAMILIES[task.family] if task.family else None, task.label)


def _read(read: Any) -> Any:
    try:
        return read()
    except ItemErrors as error:
        raise TaskError(str(error), errors=error.errors) from None


@dataclass
class _Asked:
    """The task's items as values, and the prefixes that it covers (*prefixes* None: the whole table)."""

    want: list[Route] = field(default_factory=list)
    selectors: dict[Prefix, list[tuple[int, Selector]]] = field(default_factory=dict)
    prefixes: set[Prefix] | None = None

    @cached_property
    def indexes(self) -> dict[RouteKey, int]:
        """The item that a wanted route comes from."""
        return {route.key: index for index, route in enumerate(self.want)}

    def selector(self, route: Route) -> tuple[int, Selector] | None:
        """The item that selects a route for deletion, with its index."""
        return next((pair for pair in self.selectors.get(route.prefix, ()) if pair[1].matches(route.path)), None)


@dataclass
class _Done:
    """What was done, what the kernel refused (with errno and text), and how much was not attempted after that."""

    operations: list[Operation] = field(default_factory=list)
    failures: list[tuple[Operation, int, str]] = field(default_factory=list)
    skipped: int = 0


class _Live:
    """A task on the kernel of this network namespace."""

    def __init__(self, task: Task, owner: int | None, requests: Requests) -> None:
        self.task = task
        self.owner = owner
        self.requests = requests
        links = read_links(requests)
        self.target = resolve(task.vrf, task.table, links)
        self.links = LinkNames({link.name: link.index for link in links})
        self.items = ItemWriter(self.links)
        self.lines = LineWriter(self.links.name, self.target.words)
        self.families = (FAMILIES[task.family],) if task.family else (AF_INET, AF_INET6)

    def run(self) -> dict[str, Any]:
        """The whole task."""
        self._refuse_reserved()
        if self.task.state == "gathered":
            return self._gathered()
        asked = self._asked()
        have = self._table(asked)
        made = self._plan(asked, have)
        failed = [self._conflict(asked, conflict) for conflict in made.conflicts]
        before = self._owned(have, asked)
        if failed and not self.task.continue_on_error:
            result = self._result(made, _Done(skipped=len(made.operations)), before, before, failed)
            raise TaskError(self._first(failed, "nothing was changed"), **result)
        if self.task.check:
            done = _Done(operations=made.operations)
            after = self._owned(plan.predicted(have, made.operations), asked)
        else:
            done = self._carry_out(asked, made)
            failed = [self._conflict(asked, conflict) for conflict in made.conflicts]
            reread = made.operations and self.task.return_routes
            after = self._owned(self._table(asked), asked) if reread else before
        failed += [self._failure(asked, *failure) for failure in done.failures]
        failed.sort(key=lambda entry: (entry["index"] is None, entry["index"]))
        result = self._result(made, done, before, after, failed)
        if failed and not self.task.continue_on_error:
            raise TaskError(
                self._first(failed, f"{len(done.operations)} changes made, {done.skipped} not attempted"), **result
            )
        return result

    def _refuse_reserved(self) -> None:
        whole = self.task.state == "overridden" or (self.task.state == "deleted" and self.task.routes is None)
        if whole and self.target.table in RESERVED_TABLES and not self.task.force:
            raise TaskError(
                f"state {self.task.state} removes every route of protocol {protocol_name(self.owner or 0)} that the "
                f"task does not name, and table {table_name(self.target.table)} may carry the connection to this "
                "machine; set force: true to do it anyway"
            )

    def _asked(self) -> _Asked:
        items = self.task.routes
        reader = _reader(self.task, self.links, self.target.table, self.owner or 0)
        asked = _Asked()
        if self.task.state == "deleted":
            for index, selector in enumerate(_read(lambda: reader.selectors(items or ()))):
                asked.selectors.setdefault(selector.prefix, []).append((index, selector))
            asked.prefixes = None if items is None else set(asked.selectors)
        else:
            asked.want = _read(lambda: reader.routes(items or ()))
            asked.prefixes = None if self.task.state == "overridden" else {route.prefix for route in asked.want}
        return asked

    # -- reading

    def _table(self, asked: _Asked) -> list[Route]:
        """All routes of the table, of every owner, in the families that the task covers."""
        families: Iterable[int] = self.families
        if asked.prefixes is not None:
            families = sorted({prefix.family for prefix in asked.prefixes})
        return [route for family in families for route in self._family(family)]

    def _family(self, family: int, protocol: int = 0) -> Iterable[Route]:
        return read_routes(self.requests, family, self.target.table, protocol, dead_hops=True)

    def _owned(self, routes: Iterable[Route], asked: _Asked) -> list[Route]:
        """Our own among *routes* that the task covers, in the order of their destinations."""
        if not self.task.return_routes:
            return []
        prefixes, owner = asked.prefixes, self.owner
        return _sorted(r for r in routes if r.path.protocol == owner and (prefixes is None or r.prefix in prefixes))

    def _gathered(self) -> dict[str, Any]:
        routes = _sorted(route for family in self.families for route in self._family(family, self.owner or 0))
        plain = [route for route in routes if expressible(route.path)]
        result = {
            "changed": False,
            "gathered": self.items.items(plain),
            "commands": [self.lines.command(Operation(ADD, route)) for route in plain],
            **self._where(),
        }
        if self.owner is not None and len(plain) < len(routes):
            missed = ", ".join(str(r.prefix) for r in routes if not expressible(r.path))
            result["warnings"] = [f"left out routes that this module has no options for: {missed:.500}"]
        return result

    # -- planning

    def _plan(self, asked: _Asked, have: list[Route]) -> plan.Plan:
        owner = self.owner or 0
        state = self.task.state
        if state == "merged":
            return plan.plan(have, asked.want, owner, lambda _route: False)
        if state == "replaced":
            prefixes = asked.prefixes or set()
            return plan.plan(have, asked.want, owner, lambda route: route.prefix in prefixes)
        if state == "overridden" or self.task.routes is None:
            return plan.plan(have, asked.want, owner, lambda _route: True)
        made = plan.plan(have, (), owner, lambda route: asked.selector(route) is not None)
        made.conflicts += [
            plan.Conflict(route, route) for route in have if route.path.protocol != owner and asked.selector(route)
        ]
        return made

    # -- applying

    def _carry_out(self, asked: _Asked, made: plan.Plan) -> _Done:
        """Apply the plan. If that uncovers routes that no dump showed, plan those too and add them to *made*."""
        done = self._apply(made.operations)
        for _round in range(_ROUNDS):
            if done.skipped or not any(plan.uncovers(operation) for operation in made.operations):
                break
            again = self._plan(asked, self._table(asked))
            more = self._apply(again.operations)
            made.conflicts, made.operations = again.conflicts, made.operations + again.operations
            done.operations += more.operations
            done.failures, done.skipped = more.failures, more.skipped  # earlier failures were tried again
            if not again.operations:
                break
        return done

    def _apply(self, operations: list[Operation]) -> _Done:
        messages = plan.encode(operations)
        done = _Done()
        for start in range(0, len(messages), _CHUNK):
            chunk = operations[start : start + _CHUNK]
            refused = {failure.index: failure for failure in self.requests.write(messages[start : start + _CHUNK])}
            for index, operation in enumerate(chunk):
                failure = refused.get(index)
                # ESRCH: the route is gone already, by another process or with its link.
                if failure is None or (operation.action == DELETE and failure.errno == errno.ESRCH):
                    done.operations.append(operation)
                else:
                    done.failures.append((operation, failure.errno, failure.text or os.strerror(failure.errno)))
            if done.failures and not self.task.continue_on_error:
                done.skipped = max(0, len(operations) - start - _CHUNK)
                break
        return done

    # -- reporting

    def _where(self) -> dict[str, Any]:
        return {"table": self.target.table, "vrf": self.target.vrf}

    def _conflict(self, asked: _Asked, conflict: plan.Conflict) -> dict[str, Any]:
        holder = conflict.holder
        name = protocol_name(holder.path.protocol)
        deleting = self.task.state == "deleted"
        advice = (
            f"add metric or gateway to select only your own route, or set protocol: {name} to delete this one"
            if deleting
            else "use another metric, or remove that route first"
        )
        text = f"protocol {name} owns this route ({self.lines.line(holder)}), which stays; {advice}"
        return self._failed(asked, Operation(DELETE if deleting else ADD, conflict.route), errno.EEXIST, text)

    def _failure(self, asked: _Asked, operation: Operation, number: int, text: str) -> dict[str, Any]:
        return self._failed(asked, operation, number, text + _advice(number, text, operation))

    def _failed(self, asked: _Asked, operation: Operation, number: int, text: str) -> dict[str, Any]:
        return {
            "index": _index(asked, operation),
            "route": self.items.items([operation.route])[0],
            "errno": number,
            "error": text,
            "action": operation.action,
        }

    def _first(self, failed: Sequence[Mapping[str, Any]], rest: str) -> str:
        """One line: the first failure, how many more there are, and what became of the *rest*."""
        entry = failed[0]
        label = self.task.label if entry["index"] is not None else ""
        name = f"{label}[{entry['index']}] ({entry['route']['dst']})" if label else f"route {entry['route']['dst']}"
        more = f"; {len(failed) - 1} more failed (see failed_routes)" if len(failed) > 1 else ""
        return f"{name}: {entry['error']}{more}; {rest}"

    def _result(
        self, made: plan.Plan, done: _Done, before: list[Route], after: list[Route], failed: list[dict[str, Any]]
    ) -> dict[str, Any]:
        stats = {"added": 0, "replaced": 0, "deleted": 0, "unchanged": made.unchanged}
        for operation in done.operations:
            stats[_PAST[operation.action]] += 1
        stats.update(failed=len(failed), skipped=done.skipped)
        result: dict[str, Any] = {"changed": bool(done.operations), "stats": stats, "failed_routes": failed}
        result.update(self._where())
        if self.task.return_routes:
            result["before"] = self.items.items(before)
            result["after"] = self.items.items(after)
            result["commands"] = self.lines.commands(done.operations)
        if self.task.diff and self.task.return_routes:
            result["diff"] = self._diff(before, after)
        if failed and self.task.continue_on_error:
            result["warnings"] = [self._first(failed, "continued because of continue_on_error")]
        return result

    def _diff(self, before: list[Route], after: list[Route]) -> Mapping[str, str]:
        return {
            "before_header": self.target.words,
            "after_header": self.target.words,
            "before": "".join(f"{self.lines.line(route)}\n" for route in before),
            "after": "".join(f"{self.lines.line(route)}\n" for route in after),
        }


#: The fix for an errno whose text alone does not name it.
_ADVICE = {
    errno.EPERM: "; changing routes takes root: set become: true",
    errno.ENETDOWN: "; the link is down: set it up first",
    errno.EEXIST: "; another process has just added one, or dumps of the kernel hide it: run the task again",
}


def _advice(number: int, text: str, operation: Operation) -> str:
    """How to fix what the kernel refuses."""
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        if all(hop.oif is not None for hop in operation.route.path.nexthops):
            return "; no subnet of that link contains the gateway: set onlink, or another dev"
        return "; no subnet of a link contains the gateway: set dev and onlink"
    if number == errno.EINVAL and ("prefsrc" in text or "source address" in text):
        return "; src has to be an address of this machine in this VRF"
    return _ADVICE.get(number, "")


def _index(asked: _Asked, operation: Operation) -> int | None:
    """The item that a route comes from; None for one that is removed because no item names it."""
    if operation.action != DELETE:
        return asked.indexes.get(operation.route.key)
    found = asked.selector(operation.route)
    return None if found is None else found[0]


def _sorted(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: (route.prefix, route.path.metric, route.path.tos))
