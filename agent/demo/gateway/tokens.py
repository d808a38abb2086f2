"""The bearer tokens that the gateway accepts: its PostgreSQL table and the cache in front of it. No I/O.

Because of the cache a deactivated token keeps working for a while, and a machine that has called recently does not
notice that the database is down.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from enum import Enum

TOKEN_BYTES = 64  # 88 characters of base64, as printed by `beta9 machine create`


class TokenKind(Enum):
    """What a token belongs to."""

    MACHINE = "machine"
    WORKER = "worker"
    WORKSPACE = "workspace"
    """Any other valid token; the machine routes answer 403 to it."""


@dataclass
class _Token:
    kind: TokenKind
    active: bool = True
    cached_until_s: float = float("-inf")


def new_token() -> str:
    """Return a random token in the gateway's format."""
    return base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode("ascii")


class TokenTable:
    """Known tokens. `cache_s` is how long an approval is cached (600 s in the real gateway)."""

    def __init__(self, cache_s: float = 600) -> None:
        self.database_down = False
        self._cache_s = cache_s
        self._tokens: dict[str, _Token] = {}

    def add(self, token: str, kind: TokenKind = TokenKind.MACHINE) -> str:
        """Add a valid token and return it."""
        self._tokens[token] = _Token(kind)
        return token

    def deactivate(self, token: str) -> None:
        """Deactivate a token. Raises: KeyError for a token that was never added."""
        self._tokens[token].active = False

    def forget_cache(self) -> None:
        """Drop all cached approvals."""
        for token in self._tokens.values():
            token.cached_until_s = float("-inf")

    def authorize(self, token: str, now_s: float) -> TokenKind | None:
        """Return the token's kind, or None if the gateway answers 401."""
        known = self._tokens.get(token)
        if known is None:
            return None
        if now_s < known.cached_until_s:
            return known.kind
        if self.database_down or not known.active:
            return None
        known.cached_until_s = now_s + self._cache_s
        return known.kind
