"""A stand-in for the machine's k3s API, so that the demo and tests can show work arriving without k3s.

Models what the gateway and the agent use of a real API server (which needs etcd and 300 MB): TLS, bearer tokens, Jobs,
pods, the node, service account tokens. JSON only, no watches. The adapter's tests run against this and against a real
API server, so that it cannot drift.
"""

from __future__ import annotations

import argparse
import base64
import functools
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.demo.certificate import throwaway_context
from agent.demo.httpd import HttpService, JsonHandler
from agent.demo.kubernetes.admin_calls import calls
from agent.demo.kubernetes.api_routes import ApiState, answer, status_reply
from agent.demo.kubernetes.cluster import Cluster
from agent.demo.kubernetes.kubelet import Kubelet
from agent.demo.messages import Reply, Request
from agent.demo.process import wait_for_signal, write_ready_file
from agent.demo.remote import CallClient, CallServer


class StandInKubernetes:
    """The API server, as a context manager or by start() and stop(); `cluster` may be changed while it runs.

    Faults: freeze()/thaw() (accepts but never answers), refuse()/listen() (nothing on the port), and the attributes
    `unauthorized` (401 to all), `too_many` (429 to all, with Retry-After 1), `failing` (500 to all).

    `token` is the administrator's, by default a random one.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        cluster: Cluster | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.port = port
        self.token = secrets.token_urlsafe(32) if token is None else token
        self.cluster = cluster or Cluster()
        self.clock = clock
        self.unauthorized = self.too_many = self.failing = False
        self.requests: deque[tuple[str, str, str]] = deque(maxlen=10_000)
        """(identity, method, path) of every admitted request, oldest first."""
        context, self.certificate_pem = throwaway_context(self.host)
        self._thawed = threading.Event()
        self._thawed.set()
        self.lock = threading.Lock()
        """Held while anything changes the cluster."""
        self._state = ApiState(self.token, self.cluster, clock)
        self._http = HttpService(
            functools.partial(_Connection, self), self.host, self.port, context, self._thawed.wait
        )

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def start(self) -> None:
        """Start serving; `port` is set from then on."""
        self._http.start()
        self.port = self._http.port

    def stop(self) -> None:
        """Stop serving; the cluster is kept."""
        self._thawed.set()
        self._http.stop()

    def __enter__(self) -> StandInKubernetes:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def freeze(self) -> None:
        """Accept connections but answer nothing, not even the TLS handshake, like a stopped process."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer again, including the requests that arrived meanwhile."""
        self._thawed.set()

    def refuse(self) -> None:
        """Close the listener and every connection, so that dials are refused."""
        self._http.stop()

    def listen(self) -> None:
        """Listen again on the same port."""
        self._http.start()

    def kubeconfig(self) -> str:
        """Return a kubeconfig with the administrator's token, as JSON (a subset of YAML)."""
        authority = base64.b64encode(self.certificate_pem.encode()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "demo", "cluster": {"server": self.url, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "demo", "user": {"token": self.token}}],
            "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
            "current-context": "demo",
        }
        return json.dumps(config, indent=2) + "\n"

    def grant(self, seconds: float = 3600) -> tuple[str, float]:
        """Create a token for the gateway's service account, as TokenRequest does; return it with its expiry."""
        return self._state.grant(seconds)

    def revoke_granted(self) -> None:
        """Invalidate every granted token, as when the service account is deleted."""
        self._state.granted.clear()

    def answer(self, request: Request) -> Reply:
        """Return the reply to one request, after waiting while frozen."""
        self._thawed.wait()
        with self.lock:
            identity = self._state.identity(request.bearer)
            if self.unauthorized or identity is None:
                return status_reply(401, "Unauthorized")
            if self.too_many:
                return status_reply(429, "too many requests", {"Retry-After": "1"})
            if self.failing:
                return status_reply(500, "the stand-in was set to fail")
            self.requests.append((identity, request.method, request.path))
            self.cluster.advance(self.clock())
            return answer(self._state, identity, request)


