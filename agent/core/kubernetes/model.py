"""The machine's own Kubernetes, as last probed."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.host.facts import KubeLogins, NodeFacts


@dataclass(frozen=True)
class WaitingJob:
    """A worker Job without a pod, and since when."""

    name: str
    since_s: float
    event: str | None


@dataclass(frozen=True)
class Kube:
    """The machine's own Kubernetes, as probed locally with the token that the gateway gets."""

    expected: bool = False
    """There is a k3s that the agent is meant to use."""
    looked: bool = False
    """It was probed at least once."""
    answering: bool = False
    failures: int = 0
    """Probes in a row that failed."""
    probing: bool = False
    probe_at_s: float = 0.0
    answered_at_s: float | None = None
    probe_s: float | None = None
    """How long the last answer took."""
    since_s: float | None = None
    """When `answering` last changed."""
    reason: str | None = None
    logins: KubeLogins = field(default_factory=KubeLogins)
    """As last read: a kubeconfig comes, changes and goes while the agent runs."""
    token_serial: int = 0
    """Counts the tokens that the gateway was to get; another one means registering again."""
    node: NodeFacts | None = None
    node_bad_since_s: float | None = None
    node_reason: str | None = None
    podless: tuple[WaitingJob, ...] = ()
    """The gateway's worker Jobs that have no pod."""
    read_error: str | None = None
    """What could not be read or renewed although the API answers."""
