"""A client of AWS's instance metadata service (IMDSv2).

It sends a session token, as EC2's documentation requires ("Use the Instance Metadata Service", version 2), and uses no
proxy: the address is local to the machine. If nothing answers the way AWS does, values are unknown, which is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from agent.adapters.bounded_http import exchange
from agent.core.cloud.interruption import LIMIT_CHARS

DEFAULT_ENDPOINT = "http://169.254.169.254"
"""Where every cloud serves its instance metadata (link-local, RFC 3927)."""
VENDOR_FILE = Path("/sys/class/dmi/id/sys_vendor")
TRIES = 2
TOKEN_TTL_S = 21_600
"""The longest that IMDSv2 grants; a 401 ends a token earlier."""
_DATA = "/latest/meta-data/"


def region(endpoint: str, timeout_s: float) -> str | None:
    """Return a region such as eu-central-1, or None. Never raises."""
    return _read(endpoint, timeout_s, "placement/region", r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")


def instance_id(endpoint: str, timeout_s: float) -> str | None:
    """Return this instance's id such as i-0123456789abcdef0, or None. Never raises.

    Only asks on a machine whose firmware names Amazon, or if the endpoint was configured. Elsewhere nothing answers at
    the default address, and each start would wait for the time-out.
    """
    if endpoint == DEFAULT_ENDPOINT and not is_amazon():
        return None
    return _read(endpoint, timeout_s, "instance-id", r"i-[0-9a-f]{8,17}")


def machine_id_of(instance: str) -> str:
    """Return the machine id of an instance: the first 8 hexadecimal characters of the SHA-256 of its id."""
    return hashlib.sha256(instance.encode()).hexdigest()[:8]


def is_amazon() -> bool:
    """Return whether the firmware names Amazon as the vendor."""
    try:
        return "amazon" in VENDOR_FILE.read_text(encoding="ascii", errors="replace").lower()
    except OSError:  # no firmware tables: a container without /sys, or another architecture
        return False


def _read(endpoint: str, timeout_s: float, name: str, pattern: str) -> str | None:
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
    """The service gave no usable reply, so nothing new is known."""


class MetadataSession:
    """Reads documents with a cached IMDSv2 token, over one kept connection."""

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        self._url = urlsplit(endpoint)
        self._timeout_s = timeout_s
        self._token: str | None = None
        self._connection: http.client.HTTPConnection | None = None

    def document(self, name: str) -> str | None:
        """Return a document's text, or None if there is no such document (404). Raises: UnansweredError."""
        for _ in range(2):
            if self._token is None:
                self._token = self._new_token()
            status, text = self._call("GET", _DATA + name, {"X-aws-ec2-metadata-token": self._token})
            if status == 200:
                return text
            if status == 404:
                return None
            if status != 401:
                raise UnansweredError(f"{name} was answered with {status}")
            self._token = None  # expired, or issued to another machine (a restored image)
        raise UnansweredError(f"{name} was answered with 401 to a fresh token")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
        status, text = self._call("PUT", "/latest/api/token", headers)
        if status != 200 or not text.isascii() or not text.isprintable() or not 0 < len(text) <= 1024:
            raise UnansweredError(f"the token was answered with {status}")
        return text

    def _call(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        is_kept = self._connection is not None and self._connection.sock is not None
        try:
            return self._once(method, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if not is_kept or isinstance(error, TimeoutError):
                raise UnansweredError(str(error) or type(error).__name__) from error
        # The service may have closed a kept connection in the meantime, which says nothing about its health.
        try:
            return self._once(method, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise UnansweredError(str(error) or type(error).__name__) from error

    def _once(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "", self._url.port)
        status, body = exchange(
            self._connection,
            method,
            self._url.path + path,
            headers=headers,
            deadline_s=time.monotonic() + self._timeout_s,
            limit_bytes=LIMIT_CHARS,
        )
        return status, body.decode("utf-8").strip()
