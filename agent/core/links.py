"""When an ssh child is started, believed, doubted and replaced.

A child is replaced when it exits or when three probes in a row get no answer at all. A probe that is *closed*
came back from the far side, so the tunnel is well and its end is not: replacing the child would not help.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.backoff import between_s, full_jitter_s
from agent.core.commands import Command, ProbeApi, ProbeReverse, StartLink, StopLink
from agent.core.events import Answer, ApiProbed, LinkEnded, LinkLoggedIn, LinkSaid, Probe, ReverseProbed
from agent.core.moment import Moment
from agent.core.trouble import DENIED, Trouble, TroubleKind
from agent.core.worker import Connection, K3sMode, Link, Phase, Purpose, Worker

_SHARED = DENIED | {
    TroubleKind.REFUSED,
    TroubleKind.UNREACHABLE,
    TroubleKind.DNS,
    TroubleKind.LOST,
    TroubleKind.SILENT,
    TroubleKind.SECRET,
}
"""Troubles of the way to sshd, which all children share."""

_MISCONFIGURED = frozenset({TroubleKind.GATEWAY_PORTS, TroubleKind.PERMIT_OPEN})
"""What only a person at the gateway's sshd can mend: asking quickly is noise in its log."""

_SILENT = Trouble(TroubleKind.SILENT, "no answer through the tunnel; the ssh child is replaced")


def put(worker: Worker, purpose: Purpose, link: Link) -> Worker:
    """The worker with one link changed."""
    if purpose is Purpose.API:
        return replace(worker, api=link)
    if purpose is Purpose.REVERSE:
        return replace(worker, reverse=link)
    return replace(worker, data=link)


def wanted(worker: Worker, purpose: Purpose) -> bool:
    """Whether this link should be up at all.

    The reverse path is open only while k3s answers locally: a dial that hangs at a sick k3s stops the whole
    pool at the gateway, one that is refused harms nobody.
    """
    if worker.ending is not None:
        return False
    if purpose is Purpose.API:
        return True
    if worker.setup.connection is not Connection.SSH:
        return False
    if purpose is Purpose.DATA:
        return worker.setup.data
    if worker.setup.k3s is K3sMode.NONE:
        return worker.setup.has_k3s_token
    return worker.kube.expected and worker.kube.answering


def pause_s(link: Link, kind: TroubleKind, at: Moment) -> float:
    """Seconds before the next attempt, by what went wrong and for how long."""
    policy = at.policy
    if kind is TroubleKind.SESSION:
        return 0.0
    if kind in DENIED:
        return between_s(policy.denied_min_s, policy.denied_max_s, at.jitter)
    if kind in _MISCONFIGURED:
        return between_s(policy.backoff_cap_s / 2, policy.backoff_cap_s, at.jitter)
    young = link.down_since_s is None or at.now_s - link.down_since_s < policy.outage_s
    cap_s = policy.outage_cap_s if young else policy.backoff_cap_s
    return full_jitter_s(link.attempt, policy.backoff_base_s, cap_s, at.jitter)


def fail(worker: Worker, purpose: Purpose, trouble: Trouble, at: Moment) -> Worker:
    """The link is down because of `trouble`: note it, and decide when to try again and where."""
    link = worker.link(purpose)
    settled = link.up_since_s is not None and at.now_s - link.up_since_s >= at.policy.settled_s
    link = replace(link, attempt=0) if settled else link
    pause = pause_s(link, trouble.kind, at)
    if purpose is Purpose.REVERSE and moves_on(worker, trouble.kind):
        worker, pause = _next_address(worker, link, trouble, pause)
    is_conflict = trouble.kind is TroubleKind.LOCAL_PORT
    if trouble.kind in DENIED:
        worker = replace(worker, denied_at_s=at.now_s)
    link = replace(
        link,
        phase=Phase.DOWN,
        attempt=link.attempt + 1,
        retry_at_s=max(at.now_s + pause, _spared_until_s(worker, at)),
        down_since_s=at.now_s if link.down_since_s is None else link.down_since_s,
        conflict_since_s=(link.conflict_since_s or at.now_s) if is_conflict else None,
        up_since_s=None,
        logged_in_at_s=None,
        probing=False,
        silent=0,
        refusals=0,
        session=link.session and trouble.kind is not TroubleKind.SESSION,
        trouble=trouble,
        said=None,
        restarts=_count(link.restarts, trouble.kind.value),
    )
    return put(worker, purpose, link)


