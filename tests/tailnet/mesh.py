"""A tailnet of two hosts: a real headscale, and a real tailscaled on each host, in the test's own network namespaces.

`near` is the machine, `far` is the gateway's host, where headscale runs as well. Both tailscaleds have their own kernel
interface. headscale uses TLS, so that its relay (DERP) works: it carries the packets when UDP is blocked.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.process.run import Child, CommandFailed, run, spawn
from agent.demo.certificate import make_certificate
from tests import ROOT
from tests.integration.lab import wait_for
from tests.integration.netns import WIRE, Place, Wire, why_not

PROGRAMS = ROOT / ".build"
HEADSCALE, TAILSCALED = PROGRAMS / "headscale", PROGRAMS / "tailscaled"
TAILNET = "tail.example"
USER = "beta9"
PORT = 8443
COMMAND_S = 60.0

CONFIG = """\
server_url: https://{address}:{port}
listen_addr: {address}:{port}
metrics_listen_addr: 127.0.0.1:9090
grpc_listen_addr: 127.0.0.1:50443
tls_cert_path: {certificate}
tls_key_path: {key}
noise: {{private_key_path: {directory}/noise.key}}
prefixes: {{v4: 100.64.0.0/10, allocation: sequential}}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: local
    region_name: local
    stun_listen_addr: {address}:3478
    private_key_path: {directory}/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: {address}
  urls: []
  paths: []
disable_check_updates: true
database: {{type: sqlite, sqlite: {{path: {directory}/db.sqlite}}}}
log: {{format: text, level: info}}
dns: {{magic_dns: false, base_domain: {tailnet}}}
unix_socket: {directory}/headscale.sock
unix_socket_permission: "0700"
"""


def missing() -> str | None:
    """Return why no tailnet can be set up on this host, or None."""
    for program in (HEADSCALE, TAILSCALED):
        if not program.exists():
            return f"{program.name} is not built: make test-tailnet builds it"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun does not exist"
    return why_not()


@dataclass
class Daemon:
    """One tailscaled. Its state is kept on disk: after a restart it is the same node."""

    name: str
    place: Place
    directory: Path
    ca: Path
    lines: list[str] = field(default_factory=list)
    child: Child | None = None

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.name}.sock"

    def start(self) -> None:
        # No logs to Tailscale. mesh() turns off its changes to /etc/resolv.conf before it logs in.
        environment = {**os.environ, "SSL_CERT_FILE": str(self.ca), "TS_NO_LOGS_NO_SUPPORT": "true"}
        argv = [
            *self.place.prefix,
            str(TAILSCALED),
            *("--statedir", str(self.directory / self.name), "--socket", str(self.socket)),
            *("--tun", "tailscale0", "--port", "41641", "--no-logs-no-support"),
        ]
        self.child = spawn(argv, name=f"tailscaled-{self.name}", env=environment, on_line=self.lines.append)
        wait_for("tailscaled answers", lambda: self.status() or self._fail_if_ended())

    def _fail_if_ended(self) -> bool:
        assert self.child is not None
        assert self.child.code is None, self.lines[-10:]
        return False

    def kill(self) -> None:
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGKILL)
        assert self.child.wait(20) is not None

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(10)

    def tailscale(self, *words: str) -> str:
        """Run the `tailscale` command, which is the same program under another name; return its output."""
        program = self.directory / "tailscale"
        if not program.exists():
            program.symlink_to(TAILSCALED)
        argv = [*self.place.prefix, str(program), "--socket", str(self.socket), *words]
        return run(argv, timeout_s=COMMAND_S).stdout

    def status(self) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads(self.tailscale("status", "--json"))
        except (ValueError, CommandFailed):
            return {}
        return status

    @property
    def state(self) -> str:
        return str(self.status().get("BackendState"))

    def join(self, key: Path, url: str) -> None:
        """Log in manually, as an administrator would."""
        self.tailscale(
            "up",
            "--reset",  # the options of an earlier login need not be repeated
            "--auth-key",
            f"file:{key}",
            "--login-server",
            url,
            "--accept-dns=false",
            f"--hostname={self.name}",
        )
        wait_for(f"{self.name} is in the tailnet", lambda: self.state == "Running", COMMAND_S * 2)

    @property
    def address(self) -> str:
        return str(self.status()["TailscaleIPs"][0])


@dataclass
class Mesh:
    """The tailnet."""

    wire: Wire
    directory: Path
    near: Daemon
    far: Daemon

    @property
    def url(self) -> str:
        return f"https://{self.wire.far.address}:{PORT}"

    def headscale(self, *words: str) -> Any:
        """Run headscale's command line and return the parsed JSON output."""
        return _headscale(self.directory, *words)

    def key(self, *options: str) -> str:
        """Create an auth key, reusable unless `options` say otherwise, and return it."""
        words = ("preauthkeys", "create", "--user", USER, *(options or ("--reusable", "--expiration", "1h")))
        return str(self.headscale(*words)["key"])

    def node_id(self, name: str) -> str:
        return next(str(node["id"]) for node in self.headscale("nodes", "list") if node["given_name"] == name)

    def expire(self, name: str) -> None:
        """Expire a machine's node key."""
        self.headscale("nodes", "expire", "--identifier", self.node_id(name))

    def forget(self, name: str) -> None:
        """Remove a machine from the tailnet, if it is in it."""
        for node in self.headscale("nodes", "list") or ():
            if node["given_name"] == name:
                self.headscale("nodes", "delete", "--force", "--identifier", str(node["id"]))

    @contextmanager
    def without_udp(self) -> Iterator[None]:
        """Block UDP between the hosts, so that only the relay's TCP connection is left."""
        rule = ["INPUT", "-i", WIRE, "-p", "udp", "-j", "DROP"]
        with ExitStack() as stack:
            for place in (self.wire.near, self.wire.far):
                place.run("iptables", "-w", "-I", *rule)
                stack.callback(place.run, "iptables", "-w", "-D", *rule)
            yield


