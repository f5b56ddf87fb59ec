# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is fuzzed: each target is a function of bytes that raises when a promise about *any* input is broken.

The promises: input that is wrong ends in the one documented exception (FpmError, WireError, ItemErrors, an HTTP
status) and in nothing else; what can be decoded can be encoded, and comes back equal; the short cuts of the hot path
read what the long way reads; and however a stream is cut, the same comes out of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.host_session import HostSession
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.installer import Installer
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.filters import Filters
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import PeerAddress
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.api import Api
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.ynl import from_ynl
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.framing import Deframer, FpmError, frame
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.agent_session import AgentSession
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.fib_view import FibView
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.listener.layers import Machine, layers_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.lpm import Lpm
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.view import View
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, Rule, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    ForeignFamily,
    RouteReader,
    decode_route,
    encode_route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.filters import Selection
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.vrf.items import (
    ItemErrors,
    ItemReader,
    LinkNames,
    expressible,
    to_item,
)
from ansible_collections.ekho.ynl_mirror.tests.fuzz import seeds
from ansible_collections.ekho.ynl_mirror.tests.support.build import oracle
from ansible_collections.ekho.ynl_mirror.tests.support.peers.served import Agent

_CREATE = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE
#: Variants of one message are tried up to this size: enough for every attribute, not a second for a single input.
_LONGEST = 256


@dataclass(frozen=True)
class Target:
    """A function of bytes that raises when it finds a fault, and valid input to start from."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


# -- frames


def _payloads(stream: bytes, step: int) -> tuple[list[bytes], str | None, int]:
    """What comes out of a stream that arrives *step* bytes at a time: payloads, error, bytes kept at most."""
    deframer, found, kept = Deframer(), [], 0
    for start in range(0, len(stream), step):
        try:
            found.extend(deframer.feed(stream[start : start + step]))
        except FpmError as error:
            return found, str(error), kept
        kept = max(kept, deframer.waiting)
    return found, None, kept


def deframe(data: bytes) -> None:
    """The first byte says how the rest of the stream is cut."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    whole = _whole_payloads(stream)
    found, error, kept = _payloads(stream, step)
    assert (found, error) == whole
    assert kept <= 65535
    assert stream.startswith(b"".join(map(frame, found)))


def _whole_payloads(stream: bytes) -> tuple[list[bytes], str | None]:
    found, error, _kept = _payloads(stream, max(1, len(stream)))
    return found, error


# -- one netlink message


def _slow(buffer: bytes, start: int, end: int) -> tuple[int, Path] | None:
    try:
        prefix, path = decode_route(buffer, start, end)
    except rtnetlink.WireError:
        return None
    return prefix.key, path


def _fast(reader: RouteReader, buffer: bytes) -> list[tuple[int, Path] | None]:
    """The routes that a scan reads; None in the end when it stops at one that is wrong."""
    found: list[tuple[int, Path] | None] = []
    try:
        for _kind, _flags, _start, _end, key, path in reader.scan(buffer):
            if path is not None:
                found.append((key, path))
    except rtnetlink.WireError:
        found.append(None)
    return found


def _sized(message: bytes) -> bytes:
    """The same message with a header that has its size."""
    return (
        rtnetlink.NLMSGHDR.pack(len(message), *rtnetlink.NLMSGHDR.unpack_from(message)[1:])
        + message[rtnetlink.NLMSGHDR.size :]
    )


def _variants(message: bytes) -> Iterator[bytes]:
    """Messages that a short cut might take for this one: a word is another, one is missing, one more is there."""
    for at in range(16, len(message) - 3, 4):
        word = message[at : at + 4]
        yield message[:at] + bytes(byte ^ 0x5A for byte in word) + message[at + 4 :]
        yield message[:at] + word[:3] + bytes((word[3] ^ 1,)) + message[at + 4 :]
        yield _sized(message[:at] + message[at + 4 :])
        yield _sized(message[:at] + word + message[at:])
    yield message


def _single(data: bytes) -> bytes | None:
    """The data as one whole route message, padded."""
    data = data[:_LONGEST]
    if len(data) < rtnetlink.NLMSGHDR.size:
        return None
    kind = rtnetlink.RTM_NEWROUTE if data[4] & 1 else rtnetlink.RTM_DELROUTE
    return _sized(data[:4] + bytes((kind, 0)) + data[6:] + bytes(-len(data) % 4))


