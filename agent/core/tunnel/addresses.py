"""The loopback addresses of a machine on the gateway's side, where `-R ADDRESS:6443` binds them.

Every machine's k3s is dialled on port 6443, so each machine needs an address of its own. It is computed, not
assigned: agent, `authorize` and the gateway's `permitlisten` come to the same answer without asking each other.
"""

from __future__ import annotations

from hashlib import sha256

COUNT = 4
"""Addresses a machine may try, so that a dead session that still holds one costs seconds."""
FIRST_BLOCK = 64
BLOCKS = 64
"""127.64.0.0/10, the part of the loopback network that is used: above what distributions take for themselves
(127.0.0.1, 127.0.1.1, 127.0.0.53)."""

POOL_PATTERNS: tuple[str, ...] = tuple(f"127.{block}.*" for block in range(FIRST_BLOCK, FIRST_BLOCK + BLOCKS))
"""All of 127.64.0.0/10 in sshd's patterns. sshd matches them against the text that the client sends."""


def candidate(machine_id: str, n: int) -> str:
    """Return the n-th address (0 … COUNT-1) of a machine.

    h = SHA-256("<id>:<n>"), and the address is 127.(64 + h[0] % 64).h[1].(1 + h[2] % 254): never a network's
    first or last address. The scheme is fixed; changing it would invalidate every authorized_keys line in use.

    Raises: ValueError for another n.
    """
    if not 0 <= n < COUNT:
        raise ValueError(f"address candidates are numbered 0 to {COUNT - 1}, not {n}")
    h = sha256(f"{machine_id}:{n}".encode()).digest()
    return f"127.{FIRST_BLOCK + h[0] % BLOCKS}.{h[1]}.{1 + h[2] % 254}"


def is_machine_address(text: str) -> bool:
    """Return whether an address belongs to 127.64.0.0/10, where the relay on the gateway's host takes connections."""
    parts = text.split(".")
    is_ipv4 = len(parts) == 4 and all(part.isdecimal() for part in parts)
    return is_ipv4 and parts[0] == "127" and FIRST_BLOCK <= int(parts[1]) < FIRST_BLOCK + BLOCKS


def candidates(machine_id: str) -> tuple[str, ...]:
    """Return all addresses of a machine, in the order in which it tries them."""
    return tuple(candidate(machine_id, n) for n in range(COUNT))
