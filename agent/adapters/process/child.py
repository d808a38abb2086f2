"""A long-lived child process: its output line by line, a callback for its end, and a reliable way to stop it."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from agent.adapters.process.pump import KILL_WAIT_S, Sink, pump, reap, signal_group
from agent.adapters.process.spawn import Process, fork
from agent.errors import TransientError

LINE_LIMIT_BYTES = 4096
"""Longer lines of stderr are cut. What ssh prints, a server's banner included, is read by people and classified."""
ANSWER_LIMIT_BYTES = 1 << 20
"""The limit for stdout, which only the agent's own child programs use."""
TAIL_LINES = 50
STUCK = -int(signal.SIGKILL)
"""The exit code reported for a killed child that cannot be reaped yet because it is stuck in the kernel."""

OnLine = Callable[[str], object]


def spawn(  # noqa: PLR0913 - keywords, most of them optional
    argv: Sequence[str],
    *,
    name: str,
    on_line: OnLine | None = None,
    on_stdout: OnLine | None = None,
    on_exit: Callable[[int], object] | None = None,
    env: Mapping[str, str] | None = None,
) -> Child:
    """Start a long-lived child whose standard input stays open until it ends.

    `on_line` gets each line of stderr and `on_stdout` each line of stdout (None: /dev/null). `on_exit` gets the exit
    code (as in Popen: -9 for SIGKILL) after all output was delivered. All three are called on the child's own thread
    and should only put something on a queue. `env` None means `clean_environment()`.

    Raises: CommandNotFound, TransientError.
    """
    process = fork(argv, env, stdin=True, stdout=on_stdout is not None)
    return Child(process, name, on_line, on_stdout, on_exit)


class Child:
    """A child that `spawn` has started."""

    def __init__(
        self,
        process: Process,
        name: str,
        on_line: OnLine | None,
        on_stdout: OnLine | None,
        on_exit: Callable[[int], object] | None,
    ) -> None:
        self.pid = process.pid
        self.name = name
        self._process = process
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._on_exit = on_exit
        self._code: int | None = None
        self._ended = threading.Event()
        self._reaping = threading.Lock()
        self._outputs: dict[IO[bytes], Lines] = {}
        if process.stderr is not None:
            self._outputs[process.stderr] = Lines(
                lambda line: self._on_stderr(line, on_line), LINE_LIMIT_BYTES
            )
        if process.stdout is not None and on_stdout is not None:
            self._outputs[process.stdout] = Lines(on_stdout, ANSWER_LIMIT_BYTES)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        try:
            threading.Thread(target=self._watch, name=f"child-{name}", daemon=True).start()
        except RuntimeError as error:  # out of threads: a child that nothing watches must not stay
            reap(process)
            raise TransientError(f"could not watch {name}: {error}; will retry") from error

    @property
    def code(self) -> int | None:
        """The exit code, or None while the child runs."""
        return self._code

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of stderr."""
        return tuple(self._tail)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end. Return the exit code, or None if the child still runs after `timeout_s`."""
        self._ended.wait(timeout_s)
        return self._code

    def signal(self, number: int) -> None:
        """Signal the child's process group, unless the child has ended."""
        with self._reaping:
            if self._code is None:
                signal_group(self.pid, number)

    def stop(self, grace_s: float) -> int | None:
        """Send SIGTERM, then SIGKILL to the process group after `grace_s` (0: at once). Return the exit code.

        None only if the child is stuck in the kernel even after SIGKILL. May be called twice, and from any thread but
        the child's own.
        """
        if grace_s > 0:
            self.signal(signal.SIGTERM)
            self._ended.wait(grace_s)
        self.signal(signal.SIGKILL)
        return self.wait(KILL_WAIT_S)

    def send_line(self, text: str) -> bool:
        """Write a line to stdin without blocking. Return False if the child no longer reads."""
        with self._reaping:
            if self._code is not None or self._process.stdin is None:
                return False
            try:
                data = text.encode() + b"\n"
                return os.write(self._process.stdin.fileno(), data) == len(data)
            except (BrokenPipeError, BlockingIOError):
                return False

    def _on_stderr(self, line: str, on_line: OnLine | None) -> None:
        self._tail.append(line)
        if on_line is not None:
            on_line(line)

    def _watch(self) -> None:
        sinks: dict[IO[bytes], Sink] = {pipe: lines.feed for pipe, lines in self._outputs.items()}
        try:
            pump(self._process, sinks, deadline_s=None)
            for lines in self._outputs.values():
                lines.end()
        except OSError as error:  # out of descriptors: its output cannot be read, so it cannot stay
            self._on_stderr(f"given up: {error}", on_line=None)
        finally:  # a callback that raises must neither leave a zombie nor hide the end of the child
            with self._reaping:
                code = reap(self._process)
                self._code = STUCK if code is None else code
            self._ended.set()
            if self._on_exit is not None:
                self._on_exit(self._code)


class Lines:
    """Splits a stream of bytes into lines and drops what exceeds `limit_bytes` of each."""

    def __init__(self, on_line: OnLine, limit_bytes: int) -> None:
        self._on_line = on_line
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Process the next piece of the stream."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._keep(piece)
            self._emit()
        self._keep(rest)

    def end(self) -> None:
        """Process the end of the stream: an unfinished last line counts, too."""
        if self._kept:
            self._emit()

    def _keep(self, piece: bytes) -> None:
        self._kept.extend(piece[: max(0, self._limit_bytes - len(self._kept))])

    def _emit(self) -> None:
        line = self._kept.decode(errors="replace").rstrip("\r")
        self._kept.clear()
        self._on_line(line)
