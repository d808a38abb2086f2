"""Running containers are counted at a Docker Engine's socket; an engine that fails counts as zero."""

from __future__ import annotations

import gc
import json
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from agent.adapters.host.docker import running_containers, stop_check

Answers = dict[str, tuple[int, bytes]]


class Server(ThreadingMixIn, UnixStreamServer):
    """One thread for each connection."""

    daemon_threads = True


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[[Answers], Path]]:
    """A function that starts a stand-in for a Docker Engine (API v1.41) with an answer for each end of a path."""
    servers = []

    def start(answers: Answers) -> Path:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = next(answer for end, answer in answers.items() if self.path.endswith(end))
                self.send_response_only(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        path = tmp_path / "docker.sock"
        server = Server(str(path), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return path

    with warnings.catch_warnings():
        # The SDK leaves the sockets of failed requests to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        yield start
        gc.collect()
    for server in servers:
        server.shutdown()
        server.server_close()


VERSION = (200, json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}).encode())


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ((200, b'{"Containers": 5, "ContainersRunning": 3}'), 3),
        ((200, b"{}"), 0),
        ((200, b"[]"), 0),
        ((200, b"no JSON"), 0),
        ((500, b'{"message": "sick"}'), 0),
    ],
)
def test_running_containers_are_counted(
    engine: Callable[[Answers], Path], info: tuple[int, bytes], expected: int
) -> None:
    assert running_containers(engine({"/version": VERSION, "/info": info})) == expected


def test_without_an_engine_there_are_none(tmp_path: Path) -> None:
    assert running_containers(tmp_path / "docker.sock") == 0


def test_an_engine_is_being_stopped_when_its_api_is_closed(
    engine: Callable[[Answers], Path], tmp_path: Path
) -> None:
    """Field case 11.1: dockerd closes its API before it stops containers; any answer means that it serves."""
    inside = tmp_path / ".dockerenv"
    path = engine({"/_ping": (500, b"sick")})
    assert stop_check(path, inside) is None, "not in a container"
    inside.touch()
    assert stop_check(tmp_path / "none.sock", inside) is None, "the socket is not mounted"
    is_stopping = stop_check(path, inside)
    assert is_stopping is not None
    assert not is_stopping()
    path.unlink()
    assert is_stopping()
    with socket.socket(
        socket.AF_UNIX
    ) as held:  # as systemd holds docker.socket: it accepts, and nobody answers
        held.bind(str(path))
        held.listen()
        assert is_stopping()
