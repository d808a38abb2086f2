"""Measures the cost of the reverse path to the machine's Kubernetes, on a real API server, as a table.

    make kubernetes-server && python -m scripts.bench_kubernetes      about two minutes

It creates Jobs as the gateway does: one after the other on one connection, with the gateway's token. The Jobs are
suspended, so that no pods are created meanwhile. ssh and sshd are the real programs, on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path

from agent.core.tunnel import addresses
from scripts.bench import Row, idle_rows, show
from tests.integration.lab import AgentProcess, Lab, laboratory, wait_for
from tests.integration.ssh_client import Ssh
from tests.kubernetes.server import RealKubernetes, missing

JOBS = "/apis/batch/v1/namespaces/default/jobs"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if there is no API server."""
    args = _arguments(argv)
    reason = missing()
    if reason is not None:
        print(f"not measured: {reason}", file=sys.stderr)
        return 1
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beta9-bench-")))
        real = RealKubernetes(_new_directory(place / "kubernetes"), stack)
        lab = stack.enter_context(laboratory(_new_directory(place / "lab")))
        agent = lab.agent(
            BETA9_K3S_API="{}:{}".format(*real.address),
            BETA9_KUBECONFIG=str(real.kubeconfig),
            BETA9_K3S_TOKEN_FILE="",
        ).start()
        agent.wait_back()
        rows = creation_rows(lab, agent, real, args.jobs, args.runs)
        memory = idle_rows(agent, args.idle)[1]
        rows.append(replace(memory, what="memory (PSS) with Kubernetes", target="≤ 72 MiB"))
        rows.append(killed_row(lab, agent, real))
    show(rows, load)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_kubernetes", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--jobs", type=int, default=200, help="number of Jobs to create on each path")
    parser.add_argument("--runs", type=int, default=3, help="rounds over all paths; medians are shown")
    parser.add_argument(
        "--idle", type=float, default=30, metavar="SECONDS", help="idle time before memory is measured"
    )
    return parser.parse_args(argv)


def _new_directory(directory: Path) -> Path:
    directory.mkdir()
    return directory


def creation_rows(lab: Lab, agent: AgentProcess, real: RealKubernetes, count: int, runs: int) -> list[Row]:
    """Measure creating Jobs directly, through the agent's reverse path, and through an ssh that only forwards."""
    machine = lab.gateway.machine(agent.machine_id)
    assert machine is not None
    spare = addresses.candidates(agent.machine_id)[-1]
    forward_only = Ssh(lab.sshd, "-R", f"{spare}:6443:{real.address[0]}:{real.address[1]}", session=False)
    try:
        wait_for("the forward-only address answers", lambda: _answers(spare, machine["token"]))
        paths = {
            "direct": real.address,
            "through the reverse path": (machine["hostname"], 6443),
            "through ssh -N (forward-only)": (spare, 6443),
        }
        _create(real, real.address, machine["token"], count)  # warm-up: the server's first Jobs take longer
        rounds = [
            {path: _create(real, address, machine["token"], count) for path, address in paths.items()}
            for _ in range(runs)
        ]
    finally:
        forward_only.end()
    took_s = {path: statistics.median(each[path] for each in rounds) for path in paths}
    targets = {"through the reverse path": "≤ 1.5 x"}
    return [
        Row(
            f"{count} Job creations {path}",
            f"{seconds:.2f} s, {seconds / took_s['direct']:.1f} x",
            targets.get(path, ""),
            f"one after the other on one connection; median of {runs}",
        )
        for path, seconds in took_s.items()
    ]


def _answers(host: str, token: str) -> bool:
    try:
        return _call(_connection((host, 6443)), "GET", f"{JOBS}?limit=1", token) == 200
    except OSError:
        return False


def _create(real: RealKubernetes, address: tuple[str, int], token: str, count: int) -> float:
    connection = _connection(address)
    _call(connection, "GET", f"{JOBS}?limit=1", token)  # so that the TLS handshake is not measured
    began_s = time.monotonic()
    for number in range(count):
        code = _call(connection, "POST", JOBS, token, _job(f"bench-{number}"))
        assert code == 201, code
    took_s = time.monotonic() - began_s
    connection.close()
    real.remove_jobs()
    return took_s


def _job(name: str) -> dict[str, object]:
    pod = {"restartPolicy": "OnFailure", "containers": [{"name": "worker", "image": "worker"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def _connection(address: tuple[str, int]) -> HTTPSConnection:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(*address, timeout=60, context=context)


def _call(connection: HTTPSConnection, method: str, path: str, token: str, body: object = None) -> int:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    reply.read()
    return reply.status


def killed_row(lab: Lab, agent: AgentProcess, real: RealKubernetes) -> Row:
    """Kill the API server, and start it again once the agent offers nothing."""
    began_s = time.monotonic()
    real.children["kube-apiserver"].signal(signal.SIGKILL)
    wait_for("nothing is offered", lambda: not lab.gateway.would_place(agent.machine_id)[0])
    withdrawn_s = time.monotonic() - began_s
    began_s = time.monotonic()
    real.start_server()
    wait_for("offered again", lambda: lab.gateway.would_place(agent.machine_id)[0])
    back_s = time.monotonic() - began_s
    return Row(
        "offered again after the API server was killed and started",
        f"{back_s:.1f} s",
        "≤ 10 s",
        f"including the server's own start; the offer was withdrawn {withdrawn_s:.1f} s after the kill",
    )


if __name__ == "__main__":
    sys.exit(main())
