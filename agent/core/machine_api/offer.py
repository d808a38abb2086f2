"""What the gateway may place here: everything, or nothing and why. Also what it is promised.

Offering nothing (no cpu, no memory) keeps the lease and the running workers; it is the only brake the gateway
has. Order matters: the first reason that holds is the one a person is told.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.machine_api.model import Advertisement, Capacity, Offer
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel.model import LinkPhase

_NO_TOKEN = "BETA9_K3S=none and no BETA9_K3S_TOKEN: nothing can start here"  # noqa: S105 - a text
Reason = Callable[[AgentState, Context], "str | None"]


def decide(state: AgentState, ctx: Context) -> Offer:
    """Everything, unless one of the reasons holds."""
    for label, reason in REASONS.items():
        text = reason(state, ctx)
        if text is not None:
            return Offer(offered=False, reason=text, by=label)
    return Offer(offered=True, reason=None)


def path_expected(state: AgentState) -> bool:
    """Whether work reaches this machine by our own reverse forward to a k3s that is there."""
    config = state.config
    return config.connection is Connection.SSH and config.k3s is not K3sMode.NONE and state.kube.expected


def address_expected(state: AgentState) -> bool:
    """Whether work reaches this machine at its own address in the tailnet, where its k3s is about to answer."""
    is_near = state.config.k3s is not K3sMode.NONE and state.kube.answering
    return state.config.connection is Connection.TAILSCALE and is_near


def _leaving(state: AgentState, _at: Context) -> str | None:
    return f"leaving: {state.shutdown.reason}" if state.shutdown else None


def _rebalanced(state: AgentState, _at: Context) -> str | None:
    return f"rebalance: {state.rebalance}" if is_withdrawn(state) else None


def is_withdrawn(state: AgentState) -> bool:
    """Whether the cloud would rather have the machine empty, and that is heeded."""
    return state.rebalance is not None and state.config.heeds_rebalance


def _once(state: AgentState, _at: Context) -> str | None:
    if state.config.once and state.config.connection is Connection.SSH:
        return "--once opened the tunnel itself: the path by which work would come ends with it"
    return None


def _unknown(state: AgentState, _at: Context) -> str | None:
    return "the machine's capacity is not known yet" if state.host is None else None


def _kubernetes(state: AgentState, _at: Context) -> str | None:
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
    never_offered = state.registration.advertisement is None or not state.registration.advertisement.offered
    held_s = ctx.now_s - kube.node_bad_since_s
    return kube.node_reason if never_offered or held_s >= ctx.policy.node_grace_s else None


def _path(state: AgentState, ctx: Context) -> str | None:
    config, link = state.config, state.reverse
    if config.connection is Connection.DIRECT:
        return (
            None if config.hostname else "BETA9_HOSTNAME is not set: the gateway would not know what to dial"
        )
    if not login.is_up(state):
        fault = login.current_fault(state)
        return fault.message if fault else "tailscaled was not asked yet"
    if config.connection is Connection.TAILSCALE and not _hostname(state):
        return "this machine's name in the tailnet is not known yet: the gateway would not know what to dial"
    if config.k3s is K3sMode.NONE or link.phase is LinkPhase.UP:
        return None
    offered = state.registration.advertisement is not None and state.registration.advertisement.offered
    # A child that is being replaced takes a second; withdrawing for that would register twice for nothing. And
    # while the gateway is out of reach it can be told nothing: both ways get the same moment to come back.
    if offered and link.down_since_s is not None:
        since_s = max(link.down_since_s, state.api.up_since_s or ctx.now_s)
        if ctx.now_s - since_s < ctx.policy.path_grace_s:
            return None
    return link.fault.message if link.fault else "the reverse path is not verified yet"


REASONS: dict[str, Reason] = {
    "leaving": _leaving,
    "rebalanced": _rebalanced,
    "once": _once,
    "unknown": _unknown,
    "kubernetes": _kubernetes,
    "node": _node,
    "path": _path,
}
"""What may stand in the way of work, in the order in which it is told. The keys are a label of a metric and stand in
`/status`: public, so never renamed (tests/unit/test_public_names.py)."""


def capacity(state: AgentState) -> Capacity:
    """What is here to give: cpu and memory less the reserve, GPUs as counted, free ones less the broken."""
    if state.host is None:
        return Capacity()
    usable, requested, free = _gpus(state)
    return Capacity(
        cpu_millicores=max(0, state.host.cpu_millicores - state.config.reserve_cpu_millicores),
        memory_mib=max(0, state.host.memory_mib - state.config.reserve_memory_mib),
        # Never less than workers hold, also those of an agent before this one: the gateway subtracts unsigned.
        gpu_count=max(usable, requested, state.gpu_floor),
        free_gpu_count=free,
    )


def gpus_awaited(state: AgentState) -> bool:
    """Whether the driver sees GPUs that the device plugin has not advertised yet."""
    kube, node = state.kube, state.kube.node
    is_seen = any(gpu.healthy for gpu in state.gpus.gpus)
    return kube.expected and node is not None and not node.gpus_allocatable and is_seen


def _gpus(state: AgentState) -> tuple[int, int, int]:
    """How many GPUs can be used, are held by pods, and are free: as the device plugin says, else by NVML."""
    healthy = sum(gpu.healthy for gpu in state.gpus.gpus)
    failed = len(state.gpus.gpus) - healthy
    node = state.kube.node
    if node is None or not state.kube.expected or state.config.k3s is K3sMode.NONE:
        return healthy, 0, healthy
    # A board that failed is still advertised until the plugin notices, and must not be subtracted twice then.
    noticed = max(0, node.gpus_capacity - node.gpus_allocatable)
    free = node.gpus_allocatable - node.gpus_requested - max(0, failed - noticed)
    return node.gpus_allocatable, node.gpus_requested, max(0, free)


def advertisement(state: AgentState) -> Advertisement:
    """What a registration made now would say; two that mean the same to the gateway compare equal."""
    has = capacity(state)
    told = Capacity(gpu_count=has.gpu_count)
    if state.offer.offered:
        told = Capacity(has.cpu_millicores, has.memory_mib, has.gpu_count)
    return Advertisement(_hostname(state), told, state.offer.offered, state.kube.token_serial)


def is_told(state: AgentState) -> bool:
    """Whether the gateway was told what a registration made now would say."""
    return state.registration.known and state.registration.advertisement == advertisement(state)


def is_placeable(state: AgentState) -> bool:
    """Whether the gateway would place work here: it was told the present offer, and has accepted a keepalive since.

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
    before = state.registration.advertisement
    # While nothing is offered nobody dials: a new address is told once it is verified.
    if before is not None and state.reverse.phase is not LinkPhase.UP:
        return before.hostname
    # Without a reverse path nothing is offered either; the address then only has to be nobody else's.
    return state.address or ""
