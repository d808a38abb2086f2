"""The relay's event loop: epoll and timers, in one thread.

A loop of its own rather than asyncio: it moves data from socket to socket without buffers in between (splicing.py),
which asyncio's transports cannot, and an idle connection costs little memory.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
from collections.abc import Callable
from time import monotonic

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
BROKEN, HUNG_UP = select.EPOLLERR, select.EPOLLHUP
"""Reported for each watched descriptor, whatever was asked for."""
_EVENTS_AT_ONCE = 256

Callback = Callable[[int], object]
"""Gets the events that occurred."""


class Reactor:
    """Calls back when descriptors are ready, and when times have come. Not thread-safe, except for `stop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._forgotten: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._running = True
        self.watch(self._wake_reader, READ, lambda _: None)

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Call back on these events, until `forget`."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events on a watched descriptor."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed. Safe to call for one that is not watched."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            self._forgotten.add(descriptor)

    def later(self, delay_s: float, callback: Callable[[], object]) -> None:
        """Call back once, after this time."""
        heapq.heappush(self._timers, (monotonic() + delay_s, next(self._order), callback))

    def run(self) -> None:
        """Call back until `stop`."""
        while self._running:
            # A number that was closed and used anew since the kernel reported it means another file.
            self._forgotten.clear()
            for descriptor, events in self._epoll.poll(self._until_next_timer_s(), _EVENTS_AT_ONCE):
                callback = self._callbacks.get(descriptor)
                if callback is not None and descriptor not in self._forgotten:
                    callback(events)
            self._run_due_timers()

    def stop(self) -> None:
        """Let `run` return; may be called in a signal handler and on another thread."""
        self._running = False
        os.write(self._wake_writer, b"\0")

    def close(self) -> None:
        """Give its own descriptors back."""
        self._epoll.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _until_next_timer_s(self) -> float:
        return max(0.0, self._timers[0][0] - monotonic()) if self._timers else -1

    def _run_due_timers(self) -> None:
        while self._timers and self._timers[0][0] <= monotonic():
            heapq.heappop(self._timers)[2]()
