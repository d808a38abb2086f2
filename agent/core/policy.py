"""How long, how often, how many: the timings of the decisions, in one frozen value.

It is made from the settings, and tests shrink it. What belongs to a protocol or a platform, and nobody would tune
(EC2's notice times, the slack of a call's deadline), stands beside the rule that uses it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NamesPolicy:
    """The timings of the resolver on the gateway's host, in seconds."""

    ttl_s: int = 1
    """How long an answer may be kept: a machine whose path was cut is soon at another address."""
    look_interval_s: float = 1.0
    """How often the listeners are listed unasked: the one that came last is the machine's current one."""
    look_fresh_s: float = 0.1
    """How long a list of the listeners serves further queries."""
    connection_s: float = 5.0
    """How long a TCP connection may last."""
    bind_retry_s: float = 5.0
    """Pause before the next try to answer at an address that is taken, or not there yet."""


@dataclass(frozen=True)
class Policy:
    """Times in seconds, counts plain. Defaults are for a gateway whose lease is 300 s (its contract)."""

    # The lease
    ttl_s: float = 300.0
    """Lifetime of a registration and of a keepalive at the gateway; its replies repeat it as `ttl_seconds`."""
    keepalive_interval_s: float = 60.0
    keepalive_timeout_s: float = 10.0
    keepalive_retry_s: float = 2.0
    """First pause after a failed call; doubles up to `call_retry_cap_s`, with jitter."""
    call_retry_cap_s: float = 10.0
    refused_retry_s: float = 60.0
    """Longest pause after 401, 403 or 404 once registered; the token is resolved again each time."""
    register_timeout_s: float = 30.0
    """A gateway without directRedisHost spends 5 s on a registration (its contract)."""
    http_connect_timeout_s: float = 3.0

    # The tunnel
    ssh_connect_timeout_s: float = 5.0
    ssh_hurried_connect_timeout_s: float = 1.0
    """The same once an attempt was overdue: ssh tries the addresses of a name in turn, and each may cost this much."""
    ssh_alive_interval_s: float = 4.0
    ssh_alive_count: int = 2
    """ssh notices a dead peer after interval x (count + 1): 12 s (measured; see ARCHITECTURE.md)."""
    start_timeout_s: float = 15.0
    start_probe_s: float = 0.05
    probe_interval_s: float = 3.0
    probe_retry_s: float = 0.5
    probe_timeout_s: float = 2.5
    probe_failures: int = 3
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 30.0
    outage_s: float = 240.0
    """While an outage is younger than this, `outage_cap_s` caps the pause between attempts."""
    outage_cap_s: float = 4.0
    settled_s: float = 60.0
    """A link that was up for this long starts again from the first pause."""
    denied_min_s: float = 60.0
    denied_max_s: float = 300.0
    """Pause after a refused login or host key: sshd penalises the whole source network for failed logins."""
    conflict_s: float = 15.0
    """How long to wait for a local port (or the state directory's lock) that another process holds."""

    # The machine's own Kubernetes, and the way back to it
    kube_interval_s: float = 3.5
    """A k3s that hangs is cut off within interval + retry + two time-outs: 8 s. Each probe is a TLS handshake."""
    kube_timeout_s: float = 2.0
    kube_retry_s: float = 0.5
    kube_failures: int = 2
    kube_look_s: float = 5.0
    """With BETA9_K3S=auto and no k3s so far, look for one this often: one that appears must be used within 10 s."""
    contest_interval_s: float = 30.0
    """How often to ask who holds an address of this machine that is taken, while somebody does."""
    reverse_interval_s: float = 4.0
    """Each such probe is a TLS handshake, ten times the cost of asking for the gateway's health."""
    reverse_wait_s: float = 20.0
    """Register without a keepalive if the reverse path is not verified this long after the gateway answers."""
    reverse_settle_s: float = 3.0
    """Logged in for this long and the address still refuses: sshd bound another one (GatewayPorts no)."""
    relay_lost_s: float = 30.0
    """A relay that has answered before may be away this long (restarted, upgraded) before the plain form stands in."""
    any_port_retry_s: float = 300.0
    """In the plain form, for want of a relay or of a permission: first pause before any port is tried again."""
    any_port_retry_cap_s: float = 600.0
    hairpin_interval_s: float = 4.0
    """How often a connection is made through the hairpin: 0.1 ms."""
    hairpin_inspect_s: float = 7.5
    """How often routes and packet filters are read as well, so that damage is repaired within 10 s: two commands."""
    hairpin_timeout_s: float = 2.0
    path_grace_s: float = 6.0
    """The reverse path may be unverified this long (a child being replaced) before the offer is withdrawn."""
    node_interval_s: float = 10.0
    """How often the node and its pods are read; a probe asks only what the gateway would."""
    node_grace_s: float = 30.0
    job_pod_s: float = 60.0
    """A worker Job without a pod for this long shows that none can start here."""
    gpu_wait_s: float = 300.0
    """Registering waits this long for the device plugin to advertise GPUs that the driver sees."""
    gpu_settle_s: float = 60.0
    """Withdrawn and idle for this long, a machine offers the fewer GPUs that other pods leave it: the gateway counts a
    worker that has gone for as long (its contract)."""
    kube_token_s: float = 86_400.0
    """Lifetime of the token that the gateway gets; the API server's minimum is 600."""
    kube_renew_s: float = 43_200.0
    """A token this old is replaced; never later than at half of its lifetime."""

    # The tailnet, where that is the way to the gateway
    tailnet_interval_s: float = 3.0
    """How often tailscaled is asked for its status: a millisecond over its socket (docs/adr/0007)."""
    tailnet_peers_s: float = 30.0
    """How often it is also asked for its peers while all is well: a large tailnet has many."""
    tailnet_timeout_s: float = 2.5
    tailnet_failures: int = 2
    """A daemon that does not answer this often in a row counts as gone."""
    join_base_s: float = 15.0
    """First pause before the next login attempt; doubles up to `join_cap_s`."""
    join_cap_s: float = 300.0
    join_timeout_s: float = 10.0

    # Facts and shutdown
    facts_interval_s: float = 15.0
    drain_timeout_s: float = 90.0
    farewell_s: float = 3.0
    """Longest that the farewell to the gateway may delay an exit, when there is nothing to drain."""
    hand_over_s: float = 4.0
    notice_s: float = 120.0
    """Time until termination if the cloud names none (EC2: a spot notice comes two minutes ahead)."""
    notice_farewell_s: float = 10.0
    """As `farewell_s`, when the machine is taken away: the tunnel may need to come back for it."""
    force_before_s: float = 20.0
    """Workers that still run this long before the machine is taken are removed."""
    stop_force_before_s: float = 8.0
    """The same after a signal, whose deadline is only the service manager's."""
    workers_interval_s: float = 1.0
    workers_timeout_s: float = 2.0
    once_deadline_s: float = 60.0


@dataclass(frozen=True)
class RelayPolicy:
    """The relay's timings on the gateway's host, in seconds."""

    answer_timeout_s: float = 3.0
    """How long a dial waits for the machine's answer before it is refused."""
    doubt_s: float = 1.5
    """After so long without an answer the machine is asked for a port that it refuses at once if it is well."""
    silence_s: float = 20.0
    """First pause in dialling a machine that did not answer. The shipped sshd settings end a dead session after 17 s
    without a dial (measured with OpenSSH 9.2, which waits longest)."""
    silence_cap_s: float = 120.0
    accept_timeout_s: float = 3.0
    """How long an open stream waits for its dialler, who may have given up."""
    rules_interval_s: float = 5.0
    """How often the packet filter is checked: restarting a firewall removes everybody's rules."""
    rules_timeout_s: float = 10.0
