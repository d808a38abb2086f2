"""Rules between settings: broken ones are errors (`ERRORS`) or only deserve a warning (`WARNINGS`).

A rule names the settings it depends on and is checked only if all of them were read without error. So a bad port is
reported once, not again by every rule about that port.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.core.machine_api.lease import interval_problem
from agent.core.text.describe import shown
from agent.core.tunnel.addresses import is_machine_address
from agent.settings.model import Settings
from agent.settings.values import Connection, K3sMode, ReverseMode

LONGEST_DRAIN_S = 105
"""The service allows 110 s (`docker stop -t 110`); the rest is for deregistering and closing the tunnel."""


@dataclass(frozen=True, eq=False)
class Rule:
    """`check` returns a sentence if the rule is broken, else None."""

    depends_on: tuple[str, ...]
    check: Callable[[Settings], str | None]


def _ssh_host(s: Settings) -> str | None:
    if s.connection is Connection.SSH and not s.ssh_host:
        return "BETA9_SSH_HOST: not set, but BETA9_CONNECTION is ssh; give the SSH host to dial"
    return None


def _ssh_key(s: Settings) -> str | None:
    if s.connection is Connection.SSH and not s.ssh_key:
        return (
            "BETA9_SSH_KEY_FILE: not set, but ssh needs a private key; give the path of its file"
            " (or store the key as /etc/beta9-worker/secrets/ssh_key)"
        )
    return None


def _ssh_host_key(s: Settings) -> str | None:
    if s.connection is Connection.SSH and not (s.ssh_known_hosts or s.ssh_host_key_fingerprint):
        return (
            "BETA9_SSH_KNOWN_HOSTS: not set, and an unknown host key is never accepted; put the host's"
            " known_hosts lines into BETA9_SSH_KNOWN_HOSTS(_FILE), or its fingerprint into"
            " BETA9_SSH_HOST_KEY_FINGERPRINT"
            " ('ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on that host prints it)"
        )
    return None


def _timing(s: Settings) -> str | None:
    problem = interval_problem(s.policy)
    return f"BETA9_KEEPALIVE_INTERVAL: {problem}" if problem else None


def _tailscale_host(s: Settings) -> str | None:
    if s.connection is Connection.TAILSCALE and "gateway_host" not in s.sources:
        return (
            "BETA9_GATEWAY_HOST: not set, but BETA9_CONNECTION is tailscale; give the gateway's tailnet name"
        )
    return None


def _local_end(s: Settings) -> str | None:
    if s.connection is Connection.SSH and not _is_loopback(s.gateway_host):
        return (
            f"BETA9_GATEWAY_HOST: {shown(s.gateway_host)} is not this machine, but with ssh it is the tunnel's local"
            " end; remove it, and set BETA9_SSH_TARGET to the gateway's address as seen from the SSH host"
        )
    return None


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _ports_differ(s: Settings) -> str | None:
    local = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound
    same = s.status_addr.port == s.gateway_port and s.status_addr.host in local
    if s.connection is Connection.SSH and same:
        return (
            f"BETA9_STATUS_ADDR: {s.status_addr} uses the port of the tunnel's local end (BETA9_GATEWAY_PORT);"
            " choose another"
        )
    return None


def _forwards_differ(s: Settings) -> str | None:
    taken = {("127.0.0.1", s.gateway_port): "the tunnel's local end (BETA9_GATEWAY_PORT)"}
    for forward in s.ssh_forwards:
        listener = ("127.0.0.1" if forward.bind == "localhost" else forward.bind, forward.port)
        if listener in taken:
            return (
                f"BETA9_SSH_FORWARDS: {forward} listens on the same port as {taken[listener]}; choose another"
            )
        taken[listener] = f"{forward}"
    return None


def _reverse_bind(s: Settings) -> str | None:
    is_fitting = s.reverse_bind == "auto" or is_machine_address(s.reverse_bind)
    if s.reverse is ReverseMode.ANY_PORT and s.connection is Connection.SSH and not is_fitting:
        return (
            f"BETA9_REVERSE_BIND: {shown(s.reverse_bind)} is outside 127.64.0.0/10, where the gateway's relay takes"
            " connections for any-port; remove it, or set BETA9_REVERSE=k3s"
        )
    return None


ERRORS: tuple[Rule, ...] = (
    Rule(("connection", "ssh_host"), _ssh_host),
    Rule(("connection", "ssh_key"), _ssh_key),
    Rule(("connection", "ssh_known_hosts", "ssh_host_key_fingerprint"), _ssh_host_key),
    Rule(("connection", "gateway_host"), _tailscale_host),
    Rule(("connection", "gateway_host"), _local_end),
    Rule(("keepalive_interval_s", "tuning"), _timing),
    Rule(("connection", "status_addr", "gateway_port"), _ports_differ),
    Rule(("ssh_forwards", "gateway_port"), _forwards_differ),
    Rule(("connection", "ssh_host", "reverse", "reverse_bind"), _reverse_bind),
)


def _ssh_unused(s: Settings) -> str | None:
    given = [
        name
        for name in ("ssh_host", "ssh_jump", "ssh_forwards", "ssh_host_key_fingerprint", "reverse", "hairpin")
        if name in s.sources
    ]
    if s.connection is not Connection.SSH and given:
        return f"BETA9_{given[0].upper()} has no effect: BETA9_CONNECTION is {s.connection.value}" + (
            "" if s.ssh_host else " because BETA9_SSH_HOST is not set"
        )
    return None


def _tailnet_unused(s: Settings) -> str | None:
    """`beta9 machine create` prints both for a gateway that has a tailnet, whichever way the machine connects."""
    given = [name for name in ("tailscale_url", "tailscale_auth") if getattr(s, name) is not None]
    if s.connection is Connection.TAILSCALE or not given:
        return None
    names = " and ".join(s.sources[name] for name in given)
    return (
        f"{names} {'has' if len(given) == 1 else 'have'} no effect: the connection is {s.connection.value}"
        f" ({s.sources['connection']}); to join the tailnet, set BETA9_CONNECTION=tailscale, and BETA9_GATEWAY_HOST"
        " to the gateway's name there"
    )


def _both_pins(s: Settings) -> str | None:
    if s.ssh_known_hosts and s.ssh_host_key_fingerprint:
        return (
            "BETA9_SSH_HOST_KEY_FINGERPRINT has no effect: BETA9_SSH_KNOWN_HOSTS is set and takes precedence"
        )
    return None


def _no_hostname(s: Settings) -> str | None:
    if s.connection is Connection.DIRECT and not s.hostname and not s.once:
        return (
            "BETA9_HOSTNAME is not set: with a direct connection the gateway cannot find this machine's"
            " k3s, so nothing will be offered"
        )
    return None


def _no_k3s(s: Settings) -> str | None:
    if s.k3s is K3sMode.NONE and not s.k3s_token and not s.once:
        return (
            "BETA9_K3S is none and BETA9_K3S_TOKEN is not set: no work can start here, so nothing is offered"
        )
    return None


def _long_drain(s: Settings) -> str | None:
    if s.drain_timeout_s > LONGEST_DRAIN_S:
        return (
            f"BETA9_DRAIN_TIMEOUT is {s.drain_timeout_s:g} s, but the service stops the agent after 110 s;"
            " also raise 'docker stop -t' and TimeoutStopSec"
        )
    return None


def _forward_is_public(s: Settings) -> str | None:
    for forward in s.ssh_forwards:
        if not _is_loopback(forward.bind):
            return f"BETA9_SSH_FORWARDS: {forward} can be reached from outside this machine"
    return None


WARNINGS: tuple[Rule, ...] = (
    Rule(
        (
            "connection",
            "ssh_host",
            "ssh_jump",
            "ssh_forwards",
            "ssh_host_key_fingerprint",
            "reverse",
            "hairpin",
        ),
        _ssh_unused,
    ),
    Rule(("connection", "ssh_host", "tailscale_url", "tailscale_auth"), _tailnet_unused),
    Rule(("ssh_known_hosts", "ssh_host_key_fingerprint"), _both_pins),
    Rule(("connection", "hostname"), _no_hostname),
    Rule(("k3s", "k3s_token"), _no_k3s),
    Rule(("drain_timeout_s",), _long_drain),
    Rule(("ssh_forwards",), _forward_is_public),
)


def broken(rules: tuple[Rule, ...], settings: Settings, failed: set[str]) -> list[str]:
    """Check every rule that depends on none of the `failed` settings; return the sentences of broken rules."""
    sentences = (rule.check(settings) for rule in rules if failed.isdisjoint(rule.depends_on))
    return [sentence for sentence in sentences if sentence]
