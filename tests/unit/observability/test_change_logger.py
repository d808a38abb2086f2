"""One log line for each change worth knowing, none per tick."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.core.events import CallEnded, FactsRead, JobsCleared, Tick
from agent.core.host.facts import Gpu, GpuReading, HostFacts
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.model import Advertisement, Call, CallKind, Capacity, Offer, Registration
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.text.redaction import Redactor
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase
from agent.observability import logs
from agent.observability.change_logger import ChangeLogger
from tests.unit.core_cases import ADDRESSES, POLICY, UP, placeable
from tests.unit.simulation import World

LOST = Fault(FaultKind.LOST, "the connection was cut")


class Recorder:
    """A change logger together with the lines it has written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logs = logs.setup("json", "debug", Redactor(), self.stream)
        self.change_logger = ChangeLogger(logs.get_logger(), POLICY)

    def lines(self) -> list[dict[str, Any]]:
        self.logs.close(30)
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def names(self) -> list[str]:
        return [line["event"] for line in self.lines()]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    started = Recorder()
    yield started
    started.logs.close(30)


def test_nothing_changed_nothing_is_logged(recorder: Recorder) -> None:
    for second in range(100):
        recorder.change_logger.on_step(placeable(), placeable(), Tick(), float(second))
    assert recorder.names() == []


def test_a_change_of_state_is_one_line_with_both_states(recorder: Recorder) -> None:
    recorder.change_logger.on_step(
        placeable(displayed=DisplayedState.REGISTERING),
        placeable(displayed=DisplayedState.READY),
        Tick(),
        1.0,
    )
    line = recorder.lines()[0]
    assert (line["event"], line["state"], line["was"]) == ("state", "READY", "REGISTERING")


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(recorder: Recorder) -> None:
    down = Link(phase=LinkPhase.DOWN, fault=LOST)
    recorder.change_logger.on_step(placeable(), placeable(api=down), Tick(), 0.0)
    for second in range(1, 50):
        again = replace(down, fault=Fault(FaultKind.REFUSED, f"attempt {second}"))
        recorder.change_logger.on_step(placeable(api=down), placeable(api=again), Tick(), float(second))
    recorder.change_logger.on_step(placeable(api=down), placeable(), Tick(), 50.0)
    lines = recorder.lines()
    assert [line["event"] for line in lines] == ["tunnel_api_down", "tunnel_api_up"]
    assert lines[0]["reason"] == "lost"
    assert (lines[1]["attempts"], lines[1]["down_s"]) == (50, 50.0)


def test_repeated_attempts_are_not_logged(recorder: Recorder) -> None:
    trying, pausing = (
        placeable(displayed=DisplayedState.CONNECTING),
        placeable(displayed=DisplayedState.BACKOFF),
    )
    for _ in range(20):
        recorder.change_logger.on_step(trying, pausing, Tick(), 1.0)
        recorder.change_logger.on_step(pausing, trying, Tick(), 2.0)
    assert recorder.names() == []


def test_the_address_is_logged_with_the_reverse_path(recorder: Recorder) -> None:
    recorder.change_logger.on_step(
        placeable(reverse=Link(phase=LinkPhase.STARTING)), placeable(reverse=UP), Tick(), 1.0
    )
    assert recorder.lines()[0]["address"] == ADDRESSES[0]


def test_a_registration_logs_what_was_advertised(recorder: Recorder) -> None:
    advertisement = Advertisement(ADDRESSES[0], Capacity(7500, 15360, 2), offered=True)
    after = placeable(
        registration=Registration(True, True, 1, advertisement=advertisement, gateway_config=True)
    )
    recorder.change_logger.on_step(placeable(), after, Tick(), 1.0)
    line = recorder.lines()[0]
    assert (line["event"], line["cpu_millicores"], line["memory_mib"], line["gpu_count"]) == (
        "registered",
        7500,
        15360,
        2,
    )


def test_a_gateway_that_will_never_place_work_is_reported_once(recorder: Recorder) -> None:
    advertisement = Advertisement(ADDRESSES[0], Capacity(), offered=False)
    first = placeable(
        registration=Registration(True, True, 1, advertisement=advertisement, gateway_config=False)
    )
    second = replace(first, registration=replace(first.registration, times=2))
    recorder.change_logger.on_step(placeable(), first, Tick(), 1.0)
    recorder.change_logger.on_step(first, second, Tick(), 2.0)
    assert recorder.names() == ["registered", "gateway_setting", "registered"]


def test_why_nothing_is_offered_is_logged(recorder: Recorder) -> None:
    nothing = Offer(offered=False, reason="k3s does not answer")
    recorder.change_logger.on_step(placeable(offer=Offer(True, None)), placeable(offer=nothing), Tick(), 1.0)
    line = recorder.lines()[0]
    assert (line["event"], line["what"], line["reason"]) == ("offering", "nothing", "k3s does not answer")


REGISTERING = Advertisement(ADDRESSES[0], Capacity(gpu_count=2), offered=False)


