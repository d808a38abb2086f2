"""What is wrong without ending anything, as texts for `degraded` in `/status`."""

from __future__ import annotations

from agent.core.config import Connection
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel import contest
from agent.core.tunnel.model import Purpose

FULL_DISK_BYTES = 64 * 1024
"""With less than this free, the state directory's few small files may fail to be written."""


def degradations(state: AgentState, now_s: float) -> list[str]:
    """Return what is wrong without ending anything, one text each, for `degraded` in `/status`."""
    texts = [] if state.kube.read_error is None else [f"Kubernetes: {state.kube.read_error}"]
    texts += [
        each for each in (contest.warning(state), state.fallback.reason, state.hairpin.containers) if each
    ]
    host = state.host
    if host is not None and host.disk_total_bytes and host.disk_free_bytes < FULL_DISK_BYTES:
        texts.append(
            f"the state directory's disk is full ({host.disk_free_bytes} bytes free): the machine's id and a stop "
            "marker could not be kept there; free space"
        )
    if state.gpus.error:
        texts.append(f"GPUs: {state.gpus.error}")
    texts += [f"GPU {gpu.uuid} ({gpu.name}): {gpu.reason}" for gpu in state.gpus.gpus if not gpu.healthy]
    if state.registration.gateway_config is False and state.config.connection is Connection.SSH:
        texts.append("directRedisHost is not set on the gateway; no work will come")
    refused = [purpose.value for purpose in Purpose if not state.link(purpose).session]
    if state.rebalance is not None and state.node_drain.cordon_error:
        texts.append(f"the node is not cordoned: {state.node_drain.cordon_error}")
    if state.node_drain.clear_error:
        texts.append(f"Jobs of workers that have ended may come back: {state.node_drain.clear_error}")
    if refused:
        texts.append(f"sshd refuses session channels; small writes are slower ({', '.join(refused)})")
    return [*texts, *_key_expiry(state, now_s)]


def _key_expiry(state: AgentState, now_s: float) -> list[str]:
    expires_s = login.key_expires_in_s(state, now_s)
    if expires_s is None or not 0 < expires_s < login.EXPIRES_SOON_S:
        return []
    return [
        f"this machine's key in the tailnet expires in {expires_s / 3600:.1f} h; renew it, or switch its expiry off at "
        "the control server"
    ]
