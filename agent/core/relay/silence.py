"""Back-off for an address whose machine does not answer: while it lasts, dials are refused without asking the machine.

A dial makes sshd wait anew for a dead client's answers (ClientAliveInterval), so dialling a dead session's listener
more often than that keeps the session alive for good, and with it the address. The back-off therefore lasts longer
than sshd needs to end the session. The stream that went unanswered stays open meanwhile and costs nothing: an answer
on it shows that the machine is back, its end that the session and its listener are gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.policy import RelayPolicy


@dataclass(frozen=True)
class Silence:
    """An address is not dialled until `until_s`; this is the pause of `pause_s` that began with the last time-out."""

    until_s: float
    pause_s: float


def silent_again(previous: Silence | None, now_s: float, policy: RelayPolicy) -> Silence:
    """Return the pause after a time-out; `previous` is the pause before it, if nothing was answered since."""
    pause_s = policy.silence_s if previous is None else min(previous.pause_s * 2, policy.silence_cap_s)
    return Silence(now_s + pause_s, pause_s)


def may_dial(silence: Silence | None, now_s: float) -> bool:
    """Return whether the machine may be asked."""
    return silence is None or now_s >= silence.until_s
