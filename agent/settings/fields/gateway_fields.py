"""Settings for this machine's identity and for its connection to the gateway."""

from __future__ import annotations

from agent.core.hairpin.layout import DEFAULT_RANGE, parse_range
from agent.settings import parsers
from agent.settings.fields.field import Field
from agent.settings.values import Connection, ReverseMode

GATEWAY_FIELDS: tuple[Field, ...] = (
    Field(
        "token",
        "BETA9_TOKEN",
        "machine token, from 'beta9 machine create'",
        flag="--token",
        secret=True,
        file_variant=True,
        required=True,
        default_text="required",
    ),
    Field(
        "pool_name",
        "BETA9_POOL_NAME",
        "pool to join, exactly as in the gateway's configuration",
        parsers.name,
        flag="--pool-name",
        required=True,
        default_text="required",
    ),
    Field(
        "machine_id",
        "BETA9_MACHINE_ID",
        "this machine's id: 8 hexadecimal characters",
        parsers.machine_id,
        flag="--machine-id",
        default_text="on AWS a hash of the instance id; elsewhere generated once and kept in the state directory",
    ),
    Field(
        "provider_name",
        "BETA9_PROVIDER_NAME",
        "provider of the machine; must match the pool's provider in the gateway's configuration",
        parsers.name,
        default="generic",
        flag="--provider-name",
        may_be_empty=False,
    ),
    Field(
        "gateway_host",
        "BETA9_GATEWAY_HOST",
        "host of the gateway; with ssh, the local end of the tunnel",
        parsers.host,
        default="localhost",
        flag="--gateway-host",
    ),
    Field(
        "gateway_port",
        "BETA9_GATEWAY_PORT",
        "HTTP port of the gateway; with ssh, the local end of the tunnel",
        parsers.port,
        default="1994",
        flag="--gateway-port",
    ),
    Field(
        "connection",
        "BETA9_CONNECTION",
        "how to reach the gateway: ssh, tailscale or direct",
        parsers.choice(Connection),
        default_text="ssh if BETA9_SSH_HOST is set, else direct",
    ),
    Field("ssh_host", "BETA9_SSH_HOST", "SSH host to dial for the tunnel", parsers.host),
    Field("ssh_port", "BETA9_SSH_PORT", "SSH port of that host", parsers.port, default="22"),
    Field(
        "ssh_user", "BETA9_SSH_USER", "tunnel-only user on that host", parsers.user, default="beta9-tunnel"
    ),
    Field(
        "ssh_jump",
        "BETA9_SSH_JUMP",
        "jump hosts on the way to the SSH host, as for 'ssh -J': [user@]host[:port], comma-separated; the same key is"
        " used, and their host keys are pinned alike",
        parsers.jump_hosts,
        default="",
    ),
    Field(
        "ssh_key",
        "BETA9_SSH_KEY",
        "private key for the tunnel, without passphrase",
        secret=True,
        file_variant=True,
    ),
    Field(
        "ssh_known_hosts",
        "BETA9_SSH_KNOWN_HOSTS",
        "pinned host keys, as known_hosts lines (@cert-authority is allowed)",
        file_variant=True,
    ),
    Field(
        "ssh_host_key_fingerprint",
        "BETA9_SSH_HOST_KEY_FINGERPRINT",
        "instead of known_hosts lines: SHA256:… fingerprints, comma-separated; the host key must match one",
        parsers.fingerprints,
    ),
    Field(
        "ssh_target",
        "BETA9_SSH_TARGET",
        "host:port of the gateway, as seen from the SSH host",
        parsers.host_port,
        default="localhost:31994",
    ),
    Field(
        "ssh_forwards",
        "BETA9_SSH_FORWARDS",
        "additional forwards for worker pods (gRPC, Redis, object store): [bind:]port:host:port, comma-separated",
        parsers.forwards,
        default="",
    ),
    Field(
        "reverse_bind",
        "BETA9_REVERSE_BIND",
        "address on the SSH host through which the gateway reaches this machine's k3s",
        parsers.bind_address,
        default="auto",
    ),
    Field(
        "reverse",
        "BETA9_REVERSE",
        "what the gateway reaches here through ssh: any-port, k3s (its port 6443 alone), or auto: any-port if it works",
        parsers.choice(ReverseMode),
        default="auto",
    ),
    Field(
        "hairpin",
        "BETA9_HAIRPIN",
        "for any-port: a /30 that is free on this machine; with another than the default, tell the gateway's relay",
        parse_range,
        default=DEFAULT_RANGE,
    ),
    Field(
        "hostname",
        "BETA9_HOSTNAME",
        "host name at which the gateway dials this machine's k3s",
        parsers.host,
        flag="--hostname",
        default_text="ssh: the reverse address; tailscale: the tailnet name",
    ),
    Field(
        "tailscale_url",
        "BETA9_TAILSCALE_URL",
        "control server of the tailnet, such as a Headscale server",
        parsers.url,
        flag="--tailscale-url",
        default_text="tailscaled's own setting, else Tailscale's server",
    ),
    Field(
        "tailscale_auth",
        "BETA9_TAILSCALE_AUTH",
        "auth key for the tailnet, used if tailscaled is not logged in",
        flag="--tailscale-auth",
        secret=True,
        file_variant=True,
    ),
    Field(
        "tailscale_socket",
        "BETA9_TAILSCALE_SOCKET",
        "path of tailscaled's socket",
        parsers.path,
        default="/var/run/tailscale/tailscaled.sock",
    ),
)
