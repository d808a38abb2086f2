"""The relay's metrics and log lines."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.core.relay.refusals import Refusal
from agent.gateway_host import tally
from agent.gateway_host.tally import Journal, Tally


class _Recorder:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def info(self, _event: str, **fields: object) -> None:
        self.lines.append(fields)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    made = _Recorder()
    monkeypatch.setattr(tally, "get_logger", lambda: made)
    return made


def test_prometheus_reads_the_metrics() -> None:
    counted = Tally(opened=3, open_connections=2)
    counted.refused[Refusal.CLOSED] += 5
    samples = {
        (sample.name, sample.labels.get("result")): sample.value
        for family in text_string_to_metric_families(counted.metrics())
        for sample in family.samples
    }
    assert samples["beta9_relay_dials_total", "opened"] == 3
    assert samples["beta9_relay_dials_total", "closed"] == 5
    assert samples["beta9_relay_dials_total", "silent"] == 0
    assert samples["beta9_relay_connections", None] == 2


def test_an_hour_of_probes_is_a_handful_of_lines_for_each_kind_and_address(recorder: _Recorder) -> None:
    now_s = 0.0
    journal = Journal(lambda: now_s)
    for probe in range(3600 * 2):
        now_s = probe / 2
        journal.refused(Refusal.CLOSED, "127.70.1.1", 30000 + probe)
        journal.refused(Refusal.PAUSED, "127.71.2.2", 6443)
    assert [line["times"] for line in recorder.lines] == [1, 121, 721, 2521]
    journal.refused(Refusal.AWAY, "127.70.1.1", 6443)
    journal.refused(Refusal.CLOSED, "127.71.2.2", 6443)
    assert [(line["reason"], line["address"]) for line in recorder.lines[4:]] == [
        ("away", "127.70.1.1"),
        ("closed", "127.71.2.2"),
    ]
