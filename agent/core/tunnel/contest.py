"""Who holds an address of this machine that sshd refused: a dead session of its own, or another machine with its id?

The addresses are computed from the machine's id, so a second machine with the same id (a copied disk, an id that was
pasted twice) wants the same ones. Whichever comes later finds the first address taken. A dead session answers nothing;
a machine does, and a copied disk's k3s shows this machine's own certificate.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import Connection
from agent.core.context import Context
from agent.core.effects import Effect, ProbeContest
from agent.core.events import ContestProbed
from agent.core.state import AgentState
from agent.core.tunnel.model import Holder, LinkPhase


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Ask at the contested address when that is due; forget it once this machine holds it."""
    contest = state.contest
    if contest is None:
        return state, []
    count = len(state.config.addresses)
    if state.reverse.phase is LinkPhase.UP and state.candidate % count == contest.candidate:
        return replace(state, contest=None), []
    is_open = state.config.connection is Connection.SSH and state.api.phase is LinkPhase.UP
    if not is_open or contest.probing or ctx.now_s < contest.probe_at_s or state.exit_decision:
        return state, []
    effect = ProbeContest(contest.candidate, ctx.policy.probe_timeout_s)
    return replace(state, contest=replace(contest, probing=True)), [effect]


def on_probed(state: AgentState, event: ContestProbed, ctx: Context) -> AgentState:
    """Somebody answered at the contested address, or nobody."""
    contest = state.contest
    if contest is None or event.candidate != contest.candidate:
        return state
    if event.holder is Holder.NOBODY:
        return replace(state, contest=None)
    again_at_s = ctx.now_s + ctx.policy.contest_interval_s
    holder = None if event.holder is Holder.SILENT else event.holder
    return replace(state, contest=replace(contest, probing=False, probe_at_s=again_at_s, holder=holder))


def warning(state: AgentState) -> str | None:
    """Return what is wrong with this machine's id, for a person; None as far as is known nothing."""
    contest, machine_id = state.contest, state.config.machine_id
    if contest is None or contest.holder is None:
        return None
    address = state.config.addresses[contest.candidate]
    if contest.holder is Holder.TWIN:
        return (
            f"another machine has this machine's id {machine_id}, and the gateway takes both for one: {address}, an "
            "address of that id, leads to a k3s with this machine's certificate. One of the two has a copy of the "
            "other's disk: there, stop the agent, remove machine.json from its state directory (or change "
            "BETA9_MACHINE_ID), reinstall k3s, and start the agent"
        )
    return (
        f"another machine answers at {address}, an address of this machine's id {machine_id}: if both have the same "
        "BETA9_MACHINE_ID, give each its own"
    )
