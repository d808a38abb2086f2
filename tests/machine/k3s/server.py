"""`k3s server` of the stand-in: etcd and a real API server, with certificates, kubeconfig, manifests and the node."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
from pathlib import Path
from urllib.request import urlopen

from .config import Config
from .node import Node
from .payload import unpacked

PORT = 6443
CPU_SAVING = {"GOGC": "400", "GODEBUG": "asyncpreemptoff=1"}
"""Signals and garbage collections are expensive on an emulated processor; memory is not scarce."""


class Server:
    """One run of the service."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._home = config.data_dir / "server"
        self._tls = self._home / "tls"
        self._ended = threading.Event()
        self._children: list[subprocess.Popen[bytes]] = []
        self._applied: dict[Path, bytes] = {}

    def run(self) -> int:
        """Run until SIGTERM, or until a child process ends; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ended.set())
        for directory in (self._tls, self._home / "manifests", self._config.data_dir / "agent"):
            directory.mkdir(parents=True, exist_ok=True)
        programs = unpacked(self._config.data_dir)
        self._certificates()
        self._write_kubeconfig()
        self._start_etcd(programs)
        self._start_api(programs)
        node = Node(self._config, self._tls, PORT)
        notified = False
        try:
            while not self._ended.wait(15 if notified else 2):
                if any(child.poll() is not None for child in self._children):
                    return 1
                if not node.api_answers():
                    continue
                node.report()
                self._apply(programs / "kubectl")
                if not notified:
                    notified = True
                    _notify("READY=1")
                    print("k3s stand-in: k3s is up and running", flush=True)
        finally:
            self._stop()
        return 0

    def _certificates(self) -> None:
        """Create one CA for servers and one for clients, like k3s; they are kept across restarts."""
        if (self._tls / "client-admin.crt").exists():
            return
        names = f"DNS:localhost,DNS:kubernetes,DNS:{self._config.node_name},IP:127.0.0.1,IP:10.43.0.1"
        (self._tls / "names").write_text(f"subjectAltName={names}\n", encoding="ascii")
        curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        sign = "-days 365 -CAcreateserial"
        for words in (
            f"req -x509 {curve} -keyout server-ca.key -out server-ca.crt -subj /CN=k3s-server-ca -days 3650",
            f"req -x509 {curve} -keyout client-ca.key -out client-ca.crt -subj /CN=k3s-client-ca -days 3650",
            f"req {curve} -keyout serving.key -out serving.csr -subj /O=k3s/CN=k3s",
            f"x509 -req {sign} -in serving.csr -CA server-ca.crt -CAkey server-ca.key -extfile names -out serving.crt",
            f"req {curve} -keyout client-admin.key -out client-admin.csr -subj /O=system:masters/CN=system:admin",
            "genrsa -out service.key 2048",
            "rsa -in service.key -pubout -out service.pub",
            f"x509 -req {sign} -in client-admin.csr -CA client-ca.crt -CAkey client-ca.key -out client-admin.crt",
        ):
            subprocess.run(["openssl", *words.split()], cwd=self._tls, check=True, capture_output=True)
        token = self._home / "token"
        token.touch(0o600)
        token.write_text(f"K10{secrets.token_hex(32)}::server:{secrets.token_hex(16)}\n", encoding="ascii")

    def _write_kubeconfig(self) -> None:

        def data(name: str) -> str:
            return base64.b64encode((self._tls / name).read_bytes()).decode()

        cluster = {"server": f"https://127.0.0.1:{PORT}", "certificate-authority-data": data("server-ca.crt")}
        user = {
            "client-certificate-data": data("client-admin.crt"),
            "client-key-data": data("client-admin.key"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default", "cluster": cluster}],
            "users": [{"name": "default", "user": user}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
        }
        path = self._config.kubeconfig
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(self._config.kubeconfig_mode)
        path.chmod(self._config.kubeconfig_mode)
        path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    def _start_etcd(self, programs: Path) -> None:
        url, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        argv = [
            "etcd",
            "--data-dir",
            str(self._home / "db"),
            "--unsafe-no-fsync",
            "--listen-client-urls",
            url,
        ]
        self._spawn(programs / "etcd", [*argv, "--advertise-client-urls", url, "--listen-peer-urls", peers])
        while not self._ended.wait(0.5) and self._children[0].poll() is None:
            if _is_healthy(url):
                return

    def _start_api(self, programs: Path) -> None:
        flags = {
            "etcd-servers": "http://127.0.0.1:2379",
            "secure-port": str(PORT),
            "tls-cert-file": str(self._tls / "serving.crt"),
            "tls-private-key-file": str(self._tls / "serving.key"),
            "client-ca-file": str(self._tls / "client-ca.crt"),
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": str(self._tls / "service.pub"),
            "service-account-signing-key-file": str(self._tls / "service.key"),
            "service-cluster-ip-range": str(self._config.given.get("service-cidr", "10.43.0.0/16")),
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "anonymous-auth": "false",
            "allow-privileged": "true",
            "endpoint-reconciler-type": "none",
            # Its timers alone keep an emulated processor busy.
            "enable-priority-and-fairness": "false",
        }
        flags.update(each.partition("=")[::2] for each in self._config.list("kube-apiserver-arg") if each)
        argv = ["kube-apiserver", *(f"--{name}={value}" for name, value in flags.items())]
        self._spawn(programs / "kubernetes-server", ["kubernetes-server", *argv])

    def _spawn(self, program: Path, argv: list[str]) -> None:
        environment = {**os.environ, **CPU_SAVING}
        environment.pop("NOTIFY_SOCKET", None)  # otherwise etcd would notify the service manager too early
        child = subprocess.Popen(argv, executable=str(program), stdin=subprocess.DEVNULL, env=environment)
        self._children.append(child)

    def _apply(self, kubectl: Path) -> None:
        """Apply each file in server/manifests that is new or has changed, like k3s's deploy controller."""
        for file in sorted((self._home / "manifests").glob("*.y*ml")):
            content = file.read_bytes()
            if self._applied.get(file) == content:
                continue
            command = [str(kubectl), "apply", "-f", str(file)]
            done = subprocess.run(
                command,
                env={**os.environ, "KUBECONFIG": str(self._config.kubeconfig)},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            print(f"k3s stand-in: apply {file.name}: {(done.stdout + done.stderr).strip()}", flush=True)
            if done.returncode == 0:
                self._applied[file] = content

    def _stop(self) -> None:
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def _is_healthy(etcd: str) -> bool:
    try:
        with urlopen(f"{etcd}/health", timeout=10) as reply:
            return bool(json.load(reply).get("health") == "true")
    except OSError:
        return False


def _notify(text: str) -> None:
    """Notify the service manager; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), address.replace("@", "\0", 1))
