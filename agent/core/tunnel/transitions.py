"""The rules that every link shares: its phases, whether it is wanted, and what a failure costs.

ssh_events.py and probe_results.py take in what happened to the links; schedule.py does what is due for them.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s, full_jitter_s
from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.state import AgentState
from agent.core.transition_table import Row
from agent.core.tunnel import reverse_form
from agent.core.tunnel.faults import DENIED, Fault, FaultKind
from agent.core.tunnel.model import Contest, Link, LinkPhase, Purpose

ATTEMPT = "an attempt is due"
ANSWER = "an answer comes through"
FAILURE = "it fails"
UNWANTED = "it is no longer wanted"
SHUT = "k3s stops answering behind any port"

TABLE: tuple[Row[LinkPhase], ...] = (
    Row(LinkPhase.DOWN, ATTEMPT, LinkPhase.STARTING),
    Row(LinkPhase.STARTING, ANSWER, LinkPhase.UP),
    Row(LinkPhase.STARTING, FAILURE, LinkPhase.DOWN),
    Row(LinkPhase.STARTING, UNWANTED, LinkPhase.DOWN),
    Row(LinkPhase.UP, ANSWER, LinkPhase.UP),
    Row(LinkPhase.UP, SHUT, LinkPhase.STARTING),
    Row(LinkPhase.UP, FAILURE, LinkPhase.DOWN),
    Row(LinkPhase.UP, UNWANTED, LinkPhase.DOWN),
    # A fault of another kind while it is down (the tailnet says something new) is only noted.
    Row(LinkPhase.DOWN, FAILURE, LinkPhase.DOWN),
)
"""Every way in which a link changes its phase. UP means that an answer came through, not that a process lives."""

_NEXT = {(row.source, row.when): row.target for row in TABLE}

_MISCONFIGURED = frozenset({FaultKind.GATEWAY_PORTS, FaultKind.PERMIT_OPEN, FaultKind.RELAY})
"""What only a person at the gateway's host can fix: retrying quickly would only fill its log."""


def next_phase(link: Link, when: str) -> LinkPhase:
    """Return the phase that the table names. Raises: KeyError for a transition that it does not have (a bug)."""
    return _NEXT[link.phase, when]


def with_link(state: AgentState, purpose: Purpose, link: Link) -> AgentState:
    """Return the state with one link replaced."""
    if purpose is Purpose.API:
        return replace(state, api=link)
    if purpose is Purpose.REVERSE:
        return replace(state, reverse=link)
    return replace(state, data=link)


def is_wanted(state: AgentState, purpose: Purpose) -> bool:
    """Return whether this link should be up at all.

    In the plain form the reverse path is open only while k3s answers locally: a dial that hangs at a sick k3s stops the
    gateway's whole pool, one that is refused harms nobody. In the form of any port the hairpin rejects these dials, and
    the others go on.
    """
    if state.exit_decision is not None:
        return False
    if purpose is Purpose.API:
        return True
    is_ssh = state.config.connection is Connection.SSH
    if purpose is Purpose.DATA:
        return is_ssh and state.config.data
    if not is_ssh and state.config.connection is not Connection.TAILSCALE:
        return False
    if state.config.k3s is K3sMode.NONE:
        has_k3s = is_ssh and state.kube.logins.has_token
    else:
        has_k3s = state.kube.expected and (state.kube.answering or reverse_form.uses_any_port(state))
    return has_k3s and (state.hairpin.works or not reverse_form.uses_any_port(state))


def is_probed(state: AgentState, purpose: Purpose) -> bool:
    """Return whether something at this link's far end can be asked: the gateway, or this machine's own k3s."""
    return purpose is Purpose.API or (purpose is Purpose.REVERSE and state.config.k3s is not K3sMode.NONE)


def pause_s(link: Link, kind: FaultKind, ctx: Context) -> float:
    """Return the seconds before the next attempt, by what failed and for how long it has been failing."""
    policy = ctx.policy
    if kind is FaultKind.SESSION:
        return 0.0
    if kind in DENIED:
        return between_s(policy.denied_min_s, policy.denied_max_s, ctx.jitter)
    if kind in _MISCONFIGURED:
        return between_s(policy.backoff_cap_s / 2, policy.backoff_cap_s, ctx.jitter)
    is_recent = link.down_since_s is None or ctx.now_s - link.down_since_s < policy.outage_s
    cap_s = policy.outage_cap_s if is_recent else policy.backoff_cap_s
    return full_jitter_s(link.attempt, policy.backoff_base_s, cap_s, ctx.jitter)


