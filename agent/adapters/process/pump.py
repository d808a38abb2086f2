"""A started child until its end: what it writes and is fed, how it is signalled and collected."""

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
"""How long an end is waited for after KILL."""
_CHUNK_BYTES = 65536
_POLL_S = 0.2
"""How often an end is looked for on kernels without pidfd_open (before 5.3)."""

Sink = Callable[[bytes], None]


def pump(
    process: Process, sinks: Mapping[IO[bytes], Sink], deadline_s: float | None, feed: bytes = b""
) -> bool:
    """Hand what the child writes to `sinks` and `feed` to its stdin until it has ended; does not reap it.

    What a grandchild that keeps a pipe open may write later is not waited for. `deadline_s` is on
    time.monotonic. Returns False when the deadline passed first.
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
    """A Popen return code for a person: "exit code 255", "killed by SIGFPE"."""
    if code is None:
        return "killed, but stuck in the kernel"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def has_ended(pid: int) -> bool:
    """Whether our child has ended; it stays a zombie, so that its process group cannot become another's."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def signal_group(pid: int, number: int) -> None:
    """Signal the child and all it started. Only before it is reaped: afterwards the number may be
    another's.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def reap(process: Process) -> int | None:
    """End whatever is left of the child's group, collect the child, close its pipes. Returns its code.

    None where it is stuck in the kernel (a dead disk, a dead GPU): it is then collected whenever that ends.
    """
    signal_group(process.pid, signal.SIGKILL)
    try:
        code: int | None = process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        code = None
        threading.Thread(target=process.wait, name="late-reaper", daemon=True).start()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not yet flushed to a dead child's stdin
                pipe.close()
    return code


def _drain(pipe: IO[bytes], sink: Sink, chunks: int = 1) -> bool:
    """Read what is there; False at the end of the pipe."""
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
        except BrokenPipeError:  # it does not want to read all; its exit code says whether that was right
            left = left[:0]
        if not left:
            pipe.close()
        return bool(left)

    return write


@contextlib.contextmanager
def _exit_descriptor(pid: int) -> Iterator[int | None]:
    """A descriptor that becomes readable when the child ends; None where the kernel has no such thing."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
