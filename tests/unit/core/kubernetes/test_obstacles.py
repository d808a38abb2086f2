"""What keeps the gateway's workers away from a node, all at once and in which order."""

from __future__ import annotations

import pytest

from agent.core.host.facts import Held, NodeFacts
from agent.core.kubernetes.obstacles import gpus_left, obstacles

TAINT = "nvidia.com/gpu:NoSchedule"


@pytest.mark.parametrize(
    ("node", "texts"),
    [
        (NodeFacts(), []),
        (NodeFacts(pods_free=1), []),
        (NodeFacts(ready=False, taints=(TAINT,)), ["not Ready", TAINT]),
        (NodeFacts(schedulable=False, pressures=("DiskPressure",)), ["cordoned", "reports DiskPressure"]),
        (NodeFacts(name="box", pods_free=0), ["as many pods as it may: 'kubectl describe node box'"]),
    ],
)
def test_all_that_keeps_workers_away_is_named(node: NodeFacts, texts: list[str]) -> None:
    found = obstacles(node)
    assert len(found) == len(texts)
    assert all(text in each for text, each in zip(texts, found, strict=True)), found


def test_gpus_that_other_pods_hold_are_not_the_gateway_s() -> None:
    assert gpus_left(NodeFacts(gpus_allocatable=8, gpus_requested=5, others=Held(gpus=2))) == 6
    assert gpus_left(NodeFacts(gpus_allocatable=1, others=Held(gpus=2))) == 0
