"""The site: what runs on the gateway's host and on the machines, and the same questions to each of them.

Real: sshd with the shipped drop-in, ssh, the relay with its names, the agents with their hairpins, packet filters.
Stand-ins: gateway, k3s and workers (agent/demo says what they model). Each machine has a key of its own.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.gateway.options import GatewaySettings
from agent.demo.sshd.config import TUNNEL, Option
from tests.gateway.relay_lab import RelayProcess, missing, saying, server
from tests.gateway.site.nat import behind_nat
from tests.integration.agent_process import AgentProcess
from tests.integration.gateway_host.check_program import DROP_IN, half_probes, knows
from tests.integration.lab import SSH_PORT, Lab, laboratory
from tests.integration.netns import Place, resolver
from tests.integration.polling import wait_for

DOMAIN = GatewaySettings().domain
HOSTS_K3S = b"the host's own k3s "
REDIS = "127.0.0.1:6379"
_GATEWAY = ("--redis-port", "6379", "--placement-interval", "0.2", "--cleanup-interval", "0.2")


@dataclass
class Machine:
    """One machine: its namespace, k3s and agent."""

    lab: Lab
    agent: AgentProcess
    key: Path

    @property
    def id(self) -> str:
        return self.agent.machine_id

    @property
    def place(self) -> Place:
        return self.lab.near

    @property
    def name(self) -> str:
        """By which the gateway dials it."""
        return f"machine-{self.id}.{DOMAIN}"

    @property
    def address(self) -> str:
        """Where it is now."""
        return str(self.agent.status().get("tunnel", {}).get("reverse", {}).get("address"))

    @property
    def hosts(self) -> tuple[str, str]:
        return self.address, self.name

    def worker_id(self) -> str:
        """Return its worker's id, once that listens."""

        def find() -> str | None:
            ports = self.lab.gateway.worker_ports()
            mine = [each["worker_id"] for each in self.lab.gateway.workers() if each["machine_id"] == self.id]
            return next((worker_id for worker_id in mine if worker_id in ports), None)

        return wait_for(f"a worker on {self.id}", find)

    def worker_port(self) -> int:
        """Return the port of its worker."""
        return int(self.lab.gateway.worker_ports()[self.worker_id()].rpartition(":")[2])

    def end_worker(self) -> None:
        """Let its worker end, as one does that has had nothing to do; the gateway starts another."""
        worker_id = self.worker_id()
        (job,) = [each["job_name"] for each in self.lab.gateway.workers() if each["worker_id"] == worker_id]
        with self.place.inside():
            self.lab.kubernetes.finish_job(job)
        wait_for("the gateway notices", lambda: self.worker_id() != worker_id)


@dataclass
class Site:
    """The gateway's host and its machines, of which the third is in the plain form."""

    lab: Lab
    machines: list[Machine] = field(default_factory=list)

    @property
    def gateway(self) -> Place:
        return self.lab.far

    def add(self, lab: Lab, reverse: str) -> Machine:
        """Create a machine whose agent is not started yet."""
        key = lab.sshd.make_key(f"machine-{len(self.machines)}")
        agent = lab.agent(
            BETA9_SSH_KEY_FILE=str(key), BETA9_SSH_FORWARDS=f"6379:{REDIS}", BETA9_REVERSE=reverse
        )
        machine = Machine(lab, agent, key)
        self.machines.append(machine)
        lines = [
            key_line(lab.sshd.public_key(each.key), Grant((each.id,), (lab.target, REDIS)))
            for each in self.machines
        ]
        lab.sshd.authorize(*lines)
        return machine

    @contextmanager
    def host_k3s(self) -> Iterator[None]:
        """Run the host's own k3s, which listens on port 6443 of all addresses."""
        with server(self.gateway, "0.0.0.0", 6443, saying(HOSTS_K3S)):
            yield

    def get(self, path: str) -> bytes:
        """GET a page through the gateway, as a user does."""
        url = f"http://127.0.0.1:{self.lab.gateway_port}{path}"
        with self.gateway.inside(), urllib.request.urlopen(url, timeout=90) as reply:
            return bytes(reply.read())


@contextmanager
def whole_site(directory: Path) -> Iterator[Site]:
    """Set the site up; the agents are not started yet."""
    if missing():
        pytest.skip(str(missing()))
    with ExitStack() as stack:
        net = stack.enter_context(behind_nat(3, SSH_PORT))
        stack.enter_context(resolver(net.gateway))
        net.gateway.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=53")
        relay = RelayProcess(net.gateway, "--names", DOMAIN, "--names-address", "127.0.0.1:53")
        stack.callback(relay.stop)
        relay.start()
        # As Docker and some distributions leave a machine.
        net.machines[1].run("iptables", "-w", "-P", "FORWARD", "DROP")
        net.machines[1].run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        first = stack.enter_context(
            laboratory(
                directory,
                near=net.machines[0],
                far=net.gateway,
                gateway_options=_GATEWAY,
                kubernetes_options=("--host", "0.0.0.0", "--kubelet"),
                sshd_options=shipped_drop_in(directory),
            )
        )
        site = Site(first)
        for lab, reverse in (
            (first, "auto"),
            (first.neighbour("second", net.machines[1]), "auto"),
            (first.neighbour("third", net.machines[2]), "k3s"),
        ):
            site.add(lab, reverse)
        yield site


def shipped_drop_in(directory: Path) -> Mapping[str, Option]:
    """Return sshd's options: the tunnel user's part comes from the file that setup.sh installs."""
    text = DROP_IN.read_text(encoding="utf-8").replace("Match User beta9-tunnel", "Match User root")
    keys = directory / "sshd" / "authorized_keys"
    text = text.replace("/etc/ssh/beta9-tunnel.keys", str(keys))
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    # What setup.sh sees to: old versions, and an empty directory of root's.
    lines = [line for line in lines if line.startswith(" ") or line.startswith("Match") or knows(line)]
    lines = [line for line in lines if "ChrootDirectory" not in line]
    if half_probes():
        lines = [line.replace("ClientAliveCountMax 2", "ClientAliveCountMax 1") for line in lines]
    path = directory / "50-beta9-tunnel.conf"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {**dict.fromkeys(TUNNEL), "MaxStartups": None, "Include": str(path)}
