"""Reads this machine's own node and the pods on it, as the administrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from agent.adapters.kubernetes.api import Session
from agent.adapters.kubernetes.worker_jobs import read_podless
from agent.core.host.facts import NodeFacts
from agent.core.kubernetes.objects import Object, node_facts, pick_node
from agent.core.kubernetes.worker_jobs import Machine
from agent.errors import TransientError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class NoNodeError(TransientError):
    """The API answers, and none of its nodes is this machine's."""


def read_machine(session: Session, hostname: str, machine_id: str) -> Machine:
    """Return this machine's place in its cluster. Raises: what a session raises, and for an unexpected shape."""
    nodes = session.get("/api/v1/nodes")["items"]
    return _machine(nodes, pick_node(nodes, hostname, _boot_id()), machine_id)


def read_node(session: Session, hostname: str, machine_id: str = "") -> NodeFacts:
    """Return the facts of this machine's node. Raises: NoNodeError, and what a session raises."""
    try:
        return _read(session, hostname, machine_id)
    except (LookupError, TypeError, AttributeError) as error:
        raise TransientError(
            f"the Kubernetes API's node or pods have an unexpected shape: {error!r}"
        ) from error


def _read(session: Session, hostname: str, machine_id: str) -> NodeFacts:
    nodes = session.get("/api/v1/nodes")["items"]
    node = pick_node(nodes, hostname, _boot_id())
    if node is None:
        raise NoNodeError(f"none of the {len(nodes)} Kubernetes nodes has this machine's name {hostname!r}")
    podless = read_podless(session, _machine(nodes, node, machine_id))
    if len(nodes) == 1:
        # All of the cluster's pods: those that wait to be scheduled are the machine's, too.
        return replace(node_facts(node, session.get("/api/v1/pods")["items"]), podless=podless)
    selector = quote(f"spec.nodeName={node['metadata']['name']}")
    pods = session.get(f"/api/v1/pods?fieldSelector={selector}")["items"]
    return replace(node_facts(node, pods), waiting_count=None, podless=podless)


def _machine(nodes: Sequence[Object], node: Object | None, machine_id: str) -> Machine:
    name = str(node["metadata"]["name"]) if node is not None else None
    return Machine(name, is_alone=len(nodes) == (node is not None), machine_id=machine_id)


def _boot_id() -> str:
    """Return the running kernel's id, which the kubelet reports, too; "" if it cannot be read."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
