"""An HTTP request and its reply, as plain values: what the demo's servers are handed and hand back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request, read whole. Header names are in lower case; `query` is as it was on the wire."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def bearer(self) -> str:
        """The bearer token, empty if there is none."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Reply:
    """Status and body; headers only where they are not the usual ones of a JSON reply."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
