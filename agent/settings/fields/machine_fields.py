"""Settings for the machine and the running agent: Kubernetes, capacity, interruptions, draining, state, logs."""

from __future__ import annotations

from agent.settings import amounts, parsers
from agent.settings.fields.field import Field
from agent.settings.values import Interruption, K3sMode

MACHINE_FIELDS: tuple[Field, ...] = (
    Field(
        "k3s",
        "BETA9_K3S",
        "use of this machine's k3s: auto (if there is one), required, or none",
        parsers.choice(K3sMode),
        default="auto",
    ),
    Field(
        "kubeconfig",
        "BETA9_KUBECONFIG",
        "kubeconfig of this machine's k3s",
        parsers.path,
        default_text="where the bootstrap or k3s writes it",
    ),
    Field(
        "k3s_token",
        "BETA9_K3S_TOKEN",
        "token with which the gateway logs in to this machine's k3s; without one, the agent creates it",
        flag="--k3s-token",
        secret=True,
        file_variant=True,
    ),
    Field(
        "k3s_api",
        "BETA9_K3S_API",
        "host:port of this machine's k3s API",
        parsers.host_port,
        default="127.0.0.1:6443",
    ),
    Field(
        "keepalive_interval_s",
        "BETA9_KEEPALIVE_INTERVAL",
        "seconds between keepalives; must fit within the gateway's lease of 300 s",
        amounts.seconds,
        default="60",
        flag="--keepalive-interval",
    ),
    Field(
        "expected_gpus",
        "BETA9_EXPECTED_GPUS",
        "number of GPUs that the bootstrap waits for; 0 sets the machine up, and offers it, without GPUs",
        amounts.count,
        default_text="as many as nvidia-smi lists",
    ),
    Field(
        "reserve_cpu_millicores",
        "BETA9_RESERVE_CPU",
        "CPU that is not offered to the gateway",
        amounts.cpu_millicores,
        default="500m",
    ),
    Field(
        "reserve_memory_mib",
        "BETA9_RESERVE_MEMORY",
        "memory that is not offered to the gateway",
        amounts.memory_mib,
        default="1Gi",
    ),
    Field(
        "interruption",
        "BETA9_INTERRUPTION",
        "which cloud's interruption notices to act on: auto, aws or none",
        parsers.choice(Interruption),
        default="auto",
    ),
    Field(
        "rebalance",
        "BETA9_REBALANCE",
        "response to a rebalance recommendation: drain (for an hour cordon and offer nothing new; running work goes on)"
        " or ignore",
        parsers.one_of("drain", "ignore"),
        default="drain",
    ),
    Field(
        "aws_launch_hook",
        "BETA9_AWS_LAUNCH_HOOK",
        "EC2 Auto Scaling launch hook as GROUP/HOOK: completed once work can be placed here, abandoned if it never can",
        parsers.lifecycle_hook,
    ),
    Field(
        "aws_termination_hook",
        "BETA9_AWS_TERMINATION_HOOK",
        "EC2 Auto Scaling termination hook as GROUP/HOOK: completed once the machine is drained",
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
        "seconds that running work has to finish after SIGTERM",
        amounts.seconds_or_none,
        default="90",
    ),
    Field(
        "state_dir",
        "BETA9_STATE_DIR",
        "directory for the machine id and the tunnel's sockets (mode 0700)",
        parsers.state_dir,
        default="/var/lib/beta9-worker",
    ),
    Field(
        "status_addr",
        "BETA9_STATUS_ADDR",
        "host:port on which /healthz, /readyz, /status and /metrics are served",
        parsers.listen_address,
        default="127.0.0.1:9464",
    ),
    Field(
        "log_format",
        "BETA9_LOG_FORMAT",
        "log format: json or text",
        parsers.one_of("json", "text"),
        default_text="text on a terminal, otherwise json",
    ),
    Field(
        "log_level",
        "BETA9_LOG_LEVEL",
        "log level: debug, info, warning or error; --debug sets debug",
        parsers.one_of("debug", "info", "warning", "error"),
        default="info",
    ),
    Field(
        "tuning",
        "BETA9_TUNING",
        "for tests: field=number, comma-separated; replaces timings in agent/core/policy.py",
        default="",
    ),
)
