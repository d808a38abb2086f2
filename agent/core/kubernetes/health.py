"""Health of the machine's own Kubernetes: does it answer, which logins are there, can its node take work?

It is probed locally, with the same token that the gateway gets, because the gateway's dial to a k3s that hangs stops
the whole pool: after two probes without an answer the reverse path is closed (tunnel/transitions.py, is_wanted). A node
that is unhealthy while the API answers gets `node_grace_s` before the offer is withdrawn (machine_api/offer.py).

The logins are read with each probe, never once for all: k3s writes its kubeconfig when it comes up, which may be long
after the agent, and writes another one when it is reinstalled.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.effects import Effect, ProbeKube, ReadKubeLogins
from agent.core.events import Answer, KubeLoginsRead, KubeProbed
from agent.core.host.facts import KubeLogins, NodeFacts
from agent.core.kubernetes import podless_jobs
from agent.core.kubernetes.model import Kube
from agent.core.kubernetes.obstacles import gpus_left, lists_pods, obstacles
from agent.core.state import AgentState

_REASONS = {
    Answer.NOT_LISTENING: "k3s does not listen",
    Answer.CLOSED: "k3s closes the connection without an answer",
    Answer.SILENT: "k3s accepts and does not answer",
    Answer.BEYOND_SILENT: "k3s accepts and does not answer",
    Answer.DENIED: "k3s refuses the token that the gateway would use",
    Answer.UNWELL: "k3s answers that it is not well",
}


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Probe when due. With BETA9_K3S=none k3s is not probed, but its token is read all the same, since files change."""
    kube = state.kube
    if state.exit_decision is not None or kube.probing or ctx.now_s < kube.probe_at_s:
        return state, []
    is_not_probed = state.config.k3s is K3sMode.NONE
    effect: Effect = ReadKubeLogins() if is_not_probed else ProbeKube(ctx.policy.kube_timeout_s)
    return replace(state, kube=replace(kube, probing=True)), [effect]


def on_logins_read(state: AgentState, event: KubeLoginsRead, ctx: Context) -> AgentState:
    """The token for a Kubernetes that is not probed was read."""
    kube = replace(
        state.kube,
        probing=False,
        looked=True,
        probe_at_s=ctx.now_s + ctx.policy.kube_look_s,
        token_serial=event.token_serial,
        logins=event.logins,
        read_error=event.error,
    )
    return replace(state, kube=kube)


def on_probed(state: AgentState, event: KubeProbed, ctx: Context) -> AgentState:
    """One local probe ended."""
    if event.logins is not None:
        state = _with_logins(state, event.logins, ctx)
    kube = replace(state.kube, probing=False, looked=True)
    if event.probe.answer is Answer.ANSWERED:
        state = _with_fewer_gpus(state, event.node, ctx)
        return replace(state, kube=_well(state, kube, event, ctx))
    failures = kube.failures + 1
    answering = kube.answering and failures < ctx.policy.kube_failures
    expected = kube.expected or _is_there(state, event.probe.answer)
    pause_s = ctx.policy.kube_retry_s if answering else ctx.policy.kube_interval_s
    reason = _REASONS[event.probe.answer]
    kube = replace(
        kube,
        expected=expected,
        answering=answering,
        failures=failures,
        probe_s=None,
        since_s=ctx.now_s if kube.answering and not answering else kube.since_s,
        reason=f"{reason}: {event.probe.text}" if event.probe.text else reason,
        probe_at_s=ctx.now_s + (pause_s if expected else ctx.policy.kube_look_s),
    )
    return replace(state, kube=kube)


def _with_logins(state: AgentState, logins: KubeLogins, ctx: Context) -> AgentState:
    """Forget what was done to the node of the previous cluster when the kubeconfig names another one."""
    if logins.cluster != state.kube.logins.cluster:
        node_drain = replace(state.node_drain, cordoned=None, cordon_at_s=ctx.now_s, workers_told=False)
        node_drain = replace(node_drain, cleared=False, clear_at_s=ctx.now_s, left_over=())
        state = replace(state, node_drain=node_drain)
    return replace(state, kube=replace(state.kube, logins=logins))


def _is_there(state: AgentState, answer: Answer) -> bool:
    """With `auto`, whatever listens is a k3s that the agent is meant to use, if there is a token for it."""
    if state.config.k3s is K3sMode.REQUIRED:
        return True
    return state.kube.logins.has_token and answer in {Answer.SILENT, Answer.DENIED, Answer.UNWELL}


def _well(state: AgentState, kube: Kube, event: KubeProbed, ctx: Context) -> Kube:
    fault = event.no_node
    if event.node is not None:
        fault = node_reason(event.node, state)
    return replace(
        kube,
        expected=True,
        answering=True,
        failures=0,
        answered_at_s=ctx.now_s,
        probe_s=event.probe.took_s,
        since_s=kube.since_s if kube.answering else ctx.now_s,
        reason=None,
        probe_at_s=ctx.now_s + ctx.policy.kube_interval_s,
        token_serial=event.token_serial,
        node=event.node,
        node_reason=fault,
        podless=podless_jobs.follow(kube, event.node, ctx),
        node_bad_since_s=(kube.node_bad_since_s or ctx.now_s) if fault else None,
        read_error=event.error,
    )


def _with_fewer_gpus(state: AgentState, node: NodeFacts | None, ctx: Context) -> AgentState:
    """Go on with the GPUs that other pods leave, once no worker counts against those that were offered before.

    The gateway subtracts GPUs without a sign: lowered below what its workers hold, the count would bring more of them.
    """
    if node is None or not gpus_left(node) < state.gpu_floor <= node.gpus_allocatable:
        return state
    registration = state.registration
    is_withdrawn = registration.known and not registration.offered
    is_idle = node.worker_count == 0 and node.waiting_count == 0
    if is_withdrawn and is_idle and ctx.now_s - registration.at_s >= ctx.policy.gpu_settle_s:
        return replace(state, gpu_floor=gpus_left(node))
    return state


def node_reason(node: NodeFacts, state: AgentState) -> str | None:
    """Return why the node cannot take a worker although the API answers, or None."""
    return next(iter(obstacles(node)), None) or _gpu_reason(node, state)


def _gpu_reason(node: NodeFacts, state: AgentState) -> str | None:
    floor = state.gpu_floor
    if node.gpus_allocatable < floor:
        return (
            f"the device plugin advertises {node.gpus_allocatable} nvidia.com/gpu, {floor} were offered to "
            "the gateway: repair the GPU; if the machine is to go on with fewer, end its workers and restart the agent"
        )
    if node.others.gpus and gpus_left(node) < max(1, floor):
        return (
            f"other pods hold {node.others.gpus} of the {node.gpus_allocatable} nvidia.com/gpu"
            f"{f', and {floor} were offered to the gateway' if floor else ''}: {lists_pods(node)}"
        )
    if not node.gpus_allocatable and any(gpu.healthy for gpu in state.gpus.gpus):
        return "the device plugin advertises no nvidia.com/gpu although the driver sees GPUs: look at its pod"
    return None
