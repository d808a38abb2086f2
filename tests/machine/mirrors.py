"""A site's mirrors for machines without internet access: files over HTTP, and an index of Python packages.

A real web server on loopback, which the virtual machine connects to. `pace` limits it to the speed of a given line, the
same for all clients and every run, so that boots can be compared.
"""

from __future__ import annotations

import functools
import html
import re
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.http_handler import DownloadHandler

CHUNK_BYTES = 64 * 1024
INDEX = re.compile(r"/simple/(?P<project>[a-z0-9-]+)/")
"""A project's page in the simple repository API, PEP 503."""


class Pace:
    """The speed of the line, shared by all downloads: seconds before each response, bytes per second (0: unlimited)."""

    def __init__(self, delay_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._free_at_s = 0.0
        self._lock = threading.Lock()

    def answer(self) -> None:
        """Wait for the latency of one response."""
        time.sleep(self._delay_s)

    def carry(self, size: int) -> None:
        """Wait until the line has room for `size` more bytes."""
        if not self._bytes_per_s:
            return
        with self._lock:
            begin_s = max(time.monotonic(), self._free_at_s)
            self._free_at_s = begin_s + size / self._bytes_per_s
            wait_s = self._free_at_s - time.monotonic()
        time.sleep(max(0.0, wait_s))


class Mirrors:
    """The server, a context manager. `files` are served by name; `wheels` is a directory of packages."""

    def __init__(
        self, host: str = "127.0.0.1", pace: Pace | None = None, files: dict[str, Path] | None = None
    ) -> None:
        self.host = host
        self.pace = pace or Pace()
        self.files = {} if files is None else files
        self.wheels: Path | None = None
        self.held: dict[str, threading.Event] = {}
        """Events by file name: a response for the file waits until its event is set."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of every request, oldest first."""
        self._server = ThreadingHTTPServer((host, 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="mirrors")

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Mirrors:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def find(self, path: str) -> Path | bytes | None:
        """Return the file or page at `path`, or None."""
        matched = INDEX.fullmatch(path)
        if matched:
            return self._page(matched["project"])
        name = path.rpartition("/")[2]
        if path.startswith("/wheels/") and self.wheels is not None and (self.wheels / name).is_file():
            return self.wheels / name
        return self.files.get(path.lstrip("/"))

    def _page(self, project: str) -> bytes | None:
        wheels = sorted(self.wheels.glob("*.whl")) if self.wheels else []
        names = [each.name for each in wheels if _normal(each.name.split("-")[0]) == project]
        links = "".join(f'<a href="/wheels/{name}">{html.escape(name)}</a>\n' for name in names)
        return f"<!DOCTYPE html>\n{links}".encode() if links else None


def _normal(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


class _Handler(DownloadHandler):
    def __init__(self, mirrors: Mirrors, *args: Any) -> None:
        self._mirrors = mirrors
        super().__init__(*args)

    def answer(self, *, with_body: bool) -> None:
        self._mirrors.requests.append((self.command, self.path))
        self._mirrors.pace.answer()
        held = self._mirrors.held.get(self.path.lstrip("/"))
        if held is not None:
            held.wait()
        found = self._mirrors.find(self.path.partition("?")[0])
        if found is None:
            self.send_head(404, "text/plain", 0)
        elif isinstance(found, bytes):
            self.send_head(200, "text/html", len(found))
            if with_body:
                self.wfile.write(found)
        else:
            self.send_head(200, "application/octet-stream", found.stat().st_size)
            if with_body:
                self._send(found)

    def _send(self, file: Path) -> None:
        with file.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                self._mirrors.pace.carry(len(chunk))
                self.wfile.write(chunk)
