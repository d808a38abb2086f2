"""What an EC2 Auto Scaling group hears, decided by the core and said by the member."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from agent.adapters.aws import imds
from agent.adapters.aws.autoscaling import Autoscaling
from agent.core.cloud.lifecycle_hooks import GroupSignal, signal_due
from agent.core.config import Config
from agent.core.lifecycle.model import DisplayedState, ExitDecision, Shutdown, ShutdownKind
from agent.core.machine_api.model import Lease, Offer
from agent.core.state import AgentState
from agent.errors import ExitCode, RejectedError, SettingsError, TransientError
from agent.observability.logs import EventLog
from agent.runtime.autoscaling import AutoscalingReporter, autoscaling_reporter
from agent.settings.values import LifecycleHook
from tests.unit.core_cases import NOW_S, having_offered
from tests.unit.settings_cases import read, with_

STATE = AgentState(Config("1165a9b6", "gpu"))
READY = having_offered(
    displayed=DisplayedState.READY,
    offer=Offer(offered=True, reason=None),
    lease=Lease(ready=True, last_ok_s=NOW_S, expires_at_s=NOW_S + 300),
)
TERMINATED = Shutdown(ShutdownKind.TERMINATE, 0.0, 90.0, "the group takes this machine out")


def test_it_has_joined_once_work_can_be_placed() -> None:
    assert signal_due(READY) is GroupSignal.JOINED


@pytest.mark.parametrize(
    "state",
    [
        STATE,
        replace(READY, displayed=DisplayedState.CONNECTING),
        replace(READY, offer=Offer(reason="k3s does not answer")),
        replace(READY, registration=replace(READY.registration, at_s=NOW_S + 1)),
        replace(READY, candidate=1),
    ],
    ids=["starting", "no gateway", "leased without an offer", "registered again", "not told its new address"],
)
def test_until_then_nothing_is_said(state: AgentState) -> None:
    assert signal_due(state) is None


def test_what_can_never_work_says_so_at_the_end() -> None:
    assert (
        signal_due(replace(STATE, exit_decision=ExitDecision(ExitCode.UNUSABLE, "a host key that differs")))
        is GroupSignal.USELESS
    )


@pytest.mark.parametrize("code", [ExitCode.REFUSED, ExitCode.GAVE_UP, ExitCode.OK, ExitCode.BUG])
def test_what_may_work_at_the_next_start_does_not(code: ExitCode) -> None:
    assert signal_due(replace(STATE, exit_decision=ExitDecision(code, "…"))) is None


def test_a_machine_that_is_taken_out_says_when_it_is_drained() -> None:
    assert (
        signal_due(
            replace(
                READY, shutdown=TERMINATED, offer=Offer(reason="leaving"), displayed=DisplayedState.DRAINING
            )
        )
        is None
    )
    ended = replace(
        READY,
        shutdown=TERMINATED,
        exit_decision=ExitDecision(ExitCode.OK, "drained"),
        displayed=DisplayedState.STOPPED,
    )
    assert signal_due(ended) is GroupSignal.DRAINED


def test_a_service_that_is_stopped_says_nothing() -> None:
    shutdown = replace(TERMINATED, kind=ShutdownKind.STOP)
    assert (
        signal_due(replace(READY, shutdown=shutdown, exit_decision=ExitDecision(ExitCode.OK, "SIGTERM")))
        is None
    )


# --- Saying it -------------------------------------------------------------------------------------------


@dataclass
class Speaker:
    """A group that answers as told: an exception, or whether a hook waits."""

    answers: list[Exception | bool]
    heard: list[str] = field(default_factory=list)

    def complete(self, hook: LifecycleHook, result: str) -> bool:
        self.heard.append(f"{hook} {result}")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def mark_unhealthy(self) -> None:
        self.heard.append("unhealthy")


@dataclass
class Lines:
    """A log that keeps its lines."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = info