def _is_foreign(message: bytes) -> bool:
    """Whether a message is a route of another family, which a scan hands over as no route."""
    try:
        decode_route(message, 0, len(message))
    except ForeignFamily:
        return True
    except rtnetlink.WireError:
        pass
    return False


def route(data: bytes) -> None:
    """One route message and all its neighbours: the reader's short cut against the long way; values there and back."""
    message = _single(data)
    if message is None:
        return
    reader = RouteReader()
    for variant in (message, *_variants(message)):
        # Behind the message stands another: what a short cut reads beyond the end would be seen.
        buffer = variant + b"\xff" * 4
        expected = _slow(buffer, 0, len(variant))
        try:
            read: tuple[int, Path] | None = reader.read(buffer, 0, len(variant))
        except rtnetlink.WireError:
            read = None
        assert read == expected, (variant.hex(), read, expected)
        assert _fast(reader, variant) == ([] if _is_foreign(variant) else [expected]), (variant.hex(), expected)
    found = _slow(message, 0, len(message))
    if found is not None:
        _there_and_back(*found)
        for dead in (True, False):
            decode_route(message, 0, len(message), dead)


def _expressed(path: Path) -> bool:
    """Whether a message says all of this path; a next hop with neither gateway nor link has no encoding of its own."""
    nowhere = any(hop.gateway is None and hop.oif is None for hop in path.nexthops)
    return not path.extras and not path.dead_links and not nowhere and (path.nh_id is None or not path.nexthops)


def _there_and_back(key: int, path: Path) -> None:
    prefix = Prefix.from_key(path.family, key)
    for kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
        written = encode_route(Route(prefix, path), kind, _CREATE)
        back = decode_route(written, 0, len(written))
        if _expressed(path):
            assert back == (prefix, path)
    assert Prefix.parse(str(prefix)) == prefix


def link(data: bytes) -> None:
    """Links, addresses and rules: WireError, or the value that pyroute2 reads where it reads one at all."""
    if len(data) >= rtnetlink.NLMSGHDR.size:
        data = _sized(data)  # pyroute2 goes by the header, the codec by what `messages` has cut out by it
    for pair in oracle.PAIRS.values():
        try:
            value = pair.ours(data)
        except rtnetlink.WireError:
            continue
        hash(value)
        try:
            expected = pair.theirs(data)
        except Exception:  # of many kinds, also for attributes that the project has no use for
            continue
        assert value == expected, (value, expected)


# -- many netlink messages


def buffer(data: bytes) -> None:
    """A datagram: the scan of routes, of a reader that is new and of one that has seen it, against the long way."""
    expected: list[tuple[int, Path] | None] = []
    acknowledgements = []
    try:
        for kind, _flags, start, end in rtnetlink.messages(data):
            if kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
                if _is_foreign(data[start:end]):
                    continue
                found = _slow(data, start, end)
                expected.append(found)
                if found is None:
                    break
            elif kind == rtnetlink.NLMSG_ERROR:
                acknowledgements.append((start, end))
    except rtnetlink.WireError:
        expected.append(None)
    reader = RouteReader()
    for _round in range(2):
        assert _fast(reader, data) == expected
    for start, end in acknowledgements:
        _acknowledgement(data, start, end)


def _acknowledgement(data: bytes, start: int, end: int) -> None:
    try:
        found = rtnetlink.parse_acknowledgement(data, start, end)
    except rtnetlink.WireError:
        return
    assert len(found.request) <= end - start
    message = rtnetlink.encode_error(rtnetlink.request(24, 0, found.request), 95, found.text)
    assert rtnetlink.parse_acknowledgement(message, 0, len(message)).errno == 95


def notifications(data: bytes) -> None:
    """The kernel's datagrams, each behind two bytes of length, into the replica; then the same as a dump."""
    rib = Rib([254, 10])
    rib.recording = True
    replica = Replica(rib)
    for datagram in _datagrams(data):
        try:
            replica.apply(datagram)
        except rtnetlink.WireError:
            continue
    for datagram in _datagrams(data):
        reading = rib.reading(Reread(AF_INET, 254, 2 if len(datagram) % 2 else None))
        try:
            reading.feed(datagram)
        except rtnetlink.WireError:
            continue
        reading.finish()
    rib.take_rereads()


