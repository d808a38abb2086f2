"""A registry with one image and one account, on loopback: as much of the distribution API as `docker pull` asks for.

Docker speaks plain HTTP to a registry on 127.0.0.0/8. What it pulls here is real: a layer, a configuration and a
manifest, each by its digest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIGURATION = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
"""Media types of the image manifest, version 2, schema 2."""
REPOSITORY = "site/agent"


@dataclass
class Registry:
    """A running registry. Use `serving()`."""

    account: str
    """`name:password`, without which it answers nothing."""
    blobs: dict[str, tuple[str, bytes]]
    """Media type and content by digest; the manifest, too."""
    manifest: str
    """The manifest's digest."""
    port: int = 0
    asked: list[str] = field(default_factory=list)
    """The path of every request that was let in, oldest first."""

    @property
    def reference(self) -> str:
        """The image as BETA9_AGENT_IMAGE names it."""
        return f"127.0.0.1:{self.port}/{REPOSITORY}@{self.manifest}"

    def login(self) -> str:
        """Docker's config.json for the account."""
        return json.dumps({"auths": {f"127.0.0.1:{self.port}": {"auth": _base64(self.account)}}})

    def admits(self, authorization: str | None) -> bool:
        return authorization == f"Basic {_base64(self.account)}"


@contextmanager
def serving(layer: bytes, account: str) -> Iterator[Registry]:
    """A registry with an image of this one layer, an uncompressed tar."""
    diff = _digest(layer)
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _described(CONFIGURATION, configuration),
            "layers": [_described(LAYER, layer)],
        }
    ).encode()
    parts = ((MANIFEST, manifest), (CONFIGURATION, configuration), (LAYER, layer))
    registry = Registry(account, {_digest(part): (kind, part) for kind, part in parts}, _digest(manifest))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, registry))
    server.daemon_threads = True
    registry.port = int(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True, name="registry").start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def _described(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, registry: Registry, *args: Any) -> None:
        self._registry = registry
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        status, kind, content = self._find()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        elif kind == MANIFEST:
            self.send_header("Docker-Content-Digest", _digest(content))
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _find(self) -> tuple[int, str, bytes]:
        if not self._registry.admits(self.headers.get("Authorization")):
            return 401, "application/json", b"{}"
        self._registry.asked.append(self.path)
        if self.path == "/v2/":
            return 200, "application/json", b"{}"
        blob = self._registry.blobs.get(self.path.rpartition("/")[2])
        if blob is None or not self.path.startswith(f"/v2/{REPOSITORY}/"):
            return 404, "application/json", b"{}"
        return 200, *blob

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        """Nothing: `asked` has it."""
