# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP interface of both daemons: one bare ASGI application, on the unix control socket and optionally on TCP.

GET /healthz    200 {"ready": true, ...}, or 503 with the same body
GET /metrics    Prometheus
GET /status     JSON object
GET /routes     NDJSON, filtered by ?state= and ?prefix=
GET /explain    JSON object, ?prefix= is required
GET /watch      NDJSON, changes as they happen, until the client disconnects

and on the agent, as in the proof of concept (names: ynl.py):

GET  /route      JSON list, the routes of the DPU's kernel
POST /route/add  one route, installed with protocol 122, which the mirror never changes
POST /route/del  one such route; both are refused on TCP unless `http.allow_changes` is set

Errors are {"error": text}; the text names the item and the fix.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Callable, Protocol
from urllib.parse import parse_qsl

from ..config.common import HttpConfig
from ..config.fields import suggestion
from .http_server import serve_asgi, tcp_socket, unix_socket
from .ynl import from_ynl, to_ynl

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

STATES = ("pending", "offloaded", "failed", "slow_path")
BODY_BYTES = 64 * 1024  # one route is under 1 KiB
CHUNK_BYTES = 64 * 1024


class ApiError(Exception):
    """A request that cannot be served: HTTP status and a text that names the item and the fix."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Daemon(Protocol):
    """What the interface needs of a daemon; every method runs on the event loop and does not block.

    `routes`, `explain` and the `manual_` methods may raise ApiError, or ValueError for a wrong argument.
    """

    name: str

    def ready(self) -> bool:
        """Whether the daemon is working: the first dump is complete and its sockets are open."""

    def status(self) -> dict[str, Any]:
        """A flat JSON object: version, uptime, peers or hosts, counters, receive buffer ..."""

    def routes(self, prefix: str | None = None, state: str | None = None) -> Iterator[dict[str, Any]]:
        """The routes, each with prefix, state, reason ...; stays valid while the daemon keeps working."""

    def explain(self, prefix: str) -> dict[str, Any]:
        """{"prefix", "state", "reason", "steps": [text, ...], "routes": [...]}."""

    def counters(self) -> Iterator[tuple[str, str, str, dict[str, str], float]]:
        """(name, help, "counter" or "gauge", labels, value) of each."""

    def subscribe(self) -> contextlib.AbstractContextManager[asyncio.Queue[dict[str, Any]]]:
        """A queue of changes while the block lasts."""


class AgentDaemon(Daemon, Protocol):
    """What it needs of an agent besides; routes in YNL names."""

    def kernel_routes(self) -> Iterable[dict[str, Any]]:
        """The routes of the DPU's kernel."""

    def manual_add(self, route: dict[str, Any]) -> None:
        """Install one route under protocol 122."""

    def manual_del(self, route: dict[str, Any]) -> None:
        """Remove one route of protocol 122."""


@contextlib.asynccontextmanager
async def serve(daemon: Daemon, control_socket: str, http: HttpConfig | None) -> AsyncIterator[list[tuple[str, int]]]:
    """Serve DAEMON while the block lasts; yields the TCP addresses (the kernel chooses the port if it was 0).

    Raises SocketInUse when another daemon listens on the control socket, OSError when an address is not available.
    """
    closing = asyncio.Event()
    addresses: list[tuple[str, int]] = []
    async with contextlib.AsyncExitStack() as stack:
        sock = stack.enter_context(unix_socket(control_socket))
        await stack.enter_async_context(serve_asgi(Api(daemon, closing, changes=True), sock))
        if http is not None:
            tcp = stack.enter_context(contextlib.closing(tcp_socket(http.address, http.port)))
            addresses.append(tcp.getsockname()[:2])
            await stack.enter_async_context(serve_asgi(Api(daemon, closing, changes=http.allow_changes), tcp))
        stack.callback(closing.set)  # ends the /watch streams, which would never end otherwise
        yield addresses


@dataclass(frozen=True)
class Request:
    """A complete request."""

    query: dict[str, str]
    body: bytes
    headers: dict[str, str]
    receive: Receive
    send: Send

    def arguments(self, *known: str) -> dict[str, str]:
        """The query; a name that is not KNOWN is an error."""
        for name in self.query:
            if name not in known:
                hint = suggestion(name, known) if known else "this path takes no parameters"
                raise ApiError(400, f"query {name}: unknown parameter; {hint}")
        return self.query