def _spared_until_s(worker: Worker, at: Moment) -> float:
    """Until when sshd must hear of no further login: one that it refused was another child's, with the same key."""
    return at.now_s if worker.denied_at_s is None else worker.denied_at_s + at.policy.denied_min_s


def moves_on(worker: Worker, kind: TroubleKind) -> bool:
    """Whether the reverse path should take its next address rather than ask for the same again."""
    return len(worker.setup.addresses) > 1 and kind in {
        TroubleKind.BIND,
        TroubleKind.ADDRESS,
        TroubleKind.SILENT,
    }


def _next_address(worker: Worker, link: Link, trouble: Trouble, pause: float) -> tuple[Worker, float]:
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


# --- What happened ---------------------------------------------------------------------------------------


def on_logged_in(worker: Worker, event: LinkLoggedIn, at: Moment) -> Worker:
    """sshd let the child in."""
    link = worker.link(event.purpose)
    if event.generation != link.generation or link.phase is Phase.DOWN:
        return worker
    # The forwards are set up within a round trip of the login, so ask at once.
    link = replace(link, logged_in_at_s=at.now_s, probe_at_s=at.now_s)
    worker = replace(worker, denied_at_s=None)
    if event.purpose is Purpose.API:
        worker = _follow_api(worker, at)
    return put(worker, event.purpose, link if _probed(worker, event.purpose) else _up(link, None, at))


def _follow_api(worker: Worker, at: Moment) -> Worker:
    """The way to sshd is open and the key is good: whoever waited only for that goes now."""
    for purpose in (Purpose.REVERSE, Purpose.DATA):
        link = worker.link(purpose)
        if link.phase is Phase.DOWN and link.trouble is not None and link.trouble.kind in _SHARED:
            worker = put(worker, purpose, replace(link, retry_at_s=at.now_s))
    return worker


def _probed(worker: Worker, purpose: Purpose) -> bool:
    """Whether somebody answers at this link's far end who can be asked."""
    return purpose is Purpose.API or (purpose is Purpose.REVERSE and worker.setup.k3s is not K3sMode.NONE)


def on_said(worker: Worker, event: LinkSaid, _at: Moment) -> Worker:
    """Keep the complaint; it is told only if a probe then finds the forward closed."""
    link = worker.link(event.purpose)
    if event.generation != link.generation:
        return worker
    # What a key may open is settled at the login, so this complaint holds as long as the child; others pass.
    if link.said is not None and link.said.kind is TroubleKind.PERMIT_OPEN:
        return worker
    return put(worker, event.purpose, replace(link, said=event.trouble))


def on_ended(worker: Worker, event: LinkEnded, at: Moment) -> Worker:
    """A child is gone. One that belongs to an earlier generation was ended by us."""
    link = worker.link(event.purpose)
    if event.generation != link.generation or link.phase is Phase.DOWN:
        return worker
    return fail(put(worker, event.purpose, replace(link, child=False)), event.purpose, event.trouble, at)


def on_api_probed(worker: Worker, event: ApiProbed, at: Moment) -> Worker:
    """The gateway was asked for its health through the api link."""
    link = worker.api
    if event.generation != link.generation or link.phase is Phase.DOWN:
        return worker
    answer = event.probe.answer
    link = replace(link, probing=False)
    if answer in {Answer.ANSWERED, Answer.DENIED, Answer.UNWELL}:
        text = None if answer is Answer.ANSWERED else event.probe.text
        worker = worker if link.phase is Phase.UP else _came_back(worker, at)
        return replace(worker, api=_up(link, event.probe.took_s, at), gateway_trouble=text)
    if worker.setup.connection is not Connection.SSH:
        return _direct_unanswered(worker, link, event, at)
    if answer in {Answer.CLOSED, Answer.BEYOND_SILENT}:
        return _api_beyond(worker, link, event.probe, at)
    if answer is Answer.NOT_LISTENING and link.phase is Phase.STARTING:
        return replace(worker, api=replace(link, probe_at_s=at.now_s + at.policy.start_probe_s))
    return _doubt(worker, Purpose.API, link, at)


def _came_back(worker: Worker, at: Moment) -> Worker:
    """A new way to the gateway: whatever waited for a retry may go, and a keepalive tells whether we are known."""
    return replace(
        worker, call_retry_at_s=at.now_s, misses=0, lease=replace(worker.lease, next_at_s=at.now_s)
    )


