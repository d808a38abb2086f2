"""Checks of the gateway: the forward to it, its health, its keepalive route, the token, the pool, the clock."""

from __future__ import annotations

import email.utils
import http.client
import socket
import time
from dataclasses import replace
from datetime import datetime, timezone

from agent.adapters.gateway import probes
from agent.adapters.gateway.machine_api import Gateway
from agent.adapters.local_api.status_client import ask
from agent.core.events import REACHED, Answer, Probe
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
"""AWS refuses signatures five minutes off, and certificates and tokens may not be valid yet or any more."""


def _forward(case: Case) -> Finding:
    """Whether the gateway's HTTP is reached; without a tunnel, directly."""
    if not case.is_ssh:
        facts = case.found("tailscaled")
        peer = facts.peer if facts is not None else None
        host = peer.address if peer is not None and peer.address else case.settings.gateway_host
        return _reached(case, host, case.settings.gateway_port)
    return _reached(case, HOST, case.tunnel.port)


def _reached(case: Case, host: str, port: int) -> Finding:
    deadline_s = time.monotonic() + PROBE_S
    probe = probes.gateway_health(host, port, PROBE_S)
    # Between the login and the listening forward lies a moment.
    while case.is_ssh and probe.answer is Answer.NOT_LISTENING and time.monotonic() < deadline_s:
        time.sleep(0.05)
        probe = probes.gateway_health(host, port, PROBE_S)
    where = str(case.settings.ssh_target) if case.is_ssh else f"{host}:{port}"
    if probe.answer in REACHED:
        return ok(f"{where} answers in {probe.took_s * 1000:.0f} ms", found=(host, port, probe))
    complaint = case.tunnel.complaint() if case.is_ssh else None
    if complaint is not None:
        return fail(complaint.message, "then run doctor again")
    fix = "check BETA9_GATEWAY_HOST and BETA9_GATEWAY_PORT, and that the gateway runs"
    if case.is_ssh:
        fix = "check BETA9_SSH_TARGET (as the SSH host sees the gateway), and that the gateway runs"
    return fail(f"{where}: {probe.text}", fix)


def _health(case: Case) -> Finding:
    probe: Probe = case.found("forward")[2]
    if probe.answer is Answer.ANSWERED:
        return ok("the gateway says that it is well")
    return fail(
        f"{HEALTH_PATH}: {probe.text}",
        "404: no Beta9 gateway answers there, check BETA9_SSH_TARGET; 500: its Redis is down, see the gateway's log",
    )


def _route(case: Case) -> Finding:
    """A keepalive with empty ids: it proves route and token, and touches no machine."""
    host, port, _ = case.found("forward")
    gateway = Gateway(host, port, case.credentials.token, case.settings.policy.http_connect_timeout_s)
    try:
        outcome = gateway.call(CallKind.CHECK, wire.check_body(), CALL_S)
    finally:
        gateway.close()
    if outcome.kind is OutcomeKind.NO_ROUTE:
        return fail(outcome.text, "run the gateway that has POST /machine/keepalive")
    if outcome.kind in {OutcomeKind.OK, OutcomeKind.UNAUTHORIZED, OutcomeKind.FORBIDDEN}:
        return ok("POST /machine/keepalive answers", found=outcome)
    return fail(outcome.text, "look at the gateway's log; doctor can be run again at any time")


def _token(case: Case) -> Finding:
    outcome: Outcome = case.found("keepalive route")
    if outcome.kind is OutcomeKind.OK:
        return ok("the gateway accepts the machine token")
    return fail(
        outcome.text,
        "give BETA9_TOKEN a token from 'beta9 machine create --pool POOL'; a good one is refused, too, while the "
        "gateway's database is down",
    )


def _pool(case: Case) -> Finding:
    name = case.settings.pool_name
    if not name:
        return fail("BETA9_POOL_NAME is not set", "name a pool of the gateway's configuration")
    running = case.running()
    if running is not None and running.get("pool") == name and running["registration"]["times"]:
        return ok(f"'{name}': the running agent is registered in it")
    return skip(f"'{name}' is checked at registration: the gateway tells nobody before")


def _clock(case: Case) -> Finding:
    """Against the Date of the gateway's answer (RFC 9110, 6.6.1: whole seconds)."""
    host, port, _ = case.found("forward")
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_S)
    try:
        connection.request("GET", HEALTH_PATH)
        asked_s = time.time()
        date = connection.getresponse().getheader("Date")
    except (OSError, http.client.HTTPException) as error:
        return skip(f"unknown: the gateway did not answer ({error})")
    finally:
        connection.close()
    try:
        theirs = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return skip("unknown: the gateway's answers have no date")
    skew_s = (datetime.fromtimestamp(asked_s, timezone.utc) - theirs.astimezone(timezone.utc)).total_seconds()
    return _judge_skew(skew_s)


def _judge_skew(skew_s: float) -> Finding:
    # The header has whole seconds, so up to one of them is nobody's.
    if abs(skew_s) <= SKEW_WARN_S:
        return ok(f"{abs(skew_s):.0f} s from the gateway's")
    seen = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the gateway's clock"
    fix = "'timedatectl set-ntp true', or mend the gateway's clock"
    return fail(seen, fix) if abs(skew_s) > SKEW_FAIL_S else warn(seen, fix)


def _agent(case: Case) -> Finding:
    """What the agent on this machine says of itself."""
    running = case.running()
    if running is None:
        return _no_agent(case)
    seen = f"{running['state']} for {running['since_s']:.0f} s"
    if running["state"] != "READY":
        why = running["gateway"]["last_error"] or running["tunnel"]["forward"]["reason"] or "no reason given"
        return fail(f"{seen}: {why}", "the failed checks here say more; 'beta9-worker status' shows its view")
    if not running["capacity"]["offered"]:
        return warn(f"{seen}, offers nothing: {running['capacity']['reason']}", "mend that, and work comes")
    return ok(f"{seen}, offers its capacity")


def _no_agent(case: Case) -> Finding:
    """None runs, one hangs, or somebody else has its port."""
    address = case.settings.status_addr
    reply = ask(str(address), "/healthz", 3)
    if reply.status:
        return warn(
            f"{address} answers {reply.status}, and not as an agent does",
            "give the agent another BETA9_STATUS_ADDR",
        )
    try:
        socket.create_connection((address.host, address.port), 1).close()
    except OSError:
        return skip(reply.problem)
    return fail(
        f"{address} accepts and does not answer: an agent that hangs, or was stopped",
        "'systemctl restart beta9-worker'; its log says since when",
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
"""The same, where the gateway is reached without ssh."""

IN_A_TAILNET = tuple(
    replace(check, needs=("tailnet login",), after=("tailnet peer",)) if check.name == "forward" else check
    for check in WITHOUT_TUNNEL
)
"""The same, where it is a peer of the tailnet."""
