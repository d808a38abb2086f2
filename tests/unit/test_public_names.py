"""What others build on stands here as literals: a rename in the code must not break a dashboard or a script in silence.

Adding a name means adding it here and in docs/; changing or removing one breaks somebody.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import Enum

import pytest

from agent.core.cloud.lifecycle_hooks import GroupSignal
from agent.core.config import Connection
from agent.core.events import NoticeKind
from agent.core.lifecycle.model import DisplayedState, DrainPhase, ShutdownKind
from agent.core.machine_api import offer
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import OutcomeKind
from agent.core.relay.refusals import Refusal
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.model import Purpose
from agent.errors import ExitCode
from agent.gateway_host.tally import Tally
from agent.observability.metrics import FAMILIES
from tests import ROOT

EVENT_NAME = re.compile("[a-z][a-z0-9_]{2,}")

VALUES: dict[type[Enum], str] = {
    DisplayedState: "STARTING PREPARING CONNECTING REGISTERING READY BACKOFF DRAINING STOPPED FAILED",
    FaultKind: "refused unreachable dns host_key auth key_file bind address gateway_ports relay local_port permit_open "
    "target session lost silent secret no_ssh exited tailscaled tailnet_login tailnet_key",
    OutcomeKind: "ok machine_not_found unauthorized forbidden no_route bad_pool bad_request slow_down gateway_error "
    "bad_reply no_answer secret unusable",
    CallKind: "check register keepalive farewell",
    Purpose: "api reverse data",
    Connection: "ssh tailscale direct",
    ShutdownKind: "stop hand_over leave leave_when_idle terminate",
    DrainPhase: "looking waiting ending forcing farewell",
    NoticeKind: "terminate rebalance lifted",
    GroupSignal: "joined useless drained",
    Refusal: "away closed silent paused full",
}
"""Of `/status`, metrics and logs."""

BLOCKED_BY = ("leaving", "rebalanced", "once", "unknown", "gpus", "kubernetes", "node", "full", "job", "path")
"""`placement.blocked_by` in `/status`, and the label `by` of beta9_worker_placement_blocked."""

EXIT_CODES = {"OK": 0, "FAILED_CHECK": 1, "BUG": 70, "GAVE_UP": 75, "REFUSED": 77, "UNUSABLE": 78}

METRICS = {
    "build_info": "version machine_id pool",
    "state": "state",
    "state_age_seconds": "",
    "gateway_last_ok_age_seconds": "",
    "lease_remaining_seconds": "",
    "keepalive_interval_seconds": "",
    "keepalive_last_ok_age_seconds": "",
    "keepalive_consecutive_failures": "",
    "keepalives_total": "result",
    "registrations_total": "result",
    "tunnel_up": "link",
    "tunnel_restarts_total": "reason",
    "probe_seconds": "path",
    "tailnet_up": "",
    "tailnet_key_remaining_seconds": "",
    "tailnet_peer_direct": "",
    "offered": "",
    "keepalives_going": "",
    "placeable": "",
    "placement_blocked": "by",
    "capacity_cpu_cores": "",
    "capacity_memory_bytes": "",
    "capacity_gpus": "",
    "capacity_free_gpus": "",
    "gpu_healthy": "uuid name",
    "gpu_utilization_ratio": "uuid name",
    "gpu_memory_used_bytes": "uuid name",
    "gpu_memory_total_bytes": "uuid name",
    "gpu_temperature_celsius": "uuid name",
    "interrupted": "",
    "drain_workers": "",
    "drain_remaining_seconds": "",
    "degraded_conditions": "",
}

RELAY_METRICS = (
    "dials_total dial_seconds_total retransmitted_dials_total unclaimed_streams_total sent_bytes_total "
    "received_bytes_total rules_restored_total connections waiting_dials silent"
)

OWN_EVENTS = (
    "bootstrap bug cordon drain drain_trouble ended gateway_setting gpu_failed gpu_recovered gpus_unread group_told "
    "group_trouble interrupted jobs_cleared k3s_token kubernetes_absent kubernetes_down kubernetes_up library_message "
    "log_line_failed log_lines_dropped machine_id not_started notice offering registered rejoins reverse_form setting "
    "starting state state_dir status_page_failed status_server stays_away stop_marker stopped tailnet_login "
    "tailnet_peer tailnet_up thread_crashed uncaught_exception unforeseen unraisable_exception"
)
CALL_EVENTS = (
    "check_failed check_ok check_recovered farewell_failed farewell_ok farewell_recovered keepalive_failed "
    "keepalive_ok keepalive_recovered register_failed register_ok register_recovered"
)
LINK_EVENTS = (
    "tunnel_api_down tunnel_api_up tunnel_data_down tunnel_data_up tunnel_reverse_down tunnel_reverse_up"
)
RELAY_EVENTS = (
    "relay_dials_again relay_names_failed relay_refused relay_rules_failed relay_rules_restored relay_silent "
    "relay_started relay_stopped"
)
EVENTS = {*OWN_EVENTS.split(), *RELAY_EVENTS.split(), *CALL_EVENTS.split(), *LINK_EVENTS.split()}
"""The `event` of a log line."""


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_the_values_of_a_kind_are_as_published(kind: type[Enum]) -> None:
    assert [each.value for each in kind] == VALUES[kind].split()


def test_what_blocks_work_is_as_published() -> None:
    assert tuple(offer.REASONS) == BLOCKED_BY


def test_exit_codes_are_as_published() -> None:
    assert {each.name: int(each) for each in ExitCode} == EXIT_CODES


def test_metrics_and_their_labels_are_as_published() -> None:
    published = {f"beta9_worker_{name}": tuple(labels.split()) for name, labels in METRICS.items()}
    assert {family.full_name: tuple(family.labels) for family in FAMILIES.values()} == published


def test_the_relay_s_metrics_are_as_published() -> None:
    published = [f"beta9_relay_{name}" for name in RELAY_METRICS.split()]
    assert re.findall(r"^# TYPE (\S+)", Tally().metrics(), re.MULTILINE) == published
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in published if f"| `{name}` |" not in page] == []


def test_the_log_writes_these_events_and_no_others() -> None:
    written = set()
    for path in (ROOT / "agent").rglob("*.py"):
        if not {"demo", "doctor", "commands"} & set(path.relative_to(ROOT).parts):
            written |= set(_event_names(ast.parse(path.read_text(encoding="utf-8"))))
    written |= {f"tunnel_{purpose.value}_{how}" for purpose in Purpose for how in ("up", "down")}
    written |= {f"{kind.value}_{how}" for kind in CallKind for how in ("ok", "failed", "recovered")}
    # The formatter's own, which are no calls.
    written |= {"library_message", "log_line_failed", "log_lines_dropped"}
    assert written == EVENTS


def test_docs_logs_md_lists_these_events_and_no_others() -> None:
    text = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    first_columns = "".join(re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE))
    assert set(re.findall(r"`([a-z0-9_]+)`", first_columns)) == EVENTS


def _event_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if name in {"debug", "info", "warning", "error", "level"}:
            texts = [each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
            yield from (text for text in texts if isinstance(text, str) and EVENT_NAME.fullmatch(text))
