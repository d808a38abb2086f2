"""One link's own rules: whether it is wanted, what a failure costs, and when it counts as up.

link_events.py takes in what happened to the links, link_upkeep.py does what is due for them.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s, full_jitter_s
from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.state import AgentState
from agent.core.tunnel.faults import DENIED, Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose

_MISCONFIGURED = frozenset({FaultKind.GATEWAY_PORTS, FaultKind.PERMIT_OPEN})
"""What only a person at the gateway's sshd can mend: asking quickly is noise in its log."""


def put(worker: AgentState, purpose: Purpose, link: Link) -> AgentState:
    """The worker with one link changed."""
    if purpose is Purpose.API:
        return replace(worker, api=link)
    if purpose is Purpose.REVERSE:
        return replace(worker, reverse=link)
    return replace(worker, data=link)


def wanted(worker: AgentState, purpose: Purpose) -> bool:
    """Whether this link should be up at all.

    The reverse path is open only while k3s answers locally: a dial that hangs at a sick k3s stops the whole
    pool at the gateway, one that is refused harms nobody.
    """
    if worker.ending is not None:
        return False
    if purpose is Purpose.API:
        return True
    is_ssh = worker.setup.connection is Connection.SSH
    if purpose is Purpose.DATA:
        return is_ssh and worker.setup.data
    if not is_ssh and worker.setup.connection is not Connection.TAILSCALE:
        return False
    if worker.setup.k3s is K3sMode.NONE:
        return is_ssh and worker.kube.logins.has_token
    return worker.kube.expected and worker.kube.answering


def pause_s(link: Link, kind: FaultKind, at: Context) -> float:
    """Seconds before the next attempt, by what went wrong and for how long."""
    policy = at.policy
    if kind is FaultKind.SESSION:
        return 0.0
    if kind in DENIED:
        return between_s(policy.denied_min_s, policy.denied_max_s, at.jitter)
    if kind in _MISCONFIGURED:
        return between_s(policy.backoff_cap_s / 2, policy.backoff_cap_s, at.jitter)
    young = link.down_since_s is None or at.now_s - link.down_since_s < policy.outage_s
    cap_s = policy.outage_cap_s if young else policy.backoff_cap_s
    return full_jitter_s(link.attempt, policy.backoff_base_s, cap_s, at.jitter)


def fail(worker: AgentState, purpose: Purpose, trouble: Fault, at: Context) -> AgentState:
    """The link is down because of `trouble`: note it, and decide when to try again and where."""
    link = worker.link(purpose)
    settled = link.up_since_s is not None and at.now_s - link.up_since_s >= at.policy.settled_s
    link = replace(link, attempt=0) if settled else link
    pause = pause_s(link, trouble.kind, at)
    if purpose is Purpose.REVERSE and moves_on(worker, trouble.kind):
        worker, pause = _next_address(worker, link, trouble, pause)
    is_conflict = trouble.kind is FaultKind.LOCAL_PORT
    if trouble.kind in DENIED:
        worker = replace(worker, denied_at_s=at.now_s)
    link = replace(
        link,
        phase=LinkPhase.DOWN,
        attempt=link.attempt + 1,
        retry_at_s=max(at.now_s + pause, _spared_until_s(worker, at)),
        down_since_s=at.now_s if link.down_since_s is None else link.down_since_s,
        conflict_since_s=(link.conflict_since_s or at.now_s) if is_conflict else None,
        up_since_s=None,
        logged_in_at_s=None,
        probing=False,
        silent=0,
        refusals=0,
        session=link.session and trouble.kind is not FaultKind.SESSION,
        trouble=trouble,
        said=None,
        restarts=_count(link.restarts, trouble.kind.value),
    )
    return put(worker, purpose, link)


def _spared_until_s(worker: AgentState, at: Context) -> float:
    """Until when sshd must hear of no further login: one that it refused was another child's, with the same key."""
    return at.now_s if worker.denied_at_s is None else worker.denied_at_s + at.policy.denied_min_s


def moves_on(worker: AgentState, kind: FaultKind) -> bool:
    """Whether the reverse path should take its next address rather than ask for the same again."""
    has_others = worker.setup.connection is Connection.SSH and len(worker.setup.addresses) > 1
    return has_others and kind in {
        FaultKind.BIND,
        FaultKind.ADDRESS,
        FaultKind.SILENT,
    }


def _next_address(worker: AgentState, link: Link, trouble: Fault, pause: float) -> tuple[AgentState, float]:
    # The first round over all addresses costs no pause: a dead session that holds one costs a second, not more.
    if link.attempt < len(worker.setup.addresses) - 1:
        pause = 0.0
    return replace(
        worker, candidate=worker.candidate + 1, detour=f"not {worker.address}: {trouble.text}"
    ), pause


def _count(restarts: tuple[tuple[str, int], ...], reason: str) -> tuple[tuple[str, int], ...]:
    counts = dict(restarts)
    counts[reason] = counts.get(reason, 0) + 1
    return tuple(counts.items())


def probed(worker: AgentState, purpose: Purpose) -> bool:
    """Whether somebody answers at this link's far end who can be asked."""
    return purpose is Purpose.API or (purpose is Purpose.REVERSE and worker.setup.k3s is not K3sMode.NONE)


def up(link: Link, took_s: float | None, at: Context, again_s: float | None = None) -> Link:
    """The link after an answer that took `took_s`; asked again after `again_s`, by default the usual interval."""
    came_up = link.phase is not LinkPhase.UP
    return replace(
        link,
        phase=LinkPhase.UP,
        up_since_s=at.now_s if came_up else link.up_since_s,
        down_since_s=None,
        conflict_since_s=None,
        answered_at_s=at.now_s,
        probe_s=took_s,
        silent=0,
        refusals=0,
        trouble=None,
        probe_at_s=at.now_s + (again_s or at.policy.probe_interval_s),
    )
