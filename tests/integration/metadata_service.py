"""A stand-in for EC2's instance metadata service, version 2, for tests of notices.

Stands for what AWS documents and no machine outside EC2 has ("Use the Instance Metadata Service to access instance
metadata", "Spot Instance interruption notices", "EC2 instance rebalance recommendations", "Retrieve the target
lifecycle state", "Scheduled events"): `PUT /latest/api/token` with `X-aws-ec2-metadata-token-ttl-seconds` gives a
session token; `GET /latest/meta-data/PATH` with `X-aws-ec2-metadata-token` gives a document, 401 to a token that is
missing or has expired, 404 where there is no such document now.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

DATA = "/latest/meta-data/"
INSTANCE_ID = "i-0123456789abcdef0"


class _Server(ThreadingHTTPServer):
    """Quiet about askers that hang up before they have read all: they may."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class MetadataService:
    """Serves `documents` (path below meta-data to text) on loopback, as a context manager.

    Knobs: `failing` (a status for every document), `body` (garbage for every document), `slow` (an Event that is
    waited for before each answer), `expire_tokens()`.
    """

    def __init__(self) -> None:
        self.documents: dict[str, str] = {"instance-id": INSTANCE_ID}
        self.failing: int | None = None
        self.body: str | None = None
        self.go = threading.Event()
        self.go.set()
        self.asked: Counter[str] = Counter()
        """How often each was asked for; `token` is the token, and `401` each refused token."""
        self._tokens: set[str] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                service.go.wait(30)
                service.asked["token"] += 1
                if (
                    self.path != "/latest/api/token"
                    or not self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                ):
                    self._send(400, "")
                    return
                token = secrets.token_urlsafe(32)
                service._tokens.add(token)
                self._send(200, token)

            def do_GET(self) -> None:
                service.go.wait(30)
                name = self.path.removeprefix(DATA)
                service.asked[name] += 1
                if self.headers["X-aws-ec2-metadata-token"] not in service._tokens:
                    service.asked["401"] += 1
                    self._send(401, "")
                elif service.failing is not None:
                    self._send(service.failing, "upstream")
                elif service.body is not None:
                    self._send(200, service.body)
                elif name in service.documents:
                    self._send(200, service.documents[name])
                else:
                    self._send(404, "Not Found")

            def _send(self, status: int, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silence: the tests count in `asked`."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> MetadataService:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()

    def expire_tokens(self) -> None:
        """Every token given out so far is refused from now on."""
        self._tokens.clear()

    def announce(self, in_s: float, action: str = "terminate") -> None:
        """A spot notice."""
        time = datetime.now(timezone.utc) + timedelta(seconds=in_s)
        told = {"action": action, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.documents["spot/instance-action"] = json.dumps(told)

    def recommend_rebalance(self) -> None:
        """A rebalance recommendation."""
        time = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.documents["events/recommendations/rebalance"] = json.dumps({"noticeTime": time})
