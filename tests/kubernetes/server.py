"""A real Kubernetes API server with its etcd, as processes on loopback: like k3s without containers.

The program is built from public Go modules by `make kubernetes-server`; etcd is Debian's. Authorization (RBAC and
NodeRestriction, no anonymous access) is configured as in k3s. Controllers create a Job's pods and delete its
dependents, and the scheduler assigns the node. There is no kubelet: `set_node` reports in its place, and no container
ever runs.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import ssl
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from agent.adapters.process.run import Child, spawn
from agent.core.kubernetes import rbac
from agent.demo.sshd.program import free_port
from tests import ROOT
from tests.integration.lab import wait_for

PROGRAM = ROOT / ".build" / "kubernetes-server"
HOST = "127.0.0.1"
MERGE = "application/merge-patch+json"
NODE = "/api/v1/nodes/this-node"
PODS = "/api/v1/namespaces/default/pods"


def missing() -> str | None:
    """Return why no API server can be started here, or None."""
    if not PROGRAM.exists():
        return "the API server is not built: make kubernetes-server"
    return None if shutil.which("etcd") else "etcd is not installed: apt-get install etcd-server"


@dataclass
class RealKubernetes:
    """A running API server. `kubeconfig` is an administrator's, with a client certificate as in that of k3s."""

    directory: Path
    stack: ExitStack
    port: int = 0
    children: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = free_port(HOST)
        self._certificates()
        self._start_etcd()
        self.start_server()
        self._context = ssl.create_default_context(cafile=str(self.directory / "tls" / "apiserver.crt"))
        self._context.load_cert_chain(self.directory / "admin.crt", self.directory / "admin.key")
        self.kubeconfig = self.directory / "kubeconfig"
        self.kubeconfig.write_text(self._kubeconfig())
        self._start_controllers()
        self.add_node()

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def node_path(self) -> str:
        return NODE

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        content: str = "application/json",
    ) -> tuple[int, Any]:
        """Send a request as the administrator or with a token; return the status and the JSON (or text)."""
        context = None if token else self._context
        return ask((HOST, self.port), method, path, body, token=token, content=content, context=context)

    def freeze(self) -> None:
        """Suspend the API server: it accepts connections and never responds."""
        self.children["kube-apiserver"].signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the API server."""
        self.children["kube-apiserver"].signal(signal.SIGCONT)

    def set_node(
        self, gpus: int = 1, ready: bool = True, pressures: tuple[str, ...] = (), **allocatable: str
    ) -> None:
        """Report the node's status in place of a kubelet and the device plugin."""
        resources = {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
        conditions = [
            {"type": f"{name}Pressure", "status": "True" if name in pressures else "False"}
            for name in ("Memory", "Disk", "PID")
        ]
        conditions.append({"type": "Ready", "status": "True" if ready else "Unknown"})
        status = {
            "capacity": resources,
            "allocatable": resources | allocatable,
            "conditions": conditions,
        }
        code, reply = self.ask("PATCH", f"{NODE}/status", {"status": status}, content=MERGE)
        assert code == 200, reply

    def taint(self, *taints: dict[str, str]) -> None:
        """Replace the node's taints."""
        code, reply = self.ask("PATCH", NODE, {"spec": {"taints": list(taints) or None}}, content=MERGE)
        assert code == 200, reply

    def run_pod(self, name: str, requests: dict[str, str]) -> None:
        """Bind somebody else's pod to the node."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeName": "this-node",
                # A limit alone: the API server makes it the request, which it must be for a GPU.
                "containers": [{"name": name, "image": name, "resources": {"limits": requests}}],
            },
        }
        code, reply = self.ask("POST", PODS, pod)
        assert code == 201, reply

    def remove_node(self) -> None:
        """Delete the node, as before a kubelet has registered it."""
        assert self.ask("DELETE", NODE)[0] == 200

    def set_phase(self, pod: str, phase: str) -> None:
        """Report a pod's phase in place of a kubelet."""
        code, reply = self.ask("PATCH", f"{PODS}/{pod}/status", {"status": {"phase": phase}}, content=MERGE)
        assert code == 200, reply

    def reset(self) -> None:
        """Remove a test's Jobs and grants, and restore the node."""
        self.remove_jobs()
        if self.ask("GET", NODE)[0] == 404:
            self.add_node()
        for path, wanted in rbac.OBJECTS:
            self.ask("DELETE", f"{path}/{wanted['metadata']['name']}")
        as_new = {"metadata": {"annotations": None}, "spec": {"unschedulable": None, "taints": None}}
        self.ask("PATCH", NODE, as_new, content=MERGE)
        self.set_node()

    def remove_jobs(self) -> None:
        """Remove all Jobs and their pods."""
        background = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        self.ask("DELETE", "/apis/batch/v1/namespaces/default/jobs", background)
        wait_for("no pods are left", lambda: not self._pods_left())

    def _pods_left(self) -> bool:
        # A pod created by a Job just before its deletion stays terminating without a kubelet, so delete it by force.
        self.ask("DELETE", PODS, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
        return bool(self.ask("GET", PODS)[1]["items"])

    def add_node(self) -> None:
        """Register the node, and wait until pods can be made."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "this-node"}}
        assert self.ask("POST", "/api/v1/nodes", node)[0] == 201
        self.set_node()
        # The node controller, which would remove the not-ready taint, does not run here: it would miss a kubelet.
        assert self.ask("PATCH", NODE, {"spec": {"taints": None}}, content=MERGE)[0] == 200
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_for("the namespace's default service account exists", lambda: self.ask("GET", account)[0] == 200)

    def _start_controllers(self) -> None:
        login = f"--kubeconfig={self.kubeconfig}"
        controllers = (
            "job-controller,serviceaccount-controller,garbage-collector-controller,namespace-controller"
        )
        manager = ["kube-controller-manager", login, f"--controllers={controllers}", "--leader-elect=false"]
        self._spawn([str(PROGRAM), *manager, "--secure-port=0"], "kube-controller-manager")
        self._spawn(
            [str(PROGRAM), "kube-scheduler", login, "--leader-elect=false", "--secure-port=0"],
            "kube-scheduler",
        )

    def _certificates(self) -> None:
        where = self.directory
        for argv in (
            "genrsa -out account.key 2048",
            "rsa -in account.key -pubout -out account.pub",
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test-client-ca -days 2",
            "req -newkey rsa:2048 -nodes -keyout admin.key -out admin.csr -subj /O=system:masters/CN=admin",
            "x509 -req -in admin.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out admin.crt -days 2",
        ):
            subprocess.run(["openssl", *argv.split()], cwd=where, check=True, capture_output=True, timeout=60)

    def _start_etcd(self) -> None:
        clients, peers = free_port(HOST), free_port(HOST)
        self._etcd = f"http://{HOST}:{clients}"
        argv = ["etcd", "--data-dir", str(self.directory / "etcd"), "--unsafe-no-fsync"]
        argv += ["--listen-client-urls", self._etcd, "--advertise-client-urls", self._etcd]
        self._spawn([*argv, "--listen-peer-urls", f"http://{HOST}:{peers}"], "etcd")

    def start_server(self) -> None:
        """Start the API server (again, on the same port) and wait until it is ready."""
        where = self.directory
        flags = {
            "etcd-servers": self._etcd,
            "bind-address": HOST,
            "secure-port": str(self.port),
            "cert-dir": str(where / "tls"),
            "client-ca-file": str(where / "ca.crt"),
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": str(where / "account.pub"),
            "service-account-signing-key-file": str(where / "account.key"),
            "service-cluster-ip-range": "10.43.0.0/16",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "anonymous-auth": "false",
            "allow-privileged": "true",  # worker pods are; k3s allows it, too
            # The API server would publish its own address as a service endpoint, which must not be a loopback address.
            "endpoint-reconciler-type": "none",
        }
        argv = [str(PROGRAM), "kube-apiserver", *(f"--{name}={value}" for name, value in flags.items())]
        child = self._spawn(argv, "kube-apiserver")
        wait_for("the API server is ready", lambda: child.code is not None or self._is_ready(), 180)
        assert child.code is None, "\n".join(child.tail)

    def _is_ready(self) -> bool:
        try:
            context = ssl.create_default_context(cafile=str(self.directory / "tls" / "apiserver.crt"))
            context.load_cert_chain(self.directory / "admin.crt", self.directory / "admin.key")
            return ask((HOST, self.port), "GET", "/readyz", context=context)[0] == 200
        except OSError:
            return False

    def _spawn(self, argv: list[str], name: str) -> Child:
        child = spawn(argv, name=name)
        self.children[name] = child
        self.stack.callback(_end, child)
        return child

    def _kubeconfig(self) -> str:
        def data(name: str) -> str:
            return base64.b64encode((self.directory / name).read_bytes()).decode()

        cluster = {
            "server": f"https://{HOST}:{self.port}",
            "certificate-authority-data": data("tls/apiserver.crt"),
        }
        user = {"client-certificate-data": data("admin.crt"), "client-key-data": data("admin.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default", "cluster": cluster}],
            "users": [{"name": "default", "user": user}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
        }
        return json.dumps(config)


def _end(child: Child) -> None:
    if child.code is None:
        child.signal(signal.SIGCONT)
        child.stop(20)


def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    content: str = "application/json",
    context: ssl.SSLContext | None = None,
) -> tuple[int, Any]:
    """Send one HTTPS request on its own connection; return the status and the JSON (or text). Raises: OSError."""
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection(*address, timeout=30, context=context)
    try:
        headers = {"Content-Type": content, "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
        is_json = "json" in (reply.getheader("Content-Type") or "")
        return reply.status, json.loads(text) if is_json else text.decode()
    finally:
        connection.close()
