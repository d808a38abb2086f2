"""A child process that stays: its stderr line by line, its end as a call back, and a sure way to stop it."""

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
"""A longer line is cut: what ssh, or a server's banner through it, says is for people and for
classification.
"""
ANSWER_LIMIT_BYTES = 1 << 20
"""The same for stdout, which is for programs of our own."""
TAIL_LINES = 50
STUCK = -int(signal.SIGKILL)
"""The code given for a child that is killed, but not collected yet because it is stuck in the kernel."""

OnLine = Callable[[str], object]


def spawn(  # noqa: PLR0913 - keywords, most of them left out
    argv: Sequence[str],
    *,
    name: str,
    on_line: OnLine | None = None,
    on_stdout: OnLine | None = None,
    on_exit: Callable[[int], object] | None = None,
    env: Mapping[str, str] | None = None,
) -> Child:
    """Start a long-lived child whose standard input is held open until it ends.

    `on_line` gets each line of stderr, `on_stdout` of stdout (without it: /dev/null), `on_exit` the exit
    code (as Popen has it: -9 for KILL) once all output was handed out. All three are called on the child's
    own thread, and should only put something on a queue. `env` None is `clean_environment()`.

    Raises: CommandNotFound, TransientError.
    """
    process = fork(argv, env, stdin=True, stdout=on_stdout is not None)
    return Child(process, name, on_line, on_stdout, on_exit)


class Child:
    """A running child. `spawn` makes one."""

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
            self._outputs[process.stderr] = Lines(lambda line: self._said(line, on_line), LINE_LIMIT_BYTES)
        if process.stdout is not None and on_stdout is not None:
            self._outputs[process.stdout] = Lines(on_stdout, ANSWER_LIMIT_BYTES)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        try:
            threading.Thread(target=self._watch, name=f"child-{name}", daemon=True).start()
        except RuntimeError as error:  # out of threads: one that nobody watches must not live
            reap(process)
            raise TransientError(f"could not watch {name}: {error}; tried again later") from error

    @property
    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._code

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of its stderr."""
        return tuple(self._tail)

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None if it still runs after `timeout_s`."""
        self._ended.wait(timeout_s)
        return self._code

    def signal(self, number: int) -> None:
        """Signal the child and what it started; nothing if it has ended."""
        with self._reaping:
            if self._code is None:
                signal_group(self.pid, number)

    def stop(self, grace_s: float) -> int | None:
        """TERM, and KILL to the whole group after `grace_s` (0: at once). Returns the exit code.

        None only where the child is stuck in the kernel even after KILL. Safe to call twice and from any
        thread but the child's own.
        """
        if grace_s > 0:
            self.signal(signal.SIGTERM)
            self._ended.wait(grace_s)
        self.signal(signal.SIGKILL)
        return self.wait(KILL_WAIT_S)

    def send_line(self, text: str) -> bool:
        """Write a line to its stdin; False if it does not read any more (never blocks)."""
        with self._reaping:
            if self._code is not None or self._process.stdin is None:
                return False
            try:
                data = text.encode() + b"\n"
                return os.write(self._process.stdin.fileno(), data) == len(data)
            except (BrokenPipeError, BlockingIOError):
                return False

    def _said(self, line: str, on_line: OnLine | None) -> None:
        self._tail.append(line)
        if on_line is not None:
            on_line(line)

    def _watch(self) -> None:
        sinks: dict[IO[bytes], Sink] = {pipe: lines.feed for pipe, lines in self._outputs.items()}
        try:
            pump(self._process, sinks, deadline_s=None)
            for lines in self._outputs.values():
                lines.end()
        except OSError as error:  # out of descriptors: it cannot be listened to, so it cannot stay
            self._said(f"given up: {error}", on_line=None)
        finally:  # a call back that raises must not leave a zombie, or hide that the child is gone
            with self._reaping:
                code = reap(self._process)
                self._code = STUCK if code is None else code
            self._ended.set()
            if self._on_exit is not None:
                self._on_exit(self._code)


class Lines:
    """Cuts a stream of bytes into lines of at most `limit_bytes`; the rest of a longer one is dropped."""

    def __init__(self, on_line: OnLine, limit_bytes: int) -> None:
        self._on_line = on_line
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._keep(piece)
            self._emit()
        self._keep(rest)

    def end(self) -> None:
        """The stream has ended: what is left is a line, too."""
        if self._kept:
            self._emit()

    def _keep(self, piece: bytes) -> None:
        self._kept.extend(piece[: max(0, self._limit_bytes - len(self._kept))])

    def _emit(self) -> None:
        line = self._kept.decode(errors="replace").rstrip("\r")
        self._kept.clear()
        self._on_line(line)
