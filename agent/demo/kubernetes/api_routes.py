"""The stand-in Kubernetes API's answers by path, without sockets.

There are two identities: the administrator, and the gateway's service account, which may do what its Role in
bootstrap/manifests allows and gets 403 for everything else.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from agent.demo.kubernetes.cluster import POD_GRACE_S, Cluster, ConflictError, Object, selected
from agent.demo.kubernetes.job_controller import timestamp
from agent.demo.messages import Reply, Request

VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.4+demo", "platform": "linux/amd64"}
ADMIN = "system:admin"
GATEWAY = "system:serviceaccount:default:beta9-gateway"
MIN_TOKEN_S = 600  # the shortest lifetime that a real API server grants

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "AlreadyExists",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
}


def status_reply(code: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a Kubernetes Status object."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success" if code < 300 else "Failure",
        "message": text,
        "reason": _REASONS.get(code, ""),
        "code": code,
    }
    return Reply(code, json.dumps(body).encode(), headers or {})


def _object(kind: str, version: str, item: Object, code: int = 200) -> Reply:
    return Reply(code, json.dumps({"kind": kind, "apiVersion": version, **item}).encode())


def _list(kind: str, version: str, items: Sequence[Object]) -> Reply:
    body = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}}
    return Reply(200, json.dumps({**body, "items": list(items)}).encode())


@dataclass(frozen=True)
class _Call:
    """An authorized request and the parts of its path."""

    method: str
    query: Mapping[str, str]
    body: Any
    namespace: str | None = None
    name: str = ""

    def select(self, objects: Mapping[tuple[str, str], Object]) -> list[Object]:
        """Return the objects that the request asks for."""
        labels, fields = self.query.get("labelSelector", ""), self.query.get("fieldSelector", "")
        return list(selected(objects, self.namespace, labels, fields))


class ApiState:
    """The cluster and its valid tokens. `token` is the administrator's; `clock` returns Unix seconds."""

    def __init__(self, token: str, cluster: Cluster, clock: Callable[[], float]) -> None:
        self.cluster = cluster
        self.clock = clock
        self.granted: dict[str, float] = {}
        """Tokens of the gateway's service account, each with its expiry in Unix seconds."""
        self._token = token

    def grant(self, seconds: float) -> tuple[str, float]:
        """Create a token for the gateway's service account and return it with its expiry in Unix seconds."""
        token, expires_at_s = secrets.token_urlsafe(48), self.clock() + max(MIN_TOKEN_S, seconds)
        self.granted[token] = expires_at_s
        return token, expires_at_s

    def identity(self, token: str) -> str | None:
        """Return the identity that a bearer token belongs to, None if it is invalid."""
        if token and secrets.compare_digest(token.encode(), self._token.encode()):
            return ADMIN
        return GATEWAY if self.granted.get(token, float("-inf")) > self.clock() else None


def _jobs(api: ApiState, call: _Call) -> Reply:
    cluster, namespace = api.cluster, call.namespace or "default"
    match call.method, bool(call.name):
        case "GET", False:
            return _list("Job", "batch/v1", call.select(cluster.jobs))
        case "POST", False:
            return _object("Job", "batch/v1", cluster.create_job(namespace, call.body, api.clock()), 201)
        case "DELETE", False:
            for job in call.select(cluster.jobs):
                cluster.delete_job(namespace, job["metadata"]["name"], api.clock())
            return status_reply(200, "")
        case "GET", True:
            return _object("Job", "batch/v1", cluster.jobs[namespace, call.name])
        case "DELETE", True:
            cluster.delete_job(namespace, call.name, api.clock())
            return status_reply(200, "")
    return status_reply(405, f"{call.method} is not supported by the stand-in")