def _datagrams(data: bytes) -> Iterator[bytes]:
    start = 0
    while start + 2 <= len(data):
        size = int.from_bytes(data[start : start + 2], "big")
        yield data[start + 2 : start + 2 + size]
        start += 2 + size


def datagrams(*parts: bytes) -> bytes:
    """The input of `notifications`."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


# -- the two ends of a connection


class _Kernel:
    """A kernel that takes everything: what the mirror writes is what is installed."""

    def write(self, messages: Sequence[bytes]) -> list[Any]:
        """No refusal."""
        assert all(_slow(message, 0, len(message)) is not None for message in messages)
        return []


def _mirror() -> Installer:
    """The lab's DPU: two VRFs; the first one leaves by eth3, the other one sends to the host what it does not know."""
    links = {number: Link(number, f"eth{number}", True, True) for number in (1, 2, 3, 4)}
    tables = {}
    for family, text, host in ((AF_INET, "0.0.0.0/0", "192.168.102.2"), (AF_INET6, "::/0", "fd00:102::2")):
        for number, hop in ((10, NextHop(None, 3)), (20, NextHop(Address.parse(host), 2))):
            table = tables[family, number] = Lpm(family)
            table.set(Prefix.parse(text).key, Path(family, table=number, nexthops=(hop,)))
    owners: dict[Address, tuple[int, ...]] = {seeds.GATEWAY: (1,), seeds.GATEWAY6: (1,)}
    view = View((Vrf("a", 10, frozenset((1, 3))), Vrf("b", 20, frozenset((2, 4)))), links, owners, tables)
    return Installer(_Kernel(), Mapper(view, Policy(host_links=("eth2",))), (254,), Rib(()))


def _produce(stream: bytes, step: int) -> tuple[Any, ...]:
    """What a producer's stream leaves behind: the host's routes, those installed, the answers, the error."""
    mirror = _mirror()
    session = HostSession("host", mirror, 5.0, SimpleNamespace())  # type: ignore[arg-type] # no loop runs, so no lock
    failed = None
    for start in range(0, len(stream), step):
        received = session.machine.receive(stream[start : start + step], 0.0)
        for family, keys in received.touched.items():
            mirror.sync(family, keys)
        if received.error is not None:
            failed = str(received.error)
            break
        for answer in session._answers.to(received.taken, received.touched):
            _check_answer(answer)
    for family, keys in session.machine._moved.items():
        mirror.sync(family, keys)
    if mirror.mapper.learnt:  # about the host: the agent maps all routes again
        for family in (AF_INET, AF_INET6):
            mirror.sync(family, [*mirror.announced_keys(family), *mirror.stale_keys(family)])
    host = {scope: routes for scope, routes in mirror.announced.items() if routes}
    for (family, _table), routes in host.items():
        for key in routes:
            # Whatever happened to the rest: what was taken is processed, and every state is true.
            assert mirror.state(family, key) != ("pending", "not written yet"), Prefix.from_key(family, key)
    for (family, _table), routes in mirror.installed.items():
        for key in routes:
            assert mirror.announced_path(family, key) is not None, Prefix.from_key(family, key)
    return host, {scope: routes for scope, routes in mirror.installed.items() if routes}, failed


def _check_answer(answer: bytes) -> None:
    for payload in Deframer().feed(answer):
        for kind, _flags, start, end in rtnetlink.messages(payload):
            assert kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.NLMSG_ERROR)
            assert end - start >= 28


def producer(data: bytes) -> None:
    """A producer's whole stream into the agent; the first byte says how it is cut."""
    if not data:
        return
    step, stream = data[0] * 4 + 1, data[1:]
    assert _produce(stream, step) == _produce(stream, max(1, len(stream)))


