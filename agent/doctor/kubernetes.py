"""Checks of this machine's own Kubernetes, and of the gateway's reverse path to it, end to end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from agent.adapters.gateway import probes
from agent.adapters.gateway.probes import Seen
from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.api import Api
from agent.adapters.kubernetes.node import NoNodeError, read_node
from agent.core.events import REACHED, Answer, Probe
from agent.core.host.facts import Held, NodeFacts
from agent.core.kubernetes.obstacles import gpus_left, lists_pods, obstacles
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Purpose
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.doctor.network import reverse_address
from agent.doctor.own_tunnel import Connected
from agent.errors import AgentError, TransientError
from agent.settings import Connection, K3sMode

PROBE_S = 4.0
SETTLE_S = 3.0
"""As policy.reverse_settle_s of the agent: a forward listens within a round trip after the login."""
INSTALL = (
    "install it: docker run --rm --privileged --pid host -v /:/host -v /etc/beta9-worker:/etc/beta9-worker "
    "IMAGE install"
)
OBSTACLE_FIX = (
    "'kubectl describe node' shows the cause; 'kubectl uncordon NODE' ends a cordon, 'kubectl taint nodes NODE TAINT-' "
    "removes a taint"
)
PLUGIN = (
    "check the device plugin ('kubectl -n kube-system get pods | grep nvidia-device-plugin'), its log, and the "
    "RuntimeClass 'nvidia'"
)


def _k3s(case: Case) -> Finding:
    """Check that a TLS and HTTP server answers. Its response does not matter, because no token is sent."""
    settings = case.settings
    if settings.k3s is K3sMode.NONE:
        return skip("BETA9_K3S is none: k3s is not managed by this agent")
    result = probes.kubernetes((settings.k3s_api.host, settings.k3s_api.port), "", PROBE_S)
    if result.probe.answer in REACHED:
        return ok(
            f"{settings.k3s_api} answers in {result.probe.took_s * 1000:.0f} ms", found=result.certificate
        )
    seen = f"{settings.k3s_api}: {result.probe.text}"
    if result.probe.answer is not Answer.NOT_LISTENING:
        return fail(seen, "'systemctl restart k3s'; 'journalctl -u k3s' shows why it does not answer")
    if settings.k3s is K3sMode.REQUIRED or settings.k3s_token is not None:
        return fail(seen, f"see 'systemctl status k3s' if k3s is installed; otherwise {INSTALL}")
    return warn(f"no k3s ({seen}): the agent will join but offer nothing", INSTALL)


def _login(case: Case) -> Finding:
    """Log in with the token that the gateway gets, or with the kubeconfig by which the agent creates one."""
    if case.found("k3s", str) is None:
        return skip("k3s does not answer")
    try:
        token = case.credentials.k3s_token()
    except AgentError as error:
        return fail(str(error), "see the check 'k3s token'")
    path = kubeconfig.find(case.settings.kubeconfig)
    if token is None and path is None:
        return fail(
            "there is no token for the gateway, and no kubeconfig to create one",
            "run as root, and set BETA9_KUBECONFIG to k3s's own (/etc/rancher/k3s/k3s.yaml), or set BETA9_K3S_TOKEN",
        )
    if token is None:
        return _by_kubeconfig(case, path)
    api = case.settings.k3s_api
    probe = probes.kubernetes((api.host, api.port), token, PROBE_S, expect=case.found("k3s", str)).probe
    if probe.answer is Answer.ANSWERED:
        return ok("the gateway's token may list Jobs", found=path)
    return fail(
        f"{api}: {probe.text}",
        "401: BETA9_K3S_TOKEN is for another k3s or has expired; 403: it may not list Jobs in 'default'; otherwise see "
        "'journalctl -u k3s'",
    )


def _by_kubeconfig(case: Case, path: Path | None) -> Finding:
    assert path is not None  # noqa: S101 - checked by the caller
    try:
        with Api(path, case.redactor.add).session(PROBE_S) as session:
            session.get("/version")
    except AgentError as error:
        return fail(
            str(error),
            "run as root, and set BETA9_KUBECONFIG to an administrator's kubeconfig, such as k3s's own",
        )
    return ok(f"the agent can log in with {path}, and create the gateway's token", found=path)


def _node(case: Case) -> Finding:
    """Check that work can start on the node, and how many GPUs it advertises."""
    try:
        node = _node_facts(case)
    except NoNodeError as error:
        return fail(
            f"{error}: no work can start here, so nothing is offered",
            "'k3s kubectl get nodes' lists them; 'journalctl -u k3s' shows why k3s made none for this machine. After a "
            "change of its host name restart k3s",
        )
    except AgentError as error:
        return skip(f"unknown: {error}")
    found = obstacles(node)
    if found:
        return fail("; ".join(found), OBSTACLE_FIX)
    boards = case.found("nvidia driver", int) or 0
    if node.gpus_allocatable < boards:
        return fail(f"the node advertises {node.gpus_allocatable} of {boards} GPUs", PLUGIN)
    if node.gpus_allocatable and not gpus_left(node):
        return fail(
            f"other pods hold all {node.gpus_allocatable} GPUs of the node",
            f"{lists_pods(node)}: remove those that are not needed",
        )
    return ok(f"Ready, advertises {node.gpus_allocatable} GPUs")


def _node_facts(case: Case) -> NodeFacts:
    """Return what the running agent knows of the node, else what can be read. Raises: NoNodeError, AgentError."""
    node = ((case.agent_status() or {}).get("kubernetes") or {}).get("node")
    if isinstance(node, dict):
        return _from_status(node)
    path = case.found("k3s login", Path)
    if path is None:
        raise TransientError("there is no kubeconfig to read the node with")
    with Api(path, case.redactor.add).session(PROBE_S) as session:
        return read_node(session, socket.gethostname())


def _from_status(node: dict[str, Any]) -> NodeFacts:
    """Return the facts that `/status` shows; an agent of another version may show fewer or more."""
    known = {field.name for field in fields(NodeFacts)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in node.items()
        if name in known
    }
    if "others" in node:
        values["others"] = Held(**node["others"])
    return NodeFacts(**values)


def _reverse(case: Case) -> Finding:
    """Connect from the gateway's side back to this machine's k3s, as the gateway does."""
    if not case.is_ssh:
        in_tailnet = case.settings.connection is Connection.TAILSCALE
        dialled = (
            "this machine's own address (see 'tailnet address')" if in_tailnet else "BETA9_HOSTNAME directly"
        )
        return skip(f"BETA9_CONNECTION is {case.settings.connection.value}: the gateway dials {dialled}")
    status = case.agent_status()
    if status is not None:
        return _of_running_agent(case, status["tunnel"]["reverse"])
    certificate = case.found("k3s", str)
    if certificate is None:
        return skip("not tried: k3s does not answer, so there is nothing to reach")
    if case.found("login", Connected) is None:
        return skip("not tried: 'login' failed")
    address = reverse_address(case)
    if address is None:
        return skip("the machine's id is unknown before its first start: set BETA9_MACHINE_ID to check this")
    # No token is sent: the certificate shows whether it is this machine's k3s.
    return _through(case, address, certificate, lambda: probes.kubernetes(case.tunnel.probe_socket, "", 2.5))


def _of_running_agent(case: Case, reverse: dict[str, Any]) -> Finding:
    if reverse["up"]:
        return ok(f"the running agent's path is up: {reverse['address']} leads to this machine's k3s")
    return fail(
        f"the running agent's path is down: {reverse['reason']}",
        f"docs/troubleshooting.md explains the reason; '{case.status_command}' shows when it is up again",
    )


def _through(case: Case, address: str, certificate: str, probe: Callable[[], Seen]) -> Finding:
    link = case.tunnel.open_reverse(address)
    if link.ended is not None or not link.logged_in:
        return _not_opened(case, address, link.ended)
    deadline_s = time.monotonic() + SETTLE_S
    seen = probe()
    while seen.probe.answer in {Answer.CLOSED, Answer.NOT_LISTENING} and time.monotonic() < deadline_s:
        if case.tunnel.end_of(Purpose.REVERSE) is not None:
            return _not_opened(case, address, case.tunnel.end_of(Purpose.REVERSE))
        time.sleep(0.1)
        seen = probe()
    if seen.probe.answer in REACHED and seen.certificate == certificate:
        took_ms = seen.probe.took_s * 1000
        return ok(f"{address} on the gateway's side leads to this machine's k3s, {took_ms:.0f} ms")
    return _not_reached(case, address, seen.probe)


def _not_opened(case: Case, address: str, ended: Fault | None) -> Finding:
    fix = f"free {address}, or allow it for the key: '{case.authorize_command}' prints the line"
    return fail(ended.message if ended else "sshd did not accept a second connection", fix)


def _not_reached(case: Case, address: str, probe: Probe) -> Finding:
    complaint = case.tunnel.take_complaint()
    if complaint is not None and complaint.kind is FaultKind.PERMIT_OPEN:
        return fail(
            complaint.message,
            f"the key's permitopen must name {address}:6443; '{case.authorize_command}' prints the line",
        )
    if probe.answer in REACHED:
        return fail(
            f"{address} answers, but is not this machine's k3s",
            "another machine uses that address, or 'GatewayPorts no' gave it the address of all machines: check both",
        )
    if probe.answer is Answer.SILENT:
        return fail(
            f"{address} accepts connections but does not answer",
            "a dead session may still hold it; try again in a minute",
        )
    return fail(
        f"sshd accepted the reverse forward, but {address} does not answer there: it bound another address "
        "(GatewayPorts no)",
        "set 'GatewayPorts clientspecified' in sshd_config on the SSH host, then 'systemctl reload ssh'",
    )


CHECKS = (
    Check("k3s", _k3s),
    Check("k3s login", _login, ("k3s",)),
    Check("k3s node", _node, ("k3s login",), after=("nvidia driver",)),
    Check("reverse path", _reverse, after=("forward", "login", "k3s")),
)
