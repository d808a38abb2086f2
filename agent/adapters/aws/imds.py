"""What AWS's instance metadata service (IMDSv2) says of this machine.

Asked with a session token, as EC2's documentation has it ("Use the Instance Metadata Service", version 2), and
without any proxy: the address is this machine's own. Where nothing answers as AWS does, nothing is known: no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from agent.core.cloud.interruption import LIMIT_CHARS

DEFAULT_ENDPOINT = "http://169.254.169.254"
"""Where every cloud that has an instance metadata service answers (link-local, RFC 3927)."""
VENDOR_FILE = Path("/sys/class/dmi/id/sys_vendor")
TRIES = 2
TOKEN_TTL_S = 21_600
"""The longest that IMDSv2 grants; a 401 ends it earlier."""
_DATA = "/latest/meta-data/"


def region(endpoint: str, timeout_s: float) -> str | None:
    """Return a region such as eu-central-1, or None. Never raises."""
    return _get(endpoint, timeout_s, "placement/region", r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")


def instance_id(endpoint: str, timeout_s: float) -> str | None:
    """Return this instance's id such as i-0123456789abcdef0, or None. Never raises.

    Only asked where an answer may be hoped for: on a machine whose firmware names Amazon, or where the endpoint
    was set on purpose. Elsewhere the default address is nobody's, and asking would cost each start its time-out.
    """
    if endpoint == DEFAULT_ENDPOINT and not is_amazon():
        return None
    return _get(endpoint, timeout_s, "instance-id", r"i-[0-9a-f]{8,17}")


def machine_id_of(instance: str) -> str:
    """The machine id that belongs to an instance: 8 hexadecimal characters of its id's SHA-256."""
    return hashlib.sha256(instance.encode()).hexdigest()[:8]


def is_amazon() -> bool:
    """Whether the firmware names Amazon as the vendor."""
    try:
        return "amazon" in VENDOR_FILE.read_text(encoding="ascii", errors="replace").lower()
    except (
        OSError
    ):  # no firmware tables (a container without /sys, another architecture): not known to be Amazon's
        return False


def _get(endpoint: str, timeout_s: float, name: str, pattern: str) -> str | None:
    session = MetadataSession(endpoint, timeout_s)
    try:
        for _ in range(TRIES):
            with contextlib.suppress(UnansweredError):
                text = session.document(name)
                if text is not None and re.fullmatch(pattern, text):
                    return text
    finally:
        session.close()
    return None


class UnansweredError(Exception):
    """The service gave no usable answer; nothing is known anew."""


class MetadataSession:
    """Asks for documents with a cached IMDSv2 token, over one connection that is kept."""

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        self._url = urlsplit(endpoint)
        self._timeout_s = timeout_s
        self._token: str | None = None
        self._connection: http.client.HTTPConnection | None = None

    def document(self, name: str) -> str | None:
        """A document's text, None where it is absent (404). Raises: UnansweredError."""
        for _ in range(2):
            if self._token is None:
                self._token = self._new_token()
            status, text = self._ask("GET", _DATA + name, {"X-aws-ec2-metadata-token": self._token})
            if status == 200:
                return text
            if status == 404:
                return None
            if status != 401:
                raise UnansweredError(f"{name} was answered with {status}")
            self._token = None  # expired, or another machine's (a restored image)
        raise UnansweredError(f"{name} was answered with 401 to a fresh token")

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
        status, text = self._ask("PUT", "/latest/api/token", headers)
        if status != 200 or not text.isascii() or not text.isprintable() or not 0 < len(text) <= 1024:
            raise UnansweredError(f"the token was answered with {status}")
        return text

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        is_kept = self._connection is not None
        try:
            return self._once(method, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if not is_kept or isinstance(error, TimeoutError):
                raise UnansweredError(str(error) or type(error).__name__) from error
        # A connection that was kept may have been closed meanwhile: that says nothing about the service.
        try:
            return self._once(method, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise UnansweredError(str(error) or type(error).__name__) from error

    def _once(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        end_s = time.monotonic() + self._timeout_s
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        self._connection.request(method, self._url.path + path, headers=headers)
        answer = self._connection.getresponse()
        body = bytearray()
        while chunk := answer.read1(4096):
            body += chunk
            if len(body) > LIMIT_CHARS or time.monotonic() > end_s:
                raise http.client.HTTPException("too long an answer, or too slow a one")
        if answer.will_close:
            self.close()
        return answer.status, body.decode("utf-8").strip()
