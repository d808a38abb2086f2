"""The agent's control socket: a unix socket in its state directory that only its owner can use.

One JSON object in each direction, on one line each. Requests: {"command": "leave", "when_idle": false} and {"command":
"simulate-interruption", "kind": "terminate", "in_s": 120}. Reply: {"ok": true, "text": "…"}.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.errors import TransientError

NAME = "control.sock"
LIMIT_BYTES = 4096
TIMEOUT_S = 5.0

Handler = Callable[[dict[str, Any]], str]
"""Carries out a request and returns a text about its effect. Raises: ValueError with the reason for a refusal."""


class Control:
    """Listens until `close`. Handles one request at a time, on its own thread."""

    def __init__(self, directory: Path, handler: Handler) -> None:
        self.path = directory / NAME
        self._handler = handler
        self._listener: socket.socket | None = None

    def start(self) -> str | None:
        """Start listening. Return what is wrong if that fails; the agent works without a control socket, too."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.path.unlink(missing_ok=True)  # left by an earlier agent; the lock proves that it has ended
            # Between these two calls the socket is protected by its directory, which has mode 0700.
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(4)
            threading.Thread(target=self._serve, args=(listener,), name="control", daemon=True).start()
        except (OSError, RuntimeError) as error:
            listener.close()
            return f"{self.path}: {error}; 'leave' and 'simulate-interruption' cannot reach this agent"
        self._listener = listener
        return None

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0 or self._listener is not listener:
                    return
                threading.Event().wait(0.2)  # out of file descriptors, perhaps, which can pass
                if not self.path.exists():
                    return
                continue
            with connection, contextlib.suppress(OSError):  # the client has gone
                connection.settimeout(TIMEOUT_S)
                connection.sendall(json.dumps(self._reply(connection)).encode() + b"\n")

    def _reply(self, connection: socket.socket) -> dict[str, Any]:
        try:
            request = json.loads(_read_line(connection))
            if not isinstance(request, dict):
                return {"ok": False, "text": "the request is not a JSON object"}
            return {"ok": True, "text": self._handler(request)}
        except (ValueError, RecursionError) as error:
            return {"ok": False, "text": str(error)}
        except OSError:
            raise  # of this connection: the client has gone
        except Exception as error:  # noqa: BLE001 - the top of a thread that must not end: it becomes the reply
            return {"ok": False, "text": f"the request failed: {error!r}"}


def ask(path: Path, request: dict[str, Any]) -> str:
    """Send a request to the running agent and return the text of its reply.

    Raises: FileNotFoundError or ConnectionRefusedError if no agent listens; TransientError if it refuses the request or
    does not reply.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(os.fspath(path))
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(connection))
            text, is_ok = str(reply["text"]), bool(reply["ok"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise TransientError(f"the agent at {path} does not answer ({error}); try again") from error
    if not is_ok:
        raise TransientError(f"the agent refuses the request: {text}")
    return text


def _read_line(connection: socket.socket) -> bytes:
    """Read one line. Raises: OSError; ValueError if it is too long."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(LIMIT_BYTES)
        if not part:
            break
        line += part
        if len(line) > LIMIT_BYTES:
            raise ValueError(f"more than {LIMIT_BYTES} bytes")
    return line
