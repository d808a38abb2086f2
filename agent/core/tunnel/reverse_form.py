"""Which form the reverse path has: any port of this machine, or its k3s alone (the plain form).

Any port is the ordinary form; the plain form stands in for it:

why plain                              | until
-------------------------------------- | --------------------------------------------------------------
BETA9_REVERSE=k3s, and what implies it | the agent ends
the hairpin cannot be made here        | a check makes it
sshd refused 1080 at every address     | the next trial: after 300 s, then each 600 s
no relay answered                      | the same; a relay that has answered before gets `relay_lost_s`

The last two are in somebody else's hands, so any port is tried again from time to time. A trial costs the plain path
about four seconds, less than an offer's grace. With BETA9_REVERSE=any-port nothing stands in: what is missing is named,
and nothing is offered.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import Config, Connection, K3sMode, ReverseMode
from agent.core.context import Context
from agent.core.hairpin.model import HairpinFaultKind
from agent.core.state import AgentState
from agent.core.tunnel.addresses import is_machine_address
from agent.core.tunnel.model import Fallback

LEAST_REFUSALS = 4
"""So many refused binds in a row mean that sshd does not grant the port; fewer may be a dead session's doing."""


def always_plain(config: Config) -> str | None:
    """Return why the settings rule out any port; None if they do not."""
    if config.connection is not Connection.SSH:
        return f"the connection is {config.connection.value}"
    if config.reverse is not ReverseMode.AUTO:
        return "BETA9_REVERSE is k3s" if config.reverse is ReverseMode.K3S else None
    if config.once:
        return "--once opens the tunnel only for a moment"
    if config.k3s is K3sMode.NONE:
        return "BETA9_K3S is none, and only a probe of k3s would notice that the gateway's host has no relay"
    if not all(is_machine_address(address) for address in config.addresses):
        return "BETA9_REVERSE_BIND is outside 127.64.0.0/10, where the relay takes connections"
    return None


def uses_any_port(state: AgentState) -> bool:
    """Return whether the reverse path is to lead to any port of this machine."""
    return plain_reason(state) is None


def plain_reason(state: AgentState) -> str | None:
    """Return why the reverse path leads to k3s alone; None if it leads to any port."""
    reason = always_plain(state.config)
    if reason is not None or state.config.reverse is ReverseMode.ANY_PORT:
        return reason
    fault = state.hairpin.fault
    if fault is not None and fault.kind is HairpinFaultKind.UNABLE:
        return fault.message
    return state.fallback.reason


def fall_back(state: AgentState, reason: str, ctx: Context) -> AgentState:
    """Let the plain form stand in for a while, unless the settings insist on any port."""
    if state.config.reverse is not ReverseMode.AUTO:
        return state
    trials = state.fallback.trials + 1
    pause_s = min(ctx.policy.any_port_retry_s * 2 ** (trials - 1), ctx.policy.any_port_retry_cap_s)
    fallback = Fallback(reason, ctx.now_s + pause_s, trials, verified=state.fallback.verified)
    return replace(state, fallback=fallback)


def try_again(state: AgentState, ctx: Context) -> AgentState:
    """Try any port again when that is due."""
    fallback = state.fallback
    if fallback.reason is None or ctx.now_s < fallback.trial_at_s:
        return state
    return replace(state, fallback=replace(fallback, reason=None, refusals=0))


def on_refused(state: AgentState, address: str | None, ctx: Context) -> AgentState:
    """sshd refused to listen. Enough refusals in a row mean that it does not grant the port of this form."""
    fallback = replace(state.fallback, refusals=state.fallback.refusals + 1)
    state = replace(state, fallback=fallback)
    if fallback.refusals < max(LEAST_REFUSALS, len(state.config.addresses)):
        return state
    if uses_any_port(state):
        return fall_back(state, _not_granted(address), ctx)
    # Refused in the plain form as well: the addresses are taken, whatever sshd grants.
    return replace(state, fallback=replace(fallback, reason=None, refusals=0))


def _not_granted(address: str | None) -> str:
    return (
        f"sshd refuses to listen on {address}:1080 and on this machine's other addresses, so the gateway reaches only "
        "port 6443 of this machine; put the line that 'beta9-worker authorize' prints now into the tunnel user's "
        "authorized_keys, and run this version's bootstrap/gateway/setup.sh there: both name port 1080"
    )


def on_no_relay(state: AgentState, ctx: Context) -> AgentState:
    """The reverse child is let in, and nothing answers for it on the gateway's side."""
    return fall_back(state, no_relay(state.address), ctx)


def no_relay(address: str | None) -> str:
    """Say that there is no relay, and what to do."""
    return (
        f"no relay answers for {address} on the gateway's host, so the gateway reaches only port 6443 of this machine; "
        "set it up there with bootstrap/gateway/setup.sh --relay, and look at its log if it is there"
    )


def relay_patience_s(state: AgentState, ctx: Context) -> float:
    """How long after its login a reverse child may go unanswered before the relay counts as missing."""
    is_trusted = state.fallback.verified and not state.fallback.trials
    return ctx.policy.relay_lost_s if is_trusted else ctx.policy.reverse_settle_s


def on_verified(state: AgentState) -> AgentState:
    """The path was verified. In the form of any port, that proves that the relay is there."""
    fallback = replace(state.fallback, refusals=0)
    if uses_any_port(state):
        fallback = Fallback(verified=True)
    return replace(state, fallback=fallback)
