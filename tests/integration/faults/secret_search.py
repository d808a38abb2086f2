"""Searching outputs for secrets, in every encoding in which they might leak."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus


def spellings(secret: str) -> Iterator[str]:
    """Yield a secret as an output might contain it: raw, JSON-escaped, URL-encoded, and inside base64."""
    yield from {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    for lead in range(3):
        # Base64 depends on the secret's offset in a group of three bytes; its ends depend on the surrounding bytes.
        encoded = base64.b64encode(bytes(lead) + secret.encode()).decode().rstrip("=")
        middle = encoded[(0, 2, 3)[lead] : -1]
        yield from {middle, middle.replace("+", "-").replace("/", "_")}


def found_in(outputs: dict[str, str], secrets: Iterable[str]) -> list[str]:
    """Return which outputs contain which secret; the secret is described by its length."""
    return [
        f"{name}: a secret of {len(secret)} characters"
        for secret in secrets
        for name, text in outputs.items()
        if any(spelling in text for spelling in spellings(secret))
    ]


def key_parts(key: str) -> list[str]:
    """Return a private key as a whole, and each of its lines."""
    return [key.strip(), *(line for line in key.splitlines() if line and not line.startswith("-----"))]
