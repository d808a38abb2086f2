"""Checks of the tailnet: tailscaled, this machine's login and key, the gateway's side, the way back."""

from __future__ import annotations

from agent.adapters.gateway import probes
from agent.adapters.tailscale.local_client import TailscaleDaemon
from agent.core.events import REACHED
from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.tailnet.login import EXPIRES_SOON_S
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.errors import TransientError

LOOK_S = 4.0
PROBE_S = 4.0
DAY_S = 86_400.0

_LOGIN_FIX = (
    "give a key by BETA9_TAILSCALE_AUTH_FILE ('beta9 machine create' prints one, or your control server makes it), "
    "or log in by hand with 'tailscale up'"
)


def _tailscaled(case: Case) -> Finding:
    socket = case.settings.tailscale_socket
    facts = _daemon(case).look(LOOK_S)
    if facts.state is DaemonState.ABSENT:
        return fail(
            facts.text,
            "'systemctl status tailscaled'; in a container mount its directory, /var/run/tailscale, at the same place",
        )
    if facts.userspace:
        return fail(
            f"{socket}: tailscaled {facts.version} runs without a network interface",
            "let it have /dev/net/tun: take --tun=userspace-networking out of /etc/default/tailscaled",
        )
    return ok(f"tailscaled {facts.version} answers at {socket}", found=facts)


def _login(case: Case) -> Finding:
    facts: TailnetFacts = case.found("tailscaled")
    told = f" ({facts.text})" if facts.text else ""
    if facts.state is DaemonState.NEEDS_LOGIN:
        return fail(f"not logged in{told}", _LOGIN_FIX)
    if facts.state is DaemonState.KEY_EXPIRED:
        return fail(f"logged in once, and this machine's key has expired{told}", _LOGIN_FIX)
    if facts.state is DaemonState.NEEDS_APPROVAL:
        return fail("logged in, and not approved", "approve this machine in the tailnet's admin console")
    if facts.state is DaemonState.STOPPED:
        return fail("logged in, and told to be down", "'tailscale up'")
    if facts.state is DaemonState.STARTING:
        return fail(
            f"still starting{told}", "its control server does not answer: look at 'journalctl -u tailscaled'"
        )
    return _of_its_own_server(case, facts)


def _of_its_own_server(case: Case, facts: TailnetFacts) -> Finding:
    seen = f"{facts.name} ({facts.address})" + (f" in {facts.tailnet}" if facts.tailnet else "")
    wanted = case.settings.tailscale_url
    try:
        has = _daemon(case).control_url(LOOK_S).rstrip("/")
    except TransientError as error:
        return fail(str(error), "run doctor again")
    if wanted and has != wanted:
        return warn(
            f"{seen}, by {has}, and not by BETA9_TAILSCALE_URL {wanted}",
            "the agent does not move a machine that is logged in: 'tailscale logout' first, if that is wrong",
            found=facts,
        )
    return ok(seen, found=facts)


def _key(case: Case) -> Finding:
    facts: TailnetFacts = case.found("tailscaled")
    left_s = facts.key_expires_in_s
    if left_s is None:
        return ok("does not expire")
    seen = f"expires in {left_s / DAY_S:.1f} days"
    if left_s < EXPIRES_SOON_S:
        return warn(seen, "switch its expiry off at the control server, or log in again before that")
    return ok(seen)


def _peer(case: Case) -> Finding:
    host = case.settings.gateway_host
    peer = case.found("tailscaled").peer
    if peer is None:
        return warn(
            f"no peer is called {host}, or it may not be seen from here; it is looked up by DNS instead",
            "check BETA9_GATEWAY_HOST against 'tailscale status', and the tailnet's access rules",
        )
    seen = f"{host} is {peer.name} ({peer.address})"
    if peer.key_expired:
        return fail(f"{seen}, whose key has expired", "log the gateway's side in again")
    if not peer.online:
        return fail(f"{seen}, not connected to the tailnet", "look at tailscaled on the gateway's side")
    if peer.direct is False:
        return warn(
            f"{seen}, reached by the relay '{peer.relay}'",
            "slower, and it works; let UDP out (port 41641, and 3478 for STUN) for a direct way",
        )
    return ok(f"{seen}, " + ("direct" if peer.direct else "no traffic yet"))


def _own_address(case: Case) -> Finding:
    """k3s where the gateway dials it. The firewall's part cannot be seen from this side."""
    certificate = case.found("k3s")
    if certificate is None:
        return skip("not tried: there is no k3s that answers, so nothing to reach")
    facts: TailnetFacts = case.found("tailnet login")
    where = f"{facts.address}:{case.settings.k3s_api.port}"
    # No token goes there: the certificate tells whose k3s it is.
    seen = probes.kubernetes((facts.address, case.settings.k3s_api.port), "", PROBE_S)
    reached = seen.probe.answer in REACHED
    if reached and seen.certificate == certificate:
        return ok(f"{where} is this machine's k3s; the firewall must let it in on tailscale0")
    if reached:
        return fail(
            f"{where} answers, and not as this machine's k3s", "look at what listens there: 'ss -ltnp'"
        )
    return fail(f"{where}: {seen.probe.text}", "take bind-address out of k3s's config.yaml, and restart k3s")


def _daemon(case: Case) -> TailscaleDaemon:
    return TailscaleDaemon(case.settings.tailscale_socket, case.settings.gateway_host)


CHECKS = (
    Check("tailscaled", _tailscaled),
    Check("tailnet login", _login, ("tailscaled",)),
    Check("tailnet key", _key, ("tailnet login",)),
    Check("tailnet peer", _peer, ("tailnet login",)),
    Check("tailnet address", _own_address, ("tailnet login",), after=("k3s",)),
)
