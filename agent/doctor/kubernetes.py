"""Checks of the machine's own Kubernetes, and of the gateway's way back to it, end to end."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

from agent.adapters import probes
from agent.adapters.probes import Seen
from agent.core.events import Answer, Probe
from agent.core.trouble import Trouble, TroubleKind
from agent.core.worker import Purpose
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.doctor.network import reverse_address
from agent.errors import AgentError
from agent.settings import K3sMode

PROBE_S = 4.0
SETTLE_S = 3.0
"""As the agent's own patience (policy.reverse_settle_s): a forward listens within a round trip of the login."""
NODE_LIMIT_BYTES = 1 << 20
GPU = "nvidia.com/gpu"
INSTALL = (
    "install it: docker run --rm --privileged --pid host -v /:/host -v /etc/beta9-worker:/etc/beta9-worker "
    "IMAGE install"
)


def _listens(case: Case) -> Finding:
    """Something that speaks TLS and Kubernetes, whatever it says to us."""
    settings = case.settings
    if settings.k3s is K3sMode.NONE:
        return skip("BETA9_K3S is none: somebody else sees to it")
    seen = probes.kubernetes((settings.k3s_api.host, settings.k3s_api.port), "", PROBE_S)
    if seen.probe.answer in {Answer.ANSWERED, Answer.DENIED, Answer.UNWELL}:
        return ok(f"{settings.k3s_api} answers in {seen.probe.took_s * 1000:.0f} ms", found=seen)
    told = f"{settings.k3s_api}: {seen.probe.text}"
    if seen.probe.answer is not Answer.NOT_LISTENING:
        return fail(told, "'systemctl restart k3s', and 'journalctl -u k3s' for why it does not answer")
    if settings.k3s is K3sMode.REQUIRED or settings.k3s_token is not None:
        return fail(told, f"'systemctl status k3s' if it is there; else {INSTALL}")
    return warn(f"no k3s ({told}): the agent joins and offers nothing", INSTALL)


def _api(case: Case) -> Finding:
    """With the very token that the gateway gets, as the gateway asks."""
    seen: Seen | None = case.found("k3s")
    if seen is None:
        return skip("no k3s answers")
    if not (token := _token(case)):
        return _vouched_for(case)
    address = (case.settings.k3s_api.host, case.settings.k3s_api.port)
    probe = probes.kubernetes(address, token, PROBE_S, expect=seen.certificate).probe
    if probe.answer is Answer.ANSWERED:
        return ok("lets the gateway's token list Jobs", found=(seen.certificate, token))
    return fail(
        f"{case.settings.k3s_api}: {probe.text}",
        "401: BETA9_K3S_TOKEN is none of this k3s, or has expired; 403: it may not list Jobs in 'default'; else "
        "'journalctl -u k3s'",
    )


def _token(case: Case) -> str | None:
    try:
        return case.credentials.k3s_token()
    except AgentError:  # its own check says why
        return None


def _vouched_for(case: Case) -> Finding:
    """Without a token of our own, the running agent knows."""
    told = (case.running() or {}).get("kubernetes") or {}
    if told.get("answering"):
        return ok("answers the running agent, with the token that the gateway gets")
    if told.get("expected"):
        return fail(str(told.get("reason")), "'journalctl -u k3s', and the agent's log")
    return skip("no token given (BETA9_K3S_TOKEN): the agent makes one when it starts")


def _gpus(case: Case) -> Finding:
    """What the device plugin has the node advertise."""
    allocatable, why = _allocatable(case)
    if allocatable is None:
        return skip(f"unknown: {why}")
    boards = case.found("nvidia driver") or 0
    fix = (
        "'kubectl -n kube-system get pods | grep nvidia-device-plugin' and its log; the RuntimeClass 'nvidia' must be "
        "there"
    )
    if allocatable < boards:
        return fail(f"the node advertises {allocatable} of {boards} GPUs", fix)
    return ok(f"the node advertises {allocatable} GPUs")


def _allocatable(case: Case) -> tuple[int | None, str]:
    node = ((case.running() or {}).get("kubernetes") or {}).get("node")
    if isinstance(node, dict) and isinstance(node.get("gpus_allocatable"), int):
        return node["gpus_allocatable"], ""
    found = case.found("k3s api")
    if found is None:
        return None, "there is no token to ask k3s with"
    return _nodes_gpus(case, *found)


