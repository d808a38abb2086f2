"""The machine's own Kubernetes as the agent sees it: does it answer, how is its node, and what is on it.

The probe asks what the gateway would ask, with the gateway's token, directly and through the gateway's side.
Node and pods are read as the administrator, every `node_interval_s`, where there is a kubeconfig.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from urllib.parse import quote

from agent.adapters import probes
from agent.adapters.kubernetes_api import Api, SilentError
from agent.adapters.kubernetes_token import GatewayToken
from agent.core.events import Answer, KubeProbed, Probe
from agent.core.facts import NodeFacts
from agent.core.kube_objects import node_facts, pick_node
from agent.errors import AgentError, TransientError

NO_TOKEN = "there is no token for the gateway; set BETA9_KUBECONFIG or BETA9_K3S_TOKEN"  # noqa: S105 - a text


class LocalKubernetes:
    """The API server on this machine and the token that the gateway gets for it.

    `probe` is for one thread at a time; the rest may be called from any.
    """

    def __init__(
        self,
        host: str,
        port: int,
        given_token: Callable[[bool], str | None],
        cluster: Cluster | None = None,
    ) -> None:
        """`given_token(fresh)` gives the configured token, None where none is configured; it may raise
        AgentError. `cluster` is None where there is no kubeconfig.
        """
        self.host = host
        self.port = port
        self._given = given_token
        self.cluster = cluster
        self._certificate: str | None = None
        self._denied = False

    def token(self, fresh: bool = False) -> str | None:
        """The token that the gateway gets: as configured, else as made here. Raises: AgentError."""
        given = self._given(fresh)
        if given is not None or self.cluster is None:
            return given
        granted = self.cluster.token.granted
        return granted.text if granted else None

    def probe(self, timeout_s: float) -> KubeProbed:
        """Ask the API directly, with the gateway's token; renew that token and read the node when it is time."""
        try:
            is_given = self._given(self._denied) is not None
            token = self.token()
        except AgentError as error:
            return KubeProbed(Probe(Answer.DENIED, text=str(error)))
        seen = probes.kubernetes((self.host, self.port), token or "", timeout_s)
        self._certificate = seen.certificate or self._certificate
        self._denied = seen.probe.answer is Answer.DENIED
        if self.cluster is not None and seen.probe.answer in {Answer.ANSWERED, Answer.DENIED}:
            return self._with_cluster(self.cluster, seen.probe, is_given, timeout_s)
        if self._denied and token is None:
            return KubeProbed(Probe(Answer.DENIED, seen.probe.took_s, NO_TOKEN))
        return KubeProbed(seen.probe)

    def _with_cluster(self, cluster: Cluster, probe: Probe, is_given: bool, timeout_s: float) -> KubeProbed:
        problem = None
        if not is_given and (self._denied or cluster.token.is_due):
            try:
                granted = cluster.token.renew(timeout_s)
            except SilentError as error:
                return KubeProbed(Probe(Answer.SILENT, timeout_s, str(error)))
            except AgentError as error:
                if self._denied:
                    return KubeProbed(Probe(Answer.DENIED, probe.took_s, str(error)))
                problem = f"the gateway's token could not be renewed, it goes on with the old one: {error}"
            else:
                probe = probes.kubernetes((self.host, self.port), granted.text, timeout_s).probe
                self._denied = probe.answer is Answer.DENIED
        if probe.answer is not Answer.ANSWERED:
            return KubeProbed(probe)
        try:
            node = cluster.look(timeout_s)
        except SilentError as error:
            # It accepted and did not answer: what the gateway's dial would meet in the next moment.
            return KubeProbed(Probe(Answer.SILENT, timeout_s, str(error)))
        serial = cluster.token.granted.serial if cluster.token.granted else 0
        return KubeProbed(probe, node, serial, problem or cluster.problem)

    def probe_at(self, address: probes.Address, timeout_s: float) -> Probe:
        """Ask it where the gateway reaches it: through a forward that leads over its side and back, or at an address.

        The token goes only to the server that shows the certificate seen locally.
        """
        try:
            token = self.token()
        except AgentError as error:
            return Probe(Answer.DENIED, text=str(error))
        return probes.kubernetes(address, token or "", timeout_s, expect=self._certificate).probe


class Cluster:
    """What the administrator's login is for: the node, its pods, and the gateway's token."""

    def __init__(
        self,
        api: Api,
        token: GatewayToken,
        interval_s: float,
        hostname: Callable[[], str] = socket.gethostname,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api = api
        self.token = token
        self.problem: str | None = None
        """Why the node could not be read when it was time; what is known of it is older then."""
        self.node_name: str | None = None
        self._interval_s = interval_s
        self._hostname = hostname
        self._now_s = now_s
        self._node: NodeFacts | None = None
        self._look_at_s = float("-inf")

    def look_soon(self) -> None:
        """What is known of the node was changed from here: read it anew with the next probe."""
        self._look_at_s = float("-inf")

    def look(self, timeout_s: float) -> NodeFacts | None:
        """The node as it was read last, read anew when it is time. Raises: SilentError."""
        if self._now_s() < self._look_at_s:
            return self._node
        self._look_at_s = self._now_s() + self._interval_s
        try:
            self._node, self.problem = self._read(timeout_s), None
        except SilentError:
            raise
        except AgentError as error:
            self.problem = str(error)
        return self._node

    def _read(self, timeout_s: float) -> NodeFacts:
        try:
            with self.api.session(timeout_s) as session:
                nodes = session.get("/api/v1/nodes")["items"]
                node = pick_node(nodes, self._hostname())
                if node is None:
                    raise TransientError(
                        f"none of the {len(nodes)} Kubernetes nodes is called {self._hostname()!r} as this machine is"
                    )
                self.node_name = str(node["metadata"]["name"])
                selector = quote(f"spec.nodeName={self.node_name}")
                pods = session.get(f"/api/v1/pods?fieldSelector={selector}")["items"]
            return node_facts(node, pods)
        except (LookupError, TypeError, AttributeError) as error:
            raise TransientError(
                f"the Kubernetes API's node or pods have another shape: {error!r}"
            ) from error
