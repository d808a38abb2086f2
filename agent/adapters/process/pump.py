"""Accompanies a started child to its end: its output and input, signals, and reaping."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from agent.adapters.process.spawn import Process

KILL_WAIT_S = 5.0
"""How long to wait for the end after SIGKILL."""
_CHUNK_BYTES = 65536
_POLL_S = 0.2
"""Polling interval for the end on kernels without pidfd_open (before 5.3)."""

Sink = Callable[[bytes], None]


def pump(
    process: Process, sinks: Mapping[IO[bytes], Sink], deadline_s: float | None, feed: bytes = b""
) -> bool:
    """Pass the child's output to `sinks`, and `feed` to its stdin, until it has ended. Does not reap it.

    Does not wait for later output of a grandchild that keeps a pipe open. `deadline_s` is on time.monotonic. Return
    False if the deadline passed first.
    """
    with selectors.DefaultSelector() as selector, _exit_descriptor(process.pid) as exit_fd:
        for pipe, sink in sinks.items():
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, functools.partial(_drain, pipe, sink))
        if process.stdin and feed:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, _feeder(process.stdin, feed))
        if exit_fd is not None:
            selector.register(exit_fd, selectors.EVENT_READ, lambda: True)
        while not has_ended(process.pid):
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            if exit_fd is None:
                left_s = min(_POLL_S, _POLL_S if left_s is None else left_s)
            for key, _ in selector.select(left_s):
                if not key.data():
                    selector.unregister(key.fileobj)
        for pipe, sink in sinks.items():
            _drain(pipe, sink, chunks=16)
    return True


def describe_exit(code: int | None) -> str:
    """Describe a Popen return code: "exit code 255", "killed by SIGFPE"."""
    if code is None:
        return "killed, but stuck in the kernel"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def has_ended(pid: int) -> bool:
    """Return whether the child has ended. It stays a zombie, so that its process group id is not reused."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def signal_group(pid: int, number: int) -> None:
    """Signal the child's process group. Only before the child is reaped: afterwards the id may be reused."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def reap(process: Process) -> int | None:
    """Kill what is left of the child's process group, reap the child and close its pipes. Return its exit code.

    None if it is stuck in the kernel (a dead disk, a dead GPU): a thread then reaps it whenever it ends.
    """
    signal_group(process.pid, signal.SIGKILL)
    try:
        code: int | None = process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        code = None
        threading.Thread(target=process.wait, name="late-reaper", daemon=True).start()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # closing flushes stdin, which fails if the child is dead
                pipe.close()
    return code


def _drain(pipe: IO[bytes], sink: Sink, chunks: int = 1) -> bool:
    """Read what is available. Return False at the end of the pipe."""
    for _ in range(chunks):
        try:
            data = os.read(pipe.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        sink(data)
    return True


def _feeder(pipe: IO[bytes], feed: bytes) -> Callable[[], bool]:
    left = memoryview(feed)

    def write() -> bool:
        nonlocal left
        try:
            left = left[os.write(pipe.fileno(), left) :]
        except (
            BrokenPipeError
        ):  # the child does not read all its input; its exit code tells whether that is fine
            left = left[:0]
        if not left:
            pipe.close()
        return bool(left)

    return write


@contextlib.contextmanager
def _exit_descriptor(pid: int) -> Iterator[int | None]:
    """Yield a descriptor that becomes readable when the child ends, or None if the kernel has no pidfd."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
