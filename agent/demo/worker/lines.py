"""Calls at a worker's port, in lines of JSON over plain TCP. They stand for gRPC, which the real worker speaks.

One connection carries one call: a line with its name and arguments, then lines of answers until the worker closes it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Call = Callable[..., Iterable[Mapping[str, object]]]


class WorkerCallError(Exception):
    """The worker rejected a call; the message says why."""


class LineServer(socketserver.ThreadingTCPServer):
    """Answers calls on any free port of every address, as the worker's gRPC server does, from start() to stop()."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, calls: Mapping[str, Call]) -> None:
        self.calls = calls
        super().__init__(("", 0), _Connection)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="worker-port", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    server: LineServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the gateway has hung up
            line = self.rfile.readline()
            if line:
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        try:
            arguments = json.loads(line)
            for answer in self.server.calls[arguments.pop("call")](**arguments):
                self._send(answer)
        except (LookupError, TypeError, ValueError) as error:
            self._send({"error": f"{type(error).__name__}: {error}"})

    def _send(self, answer: Mapping[str, object]) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def call(address: tuple[str, int], name: str, /, **arguments: object) -> Iterator[dict[str, Any]]:
    """Dial once and yield the answers as they come. Raises: OSError, WorkerCallError."""
    with socket.create_connection(address) as connection, connection.makefile("rwb") as stream:
        stream.write(json.dumps({"call": name, **arguments}).encode() + b"\n")
        stream.flush()
        for line in stream:
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise WorkerCallError(answer["error"])
            yield answer
