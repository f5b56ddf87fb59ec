# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A man in the middle of a plaintext connection between listener and agent, who loses messages on the way."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Callable

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace
from ansible_collections.ekho.ynl_mirror.tests.support.peers.fpm import Message, frame, messages_of


class Middleman:
    """Listens on one address of a namespace and hands everything on to another, in both directions.

    ``loses`` decides about each message to the agent; ``passed`` are those that were handed on, ``answered`` those that
    came back.
    """

    def __init__(self, namespace: Namespace, address: str, to: str) -> None:
        self._namespace = namespace
        self._to = to
        self.loses: Callable[[Message], bool] = lambda _message: False
        self.passed: list[Message] = []
        self.answered: list[Message] = []
        self._open: list[socket.socket] = []
        self._agent: socket.socket | None = None
        with namespace.entered():
            self._server = socket.create_server((address, 2620))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for sock in (self._server, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> Middleman:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def inject(self, *messages: bytes) -> None:
        """Say something to the agent that the listener never said."""
        assert self._agent is not None
        self._agent.sendall(frame(*messages))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                try:
                    with self._namespace.entered():
                        agent = socket.create_connection((self._to, 2620))
                except OSError:  # the agent is not there yet
                    client.close()
                    continue
                self._open += [client, agent]
                self._agent = agent
                for ends in ((client, agent), (agent, client)):
                    threading.Thread(target=self._pump, args=(*ends, ends[0] is client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_agent: bool) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                rest += data
                while len(rest) >= 4 and len(rest) >= (length := struct.unpack_from(">BBH", rest)[2]):
                    payload, rest = rest[4:length], rest[length:]
                    sink.sendall(self._handled(payload, to_agent))
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _handled(self, payload: bytes, to_agent: bool) -> bytes:
        kept = []
        for message, text in messages_of(payload):
            if to_agent and self.loses(message):
                continue
            kept.append(text)
            (self.passed if to_agent else self.answered).append(message)
        return frame(*kept) if kept else b""