def _nodes_gpus(case: Case, certificate: str, token: str) -> tuple[int | None, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    api = case.settings.k3s_api
    connection = http.client.HTTPSConnection(api.host, api.port, timeout=PROBE_S, context=context)
    try:
        connection.connect()
        shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()
        # Signed by nobody we know: it is held against the certificate seen a moment ago.
        if shown != certificate:
            return None, "k3s shows another certificate than a moment ago"
        connection.request("GET", "/api/v1/nodes", headers={"Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        body = reply.read(NODE_LIMIT_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return None, f"k3s did not tell ({error})"
    finally:
        connection.close()
    if reply.status != 200:
        return (
            None,
            f"the token may not read nodes ({reply.status}), as it should be; the running agent's can",
        )
    return _sum_gpus(body)


def _sum_gpus(body: bytes) -> tuple[int | None, str]:
    try:
        nodes: list[Any] = json.loads(body)["items"]
        counts = [int(node["status"]["allocatable"].get(GPU, 0)) for node in nodes]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "k3s told of its nodes in a way not known here"
    return sum(counts), ""


def _reverse(case: Case) -> Finding:
    """From the gateway's side back to this machine's k3s, as the gateway dials."""
    if not case.is_ssh:
        return skip(
            f"BETA9_CONNECTION is {case.settings.connection.value}: the gateway dials BETA9_HOSTNAME itself"
        )
    running = case.running()
    if running is not None:
        return _of_the_agent(running["tunnel"]["reverse"])
    found = case.found("k3s api")
    if found is None:
        return skip("not tried: without a k3s that lets the gateway's token in there is nothing to reach")
    if case.found("login") is None:
        return skip("not tried: 'login' failed")
    address = reverse_address(case)
    if address is None:
        return skip("the machine's id is not known before its first start: set BETA9_MACHINE_ID to try")
    return _through(
        case, address, lambda: probes.kubernetes(case.tunnel.probe_socket, found[1], 2.5, found[0]).probe
    )


def _of_the_agent(reverse: dict[str, Any]) -> Finding:
    if reverse["up"]:
        return ok(f"the running agent's is up: {reverse['address']} leads to this machine's k3s")
    return fail(
        f"the running agent's is down: {reverse['reason'] or 'no reason given'}",
        "'beta9-worker status' shows when it is back; docs/troubleshooting.md explains the texts",
    )


def _through(case: Case, address: str, ask: Callable[[], Probe]) -> Finding:
    link = case.tunnel.open_reverse(address)
    if link.ended is not None or not link.logged_in:
        return _not_opened(address, link.ended)
    settled_s = time.monotonic() + SETTLE_S
    probe = ask()
    while probe.answer in {Answer.CLOSED, Answer.NOT_LISTENING} and time.monotonic() < settled_s:
        if case.tunnel.end_of(Purpose.REVERSE) is not None:
            return _not_opened(address, case.tunnel.end_of(Purpose.REVERSE))
        time.sleep(0.1)
        probe = ask()
    if probe.answer in {Answer.ANSWERED, Answer.UNWELL}:
        return ok(
            f"{address} on the gateway's side leads to this machine's k3s, {probe.took_s * 1000:.0f} ms"
        )
    return _not_reached(case, address, probe)


def _not_opened(address: str, ended: Trouble | None) -> Finding:
    fix = f"free {address}, or let the key have it: 'beta9-worker authorize' prints its line"
    return fail(ended.text if ended else "sshd did not let a second connection in", fix)


def _not_reached(case: Case, address: str, probe: Probe) -> Finding:
    complaint = case.tunnel.complaint()
    if complaint is not None and complaint.kind is TroubleKind.PERMIT_OPEN:
        return fail(
            complaint.text,
            f"the key's permitopen must name {address}:6443; 'beta9-worker authorize' prints the line",
        )
    if probe.answer is Answer.DENIED:
        return fail(
            f"{address} answers, and not as this machine's k3s: {probe.text}",
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
    Check("k3s", _listens),
    Check("k3s api", _api, ("k3s",)),
    Check("gpus in k3s", _gpus, ("nvidia driver", "k3s api")),
    Check("reverse path", _reverse, after=("login", "k3s api")),
)
