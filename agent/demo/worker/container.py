"""One container of the stand-in worker: a process in a network namespace of its own, and what it prints."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence

from agent.adapters.process.run import Child, run, spawn
from agent.demo.worker.bridge import Published, attach, free_port
from agent.errors import AgentError

START_S = 20.0
EXEC_S = 30.0
STOP_S = 5.0
_WHEN_CONNECTED = 'echo; read -r _ && exec "$@"'
"""Says that the namespace exists, and waits until it has its network."""


class Container:
    """A container. It exists for the gateway from the start, runs once start() was called, and ends by itself."""

    def __init__(self, container_id: str, command: Sequence[str], port: int | None) -> None:
        self.container_id = container_id
        self.host_port = free_port() if port is not None else None
        self._command, self._port = tuple(command), port
        self._child: Child | None = None
        self._published: Published | None = None
        self._in_namespace = threading.Event()
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._exit_code: int | None = None

    def start(self) -> None:
        """Start the process and connect its network. What goes wrong is a line of its log, and ends it."""
        try:
            self._start()
        except (AgentError, OSError) as error:
            self._print(f"cannot start: {error}")
            if self._child is None:
                self._end(1)
            else:
                self._child.stop(0)

    def _start(self) -> None:
        argv = ["unshare", "--net", "--", "sh", "-c", _WHEN_CONNECTED, "sh", *self._command]
        environment = {"PATH": os.environ["PATH"], "CONTAINER_ID": self.container_id, "PYTHONUNBUFFERED": "1"}
        self._child = spawn(
            argv,
            name=self.container_id,
            env=environment,
            on_line=self._print,
            on_stdout=self._on_stdout,
            on_exit=self._end,
        )
        if not self._in_namespace.wait(START_S):
            raise TimeoutError("the namespace could not be made")
        address = attach(self._child.pid)
        if self._port is not None and self.host_port is not None:
            self._published = Published(self.container_id, self.host_port, address, self._port)
        self._child.send_line("go")

    def follow(self) -> Iterator[Mapping[str, object]]:
        """Yield what it has printed and prints until it ends, and then its exit code."""
        sent = 0
        while (code := self._wait_beyond(sent)) is None or sent < len(self._lines):
            lines = self._lines[sent:]
            yield from ({"line": line} for line in lines)
            sent += len(lines)
        yield {"exit_code": code}

    def _wait_beyond(self, sent: int) -> int | None:
        """Wait until there are more lines than these or it has ended; return the exit code."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._lines) > sent or self._exit_code is not None)
            return self._exit_code

    def execute(self, command: Sequence[str]) -> Mapping[str, object]:
        """Run another command in it; return exit code and output. Raises: LookupError if it does not run."""
        if self._child is None or self._exit_code is not None:
            raise LookupError(f"{self.container_id} does not run")
        enter = ["nsenter", "--target", str(self._child.pid), "--net", "--"]
        done = run([*enter, *command], EXEC_S, ok_codes=range(256))
        return {"exit_code": done.code, "output": done.stdout + done.stderr}

    def cancel(self) -> None:
        """End it. Raises: LookupError if it has not been started."""
        if self._child is None:
            raise LookupError(f"{self.container_id} does not run yet")
        self._child.stop(STOP_S)

    def _on_stdout(self, line: str) -> None:
        if not self._in_namespace.is_set():
            self._in_namespace.set()
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def _end(self, code: int) -> None:
        try:
            if self._published is not None:
                self._published.withdraw()
        finally:
            with self._changed:
                self._exit_code = code
                self._changed.notify_all()