def member(speaker: Speaker, lines: Lines) -> AutoscalingReporter:
    settings = read(with_(BETA9_AWS_LAUNCH_HOOK="g/launch", BETA9_AWS_TERMINATION_HOOK="g/end"))
    return AutoscalingReporter(settings, cast("EventLog", lines), lambda _: cast("Autoscaling", speaker))


def said(*workers: AgentState, answers: list[Exception | bool]) -> tuple[list[str], Lines]:
    speaker, lines = Speaker(answers), Lines()
    one = member(speaker, lines)
    for each in workers:
        one.on_step(each)
    one.close()
    return speaker.heard, lines


def test_each_word_is_said_once() -> None:
    heard, lines = said(STATE, READY, STATE, READY, answers=[True])
    assert heard == ["g/launch CONTINUE"]
    assert lines.lines == [("group_told", {"word": "joined", "hook": "g/launch", "result": "CONTINUE"})]


def test_a_useless_machine_abandons_its_launch() -> None:
    heard, _ = said(replace(STATE, exit_decision=ExitDecision(ExitCode.UNUSABLE, "…")), answers=[True])
    assert heard == ["g/launch ABANDON"]


def test_one_that_had_joined_before_is_marked_unhealthy() -> None:
    heard, lines = said(replace(STATE, exit_decision=ExitDecision(ExitCode.UNUSABLE, "…")), answers=[False])
    assert heard == ["g/launch ABANDON", "unhealthy"]
    assert lines.lines[-1][1]["result"] == "Unhealthy"


def test_a_restarted_agent_finds_no_hook_waiting_and_says_nothing_of_it() -> None:
    heard, lines = said(READY, answers=[False])
    assert (heard, lines.lines) == (["g/launch CONTINUE"], [])


def test_what_was_not_heard_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.runtime.autoscaling.AGAIN_S", 0.01)
    speaker, lines = Speaker([TransientError("no answer"), RejectedError("not yet allowed"), True]), Lines()
    one = member(speaker, lines)
    one.on_step(READY)
    for _ in range(1000):
        if len(speaker.heard) == 3:
            break
        one._ends.wait(0.02)
    one.close()
    assert [event for event, _ in lines.lines] == ["group_trouble", "group_trouble", "group_told"]


def test_a_hook_that_is_not_there_is_not_asked_for_again() -> None:
    heard, lines = said(READY, answers=[SettingsError("no such hook")])
    assert len(heard) == 1
    assert lines.lines == [("group_trouble", {"text": "no such hook"})]


def test_a_machine_in_no_group_has_nothing_of_this() -> None:
    assert autoscaling_reporter(read(with_()), cast("EventLog", Lines()), lambda: "i-0") is None


def test_a_machine_that_is_no_instance_is_told_to_unset_it() -> None:
    lines = Lines()
    one = autoscaling_reporter(
        read(with_(BETA9_AWS_LAUNCH_HOOK="g/launch")), cast("EventLog", lines), lambda: ""
    )
    assert one is not None
    one.on_step(READY)
    one.close()
    assert "BETA9_AWS_LAUNCH_HOOK: this is not an EC2 instance" in lines.lines[0][1]["text"]


def test_a_metadata_service_that_is_silent_just_then_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imds, "is_amazon", lambda: True)
    monkeypatch.setattr("agent.runtime.autoscaling.AGAIN_S", 0.01)
    asked_thrice = threading.Event()
    asked: list[None] = []

    def instance() -> str:
        asked.append(None)
        if len(asked) == 3:
            asked_thrice.set()
        return ""

    lines = Lines()
    one = autoscaling_reporter(
        read(with_(BETA9_AWS_LAUNCH_HOOK="g/launch")), cast("EventLog", lines), instance
    )
    assert one is not None
    one.on_step(READY)
    assert asked_thrice.wait(20)
    one.close()
    assert "does not answer just now" in lines.lines[0][1]["text"]
