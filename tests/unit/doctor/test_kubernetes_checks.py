"""The doctor's verdict on the machine's node, from what the running agent knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.doctor import kubernetes
from tests.unit.doctor_cases import Make, case_maker


@pytest.fixture
def make_case(tmp_path: Path) -> Iterator[Make]:
    yield from case_maker(tmp_path)


@pytest.mark.parametrize(
    ("node", "boards", "verdict", "text"),
    [
        (
            {"ready": True, "schedulable": True, "pressures": [], "gpus_allocatable": 8},
            8,
            "ok",
            "advertises 8 GPUs",
        ),
        ({"ready": True, "schedulable": True, "pressures": [], "gpus_allocatable": 7}, 8, "fail", "7 of 8"),
        (
            {"ready": False, "schedulable": True, "pressures": [], "gpus_allocatable": 0},
            0,
            "fail",
            "not Ready",
        ),
        (
            {"ready": True, "schedulable": False, "pressures": ["DiskPressure"], "gpus_allocatable": 0},
            0,
            "fail",
            "is cordoned; the Kubernetes node reports DiskPressure",
        ),
        # Field case 8.4
        (
            {"ready": True, "schedulable": True, "pressures": [], "taints": ["nvidia.com/gpu:NoSchedule"]},
            0,
            "fail",
            "has the taint nvidia.com/gpu:NoSchedule",
        ),
        (
            {
                "name": "box",
                "gpus_allocatable": 2,
                "others": {"cpu_millicores": 0, "memory_mib": 0, "gpus": 2},
                "a later field": 1,
            },
            2,
            "fail",
            "other pods hold all 2 GPUs",
        ),
        (None, 0, "skip", "no kubeconfig"),
    ],
)
def test_the_node_is_judged_by_what_the_running_agent_knows(
    make_case: Make, node: dict[str, Any] | None, boards: int, verdict: str, text: str
) -> None:
    case = make_case()
    case._status, case._status_fetched = {"kubernetes": {"node": node}}, True
    case.record("nvidia driver", boards)
    found = kubernetes._node(case)
    assert (found.verdict.value, text in found.seen) == (verdict, True), found
