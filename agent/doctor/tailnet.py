"""Checks of the tailnet: tailscaled, this machine's login and key, the gateway, and the reverse path."""

from __future__ import annotations

from agent.adapters.gateway import probes
from agent.adapters.tailscale.local_client import TailscaleDaemon
from agent.core.events import REACHED
from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.tailnet.login import EXPIRES_SOON_S
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.errors import TransientError

QUERY_S = 4.0
PROBE_S = 4.0
DAY_S = 86_400.0

_LOGIN_FIX = (
    "set BETA9_TAILSCALE_AUTH_FILE to the file of an auth key (from 'beta9 machine create' or your control server), "
    "or log in by hand with 'tailscale up'"
)


def _tailscaled(case: Case) -> Finding:
    socket = case.settings.tailscale_socket
    facts = _daemon(case).look(QUERY_S)
    if facts.state is DaemonState.ABSENT:
        return fail(
            facts.text,
            "see 'systemctl status tailscaled'; in a container, mount /var/run/tailscale at the same path",
        )
    if facts.userspace:
        return fail(
            f"{socket}: tailscaled {facts.version} runs without a network interface",
            "give it /dev/net/tun: remove --tun=userspace-networking from /etc/default/tailscaled",
        )
    return ok(f"tailscaled {facts.version} answers at {socket}", found=facts)


def _login(case: Case) -> Finding:
    facts = case.need("tailscaled", TailnetFacts)
    details = f" ({facts.text})" if facts.text else ""
    if facts.state is DaemonState.NEEDS_LOGIN:
        return fail(f"not logged in{details}", _LOGIN_FIX)
    if facts.state is DaemonState.KEY_EXPIRED:
        return fail(f"this machine's key has expired{details}", _LOGIN_FIX)
    if facts.state is DaemonState.NEEDS_APPROVAL:
        return fail("logged in, but not approved", "approve this machine in the tailnet's admin console")
    if facts.state is DaemonState.STOPPED:
        return fail("logged in, but switched off", "'tailscale up'")
    if facts.state is DaemonState.STARTING:
        return fail(
            f"still starting{details}", "its control server does not answer: see 'journalctl -u tailscaled'"
        )
    return _control_server(case, facts)


def _control_server(case: Case, facts: TailnetFacts) -> Finding:
    seen = f"{facts.name} ({facts.address})" + (f" in {facts.tailnet}" if facts.tailnet else "")
    wanted = case.settings.tailscale_url
    try:
        actual = _daemon(case).control_url(QUERY_S).rstrip("/")
    except TransientError as error:
        return fail(str(error), "run doctor again")
    if wanted and actual != wanted:
        return warn(
            f"{seen}, with {actual} instead of BETA9_TAILSCALE_URL {wanted}",
            "if that is wrong, run 'tailscale logout': the agent does not move a machine that is logged in",
            found=facts,
        )
    return ok(seen, found=facts)


def _key(case: Case) -> Finding:
    facts = case.need("tailscaled", TailnetFacts)
    left_s = facts.key_expires_in_s
    if left_s is None:
        return ok("does not expire")
    seen = f"expires in {left_s / DAY_S:.1f} days"
    if left_s < EXPIRES_SOON_S:
        return warn(seen, "disable key expiry at the control server, or log in again before that")
    return ok(seen)


def _peer(case: Case) -> Finding:
    host = case.settings.gateway_host
    peer = case.need("tailscaled", TailnetFacts).peer
    if peer is None:
        return warn(
            f"no peer named {host} is visible from here; the name is resolved by DNS instead",
            "check BETA9_GATEWAY_HOST against 'tailscale status', and the tailnet's access rules",
        )
    seen = f"{host} is {peer.name} ({peer.address})"
    if peer.key_expired:
        return fail(f"{seen}, whose key has expired", "log that machine in to the tailnet again")
    if not peer.online:
        return fail(f"{seen}, not connected to the tailnet", "check tailscaled on that machine")
    if peer.direct is False:
        return warn(
            f"{seen}, reached through the relay '{peer.relay}'",
            "this works, but slowly; for a direct path, allow outgoing UDP (port 41641, and 3478 for STUN)",
        )
    return ok(f"{seen}, " + ("direct" if peer.direct else "no traffic yet"))


def _own_address(case: Case) -> Finding:
    """Check k3s at the address that the gateway dials. The firewall cannot be checked from this side."""
    certificate = case.found("k3s", str)
    if certificate is None:
        return skip("not tried: k3s does not answer, so there is nothing to reach")
    facts = case.need("tailnet login", TailnetFacts)
    label = f"{facts.address}:{case.settings.k3s_api.port}"
    # No token is sent: the certificate shows whether it is this machine's k3s.
    seen = probes.kubernetes((facts.address, case.settings.k3s_api.port), "", PROBE_S)
    reached = seen.probe.answer in REACHED
    if reached and seen.certificate == certificate:
        return ok(f"{label} is this machine's k3s; the firewall must allow it on tailscale0")
    if reached:
        return fail(f"{label} answers, but is not this machine's k3s", "see what listens there: 'ss -ltnp'")
    return fail(f"{label}: {seen.probe.text}", "remove bind-address from k3s's config.yaml, and restart k3s")


def _daemon(case: Case) -> TailscaleDaemon:
    return TailscaleDaemon(case.settings.tailscale_socket, case.settings.gateway_host)


CHECKS = (
    Check("tailscaled", _tailscaled),
    Check("tailnet login", _login, ("tailscaled",)),
    Check("tailnet key", _key, ("tailnet login",)),
    Check("tailnet peer", _peer, ("tailnet login",)),
    Check("tailnet address", _own_address, ("tailnet login",), after=("k3s",)),
)
