"""Which settings there are: one table, from which parsing, --help and docs/settings.md are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.settings import parsers
from agent.settings.values import Connection, Interruption, K3sMode


@dataclass(frozen=True, eq=False)
class Field:
    """One setting. `default` is written as a person would write it and goes through the same parser."""

    name: str
    """The attribute of Settings, and the flag's destination in argparse."""
    variable: str
    help: str
    parse: Callable[[str], object] = parsers.text
    default: str | None = None
    flag: str | None = None
    secret: bool = False
    """Its file should be readable by its owner alone. (What `file_variant` fields hold is never shown.)"""
    file_variant: bool = False
    """`<VARIABLE>_FILE` names a file instead, and the value may be a reference to a secret store."""
    required: bool = False
    may_be_empty: bool = True
    """An empty value counts as not given (compose files pass those), unless that would hide a mistake."""
    default_text: str | None = None
    """What the documentation says where the default is decided by something else."""


FIELDS: tuple[Field, ...] = (
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
        "8 hexadecimal characters",
        parsers.machine_id,
        flag="--machine-id",
        default_text="on AWS the instance id's hash; else made once and kept in the state directory",
    ),
    Field(
        "provider_name",
        "BETA9_PROVIDER_NAME",
        "must equal the pool's provider in the gateway's configuration",
        parsers.name,
        default="generic",
        flag="--provider-name",
        may_be_empty=False,
    ),
    Field(
        "gateway_host",
        "BETA9_GATEWAY_HOST",
        "gateway's host; with ssh the local end of the tunnel",
        parsers.host,
        default="localhost",
        flag="--gateway-host",
    ),
    Field(
        "gateway_port",
        "BETA9_GATEWAY_PORT",
        "gateway's HTTP port; with ssh the local end of the tunnel",
        parsers.port,
        default="1994",
        flag="--gateway-port",
    ),
    Field(
        "connection",
        "BETA9_CONNECTION",
        "ssh, tailscale or direct",
        parsers.choice(Connection),
        default_text="ssh if BETA9_SSH_HOST is set, else direct",
    ),
    Field("ssh_host", "BETA9_SSH_HOST", "host to dial for the tunnel", parsers.host),
    Field("ssh_port", "BETA9_SSH_PORT", "its SSH port", parsers.port, default="22"),
    Field("ssh_user", "BETA9_SSH_USER", "tunnel-only user on it", parsers.user, default="beta9-tunnel"),
    Field(
        "ssh_key",
        "BETA9_SSH_KEY",
        "private key for the tunnel, without a passphrase",
        secret=True,
        file_variant=True,
    ),
    Field(
        "ssh_known_hosts",
        "BETA9_SSH_KNOWN_HOSTS",
        "pinned host key lines (known_hosts format; also @cert-authority)",
        file_variant=True,
    ),
    Field(
        "ssh_host_key_fingerprint",
        "BETA9_SSH_HOST_KEY_FINGERPRINT",
        "instead of known hosts: SHA256:…, also several, comma-separated; the scanned key must match",
        parsers.fingerprints,
    ),
    Field(
        "ssh_target",
        "BETA9_SSH_TARGET",
        "what the tunnel reaches on the gateway's side",
        parsers.host_port,
        default="localhost:31994",
    ),
    Field(
        "ssh_forwards",
        "BETA9_SSH_FORWARDS",
        "more forwards for worker pods (gRPC, Redis, object store): [bind:]port:host:port, comma-separated",
        parsers.forwards,
        default="",
    ),
    Field(
        "reverse_bind",
        "BETA9_REVERSE_BIND",
        "address on the gateway's side for the way back to this machine's k3s",
        parsers.bind_address,
        default="auto",
    ),
    Field(
        "hostname",
        "BETA9_HOSTNAME",
        "host name that the gateway dials for this machine's k3s",
        parsers.host,
        flag="--hostname",
        default_text="ssh: the reverse address; tailscale: the tailnet name",
    ),
    Field(
        "tailscale_url",
        "BETA9_TAILSCALE_URL",
        "control server of the tailnet to log in to, such as a headscale",
        parsers.url,
        flag="--tailscale-url",
        default_text="as tailscaled has it, else Tailscale's own",
    ),
    Field(
        "tailscale_auth",
        "BETA9_TAILSCALE_AUTH",
        "key to log in to the tailnet with, where tailscaled is not logged in",
        flag="--tailscale-auth",
        secret=True,
        file_variant=True,
    ),
    Field(
        "tailscale_socket",
        "BETA9_TAILSCALE_SOCKET",
        "tailscaled's socket",
        parsers.path,
        default="/var/run/tailscale/tailscaled.sock",
    ),
    Field(
        "k3s",
        "BETA9_K3S",
        "auto (use it when it is there), required, or none",
        parsers.choice(K3sMode),
        default="auto",
    ),
    Field(
        "kubeconfig",
        "BETA9_KUBECONFIG",
        "kubeconfig of this machine's k3s",
        parsers.path,
        default_text="where the bootstrap and k3s put it",
    ),
    Field(
        "k3s_token",
        "BETA9_K3S_TOKEN",
        "token with which the gateway logs in to this machine's k3s, if it is not to be made here",
        flag="--k3s-token",
        secret=True,
        file_variant=True,
    ),
    Field(
        "k3s_api",
        "BETA9_K3S_API",
        "where this machine's k3s API answers",
        parsers.host_port,
        default="127.0.0.1:6443",
    ),
    Field(
        "keepalive_interval_s",
        "BETA9_KEEPALIVE_INTERVAL",
        "seconds between keepalives; must fit the gateway's lease of 300 s",
        parsers.seconds,
        default="60",
        flag="--keepalive-interval",
    ),
    Field(
        "reserve_cpu_millicores",
        "BETA9_RESERVE_CPU",
        "cpu that is not offered to the gateway",
        parsers.cpu_millicores,
        default="500m",
    ),
    Field(
        "reserve_memory_mib",
        "BETA9_RESERVE_MEMORY",
        "memory that is not offered to the gateway",
        parsers.memory_mib,
        default="1Gi",
    ),
    Field(
        "interruption",
        "BETA9_INTERRUPTION",
        "whose notices of the machine's end to heed: auto, aws or none",
        parsers.choice(Interruption),
        default="auto",
    ),
    Field(
        "rebalance",
        "BETA9_REBALANCE",
        "what a rebalance recommendation does: drain (offer nothing, cordon; work goes on) or ignore",
        parsers.one_of("drain", "ignore"),
        default="drain",
    ),
    Field(
        "aws_launch_hook",
        "BETA9_AWS_LAUNCH_HOOK",
        "GROUP/HOOK of EC2 Auto Scaling: completed once work can be placed here, abandoned if it never can",
        parsers.lifecycle_hook,
    ),
    Field(
        "aws_termination_hook",
        "BETA9_AWS_TERMINATION_HOOK",
        "GROUP/HOOK of EC2 Auto Scaling: completed once the machine is drained",
        parsers.lifecycle_hook,
    ),
    Field(
        "metadata_endpoint",
        "BETA9_METADATA_ENDPOINT",
        "base URL of the instance metadata service; for tests",
        parsers.url,
        default="http://169.254.169.254",
    ),
    Field(
        "drain_timeout_s",
        "BETA9_DRAIN_TIMEOUT",
        "seconds that running work gets to finish after SIGTERM",
        parsers.seconds_or_none,
        default="90",
    ),
    Field(
        "state_dir",
        "BETA9_STATE_DIR",
        "where the machine id and the tunnel's sockets live (0700)",
        parsers.state_dir,
        default="/var/lib/beta9-worker",
    ),
    Field(
        "status_addr",
        "BETA9_STATUS_ADDR",
        "where /healthz, /readyz, /status and /metrics are served",
        parsers.listen_address,
        default="127.0.0.1:9464",
    ),
    Field(
        "log_format",
        "BETA9_LOG_FORMAT",
        "json or text",
        parsers.one_of("json", "text"),
        default_text="text on a terminal, else json",
    ),
    Field(
        "log_level",
        "BETA9_LOG_LEVEL",
        "debug, info, warning or error; --debug is debug",
        parsers.one_of("debug", "info", "warning", "error"),
        default="info",
    ),
    Field(
        "tuning",
        "BETA9_TUNING",
        "for tests: field=number, comma-separated, replaces timings of agent/core/policy.py",
        default="",
    ),
)