def _pods(api: ApiState, call: _Call) -> Reply:
    cluster, namespace = api.cluster, call.namespace or "default"
    match call.method, bool(call.name):
        case "GET", False:
            return _list("Pod", "v1", call.select(cluster.pods))
        case "GET", True:
            return _object("Pod", "v1", cluster.pods[namespace, call.name])
        case "DELETE", True:
            grace_s = (call.body or {}).get("gracePeriodSeconds")
            grace_s = POD_GRACE_S if grace_s is None else float(grace_s)
            return _object("Pod", "v1", cluster.end_pod(namespace, call.name, api.clock(), grace_s))
    return status_reply(405, f"{call.method} is not supported by the stand-in")


def _eviction(api: ApiState, call: _Call) -> Reply:
    options = (call.body or {}).get("deleteOptions") or {}
    grace_s = float(options.get("gracePeriodSeconds", POD_GRACE_S))
    api.cluster.end_pod(call.namespace or "default", call.name, api.clock(), grace_s)
    return status_reply(201, "")


def _events(api: ApiState, call: _Call) -> Reply:
    if call.method != "GET":
        return status_reply(405, f"{call.method} is not supported by the stand-in")
    return _list("Event", "v1", call.select(api.cluster.controller.events))


def _runtime_classes(api: ApiState, call: _Call) -> Reply:
    classes, version = api.cluster.runtime_classes, "node.k8s.io/v1"
    name = call.name or str((call.body or {}).get("metadata", {}).get("name", ""))
    match call.method:
        case "GET" if not name:
            return _list("RuntimeClass", version, [{"metadata": {"name": each}} for each in sorted(classes)])
        case "POST":
            classes.add(name)
        case "GET" | "DELETE" if name not in classes:
            raise KeyError(name)
        case "DELETE":
            classes.remove(name)
            return status_reply(200, "")
        case "GET":
            pass
        case _:
            return status_reply(405, f"{call.method} is not supported by the stand-in")
    created = call.method == "POST"
    return _object("RuntimeClass", version, {"metadata": {"name": name}}, 201 if created else 200)


def _nodes(api: ApiState, call: _Call) -> Reply:
    if call.name not in {"", api.cluster.node_name} or (call.name and api.cluster.absent):
        raise KeyError(call.name)
    if call.method == "PATCH":
        if "unschedulable" in call.body.get("spec", {}):
            api.cluster.unschedulable = bool(call.body["spec"]["unschedulable"])
        for name, value in (call.body.get("metadata", {}).get("annotations") or {}).items():
            # In a merge patch, null removes.
            api.cluster.annotations.pop(name, None)
            api.cluster.annotations |= {} if value is None else {name: value}
        api.cluster.schedule()
    elif call.method != "GET":
        return status_reply(405, f"{call.method} is not supported by the stand-in")
    node = api.cluster.node()
    if call.name:
        return _object("Node", "v1", node)
    return _list("Node", "v1", [] if api.cluster.absent else [node])


def _token(api: ApiState, call: _Call) -> Reply:
    if ("ServiceAccount", call.namespace or "default", call.name) not in api.cluster.grants:
        raise KeyError(call.name)
    seconds = ((call.body or {}).get("spec") or {}).get("expirationSeconds") or 3600
    if seconds < MIN_TOKEN_S:
        return status_reply(422, f"may not specify a duration less than {MIN_TOKEN_S} seconds")
    token, expires_at_s = api.grant(seconds)
    granted = {
        "spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": timestamp(expires_at_s)},
    }
    return _object("TokenRequest", "authentication.k8s.io/v1", granted, 201)


def _grants(api: ApiState, call: _Call, kind: str, version: str) -> Reply:
    """Answer for service accounts, Roles and bindings, which are stored but not enforced."""
    key = (
        kind,
        call.namespace or "default",
        call.name or str((call.body or {}).get("metadata", {}).get("name")),
    )
    stored = api.cluster.grants
    match call.method:
        case "GET":
            return _object(kind, version, stored[key])
        case "POST" if key in stored:
            raise ConflictError(key[2])
        case "POST" | "PUT":
            stored[key] = {name: call.body[name] for name in call.body if name not in {"kind", "apiVersion"}}
            return _object(kind, version, stored[key], 201 if call.method == "POST" else 200)
        case "DELETE":
            del stored[key]
            return status_reply(200, "")
    return status_reply(405, f"{call.method} is not supported by the stand-in")