def _direct_unanswered(worker: Worker, link: Link, event: ApiProbed, at: Moment) -> Worker:
    """Without a tunnel there is no child to spare: while starting every miss is an attempt that failed."""
    trouble = Trouble(TroubleKind.UNREACHABLE, event.probe.text or "the gateway does not answer")
    worker = replace(worker, api=link, gateway_trouble=trouble.text)
    if link.phase is Phase.STARTING or link.silent + 1 >= at.policy.probe_failures:
        return fail(worker, Purpose.API, trouble, at)
    return _doubt(worker, Purpose.API, link, at)


def _api_beyond(worker: Worker, link: Link, probe: Probe, at: Moment) -> Worker:
    """The tunnel is well, the gateway behind it is not: wait for it, with jitter, on the same child."""
    if probe.answer is Answer.CLOSED and link.said is None and link.refusals == 0:
        # ssh says why on its stderr, which may come after the end of the connection: ask once more, then judge.
        return replace(worker, api=replace(link, refusals=1, probe_at_s=at.now_s + at.policy.start_probe_s))
    pause = full_jitter_s(link.refusals, at.policy.probe_retry_s, at.policy.outage_cap_s, at.jitter)
    trouble = link.said or Trouble(
        TroubleKind.TARGET, probe.text or "the gateway does not answer behind the tunnel"
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
    if trouble.kind is TroubleKind.PERMIT_OPEN and logged_in_s >= at.policy.denied_min_s:
        return fail(worker, Purpose.API, trouble, at)
    return worker


def on_reverse_probed(worker: Worker, event: ReverseProbed, at: Moment) -> Worker:
    """The machine's own Kubernetes was asked for through the gateway's side."""
    link = worker.reverse
    if event.generation != link.generation or link.phase is Phase.DOWN:
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
            reverse=_up(link, event.probe.took_s, at, at.policy.reverse_interval_s),
        )
    if answer is Answer.DENIED:
        text = f"{worker.address} answers, and not as this machine's k3s: {event.probe.text}"
        return fail(
            put(worker, Purpose.REVERSE, link), Purpose.REVERSE, Trouble(TroubleKind.ADDRESS, text), at
        )
    if answer is Answer.SILENT and link.logged_in_at_s is not None:
        return _reverse_silent(worker, link, at)
    return _reverse_closed(worker, link, at)


def _reverse_silent(worker: Worker, link: Link, at: Moment) -> Worker:
    """Silence blames the reverse path only while the api link answers: the probe goes through both.

    Otherwise the whole network is down, the children notice that themselves, and taking another address would
    cost a registration for nothing.
    """
    policy = at.policy
    recent_s = policy.probe_interval_s + policy.probe_timeout_s
    api_well = worker.api.silent == 0 and at.now_s - (worker.api.answered_at_s or 0.0) < recent_s
    if api_well:
        return _doubt(worker, Purpose.REVERSE, link, at)
    return replace(worker, reverse=replace(link, probe_at_s=at.now_s + policy.probe_retry_s))


def _reverse_closed(worker: Worker, link: Link, at: Moment) -> Worker:
    policy = at.policy
    if link.logged_in_at_s is None:
        later = replace(link, probe_at_s=at.now_s + policy.start_probe_s)
        return replace(worker, reverse=later)
    if link.phase is Phase.UP:
        return _doubt(worker, Purpose.REVERSE, link, at)
    if at.now_s - link.logged_in_at_s < policy.reverse_settle_s:
        # Asked at once after the login, the forward may be a round trip away.
        later = replace(
            link, probe_at_s=at.now_s + policy.start_probe_s * (1 + link.refusals), refusals=link.refusals + 1
        )
        return replace(worker, reverse=later)
    if worker.api.said is not None and worker.api.said.kind is TroubleKind.PERMIT_OPEN:
        text = f"the gateway's sshd does not let this key open {worker.address}:6443: {worker.api.said.text}"
        return fail(worker, Purpose.REVERSE, Trouble(TroubleKind.PERMIT_OPEN, text), at)
    text = (
        f"sshd accepted the reverse forward, but {worker.address} does not answer there: it bound another address. "
        "Set 'GatewayPorts clientspecified' in the gateway's sshd_config and reload sshd"
    )
    return fail(worker, Purpose.REVERSE, Trouble(TroubleKind.GATEWAY_PORTS, text), at)


