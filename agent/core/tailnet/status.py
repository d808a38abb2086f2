"""Read tailscaled's status (ipn/ipnstate.Status as JSON), reduced to what is decided on and shown.

Field names and states are those of tailscale.com's packages `ipn/ipnstate` and `ipn` (read at v1.72.1 and v1.104.5,
the same in both).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.core.host.facts import DaemonState, PeerFacts, TailnetFacts

_STATES = {
    "NoState": DaemonState.STARTING,
    "NeedsLogin": DaemonState.NEEDS_LOGIN,
    "NeedsMachineAuth": DaemonState.NEEDS_APPROVAL,
    "Stopped": DaemonState.STOPPED,
    "Starting": DaemonState.STARTING,
    "Running": DaemonState.RUNNING,
}
_NO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time."""
_LOGIN_ERROR = "The last login error was: "
"""What precedes, in tailscaled's health, the reason why the control server refused the login."""
_REFUSALS = ("http 401", "http 403", "invalid key")
"""A control server's answers to a key that it does not accept; tailscaled retries, and calls that *starting*."""


def read_status(status: Mapping[str, Any], gateway_host: str, wall_s: float) -> TailnetFacts:
    """Return the facts in a status; `wall_s` is now, in seconds since 1970. Raises: ValueError for another shape."""
    try:
        return _read(status, gateway_host, wall_s)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"tailscaled's status has another shape: {error!r}") from error


def _read(status: Mapping[str, Any], gateway_host: str, wall_s: float) -> TailnetFacts:
    own = status.get("Self") or {}
    state = _STATES[status["BackendState"]]
    expires_in_s = _seconds_until(own.get("KeyExpiry"), wall_s)
    text = _complaint(state, [str(text) for text in status.get("Health") or ()])
    if state is DaemonState.STARTING and any(sign in text for sign in _REFUSALS):
        state = DaemonState.NEEDS_LOGIN
    if state is DaemonState.NEEDS_LOGIN and _has_expired(own, expires_in_s):
        state = DaemonState.KEY_EXPIRED
    suffix = str((status.get("CurrentTailnet") or {}).get("MagicDNSSuffix") or "")
    return TailnetFacts(
        state=state,
        text=text,
        name=str(own.get("DNSName") or "").rstrip("."),
        address=_first_ipv4(status.get("TailscaleIPs") or ()),
        tailnet=str((status.get("CurrentTailnet") or {}).get("Name") or ""),
        version=str(status.get("Version") or ""),
        key_expires_in_s=expires_in_s,
        userspace=status.get("TUN") is False,
        peer=_peer(status.get("Peer") or {}, gateway_host, suffix, wall_s),
    )


def _complaint(state: DaemonState, health: list[str]) -> str:
    """Pick the health message that explains the state; they come in no order, and most explain nothing."""
    for text in sorted(health):
        _, found, error = text.partition(_LOGIN_ERROR)
        # A headscale answers in JSON, which says less than the code before it.
        if found:
            return error.partition(": {")[0]
    is_under_way = state is DaemonState.STARTING
    telling = [text for text in health if is_under_way and "Please wait" not in text]
    return min(telling, default="")


def _has_expired(own: Mapping[str, Any], expires_in_s: float | None) -> bool:
    return bool(own.get("Expired")) or (expires_in_s is not None and expires_in_s <= 0)


def _peer(peers: Mapping[str, Any], host: str, suffix: str, wall_s: float) -> PeerFacts | None:
    """Return the peer that a host name or address means: by full name, first label, or one of its addresses."""
    wanted = host.rstrip(".").lower()
    names = {wanted, f"{wanted}.{suffix.lower()}"} if suffix and "." not in wanted else {wanted}
    for peer in peers.values():
        name = str(peer.get("DNSName") or "").rstrip(".")
        addresses = [str(address) for address in peer.get("TailscaleIPs") or ()]
        if name.lower() in names or wanted in addresses:
            return _as_facts(peer, name, _first_ipv4(addresses), wall_s)
    return None


def _as_facts(peer: Mapping[str, Any], name: str, address: str, wall_s: float) -> PeerFacts:
    direct = bool(peer.get("CurAddr"))
    has_traffic = peer.get("LastHandshake") not in {None, _NO_TIME}
    return PeerFacts(
        name=name or address,
        address=address,
        online=bool(peer.get("Online")),
        key_expired=_has_expired(peer, _seconds_until(peer.get("KeyExpiry"), wall_s)),
        direct=direct if direct or has_traffic else None,
        relay="" if direct else str(peer.get("Relay") or ""),
    )


def _first_ipv4(addresses: Any) -> str:
    texts = [str(address) for address in addresses]
    return next((text for text in texts if "." in text), texts[0] if texts else "")


def _seconds_until(moment: Any, wall_s: float) -> float | None:
    """RFC 3339, as Go writes it; None for a time that is not there or is zero."""
    if not moment or moment == _NO_TIME:
        return None
    text = str(moment).replace("Z", "+00:00")
    # Python 3.10 takes three or six digits of a second, Go writes up to nine; none of them matter here.
    head, dot, rest = text.partition(".")
    if dot:
        zone = rest.lstrip("0123456789")
        text = f"{head}{zone}"
    return datetime.fromisoformat(text).timestamp() - wall_s
