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
from agent.core.tailnet import login as tailnet
from agent.core.tunnel.model import LinkPhase

_NO_TOKEN = "BETA9_K3S=none and no BETA9_K3S_TOKEN: nothing can start here"  # noqa: S105 - a text
Reason = Callable[[AgentState, Context], "str | None"]


def decide(worker: AgentState, at: Context) -> Offer:
    """Everything, unless one of the reasons holds."""
    for label, reason in REASONS.items():
        text = reason(worker, at)
        if text is not None:
            return Offer(offered=False, reason=text, by=label)
    return Offer(offered=True, reason=None)


def path_expected(worker: AgentState) -> bool:
    """Whether work reaches this machine by our own reverse forward to a k3s that is there."""
    setup = worker.setup
    return setup.connection is Connection.SSH and setup.k3s is not K3sMode.NONE and worker.kube.expected


def address_expected(worker: AgentState) -> bool:
    """Whether work reaches this machine at its own address in the tailnet, where its k3s is about to answer."""
    is_near = worker.setup.k3s is not K3sMode.NONE and worker.kube.answering
    return worker.setup.connection is Connection.TAILSCALE and is_near


def _leaving(worker: AgentState, _at: Context) -> str | None:
    return f"leaving: {worker.going.reason}" if worker.going else None


def _rebalanced(worker: AgentState, _at: Context) -> str | None:
    return f"rebalance: {worker.rebalance}" if is_withdrawn(worker) else None


def is_withdrawn(worker: AgentState) -> bool:
    """Whether the cloud would rather have the machine empty, and that is heeded."""
    return worker.rebalance is not None and worker.setup.heeds_rebalance


def _once(worker: AgentState, _at: Context) -> str | None:
    if worker.setup.once and worker.setup.connection is Connection.SSH:
        return "--once opened the tunnel itself: the path by which work would come ends with it"
    return None


def _unknown(worker: AgentState, _at: Context) -> str | None:
    return "the machine's capacity is not known yet" if worker.host is None else None


def _kubernetes(worker: AgentState, _at: Context) -> str | None:
    kube = worker.kube
    if worker.setup.k3s is K3sMode.NONE:
        return None if kube.logins.has_token else kube.problem or _NO_TOKEN
    if not kube.looked:
        return "k3s was not looked for yet"
    if not kube.expected:
        return (
            f"no usable k3s on this machine ({kube.trouble}); install it with: docker run --rm --privileged --pid host "
            "-v /:/host -v /etc/beta9-worker:/etc/beta9-worker IMAGE install"
        )
    return None if kube.answering else kube.trouble or "k3s does not answer"


def _node(worker: AgentState, at: Context) -> str | None:
    kube = worker.kube
    if worker.setup.k3s is K3sMode.NONE or kube.node_bad_since_s is None:
        return None
    never_offered = worker.registration.promise is None or not worker.registration.promise.offered
    held_s = at.now_s - kube.node_bad_since_s
    return kube.node_trouble if never_offered or held_s >= at.policy.node_grace_s else None


def _path(worker: AgentState, at: Context) -> str | None:
    setup, link = worker.setup, worker.reverse
    if setup.connection is Connection.DIRECT:
        return (
            None if setup.hostname else "BETA9_HOSTNAME is not set: the gateway would not know what to dial"
        )
    if not tailnet.is_up(worker):
        wrong = tailnet.trouble(worker)
        return wrong.text if wrong else "tailscaled was not asked yet"
    if setup.connection is Connection.TAILSCALE and not _hostname(worker):
        return "this machine's name in the tailnet is not known yet: the gateway would not know what to dial"
    if setup.k3s is K3sMode.NONE or link.phase is LinkPhase.UP:
        return None
    offered = worker.registration.promise is not None and worker.registration.promise.offered
    # A child that is being replaced takes a second; withdrawing for that would register twice for nothing. And
    # while the gateway is out of reach it can be told nothing: both ways get the same moment to come back.
    if offered and link.down_since_s is not None:
        since_s = max(link.down_since_s, worker.api.up_since_s or at.now_s)
        if at.now_s - since_s < at.policy.path_grace_s:
            return None
    return link.trouble.text if link.trouble else "the reverse path is not verified yet"


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


def capacity(worker: AgentState) -> Capacity:
    """What is here to give: cpu and memory less the reserve, GPUs as counted, free ones less the broken."""
    if worker.host is None:
        return Capacity()
    usable, requested, free = _gpus(worker)
    return Capacity(
        cpu_millicores=max(0, worker.host.cpu_millicores - worker.setup.reserve_cpu_millicores),
        memory_mib=max(0, worker.host.memory_mib - worker.setup.reserve_memory_mib),
        # Never less than workers hold, also those of an agent before this one: the gateway subtracts unsigned.
        gpu_count=max(usable, requested, worker.gpu_floor),
        free_gpu_count=free,
    )


def gpus_awaited(worker: AgentState) -> bool:
    """Whether the driver sees GPUs that the device plugin has not advertised yet."""
    kube, node = worker.kube, worker.kube.node
    is_seen = any(gpu.healthy for gpu in worker.gpus.gpus)
    return kube.expected and node is not None and not node.gpus_allocatable and is_seen


def _gpus(worker: AgentState) -> tuple[int, int, int]:
    """How many GPUs can be used, are held by pods, and are free: as the device plugin says, else by NVML."""
    healthy = sum(gpu.healthy for gpu in worker.gpus.gpus)
    failed = len(worker.gpus.gpus) - healthy
    node = worker.kube.node
    if node is None or not worker.kube.expected or worker.setup.k3s is K3sMode.NONE:
        return healthy, 0, healthy
    # A board that failed is still advertised until the plugin notices, and must not be subtracted twice then.
    noticed = max(0, node.gpus_capacity - node.gpus_allocatable)
    free = node.gpus_allocatable - node.gpus_requested - max(0, failed - noticed)
    return node.gpus_allocatable, node.gpus_requested, max(0, free)


def promise(worker: AgentState) -> Advertisement:
    """What a registration made now would say; two that mean the same to the gateway compare equal."""
    has = capacity(worker)
    told = Capacity(gpu_count=has.gpu_count)
    if worker.offer.offered:
        told = Capacity(has.cpu_millicores, has.memory_mib, has.gpu_count)
    return Advertisement(_hostname(worker), told, worker.offer.offered, worker.kube.token_serial)


def is_told(worker: AgentState) -> bool:
    """Whether the gateway was told what a registration made now would say."""
    return worker.registration.known and worker.registration.promise == promise(worker)


def is_placeable(worker: AgentState) -> bool:
    """Whether the gateway would place work here: it was told the present offer, and has accepted a keepalive since.

    A registration sets the machine back to `registered`, on which nothing is placed, until the next keepalive.
    """
    last_ok_s = worker.lease.last_ok_s
    is_listed = worker.lease.ready and last_ok_s is not None and last_ok_s >= worker.registration.at_s
    return worker.offer.offered and is_told(worker) and is_listed


def _hostname(worker: AgentState) -> str:
    if worker.setup.hostname:
        return worker.setup.hostname
    if worker.setup.connection is Connection.TAILSCALE:
        return tailnet.hostname(worker)
    before = worker.registration.promise
    # While nothing is offered nobody dials: a new address is told once it is verified.
    if before is not None and worker.reverse.phase is not LinkPhase.UP:
        return before.hostname
    # Without a reverse path nothing is offered either; the address then only has to be nobody else's.
    return worker.address or ""
