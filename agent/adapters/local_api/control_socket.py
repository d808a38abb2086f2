"""The running agent's own door for people on this machine: a unix socket in its state directory, for its owner only.

One JSON object each way, one line each: {"command": "leave", "when_idle": false} or {"command":
"simulate-interruption", "kind": "terminate", "in_s": 120}; the answer is {"ok": true, "text": "…"}.
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

Answer = Callable[[dict[str, Any]], str]
"""Carries a wish out; the text says what comes of it. Raises: ValueError with the reason where it is refused."""


class Control:
    """Listens until `close`. Wishes are handled one at a time, on a thread of its own."""

    def __init__(self, directory: Path, answer: Answer) -> None:
        self.path = directory / NAME
        self._answer = answer
        self._listener: socket.socket | None = None

    def start(self) -> str | None:
        """Begin to listen. What is wrong where that cannot be, which is no reason not to work."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.path.unlink(missing_ok=True)  # of an agent before this one: the lock says that it is gone
            # The directory is 0700, so nobody else can come between these two.
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(4)
            threading.Thread(target=self._serve, args=(listener,), name="control", daemon=True).start()
        except (OSError, RuntimeError) as error:
            listener.close()
            return f"{self.path}: {error}; 'leave' and 'simulate-interruption' do not reach this agent"
        self._listener = listener
        return None

    def close(self) -> None:
        """Listen no longer."""
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
                threading.Event().wait(0.2)  # out of file descriptors, perhaps: they come back
                if not self.path.exists():
                    return
                continue
            with connection, contextlib.suppress(OSError):  # whoever asked is gone already
                connection.settimeout(TIMEOUT_S)
                connection.sendall(json.dumps(self._reply(connection)).encode() + b"\n")

    def _reply(self, connection: socket.socket) -> dict[str, Any]:
        try:
            wish = json.loads(_line(connection))
            if not isinstance(wish, dict):
                return {"ok": False, "text": "that is no JSON object"}
            return {"ok": True, "text": self._answer(wish)}
        except (ValueError, RecursionError) as error:
            return {"ok": False, "text": str(error)}


def ask(path: Path, wish: dict[str, Any]) -> str:
    """Tell the running agent, and return its answer.

    Raises: FileNotFoundError or ConnectionRefusedError where no agent listens; TransientError where it refuses, or
    does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(os.fspath(path))
        try:
            connection.sendall(json.dumps(wish).encode() + b"\n")
            reply = json.loads(_line(connection))
            text, is_ok = str(reply["text"]), bool(reply["ok"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise TransientError(f"the agent at {path} does not answer ({error}); try again") from error
    if not is_ok:
        raise TransientError(f"the agent refuses: {text}")
    return text


def _line(connection: socket.socket) -> bytes:
    """One line. Raises: OSError, ValueError for one that is too long."""
    read = b""
    while not read.endswith(b"\n"):
        part = connection.recv(LIMIT_BYTES)
        if not part:
            break
        read += part
        if len(read) > LIMIT_BYTES:
            raise ValueError(f"more than {LIMIT_BYTES} bytes")
    return read
