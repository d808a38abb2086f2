"""What people are told while the machine waits: for what, and what ends it; never nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.events import Event, ShutdownRequested
from agent.core.host.facts import KubeLogins, NodeFacts
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import DisplayedState, DrainPhase, NodeDrain, Shutdown, ShutdownKind
from agent.core.machine_api.model import Call, CallKind, Lease, Offer
from agent.core.machine_api.placement import unplaceable
from agent.core.state import AgentState
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.waiting import link_reason, waiting
from tests.unit.core_cases import AT, NOW_S, POLICY, UP, having_offered, placeable, with_config
from tests.unit.simulated import Faults
from tests.unit.simulation import World

REFUSED = Fault(FaultKind.REFUSED, "nothing listens there")
SICK = Kube(expected=True, looked=True, answering=False, reason="k3s does not listen")
OFFER = Offer(offered=True, reason=None)


def displayed(state: DisplayedState, start: AgentState | None = None, **changes: object) -> AgentState:
    return replace(start or placeable(), displayed=state, **changes)  # type: ignore[arg-type]


def leaving(phase: DrainPhase, workers: int | None) -> AgentState:
    shutdown = Shutdown(ShutdownKind.STOP, NOW_S, NOW_S + 90, "SIGTERM", phase)
    return displayed(DisplayedState.DRAINING, shutdown=shutdown, node_drain=NodeDrain(workers=workers))


SITUATIONS = {
    "starting": (displayed(DisplayedState.STARTING), "processors, memory and GPUs", "they are read"),
    "k3s required and down": (
        displayed(DisplayedState.PREPARING, with_config(k3s=K3sMode.REQUIRED), kube=SICK),
        "k3s: k3s does not listen",
        "k3s answers (probed every 3.5 s)",
    ),
    "k3s not looked at": (
        displayed(DisplayedState.PREPARING, kube=Kube()),
        "the first look at this machine's k3s",
        "it has answered, or not",
    ),
    "login": (
        displayed(DisplayedState.CONNECTING, api=Link(phase=LinkPhase.STARTING)),
        "the login at BETA9_SSH_HOST",
        "given up after 15 s",
    ),
    "gateway silent behind the tunnel": (
        displayed(DisplayedState.CONNECTING, api=Link(phase=LinkPhase.STARTING, logged_in_at_s=NOW_S)),
        "the gateway's answer through the tunnel",
        "the gateway answers",
    ),
    "gateway silent": (
        displayed(
            DisplayedState.CONNECTING,
            with_config(connection=Connection.DIRECT),
            api=Link(phase=LinkPhase.STARTING, logged_in_at_s=NOW_S),
        ),
        "the gateway's answer",
        "the gateway answers",
    ),
    "backing off": (
        displayed(DisplayedState.BACKOFF, api=Link(fault=REFUSED, retry_at_s=NOW_S + 3.2)),
        "nothing listens there",
        "starts in 4 s",
    ),
    "no tailnet yet": (
        displayed(DisplayedState.CONNECTING, with_config(connection=Connection.TAILSCALE)),
        "tailscaled's answer",
        "tailscaled reports",
    ),
    "a call in flight": (
        displayed(DisplayedState.REGISTERING, call=Call(1, CallKind.CHECK, NOW_S + 12)),
        "answer to the check call",
        "given up in 12 s",
    ),
    "refused, to be tried again": (
        displayed(
            DisplayedState.REGISTERING,
            misses=1,
            last_error="the gateway answered 502 (empty)",
            call_retry_at_s=NOW_S + 2,
        ),
        "the gateway answered 502 (empty)",
        "next is made in 2 s",
    ),
    "reverse path not verified": (
        displayed(DisplayedState.REGISTERING, api=replace(UP, up_since_s=NOW_S), reverse=Link(fault=REFUSED)),
        "path from the gateway to this machine's k3s: nothing listens there",
        "after 20 s the machine is registered without it",
    ),
    "registered without a keepalive": (
        displayed(
            DisplayedState.REGISTERING,
            having_offered(offer=OFFER),
            path_verified=False,
            registration=replace(having_offered().registration, at_s=NOW_S),
            reverse=Link(fault=REFUSED),
        ),
        "path from the gateway to this machine's k3s: nothing listens there",
        "lists the machine as registered",
    ),
    "GPUs not advertised": (
        displayed(
            DisplayedState.REGISTERING,
            born_at_s=NOW_S - 100,
            kube=replace(placeable().kube, node=NodeFacts(gpus_allocatable=0)),
        ),
        "the device plugin to advertise the GPUs",
        "in 200 s the machine is registered",
    ),
    "ready, nothing offered": (
        displayed(
            DisplayedState.READY, offer=Offer(offered=False, reason="rebalance: soon", by="rebalanced")
        ),
        "rebalance: soon",
        "the recommendation ends (an hour after it was made)",
    ),
    "ready, for another reason": (
        displayed(DisplayedState.READY, offer=Offer(offered=False, reason="the node is cordoned", by="node")),
        "the node is cordoned",
        "the cause is gone",
    ),
    "counting workers": (
        leaving(DrainPhase.LOOKING, None),
        "workers on this machine to be counted",
        "in 90 s",
    ),
    "workers are ending": (leaving(DrainPhase.ENDING, 2), "2 workers to end; they were told to", "in 90 s"),
    "the last worker is removed": (leaving(DrainPhase.FORCING, 1), "the last worker and", "they are gone"),
    "saying farewell": (leaving(DrainPhase.FAREWELL, 0), "to hear that the machine goes", "it has answered"),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_it_waits_for_and_what_ends_that(name: str) -> None:
    state, what, until = SITUATIONS[name]
    found = waiting(state, AT)
    assert found is not None
    assert what in found.what
    assert until in found.until


def test_waiting_for_workers_without_a_limit_names_none() -> None:
    shutdown = Shutdown(ShutdownKind.LEAVE_IDLE, NOW_S, math.inf, "leave", DrainPhase.WAITING)
    found = waiting(
        displayed(DisplayedState.DRAINING, shutdown=shutdown, node_drain=NodeDrain(workers=3)), AT
    )
    assert found is not None
    assert found.what == "3 workers to end without being told to"
    assert "at the latest" not in found.until


def test_nothing_is_waited_for_where_work_can_be_placed() -> None:
    well = having_offered(offer=OFFER, lease=Lease(ready=True, last_ok_s=NOW_S, expires_at_s=NOW_S + 300))
    assert unplaceable(well) is None
    assert waiting(displayed(DisplayedState.READY, well), AT) is None
    assert waiting(displayed(DisplayedState.STOPPED), AT) is None


FAULTS: dict[str, dict[str, object]] = {
    "none": {},
    "no network": {"link": True},
    "no sshd": {"sshd": True},
    "key refused": {"auth": True},
    **{f"gateway: {kind}": {"gateway": kind} for kind in ("refuse", "hang", "500")},
    **{f"k3s: {kind}": {"k3s": kind} for kind in ("refuse", "hang")},
    "reverse path": {"reverse": True},
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_ever_down_or_waiting_without_a_reason(name: str) -> None:
    """From the start, while it is broken, and while it heals; a machine that leaves at the end says why, too."""
    world, silent = World(1), set[str]()

    def look(world: World, _event: Event, _before: AgentState, after: AgentState) -> None:
        ctx = Context(world.now_s, POLICY)
        if after.exit_decision is None and unplaceable(after) is not None and waiting(after, ctx) is None:
            silent.add(after.displayed.value)
        down = [each for each in Purpose if after.link(each).phase is not LinkPhase.UP]
        silent.update(each.value for each in down if not link_reason(after, each, ctx))

    world.watch = look
    world.run_for(90)
    for fault, value in FAULTS[name].items():
        setattr(world.faults, fault, value)
    world.run_for(400)
    world.faults = Faults()
    world.run_for(120)
    world.workers = [math.inf]
    world.feed(ShutdownRequested(ShutdownKind.STOP, "SIGTERM"))
    world.run_for(120)
    assert world.finish is not None
    assert silent == set()


UNWANTED = {
    "direct": (with_config(connection=Connection.DIRECT), "the gateway dials BETA9_HOSTNAME"),
    "none": (
        replace(with_config(k3s=K3sMode.NONE), kube=Kube(looked=True, logins=KubeLogins())),
        "there is no BETA9_K3S_TOKEN",
    ),
    "not looked": (placeable(kube=Kube()), "the first look at this machine's k3s"),
    "sick": (placeable(kube=SICK), "closed while this machine's k3s does not answer (k3s does not listen)"),
    "waits": (placeable(api=Link()), "waits for the link to the gateway"),
    "connecting": (placeable(), "connecting for 7 s"),
}


@pytest.mark.parametrize("name", UNWANTED)
def test_a_reverse_path_that_is_down_says_why(name: str) -> None:
    state, reason = UNWANTED[name]
    phase = LinkPhase.STARTING if name == "connecting" else LinkPhase.DOWN
    state = replace(state, reverse=Link(phase=phase, started_at_s=NOW_S - 7))
    found = link_reason(state, Purpose.REVERSE, AT)
    assert found is not None
    assert reason in found
    assert link_reason(placeable(), Purpose.REVERSE, AT) is None
