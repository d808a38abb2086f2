"""A TCP proxy that misbehaves on request (latency, silence, resets). It runs on its own thread."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Listens on a free loopback port and forwards everything to `target`. Create it with `proxied()`."""

    def __init__(self, target: tuple[str, int], delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        """Delay of each chunk, in each direction."""
        self.mute = False
        """Accept new connections and never send anything."""
        self.held: tuple[bytes, float] = (b"", 0.0)
        """Text and seconds: a chunk from a client that contains the text is delayed by that much more."""
        self.accepted_at_s: list[float] = []
        """When each connection was accepted, on the monotonic clock."""
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._done: asyncio.Event
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self._loop.close()

    def reset(self) -> int:
        """Reset every connection on both sides; return the number of closed sockets."""

        async def cut() -> int:
            ends = list(self._writers)
            for writer in ends:
                peer = writer.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            return len(ends)

        return asyncio.run_coroutine_threadsafe(cut(), self._loop).result()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._done.wait()
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted_at_s.append(time.monotonic())
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        ends = [writer]
        try:
            if self.mute:
                await reader.read()  # until the client gives up
                return
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ends.append(far_writer)
            self._writers.add(far_writer)
            await asyncio.gather(self._carry(reader, far_writer, *self.held), self._carry(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            return  # one side was cut; the other is closed below
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        text: bytes = b"",
        held_s: float = 0.0,
    ) -> None:
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        deliver = asyncio.ensure_future(self._deliver(chunks, writer))
        try:
            data = b"."
            while data:
                data = await reader.read(65536)
                extra_s = held_s if text and text in data else 0.0
                await chunks.put((self._loop.time() + self.delay_s + extra_s, data))
            await deliver
        finally:
            deliver.cancel()

    async def _deliver(
        self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):  # this side was cut
            while True:
                at_s, data = await chunks.get()
                await asyncio.sleep(max(0.0, at_s - self._loop.time()))
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()


@contextmanager
def proxied(target: tuple[str, int], delay_s: float = 0.0) -> Iterator[Proxy]:
    """Run a proxy to `target`."""
    proxy = Proxy(target, delay_s)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
