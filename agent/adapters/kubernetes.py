"""The machine's own Kubernetes, as far as probes go: directly, and through the gateway's side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.adapters import probes
from agent.core.events import Answer, KubeProbed, Probe
from agent.errors import AgentError


class LocalKubernetes:
    """The API server on this machine and the token that the gateway gets for it."""

    def __init__(self, host: str, port: int, token: Callable[[bool], str | None]) -> None:
        """`token(fresh)` gives the gateway's token, None where none is configured. It may raise AgentError."""
        self.host = host
        self.port = port
        self._token = token
        self._certificate: str | None = None
        self._denied = False

    def probe(self, timeout_s: float) -> KubeProbed:
        """Ask the API directly, with the gateway's token."""
        try:
            token = self._token(self._denied)
        except AgentError as error:
            return KubeProbed(Probe(Answer.DENIED, text=str(error)))
        seen = probes.kubernetes((self.host, self.port), token or "", timeout_s)
        self._certificate = seen.certificate or self._certificate
        self._denied = seen.probe.answer is Answer.DENIED
        if self._denied and token is None:
            text = "there is no token for the gateway; set BETA9_K3S_TOKEN or BETA9_KUBECONFIG"
            return KubeProbed(Probe(Answer.DENIED, seen.probe.took_s, text))
        return KubeProbed(seen.probe)

    def probe_through(self, socket: Path, timeout_s: float) -> Probe:
        """Ask it through a forward that leads over the gateway's side and back.

        The token goes only to the server that shows the certificate seen locally.
        """
        try:
            token = self._token(False)
        except AgentError as error:
            return Probe(Answer.DENIED, text=str(error))
        return probes.kubernetes(socket, token or "", timeout_s, expect=self._certificate).probe
