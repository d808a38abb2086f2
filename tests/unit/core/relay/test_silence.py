"""The back-off for a machine that does not answer."""

from __future__ import annotations

from agent.core.policy import RelayPolicy
from agent.core.relay.silence import may_dial, silent_again

POLICY = RelayPolicy()
SSHD_NEEDS_S = 17.0
"""Without a dial, OpenSSH 9.2 ends a dead session after this long, at ClientAliveInterval 3 x 2 (measured)."""


def test_a_machine_that_never_was_silent_is_dialled() -> None:
    assert may_dial(None, 0)


def test_after_a_time_out_it_is_left_alone_for_longer_than_sshd_needs_to_end_its_session() -> None:
    silence = silent_again(None, 100, POLICY)
    assert not may_dial(silence, 100)
    assert not may_dial(silence, 100 + SSHD_NEEDS_S + POLICY.answer_timeout_s - 0.1)
    assert may_dial(silence, silence.until_s)


def test_pauses_grow_up_to_their_cap() -> None:
    """An sshd with longer client-alive settings than ours needs a longer pause, and gets it in the end."""
    silence, pauses = None, []
    for _ in range(5):
        silence = silent_again(silence, 0, POLICY)
        pauses.append(silence.pause_s)
    assert pauses == [20, 40, 80, 120, 120]