def fail(state: AgentState, purpose: Purpose, fault: Fault, ctx: Context) -> AgentState:
    """Take the link down because of `fault`, and decide when and at which address to try again."""
    link = state.link(purpose)
    was_stable = link.up_since_s is not None and ctx.now_s - link.up_since_s >= ctx.policy.settled_s
    link = replace(link, attempt=0) if was_stable else link
    pause = pause_s(link, fault.kind, ctx)
    if purpose is Purpose.REVERSE and fault.kind is FaultKind.BIND and state.config.addresses:
        taken = state.candidate % len(state.config.addresses)
        state = replace(state, contest=Contest(taken, probe_at_s=ctx.now_s))
        state = reverse_form.on_refused(state, state.address, ctx)
    if purpose is Purpose.REVERSE and takes_next_address(state, fault.kind):
        state, pause = _next_address(state, link, fault, pause)
    if fault.kind in DENIED:
        state = replace(state, denied_at_s=ctx.now_s)
    is_conflict = fault.kind is FaultKind.LOCAL_PORT
    link = replace(
        link,
        phase=next_phase(link, FAILURE),
        attempt=link.attempt + 1,
        # What was learned of one form does not hold for the other.
        retry_at_s=max(
            ctx.now_s + (0.0 if has_other_form(state, purpose, link) else pause),
            _earliest_login_s(state, ctx),
        ),
        down_since_s=ctx.now_s if link.down_since_s is None else link.down_since_s,
        conflict_since_s=(link.conflict_since_s or ctx.now_s) if is_conflict else None,
        up_since_s=None,
        logged_in_at_s=None,
        probing=False,
        silent=0,
        missed_at_s=None,
        refusals=0,
        hurry=link.hurry and link.logged_in_at_s is not None,
        session=link.session and fault.kind is not FaultKind.SESSION,
        fault=fault,
        last_complaint=None,
        restarts=_count(link.restarts, fault.kind.value),
    )
    return with_link(state, purpose, link)


def has_other_form(state: AgentState, purpose: Purpose, link: Link) -> bool:
    """Return whether the reverse link was started for another form than is to be used now."""
    is_reverse = purpose is Purpose.REVERSE and state.config.connection is Connection.SSH
    return is_reverse and link.any_port != reverse_form.uses_any_port(state)


def _earliest_login_s(state: AgentState, ctx: Context) -> float:
    """Earliest time of the next login: sshd may have just refused another child that uses the same key."""
    return ctx.now_s if state.denied_at_s is None else state.denied_at_s + ctx.policy.denied_min_s


def takes_next_address(state: AgentState, kind: FaultKind) -> bool:
    """Return whether the reverse path should try its next address rather than the same one again."""
    has_others = state.config.connection is Connection.SSH and len(state.config.addresses) > 1
    return has_others and kind in {FaultKind.BIND, FaultKind.ADDRESS, FaultKind.SILENT}


def _next_address(state: AgentState, link: Link, fault: Fault, pause: float) -> tuple[AgentState, float]:
    # The first round over all addresses is made without a pause: a dead session that holds one costs only a second.
    if link.attempt < len(state.config.addresses) - 1:
        pause = 0.0
    detour = f"not {state.address}: {fault.message}"
    return replace(state, candidate=state.candidate + 1, detour=detour), pause


def _count(restarts: tuple[tuple[str, int], ...], reason: str) -> tuple[tuple[str, int], ...]:
    counts = dict(restarts)
    counts[reason] = counts.get(reason, 0) + 1
    return tuple(counts.items())


def answered(link: Link, took_s: float | None, ctx: Context, again_s: float | None = None) -> Link:
    """Return the link after an answer that took `took_s`; probe it again after `again_s` (default: the interval)."""
    came_up = link.phase is not LinkPhase.UP
    return replace(
        link,
        phase=next_phase(link, ANSWER),
        up_since_s=ctx.now_s if came_up else link.up_since_s,
        down_since_s=None,
        conflict_since_s=None,
        answered_at_s=ctx.now_s,
        probe_s=took_s,
        silent=0,
        missed_at_s=None,
        refusals=0,
        fault=None,
        probe_at_s=ctx.now_s + (again_s or ctx.policy.probe_interval_s),
    )
