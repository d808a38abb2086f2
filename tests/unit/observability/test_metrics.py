"""`/metrics`: names, units and labels as documented; unknown values are absent."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.core.status import status
from agent.observability.metrics import FAMILIES, render, samples_of
from tests import ROOT
from tests.unit.core_cases import NOW_S, POLICY, placeable

DOCUMENT = ROOT / "docs" / "metrics.md"
STATUS: dict[str, Any] = {
    "machine_id": "1165a9b6",
    "pool": "gpu",
    "state": "READY",
    "since_s": 12.5,
    "gateway": {"url": "http://localhost:1994", "last_ok_s": 3.0, "last_error": None},
    "tunnel": {
        "connection": "ssh",
        "up": True,
        "generation": 2,
        "restarts": 3,
        "forward": {"up": True, "address": "127.0.0.1:1994", "reason": None},
        "reverse": {"up": False, "address": "127.71.0.7", "reason": "refused"},
        "data": None,
    },
    "registration": {"hostname": "127.71.0.7", "times": 2},
    "keepalive": {"last_ok_s": 3.0, "ttl_s": 297.0, "interval_s": 60.0, "failures": 0},
    "capacity": {
        "cpu_millicores": 7500,
        "memory_mib": 1024,
        "gpu_count": 2,
        "free_gpu_count": 1,
        "offered": True,
        "reason": "",
    },
    "placement": {"keepalives_go": True, "work_can_be_placed": False, "reason": "…", "blocked_by": "node"},
    "gpus": [
        {
            "uuid": "GPU-1",
            "name": 'NVIDIA "H100"\n80GB',
            "healthy": True,
            "reason": None,
            "utilization_pct": 50.0,
            "memory_used_mib": 1,
            "memory_total_mib": 2,
            "temperature_c": 41,
        },
        {"uuid": "GPU-2", "name": "NVIDIA H100", "healthy": False, "reason": "lost", "utilization_pct": None},
    ],
    "interruption": None,
    "version": "0.1.0",
    "degraded": ["GPU-2: lost"],
    "counters": {
        "keepalives": {"ok": 7, "failed": 1},
        "registrations": {"ok": 2, "failed": 0},
        "tunnel_restarts": {"exited": 2, "probe": 1},
    },
    "probes": {"forward_s": 0.005, "reverse_s": None, "kubernetes_s": 0.01},
    "transitions": [{"state": "READY", "age_s": 12.5, "why": ""}],
}


def scraped(status: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what Prometheus' own parser reads: (name, labels) → value."""
    families = text_string_to_metric_families(render(status).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def value(status: dict[str, Any], name: str, labels: dict[str, str]) -> float | None:
    return scraped(status).get((f"beta9_worker_{name}", tuple(sorted(labels.items()))))


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("build_info", {"version": "0.1.0", "machine_id": "1165a9b6", "pool": "gpu"}, 1),
        ("state", {"state": "READY"}, 1),
        ("state", {"state": "BACKOFF"}, 0),
        ("lease_remaining_seconds", {}, 297),
        ("keepalives_total", {"result": "failed"}, 1),
        ("registrations_total", {"result": "ok"}, 2),
        ("tunnel_restarts_total", {"reason": "exited"}, 2),
        ("tunnel_up", {"link": "forward"}, 1),
        ("tunnel_up", {"link": "reverse"}, 0),
        ("tunnel_up", {"link": "data"}, None),
        ("probe_seconds", {"path": "forward"}, 0.005),
        ("probe_seconds", {"path": "reverse"}, None),
        ("offered", {}, 1),
        ("keepalives_going", {}, 1),
        ("placeable", {}, 0),
        ("placement_blocked", {"by": "node"}, 1),
        ("capacity_cpu_cores", {}, 7.5),
        ("capacity_memory_bytes", {}, 1 << 30),
        ("gpu_utilization_ratio", {"uuid": "GPU-1", "name": 'NVIDIA "H100"\n80GB'}, 0.5),
        ("gpu_memory_total_bytes", {"uuid": "GPU-1", "name": 'NVIDIA "H100"\n80GB'}, 2 << 20),
        ("gpu_healthy", {"uuid": "GPU-2", "name": "NVIDIA H100"}, 0),
        ("gpu_temperature_celsius", {"uuid": "GPU-2", "name": "NVIDIA H100"}, None),
        ("interrupted", {}, 0),
        ("degraded_conditions", {}, 1),
    ],
)
def test_a_figure_is_shown_in_the_unit_of_its_name(
    name: str, labels: dict[str, str], expected: float | None
) -> None:
    assert value(STATUS, name, labels) == expected


def test_exactly_one_state_is_on() -> None:
    on = [labels for (name, labels), v in scraped(STATUS).items() if name == "beta9_worker_state" and v == 1]
    assert on == [(("state", "READY"),)]


def test_what_is_not_known_is_absent() -> None:
    status = copy.deepcopy(STATUS)
    status["keepalive"] |= {"ttl_s": None, "last_ok_s": None}
    status["capacity"] = None
    del status["probes"]
    names = {name for name, _ in scraped(status)}
    assert not names & {"beta9_worker_lease_remaining_seconds", "beta9_worker_capacity_gpus"}
    assert "beta9_worker_probe_seconds" not in names
    assert "beta9_worker_state" in names


def test_a_status_with_nothing_in_it_is_no_error() -> None:
    assert b"beta9_worker_state" in render({})


def test_an_announced_interruption_is_shown() -> None:
    assert value(STATUS | {"interruption": {"kind": "spot"}}, "interrupted", {}) == 1


def test_the_process_s_own_figures_are_there() -> None:
    names = {name for name, _ in scraped(STATUS)}
    assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= names


def test_every_family_has_a_source_and_every_source_a_family() -> None:
    assert set(samples_of(STATUS)) == set(FAMILIES)


def test_the_real_status_page_feeds_every_family_it_can() -> None:
    """The keys in STATUS are those that the core writes."""
    page = status(placeable(), NOW_S, POLICY, "http://localhost:1994")
    for part in ("capacity", "keepalive", "probes", "counters"):
        assert set(STATUS[part]) <= set(page[part])
    assert set(STATUS["gpus"][0]) <= set(page["gpus"][0])


def test_the_page_of_metrics_is_current() -> None:
    """On failure, `expected` is the table that belongs in the page."""
    expected = [
        f"| `{f.full_name}` | {'counter' if f.is_counter else 'gauge'} "
        f"| {', '.join(f'`{label}`' for label in f.labels) or '–'} | {f.help} |"  # noqa: RUF001 - as printed
        for f in FAMILIES.values()
    ]
    documented = [row for row in DOCUMENT.read_text().splitlines() if row.startswith("| `beta9_worker_")]
    assert documented == expected


def test_names_follow_prometheus_conventions() -> None:
    units = ("_seconds", "_bytes", "_ratio", "_celsius", "_cores", "_total", "_info")
    for family in FAMILIES.values():
        assert family.help.endswith(".")
        if any(word in family.name for word in ("age", "remaining", "interval", "memory", "temperature")):
            assert family.full_name.endswith(units)


def test_the_status_used_here_is_json() -> None:
    assert json.loads(json.dumps(STATUS)) == STATUS
