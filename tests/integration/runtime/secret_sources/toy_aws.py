"""A small stand-in for AWS APIs, and a token to fetch from them."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent.settings import SecretRef

TOKEN = "swwMV_WA4C_FxN-_UY5UiRgdg2dTM1GUDLVUzO9c6fzyOs0BUJuXKLfxb-QcZkwAnlOGscu0U3WYmF1eQpcSBg=="
REGION = "eu-central-1"


def token(reference: str) -> SecretRef:
    """Return BETA9_TOKEN as a reference to a secret store."""
    return SecretRef("BETA9_TOKEN", reference=reference)


class ToyAws:
    """Answers what moto cannot: AWS refusing, throttling or failing, and instance metadata.

    Errors have the form that AWS documents for its JSON protocols (an HTTP status, and a body with `__type` and
    `message`). The metadata service is version 2: without a session token from a PUT it answers 401.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.calls: list[dict[str, str]] = []
        self.metadata: dict[str, str] = {}
        toy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                toy.calls.append(dict(self.headers))
                status, body = toy.answers[min(len(toy.calls), len(toy.answers)) - 1]
                self._answer(status, json.dumps(body))

            def do_PUT(self) -> None:
                self._answer(200 if toy.metadata else 404, "session-token")

            def do_GET(self) -> None:
                is_authorized = self.headers.get("X-aws-ec2-metadata-token") == "session-token"
                text = toy.metadata.get(self.path)
                self._answer(401 if not is_authorized else 404 if text is None else 200, text or "")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def refuse(self, code: str, status: int = 400) -> None:
        self.answers.append((status, {"__type": code, "message": "said by the toy"}))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
