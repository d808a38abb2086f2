"""Checks of the machine's own Kubernetes, and of the gateway's way back to it, end to end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.adapters.gateway import probes
from agent.adapters.gateway.probes import Seen
from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.api import Api
from agent.core.events import REACHED, Answer, Probe
from agent.core.kubernetes.objects import node_facts, pick_node
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Purpose
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.doctor.network import reverse_address
from agent.errors import AgentError
from agent.settings import Connection, K3sMode

PROBE_S = 4.0
SETTLE_S = 3.0
"""As the agent's own patience (policy.reverse_settle_s): a forward listens within a round trip of the login."""
INSTALL = (
    "install it: docker run --rm --privileged --pid host -v /:/host -v /etc/beta9-worker:/etc/beta9-worker "
    "IMAGE install"
)
PLUGIN = (
    "the device plugin: 'kubectl -n kube-system get pods | grep nvidia-device-plugin', its log, and the RuntimeClass "
    "'nvidia'"
)


def _k3s(case: Case) -> Finding:
    """Something that speaks TLS and HTTP, whatever it says to us: no token is sent."""
    settings = case.settings
    if settings.k3s is K3sMode.NONE:
        return skip("BETA9_K3S is none: somebody else sees to it")
    seen = probes.kubernetes((settings.k3s_api.host, settings.k3s_api.port), "", PROBE_S)
    if seen.probe.answer in REACHED:
        return ok(f"{settings.k3s_api} answers in {seen.probe.took_s * 1000:.0f} ms", found=seen.certificate)
    told = f"{settings.k3s_api}: {seen.probe.text}"
    if seen.probe.answer is not Answer.NOT_LISTENING:
        return fail(told, "'systemctl restart k3s', and 'journalctl -u k3s' for why it does not answer")
    if settings.k3s is K3sMode.REQUIRED or settings.k3s_token is not None:
        return fail(told, f"'systemctl status k3s' if it is there; else {INSTALL}")
    return warn(f"no k3s ({told}): the agent joins and offers nothing", INSTALL)


def _login(case: Case) -> Finding:
    """With the very token that the gateway gets, or with what the agent makes it by."""
    if case.found("k3s") is None:
        return skip("no k3s answers")
    try:
        token = case.credentials.k3s_token()
    except AgentError as error:
        return fail(str(error), "see the check 'k3s token'")
    path = kubeconfig.find(case.settings.kubeconfig)
    if token is None and path is None:
        return fail(
            "no token for the gateway, and nothing to make one with",
            "set BETA9_KUBECONFIG to k3s's own (/etc/rancher/k3s/k3s.yaml), or BETA9_K3S_TOKEN; run as root",
        )
    if token is None:
        return _by_kubeconfig(case, path)
    api = case.settings.k3s_api
    probe = probes.kubernetes((api.host, api.port), token, PROBE_S, expect=case.found("k3s")).probe
    if probe.answer is Answer.ANSWERED:
        return ok("the gateway's token may list Jobs", found=path)
    return fail(
        f"{api}: {probe.text}",
        "401: BETA9_K3S_TOKEN is none of this k3s, or has expired; 403: it may not list Jobs in 'default'; else "
        "'journalctl -u k3s'",
    )


def _by_kubeconfig(case: Case, path: Path | None) -> Finding:
    assert path is not None  # noqa: S101 - asked before
    try:
        with Api(path, case.redactor.add).session(PROBE_S) as session:
            session.get("/version")
    except AgentError as error:
        return fail(str(error), "set BETA9_KUBECONFIG to an administrator's, such as k3s's own; run as root")
    return ok(f"{path} lets the agent in, which makes the gateway's token by it", found=path)


def _node(case: Case) -> Finding:
    """Whether work could start on it, and how many GPUs the device plugin has it advertise."""
    facts = _node_facts(case)
    if isinstance(facts, str):
        return skip(f"unknown: {facts}")
    boards = case.found("nvidia driver") or 0
    gpus = int(facts["gpus_allocatable"])
    wrong = [
        text
        for holds, text in ((not facts["ready"], "not Ready"), (not facts["schedulable"], "cordoned"))
        if holds
    ]
    wrong += list(facts["pressures"])
    if wrong:
        return fail(
            f"the node is {', '.join(wrong)}", "'kubectl describe node' says why; 'kubectl uncordon' frees it"
        )
    if gpus < boards:
        return fail(f"the node advertises {gpus} of {boards} GPUs", PLUGIN)
    return ok(f"Ready, advertises {gpus} GPUs")


