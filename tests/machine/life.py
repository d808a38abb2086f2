"""Steps in a machine's life that tests share: creation from user-data, pushing secrets, and queries."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.process.run import Completed, run
from agent.demo.gateway.machines import Machine
from tests import ROOT
from tests.machine.seed import make_seed
from tests.machine.site import Site, user_data
from tests.machine.vm import HOST, USER, Disk, VirtualMachine

TARBALL = "beta9-worker.tar.gz"
INSTALL = "bash /opt/beta9-worker/current/bootstrap/install.sh --env-file /etc/beta9-worker/worker.env"
INSTALL_DEADLINE_S = 3000.0
"""For an emulated machine on two shared cores: ten times the duration on idle cores."""


@dataclass
class Life:
    """One machine, its entry at the gateway, and the timeline for the report."""

    site: Site
    vm: VirtualMachine
    machine: Machine
    text: str
    """Its user-data."""
    tarball: str
    """The name of its source tarball at the mirrors, unique to this machine."""
    fetch: threading.Event
    """Set this to let the machine download its source tarball. Until then the bootstrap is not on it."""
    report: list[str] = field(default_factory=list)

    def bootstrap(self) -> dict[str, Any]:
        """Return the content of bootstrap.json; {} while it does not exist."""
        done = self.vm.run("cat /var/lib/beta9-worker/bootstrap.json", ok=False)
        content: dict[str, Any] = json.loads(done.stdout or "{}")
        return content

    def status(self) -> dict[str, Any]:
        """Return the agent's /status; {} while it does not answer."""
        done = self.vm.run("curl -s --max-time 20 http://127.0.0.1:9464/status", ok=False)
        content: dict[str, Any] = json.loads(done.stdout or "{}")
        return content

    def push_secrets(self) -> Completed:
        """Push the secrets like a user who has read the host key's fingerprint on the console."""
        directory = self.site.directory
        token = directory / "token"
        token.touch(0o600)
        token.write_text(f"{self.machine.registration_token}\n", encoding="ascii")
        argv = [
            "push-secrets",
            f"{USER}@{HOST}",
            "--port",
            str(self.vm.ssh_port),
            "--identity",
            str(self.vm.key),
        ]
        argv += ["--fingerprint", self.host_key(), "--token-file", str(token)]
        argv += ["--ssh-key-file", str(self.site.sshd.key_path)]
        return agent(*argv)

    def host_key(self) -> str:
        """Return the machine's ed25519 fingerprint, as printed on the console at its first boot."""
        last = ""
        for line in list(self.vm.lines):
            last = next((word for word in line.split() if word.startswith("SHA256:")), last)
            if "[ED25519 256]" in line:
                return last
        raise AssertionError(f"no host key on the console: {self.vm.tail()}")


def agent(*arguments: str, timeout_s: float = 900) -> Completed:
    """Run one of this tree's commands, without the settings in the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    return run([sys.executable, "-m", "agent", *arguments], timeout_s, env={**clean, "PYTHONPATH": str(ROOT)})


def begin(site: Site, disk: Disk, directory: Path, *, with_secrets: bool = False, **changes: str) -> Life:
    """Render user-data, give it to a new machine and power that on.

    `changes` are settings; empty ones are left out. `with_secrets` puts the secrets into the user-data, so that nobody
    has to push them.
    """
    machine = site.create_machine()
    tarball = f"{machine.machine_id}/{TARBALL}"
    site.mirrors.files[tarball] = site.mirrors.files[TARBALL]
    settings = {**site.settings(machine), "BETA9_SOURCE": site.location(tarball), **changes}
    settings = {name: value for name, value in settings.items() if value}
    if with_secrets:
        tunnel_key = site.sshd.key_path.read_text(encoding="ascii")
        settings |= {"BETA9_TOKEN": machine.registration_token, "BETA9_SSH_KEY": tunnel_key}
    text = user_data(settings, *(["--allow-plain-secrets"] if with_secrets else []))
    key = directory / "login"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], timeout_s=60)
    public_key = key.with_suffix(".pub").read_text(encoding="ascii").strip()
    seed = make_seed(directory / "seed", text, public_key)
    fetch = threading.Event()
    site.mirrors.held[tarball] = fetch
    vm = VirtualMachine(directory / "vm", disk, seed, key, scratch_gib=24)
    vm.start()
    return Life(site, vm, machine, text, tarball, fetch)


def seconds_since(began_s: float) -> str:
    """Return the elapsed time for the report."""
    return f"{time.monotonic() - began_s:.0f} s"
