"""A stand-in for EC2's instance metadata service, version 2, for tests of interruption notices.

It behaves as AWS documents ("Use the Instance Metadata Service to access instance
metadata", "Spot Instance interruption notices", "EC2 instance rebalance recommendations", "Retrieve the target
lifecycle state", "Scheduled events"): `PUT /latest/api/token` with `X-aws-ec2-metadata-token-ttl-seconds` returns a
session token; `GET /latest/meta-data/PATH` with `X-aws-ec2-metadata-token` returns a document, 401 if the token is
missing or expired, 404 if there is currently no such document.
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
    """Does not print a traceback for a client that closes its connection early, which is allowed."""

    daemon_threads = True

    def __init__(self, service: MetadataService) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        service = self.server.service
        service.go.wait(30)
        service.asked["token"] += 1
        if self.path != "/latest/api/token" or not self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
            self._send(400, "")
            return
        token = secrets.token_urlsafe(32)
        service.tokens.add(token)
        self._send(200, token)

    def do_GET(self) -> None:
        service = self.server.service
        service.go.wait(30)
        name = self.path.removeprefix(DATA)
        service.asked[name] += 1
        if self.headers["X-aws-ec2-metadata-token"] not in service.tokens:
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
        """Print nothing: tests read `asked`."""


class MetadataService:
    """Serves `documents` (path below meta-data to text) on loopback. Use it as a context manager.

    To make it fail: `failing` (a status for every document), `body` (garbage for every document), `go` (cleared: no
    answer until it is set), `expire_tokens()`.
    """

    def __init__(self) -> None:
        self.documents: dict[str, str] = {"instance-id": INSTANCE_ID}
        self.failing: int | None = None
        self.body: str | None = None
        self.go = threading.Event()
        self.go.set()
        self.asked: Counter[str] = Counter()
        """Number of requests by document; `token` counts requests for a token, `401` refused tokens."""
        self.tokens: set[str] = set()
        """Valid session tokens."""
        self._server = _Server(self)
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
        """Refuse every token issued so far."""
        self.tokens.clear()

    def announce(self, in_s: float, action: str = "terminate") -> None:
        """Publish a spot interruption notice."""
        time = datetime.now(timezone.utc) + timedelta(seconds=in_s)
        notice = {"action": action, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.documents["spot/instance-action"] = json.dumps(notice)

    def recommend_rebalance(self, age_s: float = 0) -> None:
        """Publish a rebalance recommendation that is `age_s` old."""
        time = datetime.now(timezone.utc) - timedelta(seconds=age_s)
        notice = {"noticeTime": time.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.documents["events/recommendations/rebalance"] = json.dumps(notice)
