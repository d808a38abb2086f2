"""The gateway's wire format: bodies with exactly the types it expects, and each reply as one kind of outcome.

Source of every rule: the gateway's contract. cpu, memory and gpu_count are JSON strings when registering;
metrics are JSON numbers, integers where it wants integers, and always present.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from agent.core.config import Config
from agent.core.host.facts import HostFacts, NodeFacts
from agent.core.machine_api.model import Advertisement, CallKind, Capacity

REGISTER_PATH = "/api/v1/machine/register"
KEEPALIVE_PATH = "/api/v1/machine/keepalive"
HEALTH_PATH = "/api/v1/health"


class OutcomeKind(str, Enum):
    """What an answer means; the value is the label in metrics and logs."""

    OK = "ok"
    MACHINE_NOT_FOUND = "machine_not_found"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NO_ROUTE = "no_route"
    BAD_POOL = "bad_pool"
    BAD_REQUEST = "bad_request"
    SLOW_DOWN = "slow_down"
    GATEWAY_ERROR = "gateway_error"
    BAD_REPLY = "bad_reply"
    NO_ANSWER = "no_answer"
    SECRET = "secret"  # noqa: S105 - a label, not a secret
    UNUSABLE = "unusable"


@dataclass(frozen=True)
class Outcome:
    """The result of one call. `text` is for a person; nothing of the gateway's configuration is ever kept."""

    kind: OutcomeKind
    text: str = ""
    ttl_s: float | None = None
    retry_after_s: float | None = None
    gateway_config: bool | None = None
    took_s: float = 0.0


def register_body(config: Config, advertisement: Advertisement, private_ip: str) -> dict[str, Any]:
    """Return the body of POST /machine/register, but for the token. Nothing offered is `0m` and `0Mi`, with gpu_count
    as it was.
    """
    capacity = advertisement.capacity
    offered = capacity if advertisement.offered else Capacity(gpu_count=capacity.gpu_count)
    return {
        "machine_id": config.machine_id,
        "hostname": advertisement.hostname,
        "provider_name": config.provider_name,
        "pool_name": config.pool_name,
        "cpu": f"{offered.cpu_millicores}m",
        "memory": f"{offered.memory_mib}Mi",
        "gpu_count": str(offered.gpu_count),
        "private_ip": private_ip,
    }


def with_k3s_token(body: dict[str, Any], token: str) -> dict[str, Any]:
    """Return a registration's body, complete: the gateway gets this token to create Jobs on the machine's k3s."""
    return {"token": token, **body}


def check_body() -> dict[str, Any]:
    """Return a keepalive's body with empty ids: 400 proves route and token without touching any machine."""
    return {"machine_id": "", "provider_name": "", "pool_name": "", "agent_version": "", "metrics": {}}


def keepalive_body(
    config: Config, capacity: Capacity, host: HostFacts | None, node: NodeFacts | None
) -> dict[str, Any]:
    """Return the body of POST /machine/keepalive: millicores, MiB, bytes and per cent, as the gateway expects."""
    return {
        "machine_id": config.machine_id,
        "provider_name": config.provider_name,
        "pool_name": config.pool_name,
        "agent_version": config.version,
        "metrics": {
            "total_cpu_available": capacity.cpu_millicores,
            "total_memory_available": capacity.memory_mib,
            "total_disk_space_bytes": host.disk_total_bytes if host else 0,
            "total_disk_free_bytes": host.disk_free_bytes if host else 0,
            "cpu_utilization_pct": round(host.cpu_utilization_pct, 1) if host else 0.0,
            "memory_utilization_pct": round(host.memory_utilization_pct, 1) if host else 0.0,
            "worker_count": node.worker_count if node else 0,
            "container_count": (node.container_count if node else 0) + (host.container_count if host else 0),
            "free_gpu_count": capacity.free_gpu_count,
            "cache_usage_pct": 0.0,
            "cache_capacity": 0,
            "cache_memory_usage": 0,
            "cache_cpu_usage": 0.0,
        },
    }