def _headscale(directory: Path, *words: str) -> Any:
    argv = [str(HEADSCALE), "--config", str(directory / "config.yaml"), "--output", "json", *words]
    text = run(argv, timeout_s=COMMAND_S).stdout
    return json.loads(text) if text.strip() else None


@contextmanager
def mesh(directory: Path, wire: Wire) -> Iterator[Mesh]:
    """Run headscale and both daemons within the `with` block, with the gateway's host logged in."""
    certificate, key = make_certificate(directory, wire.far.address)
    fill = {"address": wire.far.address, "port": PORT, "certificate": certificate, "key": key}
    config = directory / "config.yaml"
    config.write_text(CONFIG.format(**fill, directory=directory, tailnet=TAILNET))
    config.chmod(0o600)
    lines: list[str] = []
    with ExitStack() as stack:
        server = spawn(
            [*wire.far.prefix, str(HEADSCALE), "--config", str(config), "serve"],
            name="headscale",
            on_line=lines.append,
        )
        stack.callback(server.stop, 10)
        wait_for(
            "headscale listens",
            lambda: any("serving HTTP on" in line for line in lines) or _fail_if_ended(server, lines),
        )
        _headscale(directory, "users", "create", USER)
        daemons = [
            Daemon(name, place, directory, certificate)
            for name, place in (("near", wire.near), ("far", wire.far))
        ]
        for daemon in daemons:
            stack.callback(daemon.stop)
            daemon.start()
            daemon.tailscale("set", "--accept-dns=false", f"--hostname={daemon.name}")
        made = Mesh(wire, directory, *daemons)
        key_file = directory / "far.key"
        key_file.touch(0o600)
        key_file.write_text(made.key())
        made.far.join(key_file, made.url)
        yield made


def _fail_if_ended(server: Child, lines: list[str]) -> bool:
    assert server.code is None, lines[-10:]
    return False
