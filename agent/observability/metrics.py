"""`/metrics` for Prometheus, rendered from the same dictionary as `/status`. docs/metrics.md lists every name.

Unknown values (None) are left out rather than shown as 0. Imported on the first scrape, because importing
prometheus_client takes 90 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.core.lifecycle.model import DisplayedState

PREFIX = "beta9_worker_"
_STATES = tuple(str(state.value) for state in DisplayedState)
GPU_LABELS = ("uuid", "name")

Status = Mapping[str, Any]
Sample = tuple[tuple[str, ...], float | None]
"""Label values, and the sample's value."""


@dataclass(frozen=True)
class Family:
    """One metric family. `name` excludes the prefix, and for a counter the suffix `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False

    @property
    def full_name(self) -> str:
        """The name as Prometheus shows it."""
        return f"{PREFIX}{self.name}{'_total' if self.is_counter else ''}"

    def metric(self, samples: Iterable[Sample]) -> Metric:
        """Return the family with its samples, except those whose value is None."""
        make = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        metric = make(PREFIX + self.name, self.help, labels=self.labels)
        for labels, value in samples:
            if value is not None:
                metric.add_metric(labels, float(value))
        return metric


FAMILIES = {
    family.name: family
    for family in (
        Family("build_info", "Always 1; labelled with version, machine and pool.", ("version", "machine_id", "pool")),
        Family("state", "1 for the agent's current state, 0 for the others.", ("state",)),
        Family("state_age_seconds", "Time in the current state."),
        Family("gateway_last_ok_age_seconds", "Time since the gateway's last successful answer."),
        Family("lease_remaining_seconds", "Time until the gateway forgets this machine."),
        Family("keepalive_interval_seconds", "Time between two keepalives."),
        Family("keepalive_last_ok_age_seconds", "Time since the last accepted keepalive."),
        Family("keepalive_consecutive_failures", "Keepalives that failed since the last accepted one."),
        Family("keepalives", "Keepalives sent, by result (ok, failed).", ("result",), is_counter=True),
        Family("registrations", "Registrations sent, by result (ok, failed).", ("result",), is_counter=True),
        Family("tunnel_up", "1 if this part of the tunnel carries traffic (forward, reverse, data).", ("link",)),
        Family("tunnel_restarts", "Replaced ssh connections, by reason.", ("reason",), is_counter=True),
        Family("probe_seconds", "Duration of the last end-to-end probe (forward, reverse, kubernetes).", ("path",)),
        Family("tailnet_up", "1 if this machine is in its tailnet; absent unless it connects through Tailscale."),
        Family("tailnet_key_remaining_seconds", "Time until this machine's tailnet key expires."),
        Family("tailnet_peer_direct", "1 if traffic to the gateway's peer is direct, 0 if relayed."),
        Family("offered", "1 if this machine advertises capacity to the gateway."),
        Family("keepalives_going", "1 if the machine holds a lease and its last keepalive was accepted."),
        Family("placeable", "1 if the gateway can start work here."),
        Family("placement_blocked", "1 for what keeps the gateway from placing work; /status has the reason.", ("by",)),
        Family("capacity_cpu_cores", "CPU cores for work, less the reserve and other pods."),
        Family("capacity_memory_bytes", "Memory for work, less the reserve and other pods."),
        Family("capacity_gpus", "GPUs advertised to the gateway."),
        Family("capacity_free_gpus", "GPUs that are healthy and free."),
        Family("gpu_healthy", "1 if the GPU can be used.", GPU_LABELS),
        Family("gpu_utilization_ratio", "Share of time the GPU was busy, 0 to 1.", GPU_LABELS),
        Family("gpu_memory_used_bytes", "GPU memory in use.", GPU_LABELS),
        Family("gpu_memory_total_bytes", "Total GPU memory.", GPU_LABELS),
        Family("gpu_temperature_celsius", "GPU temperature.", GPU_LABELS),
        Family("interrupted", "1 if the cloud has announced that it will interrupt this machine."),
        Family("drain_workers", "Workers still running on a draining machine, as last counted."),
        Family("drain_remaining_seconds", "Time until a draining machine stops, whatever is still running."),
        Family("degraded_conditions", "Number of degraded conditions; /status lists them."),
    )
}  # fmt: skip


def render(status: Status) -> bytes:
    """Return the text that Prometheus scrapes, including the metrics of the agent's own process."""
    registry = CollectorRegistry()
    registry.register(_FromStatus(status))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _FromStatus:
    """Collector that reads its samples from a status."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield each family that has at least one sample."""
        for name, samples in samples_of(self._status).items():
            metric = FAMILIES[name].metric(samples)
            if metric.samples:
                yield metric