def test_a_registration_that_offers_nothing_is_preceded_by_the_reason(recorder: Recorder) -> None:
    """Field case A4: `registered cpu_millicores=0` stood in the log without a line that says why."""
    cordoned = Offer(offered=False, reason="the Kubernetes node is cordoned")
    waiting = placeable(offer=cordoned)
    calling = replace(waiting, call=Call(1, CallKind.REGISTER, 10.0, REGISTERING))
    recorder.change_logger.on_step(placeable(), waiting, Tick(), 0.0)
    recorder.change_logger.on_step(waiting, calling, Tick(), 1.0)
    # The offer may change while the call is under way: the line stays before its effect.
    offering = replace(calling, offer=Offer(offered=True, reason=None))
    recorder.change_logger.on_step(calling, offering, Tick(), 1.1)
    done = replace(offering, call=None, registration=Registration(True, True, 1, advertisement=REGISTERING))
    recorder.change_logger.on_step(offering, done, CallEnded(1, Outcome(OutcomeKind.OK)), 1.2)
    lines = [(line["event"], line.get("what"), line.get("reason")) for line in recorder.lines()]
    assert lines[:3] == [
        ("offering", "nothing", "the Kubernetes node is cordoned"),
        ("offering", "everything", None),
        ("registered", None, None),
    ]


def test_a_registration_that_is_repeated_with_the_same_reason_repeats_no_line(recorder: Recorder) -> None:
    waiting = placeable(offer=Offer(offered=False, reason="the reverse path is not verified yet"))
    for call_id in range(3):
        calling = replace(waiting, call=Call(call_id, CallKind.REGISTER, 10.0, REGISTERING))
        recorder.change_logger.on_step(waiting, calling, Tick(), float(call_id))
        recorder.change_logger.on_step(calling, waiting, Tick(), call_id + 0.5)
    assert recorder.names() == ["offering"]


def test_what_a_start_has_cleared_away_is_logged(recorder: Recorder) -> None:
    recorder.change_logger.on_step(placeable(), placeable(), JobsCleared(("worker-gpu-a",)), 1.0)
    recorder.change_logger.on_step(placeable(), placeable(), JobsCleared(), 2.0)
    assert [(line["event"], line["jobs"]) for line in recorder.lines()] == [
        ("jobs_cleared", ["worker-gpu-a"])
    ]


def test_failed_calls_are_logged_once_and_so_is_their_recovery(recorder: Recorder) -> None:
    call = Call(1, CallKind.KEEPALIVE, 10.0)
    failed = CallEnded(1, Outcome(OutcomeKind.GATEWAY_ERROR, "the gateway answered 502"))
    for second in range(5):
        recorder.change_logger.on_step(placeable(call=call), placeable(), failed, float(second))
    recorder.change_logger.on_step(
        placeable(call=call), placeable(), CallEnded(1, Outcome(OutcomeKind.OK)), 5.0
    )
    lines = recorder.lines()
    assert [line["event"] for line in lines] == ["keepalive_failed", "keepalive_recovered"]
    assert lines[0]["reason"] == "gateway_error"
    assert lines[1]["attempts"] == 5


def test_a_late_answer_is_not_logged(recorder: Recorder) -> None:
    call = Call(2, CallKind.KEEPALIVE, 10.0)
    stale = CallEnded(1, Outcome(OutcomeKind.GATEWAY_ERROR, "late"))
    recorder.change_logger.on_step(placeable(call=call), placeable(call=call), stale, 1.0)
    assert recorder.names() == []


def test_k3s_going_down_and_coming_up_is_logged(recorder: Recorder) -> None:
    healthy = placeable()
    unhealthy = placeable(kube=replace(healthy.kube, answering=False, reason="k3s does not listen"))
    recorder.change_logger.on_step(healthy, unhealthy, Tick(), 1.0)
    recorder.change_logger.on_step(unhealthy, healthy, Tick(), 2.0)
    assert recorder.names() == ["kubernetes_down", "kubernetes_up"]


def test_a_missing_k3s_is_logged_once(recorder: Recorder) -> None:
    before = placeable(kube=Kube())
    after = placeable(kube=Kube(looked=True, reason="k3s does not listen"))
    recorder.change_logger.on_step(before, after, Tick(), 1.0)
    recorder.change_logger.on_step(after, after, Tick(), 2.0)
    assert recorder.names() == ["kubernetes_absent"]


def test_a_gpu_that_fails_is_an_error_and_its_recovery_is_logged(recorder: Recorder) -> None:
    broken = GpuReading((Gpu("GPU-0", "H100", healthy=False, reason="Xid 79"), Gpu("GPU-1", "H100")))
    facts = FactsRead(HostFacts(1, 1), broken)
    recorder.change_logger.on_step(placeable(), placeable(gpus=broken), facts, 1.0)
    recorder.change_logger.on_step(placeable(gpus=broken), placeable(), facts, 2.0)
    lines = recorder.lines()
    assert [(line["event"], line["level"]) for line in lines] == [
        ("gpu_failed", "error"),
        ("gpu_recovered", "info"),
    ]
    assert lines[0]["reason"] == "Xid 79"


def test_an_hour_without_a_gateway_is_a_handful_of_lines(recorder: Recorder) -> None:
    world = World(seed=5)
    world.run_for(10)
    world.watch = lambda world, event, before, after: recorder.change_logger.on_step(
        before, after, event, world.now_s
    )
    world.faults.gateway = "refuse"
    world.run_for(3600)
    assert 0 < len(recorder.names()) < 25, recorder.names()


def test_the_latest_states_are_kept_for_the_status_page(recorder: Recorder) -> None:
    for number in range(50):
        recorder.change_logger.on_step(
            placeable(displayed=DisplayedState.READY),
            placeable(displayed=DisplayedState.REGISTERING),
            Tick(),
            float(number),
        )
    assert len(recorder.change_logger.transitions) == 20
    assert recorder.change_logger.transitions[-1][:2] == ("REGISTERING", 49.0)
