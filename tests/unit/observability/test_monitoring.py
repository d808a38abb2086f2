"""Dashboard and alert rules name only metrics, labels and label values that the agent has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from agent.cli import _COMMANDS
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api import offer
from agent.core.tunnel.faults import FaultKind
from agent.observability.metrics import FAMILIES, render
from tests import ROOT

DOCS = ROOT / "docs"
MONITORING = DOCS / "monitoring"

OF_PROMETHEUS = {"up"}
ADDED_BY_PROMETHEUS = {"instance", "job"}
LABELS = {family.full_name: set(family.labels) for family in FAMILIES.values()}
VALUES = {
    "state": {state.value for state in DisplayedState},
    "link": {"forward", "reverse", "data"},
    "path": {"forward", "reverse", "kubernetes"},
    "result": {"ok", "failed"},
    "reason": {kind.value for kind in FaultKind},
    "by": set(offer.REASONS),
    "job": {"beta9-worker"},
}
_SELECTOR = re.compile(r"([a-z_:][a-z0-9_:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads((MONITORING / "dashboard.json").read_text())["panels"])


def expressions() -> dict[str, str]:
    found = {rule["alert"]: rule["expr"] for rule in alerts()}
    for panel in panels():
        found |= {f"{panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


def metrics_in(expression: str) -> set[str]:
    bare = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"\b(?:beta9_worker|process)_\w+|\bup\b", bare))


@pytest.mark.parametrize("name", expressions())
def test_an_expression_names_only_metrics_that_there_are(name: str) -> None:
    own = set(re.findall(r"^# TYPE (\w+)", render({}).decode(), re.MULTILINE))
    known = set(LABELS) | OF_PROMETHEUS | {each for each in own if each.startswith("process_")}
    used = metrics_in(expressions()[name])
    assert used
    assert used - known == set()


@pytest.mark.parametrize("name", expressions())
def test_an_expression_selects_by_labels_and_values_that_there_are(name: str) -> None:
    for metric, matchers in _SELECTOR.findall(expressions()[name]):
        for label, _, value in _MATCHER.findall(matchers):
            assert label in LABELS.get(metric, set()) | ADDED_BY_PROMETHEUS, f"{metric} has no {label}"
            if "$" not in value:
                assert set(value.split("|")) <= VALUES[label]


@pytest.mark.parametrize("name", expressions())
def test_an_expression_groups_by_labels_that_its_metrics_have(name: str) -> None:
    expression = expressions()[name]
    available = (
        set().union(*(LABELS.get(metric, set()) for metric in metrics_in(expression))) | ADDED_BY_PROMETHEUS
    )
    grouped_by = re.findall(r"\b(?:by|on|group_left|group_right|ignoring|without)\s*\(([^)]*)\)", expression)
    assert {label.strip() for labels in grouped_by for label in labels.split(",")} - available == set()


@pytest.mark.parametrize("name", expressions())
def test_counters_are_looked_at_as_rates_and_gauges_are_not(name: str) -> None:
    expression = expressions()[name]
    ranged = set(re.findall(r"(?:rate|increase)\((\w+)", expression))
    counters = {family.full_name for family in FAMILIES.values() if family.is_counter}
    assert ranged == metrics_in(expression) & counters


@pytest.mark.parametrize("name", expressions())
def test_brackets_are_balanced(name: str) -> None:
    text = re.sub(r'"[^"]*"', "", expressions()[name])
    assert all(text.count(pair[0]) == text.count(pair[1]) for pair in ("()", "{}", "[]"))


def test_every_legend_uses_labels_that_its_figures_have() -> None:
    for panel in panels():
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            labels = set().union(*(LABELS.get(metric, set()) for metric in metrics_in(target["expr"])))
            assert used - labels - ADDED_BY_PROMETHEUS == set(), panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_says_what_to_type_and_is_explained() -> None:
    guide = (DOCS / "monitoring.md").read_text()
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert {"summary", "description", "command"} <= set(rule["annotations"])
        words = rule["annotations"]["command"].split()
        assert words[0] != "beta9-worker" or words[1] in _COMMANDS
        assert f"`{rule['alert']}`" in guide


def test_every_metric_of_the_agent_is_looked_at_or_left_out_on_purpose() -> None:
    on_purpose = {
        # Ages and settings: the alerts use what follows from them.
        "beta9_worker_state_age_seconds",
        "beta9_worker_gateway_last_ok_age_seconds",
        "beta9_worker_keepalive_last_ok_age_seconds",
        "beta9_worker_capacity_memory_bytes",
        # The alert uses the metric that names the obstacle.
        "beta9_worker_placeable",
        # Covered by "not READY"; a relayed connection is slower but works.
        "beta9_worker_tailnet_up",
        "beta9_worker_tailnet_peer_direct",
        # Present for minutes, on a machine that is being drained: of interest to a person who watches it.
        "beta9_worker_drain_workers",
        "beta9_worker_drain_remaining_seconds",
    }
    used = set().union(*(metrics_in(each) for each in expressions().values()))
    assert set(LABELS) - used == on_purpose
