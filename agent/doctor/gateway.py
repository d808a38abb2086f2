"""Checks of the gateway: the forward to it, its health, the keepalive route, the token, the pool, the clock."""

from __future__ import annotations

import email.utils
import http.client
import socket
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import NamedTuple

from agent.adapters.gateway import probes
from agent.adapters.gateway.machine_api import Gateway
from agent.adapters.local_api.status_client import ask
from agent.core.events import REACHED, Answer, Probe
from agent.core.host.facts import TailnetFacts
from agent.core.machine_api import wire
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import HEALTH_PATH, Outcome, OutcomeKind
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.doctor.own_tunnel import HOST

PROBE_S = 4.0
CALL_S = 8.0
SKEW_WARN_S = 5.0
SKEW_FAIL_S = 120.0
"""AWS rejects signatures that are five minutes off, and certificates and tokens have validity periods."""


class Reached(NamedTuple):
    """Where the gateway's HTTP server answered, and how."""

    host: str
    port: int
    probe: Probe


def _forward(case: Case) -> Finding:
    """Check that the gateway's HTTP server answers, through the tunnel if there is one."""
    if not case.is_ssh:
        facts = case.found("tailscaled", TailnetFacts)
        peer = facts.peer if facts is not None else None
        host = peer.address if peer is not None and peer.address else case.settings.gateway_host
        return _reach(case, host, case.settings.gateway_port)
    return _reach(case, HOST, case.tunnel.port)


def _reach(case: Case, host: str, port: int) -> Finding:
    deadline_s = time.monotonic() + PROBE_S
    probe = probes.gateway_health(host, port, PROBE_S)
    # ssh starts to listen only shortly after the login.
    while case.is_ssh and probe.answer is Answer.NOT_LISTENING and time.monotonic() < deadline_s:
        time.sleep(0.05)
        probe = probes.gateway_health(host, port, PROBE_S)
    label = str(case.settings.ssh_target) if case.is_ssh else f"{host}:{port}"
    if probe.answer in REACHED:
        return ok(f"{label} answers in {probe.took_s * 1000:.0f} ms", found=Reached(host, port, probe))
    complaint = case.tunnel.take_complaint() if case.is_ssh else None
    if complaint is not None:
        return fail(complaint.message, "fix that and run doctor again")
    fix = "check BETA9_GATEWAY_HOST and BETA9_GATEWAY_PORT, and that the gateway is running"
    if case.is_ssh:
        fix = (
            "check BETA9_SSH_TARGET (the gateway as seen from the SSH host), and that the gateway is running"
        )
    return fail(f"{label}: {probe.text}", fix)


def _health(case: Case) -> Finding:
    probe = case.need("forward", Reached).probe
    if probe.answer is Answer.ANSWERED:
        return ok("the gateway reports that it is healthy")
    return fail(
        f"{HEALTH_PATH}: {probe.text}",
        "404: this is not a Beta9 gateway, check BETA9_SSH_TARGET; 500: its Redis is down, see the gateway's log",
    )


def _route(case: Case) -> Finding:
    """Send a keepalive with empty ids: it tests route and token and affects no machine."""
    host, port, _ = case.need("forward", Reached)
    gateway = Gateway(host, port, case.credentials.token, case.settings.policy.http_connect_timeout_s)
    try:
        outcome = gateway.call(CallKind.CHECK, wire.check_body(), CALL_S)
    finally:
        gateway.close()
    if outcome.kind is OutcomeKind.NO_ROUTE:
        return fail(outcome.text, "upgrade to a gateway that has POST /machine/keepalive")
    if outcome.kind in {OutcomeKind.OK, OutcomeKind.UNAUTHORIZED, OutcomeKind.FORBIDDEN}:
        return ok("POST /machine/keepalive answers", found=outcome)
    return fail(outcome.text, "see the gateway's log, then run doctor again")