BY_NAME = {field.name: field for field in FIELDS}

BOOTSTRAP_VARIABLES: tuple[str, ...] = (
    "BETA9_SOURCE",
    "BETA9_AGENT_IMAGE",
    "BETA9_BASE_IMAGE",
    "BETA9_FILES_DIR",
    "BETA9_ON_FAILURE",
    "BETA9_REGISTRY_AUTH_FILE",
    "BETA9_REGISTRIES_FILE",
    "BETA9_SECRETS_TIMEOUT",
    "BETA9_HOST_KEY_NONCE",
    "BETA9_EXPECTED_GPUS",
    "BETA9_K3S_ALLOW_FROM",
    "BETA9_REQUIRE_PINS",
    "BETA9_OWN_DRIVER",
    "BETA9_GPU_TIMEOUT",
    "BETA9_MIG_STRATEGY",
    # The pins: bootstrap/versions.env
    "BETA9_K3S_VERSION",
    "BETA9_K3S_URL",
    "BETA9_K3S_SHA256",
    "BETA9_K3S_SUMS_URL",
    "BETA9_K3S_INSTALL_URL",
    "BETA9_K3S_INSTALL_SHA256",
    "BETA9_K3S_IMAGES_URL",
    "BETA9_K3S_IMAGES_SHA256",
    "BETA9_TOOLKIT_VERSION",
    "BETA9_TOOLKIT_REPOSITORY",
    "BETA9_TOOLKIT_KEY_URL",
    "BETA9_TOOLKIT_KEY_FINGERPRINT",
    "BETA9_NVIDIA_BRANCH",
    "BETA9_NVIDIA_DEBIAN_BRANCH",
    "BETA9_NVIDIA_REPOSITORY",
    "BETA9_NVIDIA_KEY_FINGERPRINT",
    "BETA9_DEVICE_PLUGIN_IMAGE",
    "BETA9_TAILSCALE_REPOSITORY",
    "BETA9_TAILSCALE_KEY_URL",
    "BETA9_TAILSCALE_KEY_FINGERPRINT",
    "BETA9_TAILSCALE_VERSION",
    "BETA9_MIN_FREE_MIB",
    "BETA9_SCRATCH_DISK",
    "BETA9_DEADLINE_SCALE",
    "BETA9_PIP_INDEX_URL",
    "BETA9_PIP_EXTRA_INDEX_URL",
    "BETA9_PIP_TRUSTED_HOST",
)
"""Read by the bootstrap from the same worker.env; the agent accepts and ignores them."""


def known_variables() -> tuple[str, ...]:
    """Every variable that means something here or in the bootstrap, with the `_FILE` variants."""
    own = [field.variable for field in FIELDS]
    files = [f"{field.variable}_FILE" for field in FIELDS if field.file_variant]
    return (*own, *files, *BOOTSTRAP_VARIABLES)
