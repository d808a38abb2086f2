"""What to tell the machine's EC2 Auto Scaling group, and when: launched, useless, or drained.

Contract (EC2 Auto Scaling user guide, "Lifecycle hooks"): a machine in Pending:Wait counts once its launch hook is
completed with CONTINUE, and is ended at ABANDON; one in Terminating:Wait is let go at CONTINUE.
"""

from __future__ import annotations

from enum import Enum

from agent.core.lifecycle.model import DisplayedState, ShutdownKind
from agent.core.machine_api import offer
from agent.core.state import AgentState
from agent.errors import ExitCode


class GroupSignal(str, Enum):
    """The signals to the group, each sent once."""

    JOINED = "joined"
    """Work can be placed here: the launch has succeeded."""
    USELESS = "useless"
    """This machine can never work as it is configured; another one might."""
    DRAINED = "drained"
    """The group is terminating the machine, and no work is left on it."""


def signal_due(state: AgentState) -> GroupSignal | None:
    """Return the signal that is due now, if any.

    Leased is not enough to have joined: the gateway must be able to place work here. A machine whose k3s or GPUs are
    missing offers nothing, and the hook's time-out ends it. A refused token or key says nothing either: a gateway
    without its database refuses good ones.
    """
    if state.exit_decision is not None:
        if state.exit_decision.exit_code is ExitCode.UNUSABLE:
            return GroupSignal.USELESS
        taken = state.shutdown is not None and state.shutdown.kind is ShutdownKind.TERMINATE
        return GroupSignal.DRAINED if taken else None
    return (
        GroupSignal.JOINED if state.displayed is DisplayedState.READY and offer.is_placeable(state) else None
    )
