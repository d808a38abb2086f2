"""What happened to the ssh children: their lines, their ends, and what the probes found.

A child is replaced when it exits or when three probes in a row get no answer at all. A probe that is *closed*
came back from the far side, so the tunnel is well and its end is not: replacing the child would not help.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import full_jitter_s
from agent.core.config import Connection
from agent.core.context import Context
from agent.core.events import (
    REACHED,
    Answer,
    ApiProbed,
    LinkComplained,
    LinkEnded,
    LinkLoggedIn,
    Probe,
    ReverseProbed,
)
from agent.core.state import AgentState
from agent.core.tailnet import login as tailnet
from agent.core.tunnel.faults import DENIED, Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.transitions import fail, probed, put, up

_SHARED = DENIED | {
    FaultKind.REFUSED,
    FaultKind.UNREACHABLE,
    FaultKind.DNS,
    FaultKind.LOST,
    FaultKind.SILENT,
    FaultKind.SECRET,
}
"""Troubles of the way to sshd, which all children share."""

_SILENT = Fault(FaultKind.SILENT, "no answer through the tunnel; the ssh child is replaced")


def on_logged_in(worker: AgentState, event: LinkLoggedIn, at: Context) -> AgentState:
    """sshd let the child in."""
    link = worker.link(event.purpose)
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return worker
    # The forwards are set up within a round trip of the login, so ask at once.
    link = replace(link, logged_in_at_s=at.now_s, probe_at_s=at.now_s)
    worker = replace(worker, denied_at_s=None)
    if event.purpose is Purpose.API:
        worker = _follow_api(worker, at)
    return put(worker, event.purpose, link if probed(worker, event.purpose) else up(link, None, at))


def _follow_api(worker: AgentState, at: Context) -> AgentState:
    """The way to sshd is open and the key is good: whoever waited only for that goes now."""
    for purpose in (Purpose.REVERSE, Purpose.DATA):
        link = worker.link(purpose)
        if link.phase is LinkPhase.DOWN and link.trouble is not None and link.trouble.kind in _SHARED:
            worker = put(worker, purpose, replace(link, retry_at_s=at.now_s))
    return worker


def on_complained(worker: AgentState, event: LinkComplained, _at: Context) -> AgentState:
    """Keep the complaint; it is told only if a probe then finds the forward closed."""
    link = worker.link(event.purpose)
    if event.generation != link.generation:
        return worker
    # What a key may open is settled at the login, so this complaint holds as long as the child; others pass.
    if link.said is not None and link.said.kind is FaultKind.PERMIT_OPEN:
        return worker
    return put(worker, event.purpose, replace(link, said=event.trouble))


def on_ended(worker: AgentState, event: LinkEnded, at: Context) -> AgentState:
    """A child is gone. One that belongs to an earlier generation was ended by us."""
    link = worker.link(event.purpose)
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return worker
    return fail(put(worker, event.purpose, replace(link, child=False)), event.purpose, event.trouble, at)


def on_api_probed(worker: AgentState, event: ApiProbed, at: Context) -> AgentState:
    """The gateway was asked for its health through the api link."""
    link = worker.api
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return worker
    answer = event.probe.answer
    link = replace(link, probing=False)
    # Before the login whatever answers there is not our child, but a process that holds its port.
    not_listening = answer is Answer.NOT_LISTENING and link.phase is LinkPhase.STARTING
    if worker.setup.connection is Connection.SSH and (link.logged_in_at_s is None or not_listening):
        return replace(worker, api=replace(link, probe_at_s=at.now_s + at.policy.start_probe_s))
    if answer in REACHED:
        text = None if answer is Answer.ANSWERED else event.probe.text
        worker = worker if link.phase is LinkPhase.UP else _came_back(worker, at)
        return replace(worker, api=up(link, event.probe.took_s, at), gateway_trouble=text)
    if worker.setup.connection is not Connection.SSH:
        return _direct_unanswered(worker, link, event, at)
    if answer in {Answer.CLOSED, Answer.BEYOND_SILENT}:
        return _api_beyond(worker, link, event.probe, at)
    return _count_missed_probe(worker, Purpose.API, link, at)


def _came_back(worker: AgentState, at: Context) -> AgentState:
    """A new way to the gateway: whatever waited for a retry may go, and a keepalive tells whether we are known."""
    return replace(
        worker, call_retry_at_s=at.now_s, misses=0, lease=replace(worker.lease, next_at_s=at.now_s)
    )


def _direct_unanswered(worker: AgentState, link: Link, event: ApiProbed, at: Context) -> AgentState:
    """Without a tunnel there is no child to spare: while starting every miss is an attempt that failed."""
    text = tailnet.unreached(worker, event.probe.text or "the gateway does not answer")
    trouble = Fault(FaultKind.UNREACHABLE, text)
    worker = replace(worker, api=link, gateway_trouble=trouble.text)
    if link.phase is LinkPhase.STARTING or link.silent + 1 >= at.policy.probe_failures:
        return fail(worker, Purpose.API, trouble, at)
    return _count_missed_probe(worker, Purpose.API, link, at)


def _api_beyond(worker: AgentState, link: Link, probe: Probe, at: Context) -> AgentState:
    """The tunnel is well, the gateway behind it is not: wait for it, with jitter, on the same child."""
    if probe.answer is Answer.CLOSED and link.said is None and link.refusals == 0:
        # ssh says why on its stderr, which may come after the end of the connection: ask once more, then judge.
        return replace(worker, api=replace(link, refusals=1, probe_at_s=at.now_s + at.policy.start_probe_s))
    pause = full_jitter_s(link.refusals, at.policy.probe_retry_s, at.policy.outage_cap_s, at.jitter)
    trouble = link.said or Fault(
        FaultKind.TARGET, probe.text or "the gateway does not answer behind the tunnel"
    )
    link = replace(
        link,
        silent=0,
        refusals=link.refusals + 1,
        probe_at_s=at.now_s + pause,
        trouble=trouble,
        started_at_s=at.now_s,
    )
    worker = replace(worker, api=link, gateway_trouble=trouble.text)
    # What a key may open is settled at the login: only another login, now and then, sees that it was corrected.
    logged_in_s = at.now_s - (link.logged_in_at_s or at.now_s)
    if trouble.kind is FaultKind.PERMIT_OPEN and logged_in_s >= at.policy.denied_min_s:
        return fail(worker, Purpose.API, trouble, at)
    return worker


def on_reverse_probed(worker: AgentState, event: ReverseProbed, at: Context) -> AgentState:
    """The machine's own Kubernetes was asked for through the gateway's side."""
    link = worker.reverse
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return worker
    answer = event.probe.answer
    link = replace(link, probing=False)
    if answer in {Answer.ANSWERED, Answer.UNWELL}:
        if link.logged_in_at_s is None:
            # Not by our forward: a session of before, or another machine, still holds the address.
            return replace(worker, reverse=replace(link, probe_at_s=at.now_s + at.policy.start_probe_s))
        return replace(
            worker,
            path_verified=True,
            reverse=up(link, event.probe.took_s, at, at.policy.reverse_interval_s),
        )
    if answer is Answer.DENIED:
        text = f"{worker.address} answers, and not as this machine's k3s: {event.probe.text}"
        return fail(put(worker, Purpose.REVERSE, link), Purpose.REVERSE, Fault(FaultKind.ADDRESS, text), at)
    if worker.setup.connection is not Connection.SSH:
        return _own_address_unanswered(worker, link, event.probe, at)
    is_silent = answer is Answer.SILENT and link.logged_in_at_s is not None
    return (_reverse_silent if is_silent else _reverse_closed)(worker, link, at)


def _own_address_unanswered(worker: AgentState, link: Link, probe: Probe, at: Context) -> AgentState:
    """k3s answers on loopback, and not where the gateway dials it."""
    text = f"this machine's k3s does not answer at its own address in the tailnet, {worker.address}: {probe.text}"
    trouble = Fault(
        FaultKind.ADDRESS, f"{text}; k3s must not be bound to other addresses alone (bind-address)"
    )
    link = replace(link, silent=link.silent + 1, probe_at_s=at.now_s + at.policy.probe_retry_s)
    worker = put(worker, Purpose.REVERSE, link)
    is_over = link.phase is LinkPhase.STARTING or link.silent >= at.policy.probe_failures
    return fail(worker, Purpose.REVERSE, trouble, at) if is_over else worker


def _reverse_silent(worker: AgentState, link: Link, at: Context) -> AgentState:
    """Silence blames the reverse path only while the api link answers: the probe goes through both.

    Otherwise the whole network is down, the children notice that themselves, and taking another address would
    cost a registration for nothing.
    """
    policy = at.policy
    recent_s = policy.probe_interval_s + policy.probe_timeout_s
    api_well = worker.api.silent == 0 and at.now_s - (worker.api.answered_at_s or 0.0) < recent_s
    if api_well:
        return _count_missed_probe(worker, Purpose.REVERSE, link, at)
    return replace(worker, reverse=replace(link, probe_at_s=at.now_s + policy.probe_retry_s))


def _reverse_closed(worker: AgentState, link: Link, at: Context) -> AgentState:
    policy = at.policy
    if link.logged_in_at_s is None:
        later = replace(link, probe_at_s=at.now_s + policy.start_probe_s)
        return replace(worker, reverse=later)
    if link.phase is LinkPhase.UP:
        return _count_missed_probe(worker, Purpose.REVERSE, link, at)
    if at.now_s - link.logged_in_at_s < policy.reverse_settle_s:
        # Asked at once after the login, the forward may be a round trip away.
        later = replace(
            link, probe_at_s=at.now_s + policy.start_probe_s * (1 + link.refusals), refusals=link.refusals + 1
        )
        return replace(worker, reverse=later)
    if worker.api.said is not None and worker.api.said.kind is FaultKind.PERMIT_OPEN:
        text = f"the gateway's sshd does not let this key open {worker.address}:6443: {worker.api.said.text}"
        return fail(worker, Purpose.REVERSE, Fault(FaultKind.PERMIT_OPEN, text), at)
    text = (
        f"sshd accepted the reverse forward, but {worker.address} does not answer there: it bound another address. "
        "Set 'GatewayPorts clientspecified' in the gateway's sshd_config and reload sshd"
    )
    return fail(worker, Purpose.REVERSE, Fault(FaultKind.GATEWAY_PORTS, text), at)


def _count_missed_probe(worker: AgentState, purpose: Purpose, link: Link, at: Context) -> AgentState:
    link = replace(link, silent=link.silent + 1, probe_at_s=at.now_s + at.policy.probe_retry_s)
    worker = put(worker, purpose, link)
    return fail(worker, purpose, _SILENT, at) if link.silent >= at.policy.probe_failures else worker