class Api:
    """The ASGI application; CHANGES says whether this socket may change routes, CLOSING ends endless answers."""

    def __init__(self, daemon: Daemon, closing: asyncio.Event, changes: bool) -> None:
        self._daemon = daemon
        self._closing = closing
        self._changes = changes
        self._metrics = _metrics_app(daemon)
        self._paths: dict[tuple[str, str], Callable[[Request], Awaitable[None]]] = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/status"): self._status,
            ("GET", "/routes"): self._routes,
            ("GET", "/explain"): self._explain,
            ("GET", "/watch"): self._watch,
        }
        if hasattr(daemon, "kernel_routes"):
            self._paths["GET", "/route"] = self._kernel_routes
            self._paths["POST", "/route/add"] = self._manual_add
            self._paths["POST", "/route/del"] = self._manual_del

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            method, path = scope["method"], scope["path"]
            if path == "/metrics" and method == "GET":
                await self._metrics(scope, receive, send)
                return
            handler = self._handler("GET" if method == "HEAD" else method, path)
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            body = await _body(receive) if method == "POST" else b""
            await handler(Request(query, body, headers, receive, send))
        except ApiError as error:
            await _answer(send, error.status, {"error": error.text})
        except ValueError as error:
            await _answer(send, 400, {"error": str(error)})

    def _handler(self, method: str, path: str) -> Callable[[Request], Awaitable[None]]:
        handler = self._paths.get((method, path))
        if handler is not None:
            return handler
        allowed = [known for known, at in self._paths if at == path]
        if allowed:
            raise ApiError(405, f"{method} {path}: use {allowed[0]}")
        paths = ["/metrics", *(at for _method, at in self._paths)]
        raise ApiError(404, f"{path}: not found on the {self._daemon.name}; {suggestion(path, paths)}")

    async def _healthz(self, request: Request) -> None:
        request.arguments()
        ready = self._daemon.ready()
        await _answer(request.send, 200 if ready else 503, {"ready": ready, "name": self._daemon.name})

    async def _status(self, request: Request) -> None:
        request.arguments()
        await _answer(request.send, 200, self._daemon.status())

    async def _routes(self, request: Request) -> None:
        query = request.arguments("state", "prefix")
        state = query.get("state")
        if state is not None and state not in STATES:
            raise ApiError(400, f"query state: unknown state {state!r}; {suggestion(state, STATES)}")
        lines = (_line(route) for route in self._daemon.routes(query.get("prefix"), state))
        await _stream(request.send, "application/x-ndjson", lines)

    async def _explain(self, request: Request) -> None:
        query = request.arguments("prefix")
        if "prefix" not in query:
            raise ApiError(400, "query prefix: missing; ask for /explain?prefix=192.0.2.0/24")
        await _answer(request.send, 200, self._daemon.explain(query["prefix"]))

    async def _watch(self, request: Request) -> None:
        request.arguments()
        gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(request.receive))
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closing.wait())
        try:
            with self._daemon.subscribe() as queue:
                await _start(request.send, 200, "application/x-ndjson")
                await request.send(_part(b""))  # sends the headers now, not with the first change
                while not (gone.done() or closing.done()):
                    lines = await _next_lines(queue, gone, closing)
                    if lines:
                        await request.send(_part(lines))
            await request.send(_part(b"", more=False))
        finally:
            gone.cancel()
            closing.cancel()

    async def _kernel_routes(self, request: Request) -> None:
        request.arguments()
        routes = self._daemon.kernel_routes()  # type: ignore[attr-defined]  # only reached when it is there
        await _stream(request.send, "application/json", _json_list(routes))

    async def _manual_add(self, request: Request) -> None:
        route = self._posted_route(request)
        self._daemon.manual_add(route)  # type: ignore[attr-defined]
        await _answer(request.send, 200, {"added": route})

    async def _manual_del(self, request: Request) -> None:
        route = self._posted_route(request)
        self._daemon.manual_del(route)  # type: ignore[attr-defined]
        await _answer(request.send, 200, {"deleted": route})

    def _posted_route(self, request: Request) -> dict[str, Any]:
        """The route of a POST in canonical form, if this client may change routes at all."""
        request.arguments()
        if not self._changes:
            raise ApiError(403, "changes are refused over TCP; set http.allow_changes, or use the control socket")
        if "origin" in request.headers:
            raise ApiError(403, "changes from web pages are refused; post without an Origin header")
        try:
            data = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is not JSON: {error}; post one route as an object") from None
        return to_ynl(from_ynl(data))


def _metrics_app(daemon: Daemon) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application of prometheus_client over the daemon's counters and those of its process."""
    import prometheus_client as prometheus
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    class Collector:
        def collect(self) -> Iterator[Any]:
            families: dict[str, Any] = {}
            for name, text, kind, labels, value in daemon.counters():
                if name not in families:
                    made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                    families[name] = made(name, text, labels=list(labels))
                families[name].add_metric(list(labels.values()), value)
            yield from families.values()

    # auto_describe would call collect() now, before the daemon is complete
    registry = prometheus.CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    prometheus.ProcessCollector(registry=registry)
    app: Callable[[Scope, Receive, Send], Awaitable[None]] = prometheus.make_asgi_app(registry)
    return app


async def _next_lines(queue: asyncio.Queue[dict[str, Any]], *leaving: asyncio.Future[Any]) -> bytes:
    """Wait for a change, and take those that follow at once; b"" when one of LEAVING is done first."""
    getter: asyncio.Future[Any] = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait({getter, *leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not getter.done():
            return b""
        lines = bytearray(_line(getter.result()))
        while len(lines) < CHUNK_BYTES and not queue.empty():
            lines += _line(queue.get_nowait())
        return bytes(lines)
    finally:
        getter.cancel()


async def _stream(send: Send, content_type: str, pieces: Iterable[bytes]) -> None:
    """Send PIECES in chunks and let the daemon work in between; an error before the first chunk is reported as such."""
    chunk = bytearray()
    started = False
    for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK_BYTES:
            if not started:
                await _start(send, 200, content_type)
                started = True
            await send(_part(bytes(chunk)))
            chunk.clear()
            await asyncio.sleep(0)
    if not started:
        await _start(send, 200, content_type)
    await send(_part(bytes(chunk), more=False))


async def _answer(send: Send, status: int, value: dict[str, Any]) -> None:
    """A complete answer in JSON."""
    await _start(send, status, "application/json")
    await send(_part(_line(value), more=False))


async def _start(send: Send, status: int, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _json_list(items: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The pieces of a JSON list, one item per line."""
    before = b"["
    for item in items:
        yield before + _line(item).rstrip(b"\n")
        before = b",\n"
    yield b"]\n" if before != b"[" else b"[]\n"


async def _body(receive: Receive) -> bytes:
    """The body of a request, up to BODY_BYTES."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the client disconnected before the end of its request")
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise ApiError(413, f"the body exceeds {BODY_BYTES} bytes; post one route at a time")
        if not message.get("more_body"):
            return bytes(body)


async def _disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
