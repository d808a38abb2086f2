"""Checks of the bootstrap's variables, as far as they can be checked before there is a machine.

The bootstrap checks them again on the machine. Here a user learns of a mistake before a machine costs money.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.core.text.describe import shape, shown
from agent.settings import parsers
from agent.settings.amounts import count

_SUM = r"#sha256=[0-9A-Fa-f]{64}"
_PLACE = r"(https?://[^\s#/]+/|s3://[a-z0-9][a-z0-9.-]+[a-z0-9]/|file:///|/)[^\s#]+"
_DIGEST = r"[a-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}"
"""As bootstrap/lib/settings.sh reads numbers: in shell arithmetic a leading zero would make them octal."""
PROXY = r"(https?://)?([^\s/?#@\"'\\]+@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?"
ADDRESSES = r"[0-9a-fA-F.:]+(/[0-9]{1,3})?([ ,]+[0-9a-fA-F.:]+(/[0-9]{1,3})?)*"
NETWORK = r"([0-9]{1,3}\.){3}[0-9]{1,3}/(1[2-9]|2[0-4])"
_LONGEST_WAIT_S = 3500


def source(value: str) -> None:
    """Check a location with a checksum. Raises: ValueError, as do the other checks."""
    if not re.fullmatch(_PLACE + _SUM, value):
        raise ValueError(
            "is not LOCATION#sha256=CHECKSUM; give https://…, s3://…, file:///… or an absolute path, followed by the"
            " checksum ('make source' builds the tarball and prints both)"
        )


def image(value: str) -> None:
    """Check an image with a digest, or an archive with a checksum."""
    if not re.fullmatch(f"{_DIGEST}|{_PLACE}{_SUM}", value):
        raise ValueError(
            "is neither NAME@sha256:DIGEST nor LOCATION#sha256=CHECKSUM of an archive; a tag is not enough, because"
            " it can be moved"
        )


def wait(value: str) -> None:
    """Check how long the bootstrap waits for secrets."""
    count(value)
    if int(value) > _LONGEST_WAIT_S:
        raise ValueError(f"is too long; give at most {_LONGEST_WAIT_S} seconds")


def factor(value: str) -> None:
    """Check a factor, by which shell arithmetic multiplies."""
    count(value)
    if value == "0":
        raise ValueError("is not a factor; give 1 or more")


def network(value: str) -> None:
    """Check a network for k3s's pods or services."""
    if not re.fullmatch(NETWORK, value):
        raise ValueError("is not an IPv4 network of 12 to 24 bits; give one such as 10.142.0.0/16")


def exactly(*words: str) -> Callable[[str], None]:
    """Return a check for a choice of words in small letters, as shell compares them."""

    def check(value: str) -> None:
        if value not in words:
            raise ValueError(f"is not one of {', '.join(words)}")

    return check


def addresses(value: str) -> None:
    """Check a list of addresses and networks."""
    if not re.fullmatch(ADDRESSES, value):
        raise ValueError(
            "is not a list of addresses and networks; separate them with commas, such as 192.0.2.7,198.51.100.0/24"
        )


def absolute(value: str) -> None:
    """Check an absolute path on the machine."""
    if not value.startswith("/") or not value.isprintable():
        raise ValueError("is not a path on the machine; give an absolute path")


def _sha256(value: str) -> None:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("is not a SHA-256 checksum; give its 64 hexadecimal digits")


def proxy(value: str) -> None:
    """Check an HTTP proxy, which may be given with a login."""
    if not re.fullmatch(PROXY, value):
        raise ValueError(
            "is not http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; write special characters of the password as"
            " %XX"
        )


_CHECKS: dict[str, Callable[[str], object]] = {
    "BETA9_SOURCE": source,
    "BETA9_AGENT_IMAGE": image,
    "BETA9_FILES_DIR": absolute,
    "BETA9_REGISTRY_AUTH_FILE": absolute,
    "BETA9_REGISTRIES_FILE": absolute,
    "BETA9_ON_FAILURE": exactly("poweroff", "keep"),
    "BETA9_SECRETS_TIMEOUT": wait,
    "BETA9_GPU_TIMEOUT": count,
    "BETA9_MIN_FREE_MIB": count,
    "BETA9_DEADLINE_SCALE": factor,
    "BETA9_MIG_STRATEGY": exactly("none", "single", "mixed"),
    "BETA9_K3S_ALLOW_FROM": addresses,
    "BETA9_K3S_CLUSTER_CIDR": network,
    "BETA9_K3S_SERVICE_CIDR": network,
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy),
}
_CONFIDENTIAL = re.compile(r"(?<=://)[^/?#\s]*@|\?[^#\s]*")
"""A login and the query of a URL, which may be a signature."""


def problem(variable: str, value: str) -> str | None:
    """Return what is wrong with a value ("BETA9_SOURCE: 'x' is not …"), or None."""
    check = _CHECKS.get(variable) or (_sha256 if variable.endswith("_SHA256") else parsers.text)
    try:
        check(value)
    except ValueError as error:
        what = shape(value) if check is proxy else shown(_CONFIDENTIAL.sub("", value))
        return f"{variable}: {what} {error}"
    return None
