"""What an EC2 Auto Scaling group ought to hear from its machine, decided on what the machine knows of itself.

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
    """What is said, once each."""

    JOINED = "joined"
    """Work can be placed here: the launch has succeeded."""
    USELESS = "useless"
    """This can never work as it is configured: another machine might, this one only costs."""
    DRAINED = "drained"
    """The group takes the machine out, and nothing runs here any more."""


def signal_due(state: AgentState) -> GroupSignal | None:
    """Return what is to be said now.

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