def _node_facts(case: Case) -> dict[str, Any] | str:
    """As /status has them, or why they are not known."""
    node = ((case.running() or {}).get("kubernetes") or {}).get("node")
    if isinstance(node, dict):
        return node
    path = case.found("k3s login")
    if path is None:
        return "there is no kubeconfig to read the node with"
    try:
        with Api(path, case.redactor.add).session(PROBE_S) as session:
            found = pick_node(session.get("/api/v1/nodes")["items"], socket.gethostname())
    except AgentError as error:
        return str(error)
    if found is None:
        return f"no node is called {socket.gethostname()}, as this machine is"
    return vars(node_facts(found, ()))


def _reverse(case: Case) -> Finding:
    """From the gateway's side back to this machine's k3s, as the gateway dials."""
    if not case.is_ssh:
        in_tailnet = case.settings.connection is Connection.TAILSCALE
        dialled = (
            "the machine's own address, see 'tailnet address'" if in_tailnet else "BETA9_HOSTNAME itself"
        )
        return skip(f"BETA9_CONNECTION is {case.settings.connection.value}: the gateway dials {dialled}")
    running = case.running()
    if running is not None:
        return _of_the_agent(running["tunnel"]["reverse"])
    certificate = case.found("k3s")
    if certificate is None:
        return skip("not tried: there is no k3s that answers, so nothing to reach")
    if case.found("login") is None:
        return skip("not tried: 'login' failed")
    address = reverse_address(case)
    if address is None:
        return skip("the machine's id is not known before its first start: set BETA9_MACHINE_ID to try")
    # No token goes that way: the certificate tells whose k3s it is.
    return _through(case, address, certificate, lambda: probes.kubernetes(case.tunnel.probe_socket, "", 2.5))


def _of_the_agent(reverse: dict[str, Any]) -> Finding:
    if reverse["up"]:
        return ok(f"the running agent's is up: {reverse['address']} leads to this machine's k3s")
    return fail(
        f"the running agent's is down: {reverse['reason'] or 'no reason given'}",
        "'beta9-worker status' shows when it is back; docs/troubleshooting.md explains the texts",
    )


def _through(case: Case, address: str, certificate: str, ask: Callable[[], Seen]) -> Finding:
    link = case.tunnel.open_reverse(address)
    if link.ended is not None or not link.logged_in:
        return _not_opened(address, link.ended)
    settled_s = time.monotonic() + SETTLE_S
    seen = ask()
    while seen.probe.answer in {Answer.CLOSED, Answer.NOT_LISTENING} and time.monotonic() < settled_s:
        if case.tunnel.end_of(Purpose.REVERSE) is not None:
            return _not_opened(address, case.tunnel.end_of(Purpose.REVERSE))
        time.sleep(0.1)
        seen = ask()
    if seen.probe.answer in REACHED and seen.certificate == certificate:
        took_ms = seen.probe.took_s * 1000
        return ok(f"{address} on the gateway's side leads to this machine's k3s, {took_ms:.0f} ms")
    return _not_reached(case, address, seen.probe)


def _not_opened(address: str, ended: Fault | None) -> Finding:
    fix = f"free {address}, or let the key have it: 'beta9-worker authorize' prints its line"
    return fail(ended.message if ended else "sshd did not let a second connection in", fix)


def _not_reached(case: Case, address: str, probe: Probe) -> Finding:
    complaint = case.tunnel.complaint()
    if complaint is not None and complaint.kind is FaultKind.PERMIT_OPEN:
        return fail(
            complaint.message,
            f"the key's permitopen must name {address}:6443; 'beta9-worker authorize' prints the line",
        )
    if probe.answer in REACHED:
        return fail(
            f"{address} answers, and not as this machine's k3s",
            "another machine holds that address, or 'GatewayPorts no' let it have everybody's: look at both",
        )
    if probe.answer is Answer.SILENT:
        return fail(
            f"{address} accepts and does not answer", "a dead session may hold it; try again in a minute"
        )
    return fail(
        f"sshd accepted the reverse forward, but {address} does not answer there: it bound another address "
        "(GatewayPorts no)",
        "'GatewayPorts clientspecified' in the gateway's sshd_config, and 'systemctl reload ssh'",
    )


CHECKS = (
    Check("k3s", _k3s),
    Check("k3s login", _login, ("k3s",)),
    Check("k3s node", _node, ("k3s login",), after=("nvidia driver",)),
    Check("reverse path", _reverse, after=("forward", "login", "k3s")),
)
