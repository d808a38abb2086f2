"""The machine's own Kubernetes: whether it answers, the state of its node, and what runs there.

A probe sends the gateway's own request with the gateway's token, directly and through the gateway's side. While there
is a kubeconfig, node and pods are read as the administrator every `node_interval_s`. Each probe looks at the credential
files, which may appear, change and vanish. What was read from them stays in use as long as k3s accepts it: k3s's answer
counts, not the file.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace

from agent.adapters.gateway import probes
from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.api import Api, Session, SilentError
from agent.adapters.kubernetes.node import NoNodeError, read_machine, read_node
from agent.adapters.kubernetes.token import GatewayToken
from agent.core.events import Answer, KubeLoginsRead, KubeProbed, Probe
from agent.core.host.facts import KubeLogins, NodeFacts
from agent.core.kubernetes.obstacles import obstacles
from agent.core.kubernetes.worker_jobs import Machine
from agent.core.tunnel.model import Holder
from agent.errors import AgentError, SettingsError

NO_TOKEN = "there is no token for the gateway; set BETA9_KUBECONFIG or BETA9_K3S_TOKEN"  # noqa: S105 - a text


class LocalKubernetes:
    """The API server on this machine, and the token for the gateway's access to it.

    Only one thread at a time may call `probe` and `read_logins`; any thread may call the rest.
    """

    def __init__(
        self,
        host: str,
        port: int,
        given_token: Callable[[bool], str | None],
        cluster: Cluster | None = None,
    ) -> None:
        """Read nothing yet.

        `given_token(fresh)` returns the configured token, or None if none is configured; it may raise AgentError.
        `cluster` is None if this machine's k3s is left alone.
        """
        self.host = host
        self.port = port
        self._given = given_token
        self.cluster = cluster
        self._certificate: str | None = None
        self._denied = False
        self._given_before: str | None = None
        self._serial = 0
        self._counted: str | None = None

    def token(self) -> str | None:
        """Return the token for the gateway: the configured one, or else the agent's own. Raises: AgentError."""
        return self._token(self._read_given()[0])

    def read_logins(self) -> KubeLoginsRead:
        """Report the current token of a k3s that is left alone."""
        try:
            token, problem = self._read_given()
        except AgentError as error:
            return KubeLoginsRead(KubeLogins(), self._serial, str(error))
        return KubeLoginsRead(KubeLogins(has_token=bool(token)), self._count(token), problem)

    def probe(self, timeout_s: float) -> KubeProbed:
        """Probe the API directly, with the gateway's token; renew the token and read the node when they are due."""
        if self.cluster is not None:
            self.cluster.refresh()
        try:
            given, problem = self._read_given(fresh=self._denied)
        except AgentError as error:
            return KubeProbed(Probe(Answer.DENIED, text=str(error)), logins=self._logins(is_given=True))
        probed = self._probe(given, timeout_s)
        if problem and probed.probe.answer is Answer.DENIED:
            probed = replace(probed, probe=replace(probed.probe, text=f"{probed.probe.text}; {problem}"))
        return replace(
            probed,
            token_serial=self._count(self._token(given)),
            error=problem or probed.error,
            logins=self._logins(is_given=given is not None),
        )

    def _probe(self, given: str | None, timeout_s: float) -> KubeProbed:
        token = self._token(given)
        seen = probes.kubernetes((self.host, self.port), token or "", timeout_s)
        self._certificate = seen.certificate or self._certificate
        self._denied = seen.probe.answer is Answer.DENIED
        cluster = self.cluster
        if (
            cluster is not None
            and cluster.is_expected
            and seen.probe.answer in {Answer.ANSWERED, Answer.DENIED}
        ):
            return self._with_cluster(cluster, seen.probe, given is not None, timeout_s)
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
                problem = f"the gateway's token could not be renewed, the old one stays in use: {error}"
            else:
                probe = probes.kubernetes((self.host, self.port), granted.text, timeout_s).probe
                self._denied = probe.answer is Answer.DENIED
        if probe.answer is not Answer.ANSWERED:
            return KubeProbed(probe)
        try:
            node = cluster.read_node(timeout_s)
        except SilentError as error:
            # The API accepted the connection and did not answer: the gateway's next request would hang, too.
            return KubeProbed(Probe(Answer.SILENT, timeout_s, str(error)))
        return KubeProbed(probe, node, error=problem or cluster.problem, no_node=cluster.no_node)

    def probe_at(self, address: probes.Address, timeout_s: float) -> Probe:
        """Probe the API where the gateway reaches it: through a forward over the gateway's side, or at an address.

        The token is sent only to a server that shows the certificate seen locally.
        """
        try:
            token = self.token() or ""
        except AgentError as error:
            return Probe(Answer.DENIED, text=str(error))
        seen = probes.kubernetes(address, token, timeout_s, expect=self._certificate)
        if seen.certificate in {None, self._certificate}:
            return seen.probe
        # k3s renews its certificate while it runs, so compare with the one that it shows locally now.
        local = probes.kubernetes((self.host, self.port), token, timeout_s)
        if local.certificate != seen.certificate:
            return seen.probe
        self._certificate = local.certificate
        return probes.kubernetes(address, token, timeout_s, expect=local.certificate).probe

    def holder_at(self, address: probes.Address, timeout_s: float) -> Holder:
        """Return who answers at one of this machine's addresses that it could not get. No token is sent."""
        seen = probes.kubernetes(address, "", timeout_s)
        if seen.certificate is None:
            return Holder.SILENT if seen.probe.answer is Answer.SILENT else Holder.NOBODY
        return Holder.TWIN if seen.certificate == self._certificate else Holder.STRANGER

    def _token(self, given: str | None) -> str | None:
        if given is not None or self.cluster is None:
            return given
        granted = self.cluster.token.granted
        return granted.text if granted else None

    def _read_given(self, *, fresh: bool = False) -> tuple[str | None, str | None]:
        """Return the configured token; if it cannot be read now, the last one and the reason. Raises: AgentError."""
        try:
            given = self._given(fresh)
        except AgentError as error:
            if self._given_before is None:
                raise
            return self._given_before, f"{error}; the previous token is used as long as k3s accepts it"
        self._given_before = given
        return given, None

    def _count(self, token: str | None) -> int:
        """Return the token's serial number, which grows with each change: the gateway must be sent every new token."""
        if token and token != self._counted:
            self._counted = token
            self._serial += 1
        return self._serial

    def _logins(self, *, is_given: bool) -> KubeLogins:
        cluster = self.cluster
        if cluster is None:
            return KubeLogins(has_token=is_given)
        return KubeLogins(
            is_given or cluster.is_expected, administers=cluster.is_usable, cluster=cluster.number
        )


