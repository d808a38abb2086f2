"""The lease: renewing it, when it has expired, and whether the keepalive interval fits it."""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s
from agent.core.context import Context
from agent.core.machine_api.model import Lease
from agent.core.policy import Policy


def interval_problem(policy: Policy) -> str | None:
    """Return why the keepalive interval does not fit the lease, or None if it does.

    The invariant (after Patroni's loop_wait + 2 x retry_timeout <= ttl): one interval, two attempts that time
    out and the pauses between them must fit into the lease, so that a single lost keepalive never loses it.
    """
    slack_s = 2 * policy.keepalive_timeout_s + 2 * policy.call_retry_cap_s
    longest_s = policy.ttl_s - slack_s
    if policy.keepalive_interval_s <= longest_s:
        return None
    return (
        f"{policy.keepalive_interval_s:g} s between keepalives, two time-outs of {policy.keepalive_timeout_s:g} s and "
        f"the pauses between them do not fit the gateway's lease of {policy.ttl_s:g} s; use at most {longest_s:g} s"
    )


def renewed(lease: Lease, ttl_s: float, ctx: Context) -> Lease:
    """Return the lease after an accepted keepalive; `ttl_s` is its life at the gateway."""
    # A gateway with a shorter lease than ours sets the interval; the jitter keeps a fleet from calling in step.
    interval_s = min(ctx.policy.keepalive_interval_s, ttl_s / 3)
    return replace(
        lease,
        ready=True,
        last_ok_s=ctx.now_s,
        expires_at_s=ctx.now_s + ttl_s,
        next_at_s=ctx.now_s + interval_s * between_s(0.9, 1.0, ctx.jitter),
        oks=lease.oks + 1,
        failures=0,
    )


def has_expired(lease: Lease, ctx: Context) -> bool:
    """Return whether the gateway has forgotten the machine by now, if it knew it."""
    return lease.expires_at_s is not None and ctx.now_s >= lease.expires_at_s