def _token(case: Case) -> Finding:
    outcome = case.need("keepalive route", Outcome)
    if outcome.kind is OutcomeKind.OK:
        return ok("the gateway accepts the machine token")
    return fail(
        outcome.text,
        "set BETA9_TOKEN to a token from 'beta9 machine create --pool POOL'; while its database is down, the gateway "
        "refuses even valid tokens",
    )


def _pool(case: Case) -> Finding:
    name = case.settings.pool_name
    if not name:
        return fail(
            "BETA9_POOL_NAME is not set", "set it to the name of a pool in the gateway's configuration"
        )
    status = case.agent_status()
    if status is not None and status.get("pool") == name and status["registration"]["times"]:
        return ok(f"the running agent is registered in '{name}'")
    return skip(f"'{name}' cannot be checked before the agent registers")


def _clock(case: Case) -> Finding:
    """Compare with the Date header of the gateway's response (RFC 9110, 6.6.1: whole seconds)."""
    host, port, _ = case.need("forward", Reached)
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_S)
    try:
        connection.request("GET", HEALTH_PATH)
        local_s = time.time()
        date = connection.getresponse().getheader("Date")
    except (OSError, http.client.HTTPException) as error:
        return skip(f"unknown: the gateway did not answer ({error})")
    finally:
        connection.close()
    try:
        gateway_time = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return skip("unknown: the gateway's response has no date")
    skew_s = (
        datetime.fromtimestamp(local_s, timezone.utc) - gateway_time.astimezone(timezone.utc)
    ).total_seconds()
    return _judge_skew(skew_s)


def _judge_skew(skew_s: float) -> Finding:
    # The header has whole seconds, so a difference below one second means nothing.
    if abs(skew_s) <= SKEW_WARN_S:
        return ok(f"{abs(skew_s):.0f} s off the gateway's clock")
    seen = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the gateway's clock"
    fix = "'timedatectl set-ntp true', or correct the gateway's clock"
    return fail(seen, fix) if abs(skew_s) > SKEW_FAIL_S else warn(seen, fix)


def _agent(case: Case) -> Finding:
    """Check the state of the agent on this machine."""
    status = case.agent_status()
    if status is None:
        return _no_agent(case)
    seen = f"{status['state']} for {status['since_s']:.0f} s"
    if status["state"] != "READY":
        waiting = status.get("waiting")
        reason = f", waiting for {waiting['what']}; ends when {waiting['until']}" if waiting else ""
        return fail(f"{seen}{reason}", f"see the failed checks here, and '{case.status_command}'")
    if not status["capacity"]["offered"]:
        return warn(
            f"{seen}, but offers nothing: {status['capacity']['reason']}",
            "fix that, and the gateway will place work here",
        )
    return ok(f"{seen}, and offers its capacity")


def _no_agent(case: Case) -> Finding:
    """Find out whether no agent runs, one hangs, or another program has its port."""
    address = case.settings.status_addr
    reply = ask(str(address), "/healthz", 3)
    if reply.status:
        return warn(
            f"{address} answers with status {reply.status}, but is not an agent",
            "another program has this port: set another BETA9_STATUS_ADDR",
        )
    try:
        socket.create_connection((address.host, address.port), 1).close()
    except OSError:
        return skip(reply.problem)
    return fail(
        f"{address} accepts connections but does not answer: the agent hangs, or is suspended",
        "'systemctl restart beta9-worker'; its log shows since when",
    )


CHECKS = (
    Check("agent", _agent),
    Check("forward", _forward, ("login",)),
    Check("gateway health", _health, ("forward",)),
    Check("clock", _clock, ("forward",)),
    Check("keepalive route", _route, ("forward", "token setting")),
    Check("token accepted", _token, ("keepalive route",)),
    Check("pool", _pool),
)

WITHOUT_TUNNEL = tuple(
    replace(check, needs=tuple(need for need in check.needs if need != "login")) for check in CHECKS
)
"""The same for a connection without ssh."""

IN_A_TAILNET = tuple(
    replace(check, needs=("tailnet login",), after=("tailnet peer",)) if check.name == "forward" else check
    for check in WITHOUT_TUNNEL
)
"""The same for a gateway in the tailnet."""