def samples_of(status: Status) -> dict[str, list[Sample]]:
    """Return the samples of every family, in the units that its name states."""
    capacity, keepalive = _part(status, "capacity"), _part(status, "keepalive")
    placement = _part(status, "placement")
    counters, tunnel = _part(status, "counters"), _part(status, "tunnel")
    return {
        "build_info": [(tuple(str(status.get(key, "")) for key in ("version", "machine_id", "pool")), 1)],
        "state": [((state,), float(status.get("state") == state)) for state in _STATES],
        "state_age_seconds": [((), status.get("since_s"))],
        "gateway_last_ok_age_seconds": [((), _part(status, "gateway").get("last_ok_s"))],
        "lease_remaining_seconds": [((), keepalive.get("ttl_s"))],
        "keepalive_interval_seconds": [((), keepalive.get("interval_s"))],
        "keepalive_last_ok_age_seconds": [((), keepalive.get("last_ok_s"))],
        "keepalive_consecutive_failures": [((), keepalive.get("failures"))],
        "keepalives": _by_label(_part(counters, "keepalives")),
        "registrations": _by_label(_part(counters, "registrations")),
        "tunnel_up": [
            ((link,), float(bool(tunnel[link].get("up"))))
            for link in ("forward", "reverse", "data")
            if tunnel.get(link)
        ],
        "tunnel_restarts": _by_label(_part(counters, "tunnel_restarts")),
        "probe_seconds": [
            ((name.removesuffix("_s"),), value) for name, value in _part(status, "probes").items()
        ],
        "tailnet_up": [((), _flag(_part(status, "tailnet").get("up")))],
        "tailnet_key_remaining_seconds": [((), _part(status, "tailnet").get("key_expires_in_s"))],
        "tailnet_peer_direct": [((), _flag(_part(_part(status, "tailnet"), "peer").get("direct")))],
        "offered": [((), _flag(capacity.get("offered")))],
        "keepalives_going": [((), _flag(placement.get("keepalives_go")))],
        "placeable": [((), _flag(placement.get("work_can_be_placed")))],
        "placement_blocked": [((by,), 1.0)] if (by := placement.get("blocked_by")) else [],
        "capacity_cpu_cores": [((), _scaled(capacity.get("cpu_millicores"), 1 / 1000))],
        "capacity_memory_bytes": [((), _scaled(capacity.get("memory_mib"), 1 << 20))],
        "capacity_gpus": [((), capacity.get("gpu_count"))],
        "capacity_free_gpus": [((), capacity.get("free_gpu_count"))],
        **_gpu_samples(status.get("gpus") or ()),
        "interrupted": [((), float(bool(status.get("interruption"))))],
        "drain_workers": [((), _part(status, "drain").get("workers"))],
        "drain_remaining_seconds": [((), _part(status, "drain").get("deadline_in_s"))],
        "degraded_conditions": [((), float(len(status.get("degraded") or ())))],
    }


def _gpu_samples(gpus: Iterable[Status]) -> dict[str, list[Sample]]:
    labelled = [((str(gpu.get("uuid")), str(gpu.get("name"))), gpu) for gpu in gpus]

    def each(key: str, factor: float) -> list[Sample]:
        return [(labels, _scaled(gpu.get(key), factor)) for labels, gpu in labelled]

    return {
        "gpu_healthy": [(labels, _flag(gpu.get("healthy"))) for labels, gpu in labelled],
        "gpu_utilization_ratio": each("utilization_pct", 1 / 100),
        "gpu_memory_used_bytes": each("memory_used_mib", 1 << 20),
        "gpu_memory_total_bytes": each("memory_total_mib", 1 << 20),
        "gpu_temperature_celsius": each("temperature_c", 1),
    }


def _part(status: Status, key: str) -> Status:
    return status.get(key) or {}


def _by_label(counts: Status) -> list[Sample]:
    return [((str(label),), count) for label, count in counts.items()]


def _flag(value: object) -> float | None:
    return None if value is None else float(bool(value))


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