def _up(link: Link, took_s: float | None, at: Moment, again_s: float | None = None) -> Link:
    came_up = link.phase is not Phase.UP
    return replace(
        link,
        phase=Phase.UP,
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


def _doubt(worker: Worker, purpose: Purpose, link: Link, at: Moment) -> Worker:
    link = replace(link, silent=link.silent + 1, probe_at_s=at.now_s + at.policy.probe_retry_s)
    worker = put(worker, purpose, link)
    return fail(worker, purpose, _SILENT, at) if link.silent >= at.policy.probe_failures else worker


# --- What is due -----------------------------------------------------------------------------------------


def manage(worker: Worker, at: Moment) -> tuple[Worker, list[Command]]:
    """Start, stop and probe whatever is due now."""
    commands: list[Command] = []
    for purpose in Purpose:
        worker = _manage_one(worker, purpose, at, commands)
    worker = _probe_api(worker, at, commands)
    return _probe_reverse(worker, at, commands), commands


def _manage_one(worker: Worker, purpose: Purpose, at: Moment, commands: list[Command]) -> Worker:
    link = worker.link(purpose)
    is_wanted = wanted(worker, purpose)
    if not is_wanted and link.phase is not Phase.DOWN:
        worker, link = _change(worker, purpose, replace(link, phase=Phase.DOWN, **_FORGOTTEN))
    elif _overdue(worker, link, at):
        text = f"ssh was not let in after {at.policy.start_timeout_s:g} s"
        worker = fail(worker, purpose, Trouble(TroubleKind.SILENT, text), at)
        link = worker.link(purpose)
    if link.phase is Phase.DOWN and link.child:
        commands.append(
            StopLink(purpose, link.generation, link.trouble.text if link.trouble else "not wanted now")
        )
        worker, link = _change(worker, purpose, replace(link, child=False))
    if is_wanted and link.phase is Phase.DOWN and at.now_s >= link.retry_at_s and _has_turn(worker, purpose):
        return _start(worker, purpose, link, at, commands)
    return worker


def _has_turn(worker: Worker, purpose: Purpose) -> bool:
    """One asks for all: while sshd is out of reach or refuses the key, only the api child tries.

    The first attempt of a start is everybody's at once, for speed.
    """
    api = worker.api
    if purpose is Purpose.API or worker.setup.connection is not Connection.SSH:
        return True
    return api.phase is not Phase.DOWN and (api.logged_in_at_s is not None or api.generation == 1)


_FORGOTTEN: dict[str, Any] = {
    "attempt": 0,
    "retry_at_s": 0.0,
    "up_since_s": None,
    "logged_in_at_s": None,
    "down_since_s": None,
    "probing": False,
    "silent": 0,
    "refusals": 0,
    "trouble": None,
    "said": None,
}
"""A link that is no longer wanted starts afresh when it is wanted again."""


def _change(worker: Worker, purpose: Purpose, link: Link) -> tuple[Worker, Link]:
    return put(worker, purpose, link), link


def _overdue(worker: Worker, link: Link, at: Moment) -> bool:
    """ssh has a time limit for connecting, none for logging in."""
    waiting = link.phase is Phase.STARTING and link.logged_in_at_s is None
    is_ssh = worker.setup.connection is Connection.SSH
    return is_ssh and waiting and at.now_s - link.started_at_s >= at.policy.start_timeout_s


def _start(worker: Worker, purpose: Purpose, link: Link, at: Moment, commands: list[Command]) -> Worker:
    link = replace(
        link,
        phase=Phase.STARTING,
        generation=link.generation + 1,
        started_at_s=at.now_s,
        probing=False,
        probe_at_s=at.now_s + at.policy.start_probe_s,
    )
    if worker.setup.connection is Connection.SSH:
        link = replace(link, child=True)
        address = worker.address if purpose is Purpose.REVERSE else None
        commands.append(StartLink(purpose, link.generation, address, link.session))
    else:
        link = replace(link, probe_at_s=at.now_s)
    return put(worker, purpose, link)


def _probe_api(worker: Worker, at: Moment, commands: list[Command]) -> Worker:
    link = worker.api
    if link.phase is Phase.DOWN or link.probing or at.now_s < link.probe_at_s or worker.ending:
        return worker
    commands.append(ProbeApi(link.generation, at.policy.probe_timeout_s))
    return replace(worker, api=replace(link, probing=True))


def _probe_reverse(worker: Worker, at: Moment, commands: list[Command]) -> Worker:
    link = worker.reverse
    idle = link.phase is Phase.DOWN or link.probing or at.now_s < link.probe_at_s
    if idle or worker.api.logged_in_at_s is None or worker.ending or not _probed(worker, Purpose.REVERSE):
        return worker
    commands.append(ProbeReverse(link.generation, worker.candidate, at.policy.probe_timeout_s))
    return replace(worker, reverse=replace(link, probing=True))
