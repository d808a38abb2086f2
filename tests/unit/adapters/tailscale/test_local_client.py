"""The client of tailscaled's local API, against a stand-in on a Unix socket that answers correctly or not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from agent.adapters.tailscale.local_client import TailscaleDaemon
from agent.core.host.facts import DaemonState
from agent.errors import TransientError

STATUS = {
    "Version": "1.72.1",
    "TUN": True,
    "BackendState": "Running",
    "Self": {"DNSName": "worker.tail.example."},
}


def _encoded(answer: Any) -> bytes:
    if isinstance(answer, bytes):
        return answer
    return b"" if answer is None else json.dumps(answer).encode()


class LocalApi:
    """Stands for tailscaled: records requests, and answers as `answers` says."""

    def __init__(self, path: Path) -> None:
        self.requests: list[tuple[str, str, str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "status": (200, STATUS),
            "prefs": (200, {"CorpDNS": False}),
        }
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                name = self.path.removeprefix("/localapi/v0/")
                api.requests.append((self.command, name, self.headers["Host"], body))
                code, answer = api.answers.get(name.partition("?")[0], (204, None))
                text = _encoded(answer)
                self.send_response(code)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET  # noqa: N815 - the library's name

            def address_string(self) -> str:
                return "socket"

            def log_message(self, *_: Any) -> None:
                """Write nothing to stderr."""

        self.server = ThreadingUnixStreamServer(str(path), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tailscaled.sock"


@pytest.fixture
def api(path: Path) -> Iterator[LocalApi]:
    running = LocalApi(path)
    yield running
    running.close()


def test_a_look_asks_for_the_status_as_tailscale_s_own_client_does(api: LocalApi, path: Path) -> None:
    daemon = TailscaleDaemon(path, "gateway")
    assert daemon.look(5).state is DaemonState.RUNNING
    assert daemon.look(5, with_peers=False).name == "worker.tail.example"
    host = "local-tailscaled.sock"
    assert api.requests == [
        ("GET", "status?peers=true", host, None),
        ("GET", "status?peers=false", host, None),
    ]


def test_a_login_hands_over_the_key_and_leaves_the_other_preferences(api: LocalApi, path: Path) -> None:
    TailscaleDaemon(path, "gateway").join("https://headscale.example", "tskey-auth-1", 5)
    wanted = {
        "CorpDNS": False,
        "RouteAll": False,
        "WantRunning": True,
        "LoggedOut": False,
        "ControlURL": "https://headscale.example",
    }
    assert [each[:2] for each in api.requests] == [
        ("GET", "prefs"),
        ("GET", "status?peers=false"),
        ("POST", "start"),
        ("POST", "login-interactive"),
    ]
    assert api.requests[2][3] == {"AuthKey": "tskey-auth-1", "UpdatePrefs": wanted}


def test_without_a_url_the_control_server_stays(api: LocalApi, path: Path) -> None:
    api.answers["prefs"] = (200, {"ControlURL": "https://kept.example", "RouteAll": True})
    api.answers["status"] = (200, {**STATUS, "HaveNodeKey": True})
    daemon = TailscaleDaemon(path, "gateway")
    daemon.join(None, "tskey-auth-1", 5)
    kept = api.requests[2][3]["UpdatePrefs"]
    assert (kept["ControlURL"], kept["RouteAll"]) == ("https://kept.example", True)
    assert daemon.control_url(5) == "https://kept.example"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((403, b"status access denied"), "tailscaled answers 403 to status: status access denied"),
        ((200, b"<html>"), "Expecting value"),
        ((200, b"[]"), "the program that answers there is not tailscaled"),
        ((200, {"BackendState": "Dancing"}), "tailscaled's status has another shape"),
        ((200, {"BackendState": "Running", "Self": "me"}), "tailscaled's status has another shape"),
        ((200, {}), "tailscaled's status has another shape"),
    ],
)
def test_whatever_else_answers_counts_as_no_daemon_and_says_why(
    api: LocalApi, path: Path, answer: tuple[int, Any], text: str
) -> None:
    api.answers["status"] = answer
    facts = TailscaleDaemon(path, "gateway").look(5)
    assert facts.state is DaemonState.ABSENT
    assert text in facts.text


def test_a_refused_login_is_an_error_without_the_key(api: LocalApi, path: Path) -> None:
    api.answers["start"] = (500, b"no")
    with pytest.raises(TransientError) as caught:
        TailscaleDaemon(path, "gateway").join(None, "tskey-auth-1", 5)
    assert "tailscaled answers 500 to start: no" in str(caught.value)
    assert "tskey" not in str(caught.value)


def test_no_socket_and_a_dead_one_are_told(path: Path) -> None:
    daemon = TailscaleDaemon(path, "gateway")
    assert "No such file" in daemon.look(5).text
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert "refused" in daemon.look(5).text


def test_a_daemon_that_is_stopped_costs_the_time_limit_and_no_more(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        facts = TailscaleDaemon(path, "gateway").look(0.2)
    assert facts.state is DaemonState.ABSENT
    assert "within 0.2 s" in facts.text