def read_reply(kind: CallKind, status: int, body: bytes, retry_after: str | None = None) -> Outcome:
    """Classify one answer of the gateway (or of an ingress in front of it). Never raises, whatever came."""
    reply = _parse(body)
    message = _message(reply)
    if status == 200:
        return _read_success(kind, reply)
    if status == 400 and kind is CallKind.CHECK and message == "machine_id and pool_name are required":
        return Outcome(OutcomeKind.OK)
    if status == 404 and message == "Not Found":
        return Outcome(
            OutcomeKind.NO_ROUTE,
            "the gateway has no such route (404 Not Found): an upstream gateway without the keepalive route "
            "can never make a machine ready; check BETA9_GATEWAY_HOST and BETA9_GATEWAY_PORT (with ssh, "
            "BETA9_SSH_TARGET), or update the gateway",
        )
    if status in _NAMED:
        named, advice = _NAMED[status]
        return Outcome(
            named,
            f"the gateway answered {status} {message or _shape(body)}{advice}",
            retry_after_s=_seconds(retry_after),
        )
    return _read_error(status, message, body, retry_after)


_MISUNDERSTOOD = (
    ": it does not understand this agent, or something else answers there; check BETA9_GATEWAY_HOST and "
    "BETA9_GATEWAY_PORT (with ssh, BETA9_SSH_TARGET), and update whichever of gateway and agent is older"
)
_NAMED = {
    400: (OutcomeKind.BAD_REQUEST, _MISUNDERSTOOD),
    401: (
        OutcomeKind.UNAUTHORIZED,
        ": it does not accept the machine token in BETA9_TOKEN; 'beta9 machine create --pool POOL' prints a new one. "
        "If the token worked until now, the gateway's database may be down: it gives the same answer then",
    ),
    403: (
        OutcomeKind.FORBIDDEN,
        ": the token in BETA9_TOKEN is valid, but it is not a machine's; use the one that "
        "'beta9 machine create --pool POOL' prints",
    ),
    429: (OutcomeKind.SLOW_DOWN, ""),
}
"""Answers known by their status alone: what they mean, and what to do about them."""


def _read_success(kind: CallKind, reply: object) -> Outcome:
    state = reply.get("machine_state") if isinstance(reply, dict) else None
    if not isinstance(reply, dict) or not isinstance(state, dict):
        return Outcome(
            OutcomeKind.BAD_REPLY, "the gateway answered 200 without a machine_state: not a Beta9 gateway?"
        )
    return Outcome(
        OutcomeKind.OK,
        ttl_s=_ttl_s(state.get("ttl_seconds")),
        gateway_config=reply.get("config") is not None if kind is not CallKind.KEEPALIVE else None,
    )


def _ttl_s(ttl: object) -> float | None:
    """The lease in seconds, if it is a sane number."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl < 86400:
        return None
    return float(ttl)


def _read_error(status: int, message: str, body: bytes, retry_after: str | None) -> Outcome:
    answer = f"the gateway answered {status} {message or _shape(body)}"
    if status == 500 and message.startswith("Failed to update keepalive") and "machine not found" in message:
        return Outcome(OutcomeKind.MACHINE_NOT_FOUND, answer)
    if status == 500 and message == "Invalid pool name":
        return Outcome(
            OutcomeKind.BAD_POOL,
            f"{answer}: BETA9_POOL_NAME must be a pool of the gateway's configuration, spelled exactly as there; "
            "correct it, or add the pool to the gateway",
        )
    if status == 500 and message.startswith("Invalid "):
        return Outcome(OutcomeKind.BAD_REQUEST, f"{answer}{_MISUNDERSTOOD}")
    if 300 <= status < 400:
        return Outcome(OutcomeKind.BAD_REPLY, f"{answer}: a redirect, which is never followed")
    return Outcome(OutcomeKind.GATEWAY_ERROR, answer, retry_after_s=_seconds(retry_after))


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    # RecursionError: a reply of a hundred thousand brackets is valid input to the parser.
    except (ValueError, RecursionError):
        return None


def _message(reply: object) -> str:
    message = reply.get("message") if isinstance(reply, dict) else None
    return message[:300] if isinstance(message, str) else ""


def _shape(body: bytes) -> str:
    """Describe an unreadable body without repeating it: it may hold anything, even secrets."""
    return f"({len(body)} bytes that are not a Beta9 gateway's message)" if body else "(empty)"


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; for its other form, a date, our own pause is used."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit() or len(retry_after) > 6:
        return None
    return float(retry_after)
