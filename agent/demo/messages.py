"""HTTP requests and replies as plain values, for the demo's servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One complete request. Header names are lower case; `query` is undecoded."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def bearer(self) -> str:
        """The bearer token, or an empty string."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Reply:
    """Status, body, and any headers that differ from those of a JSON reply."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
