"""Builds the client of the machine's own Kubernetes from the settings and credentials."""

from __future__ import annotations

from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.api import Api
from agent.adapters.kubernetes.local import Cluster, LocalKubernetes
from agent.adapters.kubernetes.token import GatewayToken
from agent.adapters.secrets.credentials import Credentials
from agent.settings import Settings
from agent.settings.values import K3sMode


def open_kubernetes(settings: Settings, credentials: Credentials, machine_id: str = "") -> LocalKubernetes:
    """Return the machine's own Kubernetes. BETA9_K3S=none leaves it alone, whether or not there is a kubeconfig.

    Reads nothing yet; each probe looks for the kubeconfig itself.
    """
    policy, api, learned = settings.policy, settings.k3s_api, credentials.redactor.add
    cluster = None
    if settings.k3s is not K3sMode.NONE:
        path = settings.kubeconfig or kubeconfig.K3S_PATH
        administrator = Api(path, learned, is_named=settings.kubeconfig is not None)
        token = GatewayToken(administrator, policy.kube_token_s, policy.kube_renew_s, learned)
        cluster = Cluster(administrator, token, policy.node_interval_s, machine_id=machine_id)
    return LocalKubernetes(api.host, api.port, credentials.k3s_token, cluster)
