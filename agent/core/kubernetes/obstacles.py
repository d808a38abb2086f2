"""What keeps the gateway's workers away from the machine's node, as far as the node itself shows it.

Workers ask for GPUs only, and have no tolerations (the gateway's contract).
"""

from __future__ import annotations

from agent.core.host.facts import NodeFacts


def obstacles(node: NodeFacts) -> list[str]:
    """Return all that keeps workers from starting on the node, for a person; what explains most comes first."""
    found = [
        (not node.ready, "is not Ready"),
        (not node.schedulable, "is cordoned"),
        (bool(node.pressures), f"reports {', '.join(node.pressures)}"),
        (
            bool(node.taints),
            f"has the taint {', '.join(node.taints)}, which keeps the gateway's workers away",
        ),
        (node.pods_free == 0, f"runs as many pods as it may: {lists_pods(node)}"),
    ]
    return [f"the Kubernetes node {text}" for is_so, text in found if is_so]


def lists_pods(node: NodeFacts) -> str:
    """Return the hint where to see which pods hold what."""
    return f"'kubectl describe node {node.name}' lists them"


def gpus_left(node: NodeFacts) -> int:
    """Return the GPUs that are not held by pods other than the gateway's workers."""
    return max(0, node.gpus_allocatable - node.others.gpus)
