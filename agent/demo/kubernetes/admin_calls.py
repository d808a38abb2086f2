"""The calls by which another process controls a stand-in; KubernetesAdmin is their client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.demo.kubernetes.standin import StandInKubernetes

_NODE = frozenset({
    "gpus", "ready", "unschedulable", "pressures", "stop_s", "absent", "taints", "allocatable", "backoff_s",
    "runtime_classes", "annotations",
})  # fmt: skip
"""What `set_node` may change."""


def calls(api: StandInKubernetes) -> dict[str, Callable[..., Any]]:
    """Return the calls by name."""

    def set_node(**changes: Any) -> None:
        for name, value in changes.items():
            if name not in _NODE:
                raise ValueError(f"a node has no {name}")
            is_set = name in {"pressures", "runtime_classes"}
            setattr(api.cluster, name, set(value) if is_set else value)
        api.cluster.schedule()

    def set_answer(**changes: bool) -> None:
        for name, value in changes.items():
            if name not in {"unauthorized", "too_many", "failing"}:
                raise ValueError(f"unknown answer {name!r}; use unauthorized, too_many or failing")
            setattr(api, name, value)

    def now(objects: dict[tuple[str, str], Any]) -> list[Any]:
        with api.lock:
            api.cluster.advance(api.clock())
            return list(objects.values())

    return {
        "freeze": api.freeze,
        "thaw": api.thaw,
        "refuse": api.refuse,
        "listen": api.listen,
        "set_node": set_node,
        "set_answer": set_answer,
        "grant": api.grant,
        "revoke_granted": api.revoke_granted,
        "jobs": lambda: now(api.cluster.jobs),
        "pods": lambda: now(api.cluster.pods),
        "node": api.cluster.node,
        "terminations": lambda: list(api.cluster.terminations),
        "add_pod": api.cluster.add_pod,
        "delete_pod": lambda namespace, name: api.cluster.end_pod(namespace, name, api.clock(), 0),
        "finish_job": lambda namespace, name: api.cluster.finish_job(namespace, name, api.clock()),
        "requests": lambda: list(api.requests),
    }
