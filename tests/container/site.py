"""The gateway host in containers (compose.yaml), and machines that join it by `docker run`, one container each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.container.docker_cli import IMAGE, Container, attempt, docker
from tests.integration.lab import wait_for

DEADLINE_S = 120.0
POOL = "gpu"
_CALL = """
import json, sys
from agent.demo.gateway.admin import GatewayAdmin
call, arguments = sys.argv[1], json.loads(sys.argv[2])
print(json.dumps(GatewayAdmin("http://127.0.0.1:1995").call(call, **arguments)))
"""


@dataclass(frozen=True)
class Machine:
    """What a user has before `docker run`: a machine id, its token, and the content of /etc/beta9-worker."""

    machine_id: str
    token: str
    etc: Path
    state: str
    """The name of its state volume."""

    def mounts(self) -> list[str]:
        return ["-v", f"{self.etc}:/etc/beta9-worker:ro", "-v", f"{self.state}:/var/lib/beta9-worker"]


@dataclass
class Site:
    """The gateway host, as started from compose.yaml."""

    project: str
    directory: Path
    stack: ExitStack
    containers: list[str] = field(default_factory=list)

    @property
    def network(self) -> str:
        return f"{self.project}_default"

    def service(self, name: str) -> Container:
        """Return the container of a service."""
        label = f"label=com.docker.compose.project={self.project}"
        found = docker("ps", "-aq", "-f", label, "-f", f"label=com.docker.compose.service={name}").split()
        assert len(found) == 1, f"{name}: {found}"
        return Container(found[0])

    def gateway(self, call: str, **arguments: Any) -> Any:
        """Call the gateway's admin interface and return the result."""
        code = ["python", "-c", _CALL, call, json.dumps(arguments)]
        return json.loads(self.service("gateway").execute(*code))

    def gateway_status(self, machine: Machine) -> str | None:
        """Return `pending`, `registered`, `ready`, or None for an unknown machine."""
        known = self.gateway("machine", machine_id=machine.machine_id)
        return known["status"] if known else None

    def new_machine(self, **settings: str) -> Machine:
        """Create a machine at the gateway, and its settings and secrets on this host."""
        name = f"{self.project}-{uuid.uuid4().hex[:8]}"
        made = self.gateway("create_machine", pool=POOL)
        etc = self.directory / name
        (etc / "secrets").mkdir(mode=0o700, parents=True)
        etc.chmod(0o700)
        sshd = self.service("sshd")
        texts = {
            "secrets/token": made["registration_token"] + "\n",
            "secrets/ssh_key": sshd.execute("cat", "/worker-etc/secrets/ssh_key"),
            "known_hosts": sshd.execute("cat", "/worker-etc/known_hosts"),
            "worker.env": "".join(
                f"{key}={value}\n" for key, value in self._settings(made, settings).items()
            ),
        }
        for file, text in texts.items():
            (etc / file).touch(mode=0o600)
            (etc / file).write_text(text, encoding="utf-8")
        docker("volume", "create", name)
        self.stack.callback(attempt, "volume", "rm", "--force", name)
        return Machine(made["machine_id"], made["registration_token"], etc, name)

    def _settings(self, made: dict[str, Any], more: dict[str, str]) -> dict[str, str]:
        return {
            "BETA9_POOL_NAME": POOL,
            "BETA9_MACHINE_ID": made["machine_id"],
            "BETA9_SSH_HOST": "sshd",
            "BETA9_SSH_KNOWN_HOSTS_FILE": "/etc/beta9-worker/known_hosts",
            "BETA9_INTERRUPTION": "none",
            **more,
        }

    def run(self, machine: Machine, *options: str, command: Sequence[str] = ()) -> Container:
        """Run the image with `docker run -d` on the site's network; the container is removed after the test."""
        name = f"{machine.state}-{uuid.uuid4().hex[:4]}"
        self.stack.callback(attempt, "rm", "--force", "--volumes", name)
        where = ["--name", name, "--network", self.network, *machine.mounts()]
        docker("run", "--detach", *where, *options, IMAGE, *command)
        return Container(name)

    def run_ready(self, machine: Machine, *options: str) -> Container:
        """Run the image, and return once agent and gateway both report the machine as ready."""
        worker = self.run(machine, *options)
        self.wait_ready(worker, machine)
        return worker

    def wait_ready(self, worker: Container, machine: Machine) -> None:
        try:
            wait_for("READY", lambda: worker.is_ready() or worker.exit_code() is not None, DEADLINE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {worker.logs()[-3000:]}") from error
        assert worker.is_ready(), worker.logs()[-3000:]
        assert self.gateway_status(machine) == "ready"


@contextmanager
def visiting(project: str, directory: Path) -> Iterator[Site]:
    """Yield the site for one test, and remove the containers that it starts."""
    with ExitStack() as stack:
        yield Site(project, directory, stack)
