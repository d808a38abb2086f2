"""What the gateway may place here: everything, or nothing and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.host.facts import GpuReading, KubeLogins
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import Shutdown, ShutdownKind
from agent.core.machine_api.model import Capacity
from agent.core.machine_api.offer import advertisement, decide
from agent.core.state import AgentState
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase
from tests.unit.core_cases import (
    ADDRESSES,
    AT,
    NOW_S,
    POLICY,
    TWO_GPUS,
    UP,
    having_offered,
    placeable,
    with_config,
)

ANSWERING = Kube(expected=True, looked=True, answering=True)
CORDONED = replace(ANSWERING, node_reason="the Kubernetes node is cordoned", node_bad_since_s=NOW_S - 1)
LEAVING = Shutdown(ShutdownKind.STOP, NOW_S, NOW_S + 3, "SIGTERM")


def left_alone(logins: KubeLogins, problem: str | None = None) -> AgentState:
    """Somebody else sees to k3s, and these logins were found."""
    kube = Kube(looked=True, logins=logins, read_error=problem)
    return replace(with_config(k3s=K3sMode.NONE), kube=kube)


def test_a_k3s_that_is_left_alone_is_offered_while_there_is_a_token() -> None:
    assert decide(left_alone(KubeLogins(has_token=True)), AT).offered


@pytest.mark.parametrize(
    "state",
    [
        placeable(gpus=replace(TWO_GPUS, error="NVML gave no answer")),
        placeable(gpus=GpuReading()),
        replace(with_config(uses_gpus=False), gpus=GpuReading((), "no driver")),
    ],
    ids=["known boards", "no boards", "not to be used"],
)
def test_gpus_that_are_known_absent_or_unwanted_withdraw_nothing(state: AgentState) -> None:
    assert decide(state, AT).offered


def test_where_all_is_well_everything_is_offered() -> None:
    assert decide(placeable(), AT).offered


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (placeable(shutdown=LEAVING), "leaving: SIGTERM"),
        (with_config(once=True), "--once opened the tunnel itself"),
        (placeable(host=None), "capacity is not known yet"),
        # Field case 11.2: a driver that is not loaded, in a pool of GPU machines.
        (placeable(gpus=GpuReading((), "no driver")), "no GPU can be used: no driver"),
        (placeable(kube=Kube()), "k3s was not looked for yet"),
        (
            placeable(kube=Kube(looked=True, reason="k3s does not listen")),
            "no usable k3s on this machine (k3s does not listen)",
        ),
        (
            placeable(kube=replace(ANSWERING, answering=False, reason="k3s accepts and does not answer")),
            "k3s accepts and does not answer",
        ),
        (left_alone(KubeLogins()), "BETA9_K3S=none and no BETA9_K3S_TOKEN"),
        (left_alone(KubeLogins(), "k3s_token is empty"), "k3s_token is empty"),
        (placeable(kube=CORDONED), "the Kubernetes node is cordoned"),
        (with_config(reserve_memory_mib=10**6), "nothing is left to offer"),
        (placeable(reverse=Link()), "the reverse path is not verified yet"),
        (
            placeable(reverse=Link(fault=Fault(FaultKind.BIND, "sshd refused the reverse address"))),
            "sshd refused the reverse address",
        ),
        (with_config(connection=Connection.DIRECT), "BETA9_HOSTNAME is not set"),
        (with_config(connection=Connection.TAILSCALE), "tailscaled was not asked yet"),
    ],
)
def test_nothing_is_offered_and_the_reason_is_told(state: AgentState, reason: str) -> None:
    offer = decide(state, AT)
    assert not offer.offered
    assert offer.reason is not None
    assert reason in offer.reason


def test_the_first_reason_counts_so_that_a_leaving_machine_is_not_called_broken() -> None:
    offer = decide(placeable(shutdown=LEAVING, reverse=Link(), kube=Kube()), AT)
    assert offer.reason == "leaving: SIGTERM"


def test_without_k3s_but_with_a_token_for_one_somebody_else_sees_to_it() -> None:
    assert decide(with_config(k3s=K3sMode.NONE), AT).offered


def test_directly_connected_a_machine_offers_once_its_name_is_known() -> None:
    assert decide(with_config(connection=Connection.DIRECT, hostname="worker.example"), AT).offered


# --- Short troubles of what was offered before ------------------------------------------------------------


def test_a_child_that_is_being_replaced_withdraws_nothing() -> None:
    down = Link(phase=LinkPhase.STARTING, down_since_s=NOW_S - 1)
    assert decide(having_offered(reverse=down), AT).offered


def test_a_way_back_that_stays_down_withdraws_the_offer() -> None:
    down = Link(phase=LinkPhase.STARTING, down_since_s=NOW_S - POLICY.path_grace_s)
    assert not decide(having_offered(reverse=down), AT).offered


def test_a_node_in_trouble_withdraws_the_offer_only_after_its_grace() -> None:
    state = having_offered(kube=CORDONED)
    assert decide(state, AT).offered
    later = Context(NOW_S + POLICY.node_grace_s, POLICY)
    assert decide(state, later).reason == "the Kubernetes node is cordoned"


# --- What there is, and what the gateway is told ----------------------------------------------------------


def test_a_promise_that_offers_nothing_keeps_only_the_count_of_gpus() -> None:
    state = placeable(offer=decide(placeable(shutdown=LEAVING), AT))
    assert advertisement(state).capacity == Capacity(gpu_count=2)
    assert not advertisement(state).offered


def test_promises_that_mean_the_same_to_the_gateway_are_equal() -> None:
    busy = replace(placeable(), gpus=TWO_GPUS)
    hot = replace(busy, gpus=GpuReading(tuple(replace(gpu, temperature_c=80) for gpu in TWO_GPUS.gpus)))
    assert advertisement(busy) == advertisement(hot)


def test_a_renewed_token_is_another_promise() -> None:
    renewed = placeable(kube=replace(ANSWERING, token_serial=1))
    assert advertisement(renewed) != advertisement(placeable())


def test_the_gateway_is_told_the_address_that_was_verified() -> None:
    assert advertisement(placeable()).hostname == ADDRESSES[0]
    assert advertisement(placeable(candidate=2)).hostname == ADDRESSES[2]


def test_a_new_address_is_not_told_before_it_is_verified() -> None:
    moving = having_offered(candidate=1, reverse=Link(phase=LinkPhase.STARTING))
    assert advertisement(moving).hostname == ADDRESSES[0]
    assert advertisement(replace(moving, reverse=UP)).hostname == ADDRESSES[1]


def test_a_name_from_the_settings_beats_every_address() -> None:
    assert advertisement(with_config(hostname="worker.example")).hostname == "worker.example"
