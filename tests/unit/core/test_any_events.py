"""Whatever happens, in whatever order and at whatever time, some things never do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.config import Config, Connection, K3sMode
from agent.core.effects import (
    Exit,
)
from agent.core.events import (
    ShutdownRequested,
    Tick,
)
from agent.core.host.facts import (
    DaemonState,
)
from agent.core.lifecycle.model import FINAL, DisplayedState, DrainPhase, ShutdownKind
from agent.core.machine_api.model import CallKind
from agent.core.status import status
from agent.core.step import wake_in_s
from agent.errors import ExitCode
from tests.unit.core.any_events import ADDRESSES, POLICY, GoodReply, Moves, configs, jitters, moves
from tests.unit.core.any_life import Life


@given(configs, moves, jitters)
def test_no_sequence_of_events_leads_where_nothing_may_lead(
    config: Config, sequence: Moves, jitter: float
) -> None:
    life = Life(config, jitter)
    life.go(0.0, Tick())
    for pause_s, move in sequence:
        before = life.go(pause_s, move)
        after = life.state

        if before.displayed in FINAL:
            assert after == before, "something led out of a final state"
            assert life.effects == ()
        if before.displayed is DisplayedState.DRAINING:
            assert after.displayed in {DisplayedState.DRAINING, *FINAL}, "back to service from draining"
        if before.shutdown and after.shutdown:
            assert list(DrainPhase).index(after.shutdown.phase) >= list(DrainPhase).index(
                before.shutdown.phase
            ), "a step back"
            assert after.shutdown.deadline_at_s <= before.shutdown.deadline_at_s, "a drain deadline grew"

        if any(call.kind is CallKind.KEEPALIVE for call in life.calls()):
            assert life.registered, "a keepalive before any registration"
        assert len(life.in_flight) <= 1, f"two calls in flight: {life.in_flight}"

        finishes = [effect for effect in life.effects if isinstance(effect, Exit)]
        assert len(finishes) == (after.displayed in FINAL and before.displayed not in FINAL)
        if finishes:
            assert life.effects[-1] is finishes[0]
            assert (finishes[0].exit_code is ExitCode.OK) == (after.displayed is DisplayedState.STOPPED)
        if after.displayed is DisplayedState.READY:
            assert after.lease.ready
            assert after.registration.known


@given(configs, moves, jitters)
def test_nothing_is_offered_that_could_not_start(config: Config, sequence: Moves, jitter: float) -> None:
    life = Life(config, jitter)
    for pause_s, move in sequence:
        life.go(pause_s, move)
        state = life.state
        if state.displayed in FINAL or not state.offer.offered:
            continue
        assert state.shutdown is None
        assert state.host is not None
        if config.k3s is K3sMode.NONE:
            assert state.kube.logins.has_token
        else:
            assert state.kube.answering
        if config.connection is Connection.SSH:
            assert not config.once
        elif config.connection is Connection.DIRECT:
            assert config.hostname
        else:
            tailnet = state.tailnet
            assert config.hostname or tailnet.name
            assert tailnet.facts is not None
            assert tailnet.facts.state is DaemonState.RUNNING


@given(configs, moves, jitters)
def test_a_registered_machine_ends_only_because_it_was_asked_to(
    config: Config, sequence: Moves, jitter: float
) -> None:
    life = Life(config, jitter)
    for pause_s, move in sequence:
        before = life.go(pause_s, move)
        if before.registration.times and life.state.displayed is DisplayedState.FAILED:
            assert before.displayed is DisplayedState.FAILED
        if life.state.displayed is DisplayedState.STOPPED:
            assert life.state.shutdown is not None or config.once


@given(configs, moves, jitters)
def test_the_status_page_and_the_next_wake_up_can_be_made_at_any_moment(
    config: Config, sequence: Moves, jitter: float
) -> None:
    life = Life(config, jitter)
    for pause_s, move in sequence:
        life.go(pause_s, move)
        shown = status(life.state, life.now_s, POLICY, "http://localhost:1994")
        assert shown["state"] in {state.value for state in DisplayedState}
        assert 0.005 <= wake_in_s(life.state, life.now_s) <= 1.0


@given(moves, jitters, st.sampled_from(ShutdownKind), st.floats(0, 30))
def test_whoever_is_asked_to_go_is_gone_within_the_bound(
    sequence: Moves, jitter: float, kind: ShutdownKind, later_s: float
) -> None:
    life = Life(Config("1165a9b6", "gpu", connection=Connection.SSH, addresses=ADDRESSES), jitter)
    life.administers = False  # with a kubeconfig, workers are given their time
    for pause_s, move in sequence:
        life.go(abs(pause_s), move)
    life.go(0.0, ShutdownRequested(kind, "SIGTERM"))
    # No request is answered any more; only time passes.
    life.go(max(POLICY.notice_farewell_s, POLICY.hand_over_s) + later_s, Tick())
    assert life.state.displayed in FINAL


@pytest.mark.parametrize("connection", [Connection.SSH, Connection.TAILSCALE])
def test_the_good_answers_alone_lead_to_ready(connection: Connection) -> None:
    life = Life(Config("1165a9b6", "gpu", connection=connection, addresses=ADDRESSES))
    for _ in range(60):
        life.go(0.05, GoodReply())
    assert life.state.displayed is DisplayedState.READY
    assert life.state.offer.offered
    assert life.state.registration.times == 1