class Cluster:
    """What the agent reads and makes as the administrator: the node, its pods, and the gateway's token."""

    def __init__(  # noqa: PLR0913 - a few of its own, and what tests replace
        self,
        api: Api,
        token: GatewayToken,
        interval_s: float,
        hostname: Callable[[], str] = socket.gethostname,
        now_s: Callable[[], float] = time.monotonic,
        *,
        machine_id: str = "",
    ) -> None:
        self.api = api
        self.token = token
        self.problem: str | None = None
        """Why the last reading of the node failed; what is known of the node is then older."""
        self.no_node: str | None = None
        """Why none of the cluster's nodes counts as this machine's, if that is so."""
        self.node_name: str | None = None
        self.is_usable = False
        """Whether there was a usable kubeconfig at the last `refresh`."""
        self.number = 0
        """Counts the clusters that the kubeconfig has named so far."""
        self._interval_s = interval_s
        self._hostname = hostname
        self._now_s = now_s
        self._machine_id = machine_id
        self._node: NodeFacts | None = None
        self._due_at_s = float("-inf")
        self._stamp: kubeconfig.Stamp | None = None
        self._cluster: tuple[str, int, str | None] | None = None

    @property
    def is_expected(self) -> bool:
        """Whether there is, was or should be a kubeconfig: then its faults are reported."""
        return self.api.is_named or self.number > 0 or kubeconfig.is_there(self.api.path)

    def refresh(self) -> None:
        """Notice a kubeconfig that appeared, changed or vanished; the same probe then reads the node again."""
        try:
            stamp = self.api.refresh()
        except SettingsError:
            stamp = None  # the next call that needs it reports what is wrong
        self.is_usable = stamp is not None
        if stamp != self._stamp:
            self._stamp, self._due_at_s = stamp, float("-inf")
        if self.api.cluster != self._cluster:
            self._cluster = self.api.cluster
            self.number += 1
            self.node_name = self._node = self.no_node = None

    def read_node_soon(self) -> None:
        """Have the next probe read the node again, because the agent has changed it."""
        self._due_at_s = float("-inf")

    def read_node(self, timeout_s: float) -> NodeFacts | None:
        """Return what is known of the node, after reading it again if that is due. Raises: SilentError."""
        if self._now_s() < self._due_at_s:
            return self._node
        self._due_at_s = self._now_s() + self._interval_s
        try:
            with self.api.session(timeout_s) as session:
                node = read_node(session, self._hostname(), self._machine_id)
        except SilentError:
            raise
        except NoNodeError as error:
            self._found(None, str(error))
        except AgentError as error:
            self.problem = str(error)
        else:
            self._found(node, None)
        return self._node

    def machine(self, session: Session) -> Machine:
        """Return this machine's place in its cluster. Raises: as `Session.get`."""
        return read_machine(session, self._hostname(), self._machine_id)

    def _found(self, node: NodeFacts | None, no_node: str | None) -> None:
        self._node, self.no_node, self.problem = node, no_node, None
        self.node_name = node.name if node else None
        if node is None or obstacles(node) or node.podless:
            self.read_node_soon()  # it may be over at any moment, and until then nothing is offered
