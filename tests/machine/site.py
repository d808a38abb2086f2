"""The services outside the virtual machine: a gateway, a real sshd and the mirrors, on this host's loopback.

The gateway is the embedded one (agent/demo/gateway/). The mirrors have what the machine downloads: the source tarball
as made by `make source`, the agent's image as an archive, k3s and its installation script (stand-ins, or $K3S_BINARY
and $K3S_INSTALL_SCRIPT).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters.process.run import run
from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.machines import READY, Machine, Pool
from agent.demo.gateway.options import GatewaySettings
from agent.demo.sshd.throwaway import ThrowAwaySshd
from tests import ROOT
from tests.machine.checksum import sha256_of
from tests.machine.mirrors import Mirrors, Pace
from tests.machine.standin import INSTALL_SCRIPT, VERSION, build_k3s
from tests.machine.vm import HOST_SEEN_FROM_INSIDE, VirtualMachine

BUILD = ROOT / ".build"
POOL = "cpu"
AGENT_IMAGE = BUILD / "agent-image.tar"
"""Made by `docker save`, as in a release; building it on an emulated machine would take a quarter of an hour."""


@dataclass
class Site:
    """The running services. Use `site()`."""

    directory: Path
    gateway: EmbeddedGateway
    sshd: ThrowAwaySshd
    mirrors: Mirrors
    machine_ids: list[str] = field(default_factory=list)

    def create_machine(self) -> Machine:
        """Create a machine at the gateway, and permit the key to open its tunnel."""
        machine = self.gateway.create_machine(POOL)
        self.machine_ids.append(machine.machine_id)
        grant = Grant(tuple(self.machine_ids), (self.target,))
        self.sshd.authorize(key_line(self.sshd.public_key(), grant))
        return machine

    @property
    def target(self) -> str:
        """The tunnel's target: the gateway's address as seen by this host's sshd."""
        return f"127.0.0.1:{self.gateway.port}"

    def mirror(self, name: str) -> str:
        """Return a mirrored file's URL as seen from the machine."""
        return f"http://{HOST_SEEN_FROM_INSIDE}:{self.mirrors.port}/{name}"

    def location(self, name: str) -> str:
        """Return the URL with the checksum, as settings expect it."""
        return f"{self.mirror(name)}#sha256={sha256_of(self.mirrors.files[name])}"

    def settings(self, machine: Machine) -> dict[str, str]:
        """Return a user's settings except BETA9_SOURCE, for a machine that reaches only this site."""
        return {
            "BETA9_POOL_NAME": POOL,
            "BETA9_MACHINE_ID": machine.machine_id,
            "BETA9_SSH_HOST": HOST_SEEN_FROM_INSIDE,
            "BETA9_SSH_PORT": str(self.sshd.port),
            "BETA9_SSH_USER": self.sshd.user,
            "BETA9_SSH_HOST_KEY_FINGERPRINT": self.sshd.fingerprint,
            "BETA9_SSH_TARGET": self.target,
            "BETA9_AGENT_IMAGE": self.location("agent-image.tar"),
            "BETA9_K3S_VERSION": VERSION,
            "BETA9_K3S_URL": self.mirror("k3s"),
            "BETA9_K3S_SHA256": sha256_of(self.mirrors.files["k3s"]),
            "BETA9_K3S_INSTALL_URL": self.mirror("install.sh"),
            "BETA9_K3S_INSTALL_SHA256": sha256_of(self.mirrors.files["install.sh"]),
            "BETA9_SCRATCH_DISK": "/dev/nvme0n1",  # QEMU's model is not known as that of a local disk
            # Emulated on two shared cores, everything takes many times as long.
            "BETA9_DEADLINE_SCALE": "10",
            "BETA9_REQUIRE_PINS": "1",
        }

    def status(self, machine: Machine) -> str:
        """Return the machine's status at the gateway; "" for an unknown machine."""
        entry = self.gateway.machine(machine.machine_id)
        return entry.status if entry else ""

    def is_ready(self, machine: Machine) -> bool:
        """Return whether the machine has a lease and the gateway would place a worker on it."""
        return self.status(machine) == READY and self.gateway.would_place(machine.machine_id)[0]

    def wait_ready(self, vm: VirtualMachine, machine: Machine, deadline_s: float) -> None:
        """Wait until the gateway would place work on the machine."""
        vm.wait_for("ready at the gateway, and offering", lambda: self.is_ready(machine), deadline_s)


def user_data(settings: dict[str, str], *arguments: str) -> str:
    """Return what `beta9-worker user-data` renders from these settings alone."""
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    command = [sys.executable, "-m", "agent", "user-data", *arguments, *sets]
    return run(command, timeout_s=120, env={**clean, "PYTHONPATH": str(ROOT)}).stdout


def source_tarball() -> Path:
    """Pack the last commit's tree like `make source`; return the tarball's path."""
    stdout = run([str(ROOT / "scripts" / "source.sh")], timeout_s=120).stdout
    return ROOT / stdout.split()[-1]


@contextmanager
def site(directory: Path, pace: Pace | None = None) -> Iterator[Site]:
    """Run a site within the `with` block."""
    k3s = os.environ.get("K3S_BINARY")
    files = {
        "beta9-worker.tar.gz": source_tarball(),
        "agent-image.tar": AGENT_IMAGE,
        "k3s": Path(k3s) if k3s else build_k3s(directory / "k3s"),
        "install.sh": Path(os.environ.get("K3S_INSTALL_SCRIPT", INSTALL_SCRIPT)),
    }
    pool = Pool(name=POOL, gpu_type="", worker_gpu_count=0)
    # A gateway forgets a machine that has not registered within an hour; an emulated machine may take longer.
    settings = GatewaySettings(pools=(pool,), pending_ttl_s=6 * 3600)
    with ExitStack() as stack:
        mirrors = stack.enter_context(Mirrors(pace=pace or Pace(), files=files))
        gateway = stack.enter_context(EmbeddedGateway(settings))
        sshd = stack.enter_context(ThrowAwaySshd(directory / "sshd"))
        yield Site(directory, gateway, sshd, mirrors)
