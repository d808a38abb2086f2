"""What a site mirrors for machines that cannot download: files over HTTP, and Python packages as an index has them.

A real web server on loopback, which the virtual machine dials. `pace` makes it as slow as a chosen line, the same for
everybody and every time, so that boots can be compared.
"""

from __future__ import annotations

import functools
import html
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

CHUNK_BYTES = 64 * 1024
INDEX = re.compile(r"/simple/(?P<project>[a-z0-9-]+)/")
"""A project's page of the simple repository API, PEP 503."""


@dataclass
class Pace:
    """How slow the line is: seconds before each answer, and bytes in a second, shared by all who download."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    """0: as fast as it goes."""
    _free_at_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answer(self) -> None:
        """Wait as long as an answer is under way."""
        time.sleep(self.delay_s)

    def carry(self, size: int) -> None:
        """Wait until the line has room for `size` more bytes."""
        if not self.bytes_per_s:
            return
        with self._lock:
            begin_s = max(time.monotonic(), self._free_at_s)
            self._free_at_s = begin_s + size / self.bytes_per_s
            wait_s = self._free_at_s - time.monotonic()
        time.sleep(max(0.0, wait_s))


@dataclass
class Mirrors:
    """The server, as a context manager. `files` are served by name; `wheels` is a folder of packages."""

    host: str = "127.0.0.1"
    pace: Pace = field(default_factory=Pace)
    files: dict[str, Path] = field(default_factory=dict)
    wheels: Path | None = None
    held: dict[str, threading.Event] = field(default_factory=dict)
    """Names whose answers wait until their event is set."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request, oldest first."""

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer((self.host, 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="mirrors")

    @property
    def port(self) -> int:
        """Where it listens."""
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
        """A file, a page, or None."""
        matched = INDEX.fullmatch(path)
        if matched:
            return self._page(matched["project"])
        name = path.rpartition("/")[2]
        if path.startswith("/wheels/") and self.wheels is not None and (self.wheels / name).is_file():
            return self.wheels / name
        return self.files.get(path.lstrip("/"))

    def _page(self, project: str) -> bytes | None:
        wheels = sorted(self.wheels.glob("*.whl")) if self.wheels else []
        named = [each.name for each in wheels if _normal(each.name.split("-")[0]) == project]
        links = "".join(f'<a href="/wheels/{name}">{html.escape(name)}</a>\n' for name in named)
        return f"<!DOCTYPE html>\n{links}".encode() if links else None


def _normal(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, mirrors: Mirrors, *args: Any) -> None:
        self._mirrors = mirrors
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        self._mirrors.asked.append((self.command, self.path))
        self._mirrors.pace.answer()
        held = self._mirrors.held.get(self.path.lstrip("/"))
        if held is not None:
            held.wait()
        found = self._mirrors.find(self.path.partition("?")[0])
        if found is None:
            self._head(404, "text/plain", 0)
        elif isinstance(found, bytes):
            self._head(200, "text/html", len(found))
            if with_body:
                self.wfile.write(found)
        else:
            self._head(200, "application/octet-stream", found.stat().st_size)
            if with_body:
                self._send(found)

    def _head(self, status: int, kind: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _send(self, file: Path) -> None:
        with file.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                self._mirrors.pace.carry(len(chunk))
                self.wfile.write(chunk)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        """Nothing: `asked` has it."""