class _Connection(JsonHandler):
    def __init__(self, api: StandInKubernetes, *args: Any) -> None:
        self._api = api
        super().__init__(*args)

    def respond(self, request: Request) -> None:
        self.send(self._api.answer(request))


class KubernetesAdmin(CallClient):
    """Controls a stand-in in another process. Methods raise AdminError when a call is rejected."""

    def freeze(self) -> None:
        self.call("freeze")

    def thaw(self) -> None:
        self.call("thaw")

    def refuse(self) -> None:
        self.call("refuse")

    def listen(self) -> None:
        self.call("listen")

    def set_node(self, **changes: Any) -> None:
        """Set any of gpus=, ready=, unschedulable=, pressures=["Disk"], taints=[{…}], allocatable={…}, absent= (there
        is no node), stop_s= (how long pods take to end), backoff_s= (before a Job's next pod),
        runtime_classes=[…], annotations={…}.
        """
        self.call("set_node", **changes)

    def set_answer(self, **changes: bool) -> None:
        """Set any of unauthorized=, too_many=, failing=."""
        self.call("set_answer", **changes)

    def grant(self, seconds: float = 3600) -> str:
        """Create a token for the gateway's service account."""
        return str(self.call("grant", seconds=seconds)[0])

    def revoke_granted(self) -> None:
        self.call("revoke_granted")

    def jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = self.call("jobs")
        return jobs

    def pods(self) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = self.call("pods")
        return pods

    def node(self) -> dict[str, Any]:
        node: dict[str, Any] = self.call("node")
        return node

    def terminations(self) -> list[list[Any]]:
        """Return [pod, grace in seconds] of every request to terminate a pod, oldest first."""
        terminations: list[list[Any]] = self.call("terminations")
        return terminations

    def add_pod(self, name: str, requests: Mapping[str, str], namespace: str = "kube-system") -> None:
        """Run somebody else's pod on the node."""
        self.call("add_pod", name=name, requests=dict(requests), namespace=namespace)

    def delete_pod(self, name: str, namespace: str = "kube-system") -> None:
        self.call("delete_pod", namespace=namespace, name=name)

    def finish_job(self, name: str, namespace: str = "default") -> None:
        self.call("finish_job", namespace=namespace, name=name)

    def requests(self) -> list[list[str]]:
        """Return [identity, method, path] of every admitted request."""
        requests: list[list[str]] = self.call("requests")
        return requests


def _stored_token(path: Path) -> str:
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="ascii").strip()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a stand-in until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m agent.demo.kubernetes", description="Run a stand-in k3s API."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6443, help="0: any free port")
    parser.add_argument(
        "--admin-port", type=int, default=0, help="port for KubernetesAdmin; 0: any free port"
    )
    parser.add_argument("--token-file", type=Path, help="the administrator's token; created if missing")
    parser.add_argument("--kubeconfig", type=Path, help="written with the administrator's token")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument(
        "--kubelet", action="store_true", help="run the pods of the gateway's Jobs as stand-in workers"
    )
    parser.add_argument(
        "--ready-file", type=Path, help="written with url, admin_url and port once the API listens"
    )
    args = parser.parse_args(argv)
    token = _stored_token(args.token_file) if args.token_file else secrets.token_urlsafe(32)
    with StandInKubernetes(args.host, args.port, token, Cluster(gpus=args.gpus)) as api:
        admin = CallServer(calls(api), args.admin_port)
        admin.start()
        if args.kubeconfig is not None:
            _write_private(args.kubeconfig, api.kubeconfig())
        kubelet = Kubelet(api) if args.kubelet else None
        if kubelet is not None:
            kubelet.start()
        write_ready_file(args.ready_file, {"url": api.url, "admin_url": admin.url, "port": api.port})
        wait_for_signal()
        if kubelet is not None:
            kubelet.stop()
        admin.stop()


if __name__ == "__main__":
    main()
