"""From the settings to the machine's own Kubernetes: which logins there are for it."""

from __future__ import annotations

from agent.adapters import kubeconfig
from agent.adapters.credentials import Credentials
from agent.adapters.kubernetes import Cluster, LocalKubernetes
from agent.adapters.kubernetes_api import Api
from agent.adapters.kubernetes_token import GatewayToken
from agent.settings import Settings
from agent.settings.values import K3sMode


def can_make_tokens(settings: Settings) -> bool:
    """Whether the gateway's token can be made here; with BETA9_K3S=none this machine's k3s is left alone."""
    return settings.k3s is not K3sMode.NONE and kubeconfig.find(settings.kubeconfig) is not None


def open_kubernetes(settings: Settings, credentials: Credentials) -> LocalKubernetes:
    """The machine's own Kubernetes. Reads nothing yet: a kubeconfig that cannot be used is told by the first probe."""
    policy, api, learned = settings.policy, settings.k3s_api, credentials.redactor.add
    path = kubeconfig.find(settings.kubeconfig)
    cluster = None
    if path is not None and settings.k3s is not K3sMode.NONE:
        administrator = Api(path, learned)
        token = GatewayToken(administrator, policy.kube_token_s, policy.kube_renew_s, learned)
        cluster = Cluster(administrator, token, policy.node_interval_s)
    return LocalKubernetes(api.host, api.port, credentials.k3s_token, cluster)
