"""What AWS's instance metadata service (IMDSv2) says of this machine.

Asked with a session token, as EC2's documentation has it ("Use the Instance Metadata Service", version 2), and
without any proxy: the address is this machine's own. Where nothing answers as AWS does, nothing is known: no error.
"""

from __future__ import annotations

import hashlib
import http.client
import re
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "http://169.254.169.254"
"""Where every cloud that has an instance metadata service answers (link-local, RFC 3927)."""
VENDOR_FILE = Path("/sys/class/dmi/id/sys_vendor")
TRIES = 2
_TOKEN = ("PUT", "/latest/api/token")
_REGION = "/latest/meta-data/placement/region"
_INSTANCE_ID = "/latest/meta-data/instance-id"


def region(endpoint: str, timeout_s: float) -> str | None:
    """Return a region such as eu-central-1, or None. Never raises."""
    return _get(endpoint, timeout_s, _REGION, r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")


def instance_id(endpoint: str, timeout_s: float) -> str | None:
    """Return this instance's id such as i-0123456789abcdef0, or None. Never raises.

    Only asked where an answer may be hoped for: on a machine whose firmware names Amazon, or where the endpoint
    was set on purpose. Elsewhere the default address is nobody's, and asking would cost each start its time-out.
    """
    if endpoint == DEFAULT_ENDPOINT and not is_amazon():
        return None
    return _get(endpoint, timeout_s, _INSTANCE_ID, r"i-[0-9a-f]{8,17}")


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


def _get(endpoint: str, timeout_s: float, path: str, pattern: str) -> str | None:
    for _ in range(TRIES):
        try:
            token = _ask(endpoint, timeout_s, _TOKEN, {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            text = _ask(endpoint, timeout_s, ("GET", path), {"X-aws-ec2-metadata-token": token})
        except (OSError, http.client.HTTPException, ValueError):
            continue
        if re.fullmatch(pattern, text):
            return text
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
