"""A stand-in for S3 that gives an object only for a signed URL, and a metadata service with the credentials for it.

The signature is computed again by botocore, from what the request says, with the secret that only the metadata service
tells. As S3, it refuses (403) a URL that has expired, is of another region, lacks the session token or was changed.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.integration.metadata_service import MetadataService

KEY, SECRET, TOKEN = "ASIAEXAMPLE", "sEcReT/of+the+role", "tOkEn/of+the+session=="
REGION = "eu-west-1"


@dataclass
class S3:
    """The objects by path ("/BUCKET/KEY", as quoted in a URL), and the answers given: (path, status)."""

    metadata: MetadataService
    objects: dict[str, bytes] = field(default_factory=dict)
    region: str = REGION
    denied: int = 0
    """Refuse this many requests first, as while a new role is not known everywhere."""
    answers: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""

    def status(self, host: str, target: str) -> int:
        where = urlsplit(target)
        if self.denied > 0:
            self.denied -= 1
            return 403
        if not self._is_signed(host, where.path, dict(parse_qsl(where.query))):
            return 403
        return 200 if where.path in self.objects else 404

    def _is_signed(self, host: str, path: str, query: dict[str, str]) -> bool:
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        given = {
            name: query.get(f"X-Amz-{name}", "") for name in ("Credential", "Date", "Expires", "Signature")
        }
        signed_s = timegm(time.strptime(given["Date"], "%Y%m%dT%H%M%SZ")) if given["Date"] else 0
        expires_s = int(given["Expires"] or 0)
        scope = f"{KEY}/{given['Date'][:8]}/{self.region}/s3/aws4_request"
        if given["Credential"] != scope or not 0 <= time.time() + 1 - signed_s <= expires_s:
            return False
        signer: Any = S3SigV4QueryAuth(Credentials(KEY, SECRET, TOKEN), "s3", self.region, expires=expires_s)
        request: Any = AWSRequest("GET", f"http://{host}{path}")
        request.context["timestamp"] = given["Date"]
        signer._modify_request_before_signing(request)
        expected = dict(parse_qsl(urlsplit(request.url).query))
        signature = signer.signature(
            signer.string_to_sign(request, signer.canonical_request(request)), request
        )
        return query == {**expected, "X-Amz-Signature": signature}


@contextlib.contextmanager
def serving_s3(**objects: bytes) -> Iterator[S3]:
    """Serve S3 and the metadata service of a machine with a role, on loopback."""
    with MetadataService() as metadata:
        role = "iam/security-credentials/"
        login = {"Code": "Success", "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": TOKEN}
        metadata.documents |= {
            role: "beta9-gpu-role",
            f"{role}beta9-gpu-role": json.dumps(login),
            "placement/region": REGION,
            "services/domain": "amazonaws.com",
        }
        s3 = S3(metadata, objects)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = s3.status(str(self.headers["Host"]), self.path)
                path = urlsplit(self.path).path
                s3.answers.append((path, status))
                body = s3.objects[path] if status == 200 else b"<Error/>"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Print nothing: tests read `answers`."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            s3.url = f"http://127.0.0.1:{server.server_address[1]}"
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield s3
            finally:
                server.shutdown()
