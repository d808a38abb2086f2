"""The machine's own Kubernetes, as last probed."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.host.facts import KubeLogins, NodeFacts


@dataclass(frozen=True)
class Kube:
    """The machine's own Kubernetes, as probed locally with the token that the gateway gets."""

    expected: bool = False
    looked: bool = False
    answering: bool = False
    failures: int = 0
    probing: bool = False
    probe_at_s: float = 0.0
    probe_s: float | None = None
    since_s: float | None = None
    reason: str | None = None
    logins: KubeLogins = field(default_factory=KubeLogins)
    """As last looked at: a kubeconfig comes, changes and goes while the agent runs."""
    token_serial: int = 0
    node: NodeFacts | None = None
    node_bad_since_s: float | None = None
    node_reason: str | None = None
    read_error: str | None = None
    """What could not be read or renewed although the API answers."""
