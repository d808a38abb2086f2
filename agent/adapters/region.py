"""Which AWS region this machine is in, by its instance metadata service (IMDSv2)."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlsplit

TRIES = 2
_TOKEN = ("PUT", "/latest/api/token")
_REGION = ("GET", "/latest/meta-data/placement/region")


def metadata_region(endpoint: str, timeout_s: float) -> str | None:
    """Return a region such as eu-central-1, or None where nothing answers as AWS does. Never raises.

    Asks with a session token, as EC2's documentation has it ("Use the Instance Metadata Service", version 2).
    No proxy is used: the address is this machine's own.
    """
    for _ in range(TRIES):
        try:
            token = _ask(endpoint, timeout_s, _TOKEN, {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            region = _ask(endpoint, timeout_s, _REGION, {"X-aws-ec2-metadata-token": token})
        except (OSError, http.client.HTTPException, ValueError):
            continue
        if re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}", region):
            return region
    return None


def _ask(endpoint: str, timeout_s: float, what: tuple[str, str], headers: dict[str, str]) -> str:
    """Raises OSError, HTTPException, or ValueError for an answer other than 200."""
    url = urlsplit(endpoint)
    method, path = what
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=timeout_s)
    try:
        connection.request(method, url.path + path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(1024).decode("ascii")
        if answer.status != 200:
            raise ValueError(f"{method} {path} was answered with {answer.status}")
        return body.strip()
    finally:
        connection.close()
