"""What the gateway may place here: everything, or nothing and the reason; and what a registration advertises."""

from __future__ import annotations

from collections.abc import Callable

from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.kubernetes import podless_jobs
from agent.core.machine_api.capacity import capacity, shortage
from agent.core.machine_api.model import Advertisement, Capacity, Offer
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel import reverse_form
from agent.core.tunnel.model import LinkPhase

_NO_TOKEN = "BETA9_K3S=none and no BETA9_K3S_TOKEN: nothing can start here"  # noqa: S105 - a text
Reason = Callable[[AgentState, Context], "str | None"]


def decide(state: AgentState, ctx: Context) -> Offer:
    """Return an offer of everything, unless one of the reasons against it holds."""
    for label, reason in REASONS.items():
        text = reason(state, ctx)
        if text is not None:
            return Offer(offered=False, reason=text, by=label)
    return Offer(offered=True, reason=None)


def path_expected(state: AgentState) -> bool:
    """Return whether work reaches this machine through its own reverse forward, to a k3s that is there."""
    config = state.config
    return config.connection is Connection.SSH and config.k3s is not K3sMode.NONE and state.kube.expected


def address_expected(state: AgentState) -> bool:
    """Return whether work reaches this machine at its own address in the tailnet, where its k3s is about to answer."""
    has_k3s = state.config.k3s is not K3sMode.NONE and state.kube.answering
    return state.config.connection is Connection.TAILSCALE and has_k3s


def is_withdrawn(state: AgentState) -> bool:
    """Return whether the cloud recommends to move work away from this machine, and that is acted on."""
    return state.rebalance is not None and state.config.heeds_rebalance


# --- The reasons against an offer ------------------------------------------------------------------------


def _leaving(state: AgentState, _ctx: Context) -> str | None:
    return f"leaving: {state.shutdown.reason}" if state.shutdown else None


def _rebalanced(state: AgentState, _ctx: Context) -> str | None:
    return f"rebalance: {state.rebalance}" if is_withdrawn(state) else None


def _once(state: AgentState, _ctx: Context) -> str | None:
    if state.config.once and state.config.connection is Connection.SSH:
        return "--once opened the tunnel itself: the path by which work would come ends with it"
    return None


def _unknown(state: AgentState, _ctx: Context) -> str | None:
    return "the machine's capacity is not known yet" if state.host is None else None


def _gpus(state: AgentState, _ctx: Context) -> str | None:
    """A machine with boards of which none can be read: a driver that is not loaded, or not of this library's version.

    Once boards were read, an error of NVML withdraws nothing: workers that use them run on.
    """
    gpus = state.gpus
    if not state.config.uses_gpus or gpus.gpus or not gpus.error:
        return None
    return f"no GPU can be used: {gpus.error} (BETA9_EXPECTED_GPUS=0 would offer the machine without GPUs)"


def _kubernetes(state: AgentState, _ctx: Context) -> str | None:
    kube = state.kube
    if state.config.k3s is K3sMode.NONE:
        return None if kube.logins.has_token else kube.read_error or _NO_TOKEN
    if not kube.looked:
        return "k3s was not looked for yet"
    if not kube.expected:
        return (
            f"no usable k3s on this machine ({kube.reason}); install it with: docker run --rm --privileged --pid host "
            "-v /:/host -v /etc/beta9-worker:/etc/beta9-worker IMAGE install"
        )
    return None if kube.answering else kube.reason or "k3s does not answer"


def _node(state: AgentState, ctx: Context) -> str | None:
    kube = state.kube
    if state.config.k3s is K3sMode.NONE or kube.node_bad_since_s is None:
        return None
    bad_s = ctx.now_s - kube.node_bad_since_s
    return kube.node_reason if not state.registration.offered or bad_s >= ctx.policy.node_grace_s else None


def _full(state: AgentState, _ctx: Context) -> str | None:
    return shortage(state)


def _job(state: AgentState, ctx: Context) -> str | None:
    return None if state.config.k3s is K3sMode.NONE else podless_jobs.reason(state.kube, ctx)


def _path(state: AgentState, ctx: Context) -> str | None:
    config, link = state.config, state.reverse
    undialable = _undialable(state)
    if undialable is not None:
        return undialable
    if reverse_form.uses_any_port(state) and state.hairpin.fault is not None:
        return state.hairpin.fault.message
    if config.connection is Connection.DIRECT or config.k3s is K3sMode.NONE or link.phase is LinkPhase.UP:
        return None
    # A child that is being replaced takes a second; withdrawing for that would register twice for nothing. And
    # while the gateway is out of reach it can be told nothing: both ways get the same moment to come back.
    if state.registration.offered and link.down_since_s is not None:
        since_s = max(link.down_since_s, state.api.up_since_s or ctx.now_s)
        if ctx.now_s - since_s < ctx.policy.path_grace_s:
            return None
    return link.fault.message if link.fault else "the reverse path is not verified yet"


def _undialable(state: AgentState) -> str | None:
    """Why the gateway would not know what to dial, or could not."""
    connection = state.config.connection
    if connection is Connection.DIRECT and not state.config.hostname:
        return "BETA9_HOSTNAME is not set: the gateway would not know what to dial"
    if not login.is_up(state):
        fault = login.current_fault(state)
        return fault.message if fault else "tailscaled was not asked yet"
    if connection is Connection.TAILSCALE and not _hostname(state):
        return "this machine's name in the tailnet is not known yet: the gateway would not know what to dial"
    return None


REASONS: dict[str, Reason] = {
    "leaving": _leaving,
    "rebalanced": _rebalanced,
    "once": _once,
    "unknown": _unknown,
    "gpus": _gpus,
    "kubernetes": _kubernetes,
    "node": _node,
    "full": _full,
    "job": _job,
    "path": _path,
}
"""What may stand in the way of work; the first that holds is shown. The keys are a metric's label and stand in
`/status`: public, so never renamed (tests/unit/test_public_names.py)."""


# --- What a registration says ----------------------------------------------------------------------------


def advertisement(state: AgentState) -> Advertisement:
    """Return what a registration made now would say; two that mean the same to the gateway compare equal."""
    has = capacity(state)
    offered = Capacity(gpu_count=has.gpu_count)
    if state.offer.offered:
        offered = Capacity(has.cpu_millicores, has.memory_mib, has.gpu_count)
    return Advertisement(_hostname(state), offered, state.offer.offered, state.kube.token_serial)


def is_told(state: AgentState) -> bool:
    """Return whether the gateway was told what a registration made now would say."""
    return state.registration.known and state.registration.advertisement == advertisement(state)


def is_placeable(state: AgentState) -> bool:
    """Return whether the gateway would place work here: it knows the present offer and has accepted a keepalive since.

    A registration sets the machine back to `registered`, on which nothing is placed, until the next keepalive.
    """
    last_ok_s = state.lease.last_ok_s
    is_listed = state.lease.ready and last_ok_s is not None and last_ok_s >= state.registration.at_s
    return state.offer.offered and is_told(state) and is_listed


def _hostname(state: AgentState) -> str:
    if state.config.hostname:
        return state.config.hostname
    if state.config.connection is Connection.TAILSCALE:
        return login.hostname(state)
    known = state.registration.advertisement
    # While nothing is offered nobody dials: a new address is told once it is verified.
    if known is not None and state.reverse.phase is not LinkPhase.UP:
        return known.hostname
    # Without a reverse path nothing is offered either; the address then only has to be nobody else's.
    return state.address or ""