def _grant(kind: str, version: str) -> Callable[[ApiState, _Call], Reply]:
    return lambda api, call: _grants(api, call, kind, version)


_IN = r"(?:/namespaces/(?P<namespace>[^/]+))?"
_NAME = r"(?:/(?P<name>[^/]+))?"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_ROUTES: tuple[tuple[re.Pattern[str], frozenset[str], Callable[[ApiState, _Call], Reply]], ...] = (
    # path, the methods that the gateway's Role allows (in namespace default only), handler
    (re.compile(f"/apis/batch/v1{_IN}/jobs{_NAME}"), frozenset({"GET", "POST", "DELETE"}), _jobs),
    (re.compile(f"/api/v1{_IN}/pods{_NAME}"), frozenset({"GET", "DELETE"}), _pods),
    (re.compile(rf"/api/v1{_IN}/pods/(?P<name>[^/]+)/eviction"), frozenset(), _eviction),
    (re.compile(f"/api/v1/nodes{_NAME}"), frozenset(), _nodes),
    (re.compile(f"/api/v1{_IN}/events"), frozenset(), _events),
    (re.compile(f"/apis/node.k8s.io/v1/runtimeclasses{_NAME}"), frozenset(), _runtime_classes),
    (re.compile(rf"/api/v1{_IN}/serviceaccounts/(?P<name>[^/]+)/token"), frozenset(), _token),
    (re.compile(f"/api/v1{_IN}/serviceaccounts{_NAME}"), frozenset(), _grant("ServiceAccount", "v1")),
    (re.compile(f"{_RBAC}{_IN}/roles{_NAME}"), frozenset(), _grant("Role", "rbac.authorization.k8s.io/v1")),
    (
        re.compile(f"{_RBAC}{_IN}/rolebindings{_NAME}"),
        frozenset(),
        _grant("RoleBinding", "rbac.authorization.k8s.io/v1"),
    ),
)


def answer(api: ApiState, identity: str, request: Request) -> Reply:
    """Return the reply to an authenticated request."""
    if request.path in {"/readyz", "/livez", "/healthz"}:
        return Reply(200, b"ok", {"Content-Type": "text/plain; charset=utf-8"})
    if request.path == "/version":
        return Reply(200, json.dumps(VERSION).encode())
    for pattern, allowed, handler in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match is None:
            continue
        parts = match.groupdict()
        if identity == GATEWAY and (request.method not in allowed or parts.get("namespace") != "default"):
            return status_reply(403, f'User "{identity}" cannot {request.method} {request.path}')
        return _handle(api, request, parts, handler)
    if identity == GATEWAY:
        return status_reply(403, f'User "{identity}" cannot {request.method} {request.path}')
    return status_reply(404, "the server could not find the requested resource")


def _handle(
    api: ApiState,
    request: Request,
    parts: Mapping[str, str | None],
    handler: Callable[[ApiState, _Call], Reply],
) -> Reply:
    if request.body and "json" not in request.headers.get("content-type", "application/json"):
        return status_reply(415, "the stand-in reads JSON only")
    try:
        body = json.loads(request.body) if request.body else None
        call = _Call(
            request.method,
            dict(parse_qsl(request.query)),
            body,
            parts.get("namespace"),
            parts.get("name") or "",
        )
        return handler(api, call)
    except ConflictError as error:
        return status_reply(409, f'"{error}" already exists')
    except KeyError as error:
        if request.method == "POST" and not parts.get("name"):
            return status_reply(422, f"{error} is required")
        return status_reply(404, f"{error} not found")
    except (AttributeError, TypeError, ValueError):
        return status_reply(400, "the body does not fit this path")
