"""The bootstrap's record: read whatever is in it, drawn for people, and told by `boot-report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import cli
from agent.adapters.host.boot_record import boot_of
from agent.core.host import boot_record

RECORD: dict[str, Any] = {
    "version": 1,
    "started_at": "2026-11-25T20:00:00Z",
    "finished_at": "2026-11-25T20:01:40Z",
    "result": "ok",
    "failed_stage": None,
    "fix": None,
    "stages": [
        {"name": "k3s", "started_s": 60.0, "seconds": 40.0, "result": "ok", "needs": ["driver"]},
        {"name": "preflight", "started_s": 0.0, "seconds": 1.0, "result": "ok", "needs": []},
        {"name": "driver", "started_s": 1.0, "seconds": 59.0, "result": "ok", "needs": ["preflight"]},
        {"name": "image", "started_s": 1.0, "seconds": 80.0, "result": "ok", "needs": ["preflight"]},
        {"name": "fabric", "started_s": 60.0, "seconds": 0.1, "result": "skipped", "needs": ["driver"]},
    ],
}
FAILED = {**RECORD, "result": "failed", "failed_stage": "k3s", "fix": "free some space"}


def read(record: dict[str, Any]) -> boot_record.Boot:
    found = boot_record.read_boot(record)
    assert found
    return found


def test_the_chart_shows_what_ran_beside_what() -> None:
    assert boot_record.chart(read(RECORD)) == [
        "bootstrap of 2026-11-25T20:00:00Z: ok, 100.0 s",
        "  preflight █                                            1.0 s",
        "  driver    ████████████████████████                    59.0 s",
        "  image     ████████████████████████████████            80.0 s",
        "  k3s                               ████████████████    40.0 s",
        "  fabric                                                 0.1 s  skipped",
        "one after the other: 180.1 s; in parallel it took 0.56 of that",
    ]


def test_a_failed_one_ends_with_stage_and_fix() -> None:
    assert boot_record.chart(read(FAILED))[-2:] == ["failed: k3s", "fix: free some space"]
    assert boot_record.failure(read(FAILED)) == "the bootstrap failed in stage k3s: free some space"
    assert boot_record.failure(read(RECORD)) is None


def test_one_line_has_each_stage_that_did_something() -> None:
    assert boot_record.timeline(read(RECORD)) == "preflight 1.0, driver 59.0, image 80.0, k3s 40.0"


def test_one_that_failed_before_its_first_stage_can_be_shown() -> None:
    early = read({**FAILED, "failed_stage": "boot", "stages": []})
    assert boot_record.chart(early) == [
        "bootstrap of 2026-11-25T20:00:00Z: failed, 0.0 s",
        "failed: boot",
        "fix: free some space",
    ]


@pytest.mark.parametrize(
    "record", [{}, {"version": 2, "result": "ok"}, {"version": 1}, {"version": 1, "result": 3}]
)
def test_what_is_no_record_is_none(record: dict[str, Any]) -> None:
    assert boot_record.read_boot(record) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(RECORD)), inner),
    max_leaves=12,
)
STAGES = st.lists(
    st.dictionaries(st.sampled_from(["name", "started_s", "seconds", "result", "needs"]), JSON) | JSON,
    max_size=4,
)


@given(st.fixed_dictionaries({"version": st.just(1), "result": st.text(max_size=8), "stages": STAGES}), JSON)
def test_nothing_in_a_record_stops_whoever_shows_it(record: dict[str, Any], other: object) -> None:
    found = read({**record, "fix": other, "failed_stage": other, "started_at": other})
    lines = [*boot_record.chart(found), boot_record.timeline(found), boot_record.failure(found) or ""]
    assert all(line.isprintable() for line in lines[1:])
    assert all("█" * 41 not in line for line in lines)


# --- Files -------------------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(RECORD))
    return path


def test_the_state_directory_is_where_it_is_looked_for(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BETA9_STATE_DIR", str(record.parent))
    assert cli.main(["boot-report"]) == 0
    assert capsys.readouterr().out.splitlines() == boot_record.chart(read(RECORD))


def test_json_has_the_record_and_the_sums(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["boot-report", "--json", "--file", str(record)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["result"], told["seconds"], told["sum_s"]) == ("ok", 100.0, 180.1)
    assert told["stages"][0] == {
        "name": "preflight", "started_s": 0.0, "seconds": 1.0, "result": "ok", "needs": []
    }  # fmt: skip


def test_a_failed_bootstrap_is_a_failed_report(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.write_text(json.dumps(FAILED))
    assert cli.main(["boot-report", "--file", str(record)]) == 1
    assert "fix: free some space" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100000, '{"version":1}'])
def test_a_file_that_holds_no_record_is_said_and_the_agent_goes_on_without(
    record: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write_text(text)
    assert cli.main(["boot-report", "--file", str(record)]) == 78
    assert "is not a bootstrap record" in capsys.readouterr().err
    assert boot_of(record.parent) is None


def test_no_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["boot-report", "--file", str(tmp_path / "not-here")]) == 78
    assert "no bootstrap has run on this machine" in capsys.readouterr().err
    assert boot_of(tmp_path) is None
    assert boot_of(tmp_path / "not-here") is None
