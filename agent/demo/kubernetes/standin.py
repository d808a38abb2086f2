"""A stand-in for the machine's k3s API, so that demo and tests can show work arriving without a k3s.

Stands for what the gateway and the agent use of a real API server, which needs etcd and 300 MB: TLS, bearer
tokens, Jobs, pods, the node, tokens for a service account. JSON only, no watches. The adapter's tests run against
this and against a real API server, so that it cannot drift.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.demo.certificate import throwaway_context
from agent.demo.httpd import HttpService, JsonHandler
from agent.demo.kubernetes.api_routes import ApiState, answer, status_reply
from agent.demo.kubernetes.cluster import Cluster
from agent.demo.messages import Reply, Request
from agent.demo.process import wait_for_a_signal, write_ready_file
from agent.demo.remote import CallClient, CallServer


@dataclass
class StandInKubernetes:
    """The API server, as a context manager or by start() and stop(); `cluster` may be changed while it runs.

    Knobs: freeze()/thaw() (accepts, never answers), refuse()/listen() (nothing on the port), and the attributes
    `unauthorized` (401 to all), `too_many` (429 to all, with Retry-After 1), `failing` (500 to all).
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cluster: Cluster = field(default_factory=Cluster)
    clock: Callable[[], float] = time.time
    unauthorized: bool = False
    too_many: bool = False
    failing: bool = False

    def __post_init__(self) -> None:
        context, self.certificate_pem = throwaway_context(self.host)
        self._thawed = threading.Event()
        self._thawed.set()
        self._lock = threading.Lock()
        self._state = ApiState(self.token, self.cluster, self.clock)
        self.requests: deque[tuple[str, str, str]] = deque(maxlen=10_000)
        """(who, method, path) of every request that was let in, oldest first."""
        self._http = HttpService(
            functools.partial(_Connection, self), self.host, self.port, context, self._thawed.wait
        )

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def start(self) -> None:
        self._http.start()
        self.port = self._http.port

    def stop(self) -> None:
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
        """Accept connections and answer nothing, not even the TLS handshake, as a stopped process does."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer again, also what came meanwhile."""
        self._thawed.set()

    def refuse(self) -> None:
        """Close the listener and every connection; dials are refused."""
        self._http.stop()

    def listen(self) -> None:
        """Listen again on the same port."""
        self._http.start()

    def kubeconfig(self) -> str:
        """A kubeconfig for the administrator's token, as JSON (which is YAML, too)."""
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
        """A token for the gateway's service account, as TokenRequest gives, and when it expires."""
        return self._state.grant(seconds)

    def revoke_granted(self) -> None:
        """Make every granted token invalid, as when the service account is deleted."""
        self._state.granted.clear()

    def answer(self, request: Request) -> Reply:
        """The reply to one request, after waiting while frozen."""
        self._thawed.wait()
        with self._lock:
            who = self._state.identity(request.bearer)
            if self.unauthorized or who is None:
                return status_reply(401, "Unauthorized")
            if self.too_many:
                return status_reply(429, "too many requests", {"Retry-After": "1"})
            if self.failing:
                return status_reply(500, "the stand-in was told to fail")
            self.requests.append((who, request.method, request.path))
            self.cluster.expire(self.clock())
            return answer(self._state, who, request)


class _Connection(JsonHandler):
    def __init__(self, api: StandInKubernetes, *args: Any) -> None:
        self._api = api
        super().__init__(*args)

    def respond(self, request: Request) -> None:
        self.send(self._api.answer(request))


def calls(api: StandInKubernetes) -> dict[str, Callable[..., Any]]:
    """What another process can tell a stand-in; KubernetesAdmin is the client."""

    def set_node(**what: Any) -> None:
        for name, value in what.items():
            if name not in {"gpus", "ready", "unschedulable", "pressures", "stop_s"}:
                raise ValueError(f"a node has no {name}")
            setattr(api.cluster, name, frozenset(value) if name == "pressures" else value)
        api.cluster.schedule()

    def set_answer(**what: bool) -> None:
        for name, value in what.items():
            if name not in {"unauthorized", "too_many", "failing"}:
                raise ValueError(f"no such answer: {name}")
            setattr(api, name, value)

    def pods() -> list[Any]:
        api.cluster.expire(api.clock())
        return list(api.cluster.pods.values())

    return {
        "freeze": api.freeze,
        "thaw": api.thaw,
        "refuse": api.refuse,
        "listen": api.listen,
        "set_node": set_node,
        "set_answer": set_answer,
        "grant": api.grant,
        "revoke_granted": api.revoke_granted,
        "jobs": lambda: list(api.cluster.jobs.values()),
        "pods": pods,
        "node": api.cluster.node,
        "told": lambda: list(api.cluster.told),
        "finish_job": lambda namespace, name: api.cluster.finish_job(namespace, name, api.clock()),
        "requests": lambda: list(api.requests),
    }


class KubernetesAdmin(CallClient):
    """Drives a stand-in in another process. Methods raise AdminError when refused."""

    def freeze(self) -> None:
        self.call("freeze")

    def thaw(self) -> None:
        self.call("thaw")

    def refuse(self) -> None:
        self.call("refuse")

    def listen(self) -> None:
        self.call("listen")

    def set_node(self, **what: Any) -> None:
        """Any of gpus=, ready=, unschedulable=, pressures=["Disk"], stop_s= (how long pods take to end)."""
        self.call("set_node", **what)

    def set_answer(self, **what: bool) -> None:
        """Any of unauthorized=, too_many=, failing=."""
        self.call("set_answer", **what)

    def grant(self, seconds: float = 3600) -> str:
        """A token for the gateway's service account."""
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

    def told(self) -> list[list[Any]]:
        """[pod, grace in seconds] of each time that a pod was told to end."""
        told: list[list[Any]] = self.call("told")
        return told

    def finish_job(self, name: str, namespace: str = "default") -> None:
        self.call("finish_job", namespace=namespace, name=name)

    def requests(self) -> list[list[str]]:
        """[who, method, path] of what was let in."""
        requests: list[list[str]] = self.call("requests")
        return requests


def _kept_token(path: Path) -> str:
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="ascii").strip()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a stand-in until a signal ends it."""
    parser = argparse.ArgumentParser(
        prog="python -m agent.demo.kubernetes", description="A stand-in k3s API."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6443, help="0: any")
    parser.add_argument("--admin-port", type=int, default=0, help="for KubernetesAdmin; 0: any")
    parser.add_argument("--token-file", type=Path, help="the administrator's token; made if it is not there")
    parser.add_argument("--kubeconfig", type=Path, help="written for the administrator's token")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--ready-file", type=Path, help="gets url, admin_url, port when the API listens")
    given = parser.parse_args(argv)
    token = _kept_token(given.token_file) if given.token_file else secrets.token_urlsafe(32)
    with StandInKubernetes(given.host, given.port, token, Cluster(gpus=given.gpus)) as api:
        admin = CallServer(calls(api), given.admin_port)
        admin.start()
        if given.kubeconfig is not None:
            _write_private(given.kubeconfig, api.kubeconfig())
        write_ready_file(given.ready_file, {"url": api.url, "admin_url": admin.url, "port": api.port})
        wait_for_a_signal()
        admin.stop()


if __name__ == "__main__":
    main()
