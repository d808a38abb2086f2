"""What a decision may use besides the state: the time, the policy, and one random number, all passed in."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.policy import Policy


@dataclass(frozen=True)
class Context:
    """`now_s` is on the monotonic clock; `jitter` is drawn evenly from [0, 1)."""

    now_s: float
    policy: Policy
    jitter: float = 0.5
