"""Which bearer tokens the gateway takes: its PostgreSQL table, and the cache in front of it. Pure.

The cache is why a deactivated token works on for a while, and why a machine that called a moment ago does not
notice that the database is down.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from enum import Enum

TOKEN_BYTES = 64  # 88 characters in base64, as `beta9 machine create` prints


class TokenKind(Enum):
    MACHINE = "machine"
    WORKER = "worker"
    WORKSPACE = "workspace"
    """Any other valid token: the machine routes answer 403 to it."""


@dataclass
class _Token:
    kind: TokenKind
    active: bool = True
    cached_until_s: float = float("-inf")


def new_token() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode("ascii")


@dataclass
class TokenTable:
    """Known tokens. `cache_s` is how long an answer is remembered (600 s in the real gateway)."""

    cache_s: float = 600
    database_down: bool = False
    _tokens: dict[str, _Token] = field(default_factory=dict, repr=False)

    def add(self, token: str, kind: TokenKind = TokenKind.MACHINE) -> str:
        self._tokens[token] = _Token(kind)
        return token

    def deactivate(self, token: str) -> None:
        """Raises: KeyError for a token that was never added."""
        self._tokens[token].active = False

    def forget_cache(self) -> None:
        for token in self._tokens.values():
            token.cached_until_s = float("-inf")

    def authorize(self, token: str, now_s: float) -> TokenKind | None:
        """The token's kind, or None where the gateway answers 401."""
        known = self._tokens.get(token)
        if known is None:
            return None
        if now_s < known.cached_until_s:
            return known.kind
        if self.database_down or not known.active:
            return None
        known.cached_until_s = now_s + self.cache_s
        return known.kind
