"""Writes log lines in a thread of its own, so that a blocked pipe stalls only the log."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from typing import IO

QUEUE_LINES = 2000


class LineWriter:
    """Queues lines without blocking, writes them in order, and reports how many it had to drop.

    `dropped_line` renders that report.
    """

    def __init__(
        self, stream: IO[str], dropped_line: Callable[[int], str], capacity: int = QUEUE_LINES
    ) -> None:
        self._write = _writer_to(stream)
        self._dropped_line = dropped_line
        # Both are reentrant: a signal handler or the garbage collector may log while this thread holds them.
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._counting = threading.RLock()
        self._capacity = capacity
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue a line without its newline, or count it as dropped. Never blocks, never raises."""
        if self._queue.qsize() < self._capacity:
            self._queue.put(line)
        else:
            self._count(1)

    def close(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for the queued lines to be written; the rest is lost."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            line = self._queue.get()
            if line is None:
                return
            if not self._write(line):
                self._count(1)
            elif self.dropped:
                self._report_dropped()

    def _report_dropped(self) -> None:
        with self._counting:
            dropped, self.dropped = self.dropped, 0
        if not self._write(self._dropped_line(dropped)):
            self._count(dropped)

    def _count(self, lines: int) -> None:
        with self._counting:
            self.dropped += lines


def _writer_to(stream: IO[str]) -> Callable[[str], bool]:
    """Return a function that writes a line and returns whether that worked. It may block.

    It writes to the descriptor directly: a thread blocked in `stream.write` would hold the stream's lock,
    and the interpreter's flush at exit would wait for it.
    """
    try:
        fd = stream.fileno()
    except (OSError, ValueError, AttributeError):  # not backed by a file
        return lambda line: _to_stream(stream, line)
    return lambda line: _to_descriptor(fd, line)


def _to_stream(stream: IO[str], line: str) -> bool:
    try:
        stream.write(line + "\n")
    except (OSError, ValueError):
        return False
    return True


def _to_descriptor(fd: int, line: str) -> bool:
    left = memoryview((line + "\n").encode(errors="backslashreplace"))
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:  # noqa: PERF203 - another process that shares the descriptor made it non-blocking
            select.select([], [fd], [])
        except OSError:  # the reader is gone, or the disk is full
            return False
    return True
