"""A registry on loopback with one image and one account: the part of the distribution API that `docker pull` uses.

Docker uses plain HTTP for registries on 127.0.0.0/8. The image is a real one: a layer, a configuration and a manifest,
each addressed by its digest.
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
from http.server import ThreadingHTTPServer
from typing import Any

from tests.http_handler import DownloadHandler

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIGURATION = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
"""Media types of the image manifest, version 2, schema 2."""
REPOSITORY = "site/agent"


@dataclass
class Registry:
    """A running registry. Use `serving()`."""

    account: str
    """`name:password`, required for every request."""
    blobs: dict[str, tuple[str, bytes]]
    """Media type and content by digest, including the manifest."""
    manifest: str
    """The manifest's digest."""
    port: int = 0
    requests: list[str] = field(default_factory=list)
    """The path of every authorized request, oldest first."""

    @property
    def reference(self) -> str:
        """The image reference, as for BETA9_AGENT_IMAGE."""
        return f"127.0.0.1:{self.port}/{REPOSITORY}@{self.manifest}"

    def login(self) -> str:
        """Return Docker's config.json for the account."""
        return json.dumps({"auths": {f"127.0.0.1:{self.port}": {"auth": _base64(self.account)}}})

    def admits(self, authorization: str | None) -> bool:
        return authorization == f"Basic {_base64(self.account)}"


@contextmanager
def serving(layer: bytes, account: str) -> Iterator[Registry]:
    """Serve a registry with an image of this one layer, an uncompressed tar."""
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
            "config": _descriptor(CONFIGURATION, configuration),
            "layers": [_descriptor(LAYER, layer)],
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


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class _Handler(DownloadHandler):
    def __init__(self, registry: Registry, *args: Any) -> None:
        self._registry = registry
        super().__init__(*args)

    def answer(self, *, with_body: bool) -> None:
        status, kind, content = self._find()
        headers = {"Docker-Distribution-API-Version": "registry/2.0"}
        if status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="registry"'
        elif kind == MANIFEST:
            headers["Docker-Content-Digest"] = _digest(content)
        self.send_head(status, kind, len(content), headers)
        if with_body:
            self.wfile.write(content)

    def _find(self) -> tuple[int, str, bytes]:
        if not self._registry.admits(self.headers.get("Authorization")):
            return 401, "application/json", b"{}"
        self._registry.requests.append(self.path)
        if self.path == "/v2/":
            return 200, "application/json", b"{}"
        blob = self._registry.blobs.get(self.path.rpartition("/")[2])
        if blob is None or not self.path.startswith(f"/v2/{REPOSITORY}/"):
            return 404, "application/json", b"{}"
        return 200, *blob
