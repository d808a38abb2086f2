"""Checks of the bootstrap's variables, as far as they can be checked before there is a machine.

The bootstrap checks them again on the machine. Here a user learns of a mistake before a machine costs money.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.core.text.describe import shape, shown
from agent.settings import parsers

_SUM = r"#sha256=[0-9A-Fa-f]{64}"
_PLACE = r"(https?://[^\s#/]+/|file:///|/)[^\s#]+"
_DIGEST = r"[a-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}"


def source(value: str) -> None:
    """Check a location with a checksum. Raises: ValueError, as do the other checks."""
    if not re.fullmatch(_PLACE + _SUM, value):
        raise ValueError(
            "is not LOCATION#sha256=CHECKSUM; give https://…, file:///… or an absolute path, followed by the"
            " checksum ('make source' builds the tarball and prints both)"
        )


def image(value: str) -> None:
    """Check an image with a digest, or an archive with a checksum."""
    if not re.fullmatch(f"{_DIGEST}|{_PLACE}{_SUM}", value):
        raise ValueError(
            "is neither NAME@sha256:DIGEST nor LOCATION#sha256=CHECKSUM of an archive; a tag is not enough, because"
            " it can be moved"
        )


def whole(value: str) -> None:
    """Check a whole number."""
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise ValueError("is not a whole number; give digits only")


def absolute(value: str) -> None:
    """Check an absolute path on the machine."""
    if not value.startswith("/") or not value.isprintable():
        raise ValueError("is not a path on the machine; give an absolute path")


def _sha256(value: str) -> None:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("is not a SHA-256 checksum; give its 64 hexadecimal digits")


def proxy(value: str) -> None:
    """Check an HTTP proxy, which may be given with a login."""
    if not re.fullmatch(
        r"(https?://)?([^\s/?#@\"'\\]+@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?", value
    ):
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
    "BETA9_ON_FAILURE": parsers.one_of("poweroff", "keep"),
    "BETA9_SECRETS_TIMEOUT": whole,
    "BETA9_EXPECTED_GPUS": whole,
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