def answers(data: bytes) -> None:
    """An agent's stream of answers into the listener."""
    rib = Rib([254])
    view = FibView(rib)
    rules = [Rule(family, 0, 254) for family in (AF_INET, AF_INET6)]
    layers = {family: layers_of(family, rules, Machine({})) for family in (AF_INET, AF_INET6)}
    view.compile(layers, Selection(Filters.from_dict({}), {}), (254,))
    listener = SimpleNamespace(rib=rib, watchers=[], view=view)
    session = AgentSession(listener, PeerAddress("192.0.2.1", 2620, "dpu"), None)  # type: ignore[arg-type]
    session.connected = True
    for message in seeds.route_messages():
        rib.apply(message)
    session.mark(view.changed(rib.take_changed()))
    for family in view.steps:
        puts, drops, hidden = view.look_up(family, view.keys(family))
        session._record(family, puts, drops, hidden)
    deframer = Deframer()
    try:
        for payload in deframer.feed(data):
            session._answers(payload)
    except (FpmError, rtnetlink.WireError):
        pass
    for scope, refused in session.refused.items():
        assert refused.keys() <= rib.tables.get(scope, {}).keys(), "what was never sent cannot be refused"
        for key in refused:
            json.dumps(session.state_of(scope, key))
    json.dumps(session.status())


# -- what users send


class _Posted(Agent):
    """A daemon that does with a posted route what the agent does, up to the kernel."""

    def manual_add(self, route: dict[str, Any]) -> None:
        """Encode it."""
        value = from_ynl(route)
        written = encode_route(value, rtnetlink.RTM_NEWROUTE, _CREATE)
        assert decode_route(written, 0, len(written))[0] == value.prefix
        super().manual_add(route)

    manual_del = manual_add

    def explain(self, prefix: str) -> dict[str, Any]:
        """As the agent reads its argument."""
        return {"prefix": str(Prefix.parse(prefix))}


def http(data: bytes) -> None:
    """A request, its method and path in the first line: an answer in JSON with a status that clients know."""
    line, _newline, body = data.partition(b"\n")
    method, _space, target = line.decode("latin-1").partition(" ")
    path, _mark, query = target.partition("?")
    if path == "/watch":
        return  # has no end
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def ask() -> None:
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode("latin-1"), "headers": []}
        await Api(_Posted(), asyncio.Event(), changes=True)(scope, receive, send)

    coroutine = ask()
    try:
        _run(coroutine)
    finally:
        coroutine.close()
    status = sent[0]["status"]
    text = b"".join(event.get("body", b"") for event in sent)
    assert status in (200, 400, 403, 404, 405, 409, 413), status
    if path != "/metrics":
        for told in text.splitlines() if path == "/routes" else [text]:
            json.loads(told or b"{}")
    assert status == 200 or json.loads(text)["error"]


def _run(coroutine: Any) -> None:
    """Run a coroutine that waits for nothing; an event loop would cost more than all the rest."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration:
            return


def items(data: bytes) -> None:
    """A list of routes as vrf_route gets it."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(given, list):
        return
    links = LinkNames(None)
    try:
        found = ItemReader(links).routes(given)
    except ItemErrors as error:
        assert error.errors
    else:
        for route in found:
            encode_route(replace(route, path=replace(route.path, table=20)), rtnetlink.RTM_NEWROUTE, _CREATE)
            if expressible(route.path):
                assert ItemReader(links).routes([to_item(route, links)]) == [route]
    try:
        ItemReader(links).selectors(given)
    except ItemErrors as error:
        assert error.errors


def _cut(step: int, parts: Sequence[bytes]) -> list[bytes]:
    return [bytes((step,)) + part for part in parts]


TARGETS = {
    target.name: target
    for target in (
        Target("deframe", deframe, _cut(0, seeds.streams()[:4]) + _cut(13, seeds.streams()[:4])),
        Target("route", route, seeds.route_messages()),
        Target("link", link, seeds.link_messages()),
        Target("buffer", buffer, [*seeds.route_messages(), *seeds.answer_messages(), *seeds.link_messages()]),
        Target(
            "notifications",
            notifications,
            [datagrams(one, two) for one in seeds.route_messages() for two in seeds.link_messages()[:2]]
            + [datagrams(*seeds.route_messages(), *seeds.link_messages())]
            + [datagrams(one) for one in seeds.link_messages()],
        ),
        Target("producer", producer, _cut(10, seeds.streams())),
        Target("answers", answers, [frame(message) for message in seeds.answer_messages()]),
        Target("http", http, seeds.http_requests()),
        Target("items", items, seeds.item_lists()),
    )
}
