"""Workers in the situations that the core's tests start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.config import Config, Connection, K3sMode
from agent.core.context import Context
from agent.core.host.facts import Gpu, GpuReading, HostFacts, KubeLogins
from agent.core.kubernetes.model import Kube
from agent.core.machine_api.model import Advertisement, Capacity, Registration
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tunnel.model import Link, LinkPhase

POLICY = Policy()
NOW_S = 1000.0
AT = Context(NOW_S, POLICY)
ADDRESSES = ("127.70.1.1", "127.70.1.2", "127.70.1.3", "127.70.1.4")
UP = Link(phase=LinkPhase.UP, up_since_s=900.0, answered_at_s=999.0, generation=1, child=True)
SSH = Config(
    machine_id="1165a9b6",
    pool_name="gpu",
    connection=Connection.SSH,
    k3s=K3sMode.AUTO,
    addresses=ADDRESSES,
    version="0.1.0",
)
HOST = HostFacts(8000, 16384, 10**12, 5 * 10**11, 15.54, 42.27, "10.0.0.7")
TWO_GPUS = GpuReading((Gpu("GPU-0", "H100"), Gpu("GPU-1", "H100")))

LOGINS = KubeLogins(has_token=True, administers=True, cluster=1)
ANSWERING = Kube(expected=True, looked=True, answering=True, logins=LOGINS)


def placeable(**changes: Any) -> AgentState:
    """A worker where everything is well: linked, verified, k3s answering, two GPUs."""
    state = AgentState(
        SSH,
        host=HOST,
        gpus=TWO_GPUS,
        api=UP,
        reverse=UP,
        kube=ANSWERING,
        path_verified=True,
    )
    return replace(state, **changes)


def with_config(**changes: Any) -> AgentState:
    """The same with other settings."""
    return placeable(config=replace(SSH, **changes))


def having_offered(**changes: Any) -> AgentState:
    """The same, and the gateway was told so."""
    advertisement = Advertisement(ADDRESSES[0], Capacity(7500, 15360, 2), offered=True)
    return placeable(registration=Registration(True, True, 1, advertisement=advertisement), **changes)
