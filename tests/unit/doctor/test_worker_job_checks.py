"""The doctor's verdict on worker Jobs without a pod, and on the RuntimeClass that they may name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.demo.kubernetes.standin import StandInKubernetes
from agent.doctor import worker_jobs
from agent.doctor.case import Case
from tests.unit.doctor_cases import Make, case_maker

LABELS = {"run.beam.cloud/role": "worker"}
MISSING = 'RuntimeClass "nvidia" not found'


@pytest.fixture
def make_case(tmp_path: Path) -> Iterator[Make]:
    yield from case_maker(tmp_path)


@pytest.fixture
def k3s() -> Iterator[StandInKubernetes]:
    with StandInKubernetes() as running:
        yield running


def without_agent(make_case: Make, k3s: StandInKubernetes | None, tmp_path: Path) -> Case:
    """A machine where no agent runs, and on which two GPUs work."""
    case = make_case()
    case._status_fetched = True
    case.record("nvidia driver", 2)
    if k3s is not None:
        path = tmp_path / "kubeconfig"
        path.write_text(k3s.kubeconfig())
        case.record("k3s login", path)
    return case


def waiting(since_s: float, event: str | None = f"FailedCreate: {MISSING}") -> dict[str, Any]:
    return {"name": "worker-gpu-a", "since_s": since_s, "event": event}


@pytest.mark.parametrize(
    ("jobs", "verdict", "text"),
    [
        ([], "ok", "none waits in vain"),
        ([waiting(5)], "ok", "1 for a moment so far"),
        ([waiting(75)], "fail", f"worker-gpu-a has had no pod for 75 s: FailedCreate: {MISSING}"),
        ([waiting(75, None), waiting(5)], "fail", "no event says why"),
        (None, "skip", "no kubeconfig"),
    ],
)
def test_jobs_are_judged_by_what_the_running_agent_knows(
    make_case: Make, jobs: list[dict[str, Any]] | None, verdict: str, text: str
) -> None:
    case = make_case()
    case._status = {"kubernetes": {} if jobs is None else {"jobs_without_pod": jobs}}
    case._status_fetched = True
    found = worker_jobs._jobs(case)
    assert found.verdict.value == verdict
    assert text in found.seen
    assert bool(found.fix) == (verdict == "fail")


@pytest.mark.parametrize(("age_s", "verdict"), [(30.0, "ok"), (90.0, "fail")])
def test_without_an_agent_the_jobs_are_read(
    make_case: Make, k3s: StandInKubernetes, tmp_path: Path, age_s: float, verdict: str
) -> None:
    k3s.cluster.runtime_classes = set()
    pod = {"metadata": {"labels": LABELS}, "spec": {"containers": [], "runtimeClassName": "nvidia"}}
    body = {"metadata": {"name": "worker-gpu-a", "labels": LABELS}, "spec": {"template": pod}}
    k3s.cluster.create_job("default", body, k3s.clock() - age_s)
    found = worker_jobs._jobs(without_agent(make_case, k3s, tmp_path))
    assert found.verdict.value == verdict
    assert (MISSING in found.seen) == (verdict == "fail")


@pytest.mark.parametrize(
    ("classes", "boards", "verdict"),
    [({"nvidia"}, 2, "ok"), ({"other"}, 2, "warn"), (set(), 0, "skip")],
)
def test_the_runtime_class_is_looked_for_where_there_are_gpus(  # noqa: PLR0917 - pytest gives them by name
    make_case: Make, k3s: StandInKubernetes, tmp_path: Path, classes: set[str], boards: int, verdict: str
) -> None:
    k3s.cluster.runtime_classes = classes
    case = without_agent(make_case, k3s, tmp_path)
    case.record("nvidia driver", boards)
    found = worker_jobs._runtime_class(case)
    assert found.verdict.value == verdict
    assert ("run the bootstrap again" in found.fix) == (verdict == "warn")


def test_an_api_that_cannot_be_asked_is_no_verdict(
    make_case: Make, k3s: StandInKubernetes, tmp_path: Path
) -> None:
    k3s.failing = True
    case = without_agent(make_case, k3s, tmp_path)
    assert {check.run(case).verdict.value for check in worker_jobs.CHECKS} == {"skip"}
    alone = without_agent(make_case, None, tmp_path)
    assert {check.run(alone).verdict.value for check in worker_jobs.CHECKS} == {"skip"}
