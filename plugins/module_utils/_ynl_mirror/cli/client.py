# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of a daemon's control socket: HTTP (daemon/api.py) over a unix socket, with the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlencode

DEFAULT_SOCKETS = ("/run/ynl-mirror/agent.sock", "/run/ynl-mirror/listener.sock")


class NotReachable(ConnectionError):
    """No daemon answers on the control socket; the text names it and the fix."""


class Refused(ValueError):
    """The daemon answered with an error; the text is the daemon's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; the host is used in the Host header only."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        """Connect to the path of the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(self._path)


class ControlClient:
    """The control socket at PATH; each call opens a connection, with a timeout of SECONDS (None: no timeout)."""

    def __init__(self, path: str, seconds: float | None = 10.0) -> None:
        self._path = path
        self._seconds = seconds

    def health(self) -> dict[str, Any] | None:
        """The answer of /healthz, which has `ready`; None when no daemon answers."""
        try:
            with self._request("GET", "/healthz", {}, None) as response:
                answer = json.loads(response.read())
        except (NotReachable, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    def get(self, path: str, **query: str | None) -> Any:
        """The JSON of a GET; raises Refused when the daemon answers with an error."""
        with self._request("GET", path, query, None) as response:
            return _json(response)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST of a JSON body; raises Refused when the daemon answers with an error."""
        with self._request("POST", path, {}, json.dumps(body)) as response:
            return _json(response)

    def lines(self, path: str, **query: str | None) -> Generator[dict[str, Any], None, None]:
        """The objects of an NDJSON answer as they arrive."""
        with self._request("GET", path, query, None) as response:
            if response.status != 200:
                _json(response)
            for line in response:
                if line.strip():
                    yield json.loads(line)

    @contextlib.contextmanager
    def _request(
        self, method: str, path: str, query: dict[str, str | None], body: str | None
    ) -> Iterator[http.client.HTTPResponse]:
        given = {name: value for name, value in query.items() if value is not None}
        connection = _UnixConnection(self._path, self._seconds)
        try:
            connection.request(method, path + ("?" + urlencode(given) if given else ""), body)
            yield connection.getresponse()
        except PermissionError:
            text = "permission denied; run as root or as a member of the socket's group"
            raise NotReachable(f"{self._path}: {text}") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotReachable(f"{self._path}: no daemon is listening; start it, or set --socket") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotReachable(f"{self._path}: {error or type(error).__name__}; see the daemon's log") from None
        finally:
            connection.close()


def _json(response: http.client.HTTPResponse) -> Any:
    """The JSON of a complete answer; raises Refused when its status is an error."""
    data = response.read()
    try:
        value = json.loads(data)
    except ValueError:
        raise Refused(response.status, f"HTTP {response.status} without JSON") from None
    if response.status >= 400 and isinstance(value, dict) and "error" in value:
        raise Refused(response.status, str(value["error"]))
    return value
