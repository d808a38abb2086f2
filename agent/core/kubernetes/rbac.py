"""What the gateway may do in this machine's Kubernetes: a service account and its Role, in the worker namespace.

The same three objects as bootstrap/manifests/beta9-gateway.yaml. The gateway creates, lists and deletes Jobs and
lists pods (its contract); it gets no logs, no exec, no secrets, no other namespace and nothing of the cluster.
"""

from __future__ import annotations

from typing import Any

NAMESPACE = "default"
ACCOUNT = "beta9-gateway"
TOKEN_PATH = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"
_RBAC = "rbac.authorization.k8s.io"

_METADATA = {"name": ACCOUNT, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "beta9-worker"}}

_SERVICE_ACCOUNT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": _METADATA,
    # Its token is for the gateway; a pod that runs as this account gets none.
    "automountServiceAccountToken": False,
}
_ROLE: dict[str, Any] = {
    "apiVersion": f"{_RBAC}/v1",
    "kind": "Role",
    "metadata": _METADATA,
    "rules": [
        {
            "apiGroups": ["batch"],
            "resources": ["jobs"],
            "verbs": ["create", "get", "list", "watch", "delete"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "delete"]},
    ],
}
_BINDING: dict[str, Any] = {
    "apiVersion": f"{_RBAC}/v1",
    "kind": "RoleBinding",
    "metadata": _METADATA,
    "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": ACCOUNT},
    "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
}

OBJECTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", _SERVICE_ACCOUNT),
    (f"/apis/{_RBAC}/v1/namespaces/{NAMESPACE}/roles", _ROLE),
    (f"/apis/{_RBAC}/v1/namespaces/{NAMESPACE}/rolebindings", _BINDING),
)
"""Each object, with the path under which it is created."""


def is_as_wanted(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether an existing object grants exactly what the wanted one does."""
    return all(
        found.get(key) == wanted[key] for key in wanted if key not in {"apiVersion", "kind", "metadata"}
    )


def token_request(life_s: float) -> dict[str, Any]:
    """Return the body of a TokenRequest for a token that lives `life_s` seconds."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": int(life_s)},
    }
