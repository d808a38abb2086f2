"""`status` and `status --watch`: what a person sees, on a terminal and in a pipe."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

import pytest

from agent.core.config import Config
from agent.core.host.facts import Gpu, GpuReading, HostFacts
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.status import status
from agent.observability.status_server import StatusServer
from agent.observability.status_view import LABEL_WIDTH, live, plain, rows, span

DEADLINE_S = 30

BOARDS = (
    Gpu("GPU-1", "NVIDIA [bold]H100", True, None, 50.0, 10240, 81920, 41),
    Gpu("GPU-2", "NVIDIA H100", False, "NVML: GPU is lost"),
)


def fresh_page(**changes: Any) -> dict[str, Any]:
    """Return the real status page of an agent that has just started, with parts replaced."""
    state = AgentState(Config("1165a9b6", "gpu"), host=HostFacts(8000, 16384), gpus=GpuReading(BOARDS))
    page: dict[str, Any] = {**status(state, 12.0, Policy(), "http://localhost:1994")}
    for name, part in changes.items():
        page[name] = {**page[name], **part} if isinstance(part, dict) and page.get(name) else part
    return page


def text_of(page: dict[str, Any]) -> dict[str, str]:
    return {row.label: row.text for row in rows(page) if row.label}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.2, "0 s"),
        (119.9, "119 s"),
        (120, "2 min 0 s"),
        (7199, "119 min 59 s"),
        (7200, "2 h 0 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_a_fresh_worker_is_shown_without_anything_known() -> None:
    shown = text_of(fresh_page())
    assert shown["machine"].startswith("1165a9b6 in pool gpu: STARTING for 12 s")
    assert shown["waiting for"].startswith(
        "this machine's processors, memory and GPUs to be read; ends when they are"
    )
    assert shown["functions"] == "cannot run here: starting"
    assert shown["lease"] == "none yet"
    assert shown["offers"].startswith("nothing: ")


def test_gpus_are_shown_with_their_figures_and_a_broken_one_with_its_reason() -> None:
    shown = text_of(fresh_page())
    assert shown["gpu 0"] == "NVIDIA [bold]H100: 50 % busy, 10.0 of 80.0 GiB, 41 °C"
    assert shown["gpu 1"] == "NVIDIA H100 (GPU-2): NVML: GPU is lost"


def test_lease_errors_and_transitions_are_shown_with_their_age() -> None:
    page = fresh_page(
        state="READY",
        keepalive={"ttl_s": 200.0, "last_ok_s": 100.0, "failures": 2},
        gateway={"last_error": "no answer", "last_error_s": 3.0},
        capacity={"offered": True},
        placement={"reason": None},
        transitions=[
            {"state": "CONNECTING", "age_s": 130.0, "why": "refused"},
            {"state": "READY", "age_s": 12.0, "why": ""},
        ],
        interruption={
            "kind": "terminate",
            "reason": "spot notice",
            "deadline_in_s": 100.0,
            "step": "waiting",
        },
    )
    shown = text_of(page)
    assert shown["lease"] == "3 min 20 s left, last keepalive 100 s ago, 2 keepalives failed in a row"
    assert shown["last error"] == "3 s ago: no answer"
    assert shown["offers"].startswith("everything (7500m cpu, 15360 MiB, 1 of 1 GPUs free)")
    assert shown["latest"] == "12 s ago READY"
    assert shown["before"] == "2 min 10 s ago CONNECTING (refused)"
    assert shown["interrupted"] == "terminate (spot notice), 100 s left; step: waiting"


def test_functions_that_can_run_are_shown_in_one_line_and_a_ready_machine_repeats_no_reason() -> None:
    waiting = {"what": "a", "until": "b"}
    shown = text_of(fresh_page(state="READY", waiting=waiting, functions={"can_run": True, "reason": None}))
    assert shown["functions"] == "can run here"
    assert "waiting for" not in shown


def test_what_keeps_work_away_is_said_although_everything_was_offered() -> None:
    page = fresh_page(capacity={"offered": True}, placement={"reason": "no keepalive was accepted"})
    assert text_of(page)["offers"].startswith(
        "everything, but the gateway cannot place work: no keepalive was accepted ("
    )


def test_a_link_that_is_down_says_why() -> None:
    page = fresh_page(tunnel={"reverse": {"up": False, "address": "127.71.0.7", "reason": "it is taken"}})
    assert text_of(page)["reverse"] == "127.71.0.7 down: it is taken"


def test_nothing_of_a_status_can_break_the_view() -> None:
    assert plain({})
    assert plain(
        {"gpus": [{}], "transitions": [{}], "tunnel": None, "degraded": None, "interruption": {"a": 1}}
    )


def test_a_label_as_long_as_its_column_is_separated_from_the_text() -> None:
    page = fresh_page(interruption={"kind": "terminate"})
    assert "interrupted terminate" in plain(page)


def test_the_terminal_shows_texts_as_they_are() -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=200).print(live(fresh_page()))
    assert "NVIDIA [bold]H100" in out.getvalue()


# --- The command itself, against a real status page -------------------------------------------------------


@pytest.fixture
def address() -> Iterator[str]:
    server = StatusServer("127.0.0.1:0", fresh_page, lambda: True, lambda: True)
    assert server.start() is None
    yield f"127.0.0.1:{server.port}"
    server.stop()


@contextlib.contextmanager
def status_command(*arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "agent", "status", *arguments]
    process = subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def read_until(stream: IO[str], count: int, pattern: str) -> str:
    """Read lines until the pattern was found so many times; return all that was read."""
    output = ""
    end_s = time.monotonic() + DEADLINE_S
    while len(re.findall(pattern, output)) < count:
        assert time.monotonic() < end_s, output
        output += stream.readline()
    return output


def test_once_it_prints_the_lines_and_ends(address: str) -> None:
    with status_command("--address", address) as process:
        out, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, "")
    assert out.startswith(f"{'machine':{LABEL_WIDTH}}1165a9b6 in pool gpu")


def test_as_json_it_is_the_page(address: str) -> None:
    with status_command("--json", "--address", address) as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["machine_id"] == "1165a9b6"


def test_watched_in_a_pipe_it_prints_block_after_block_until_nobody_reads(address: str) -> None:
    with status_command("--watch", "--every", "0.1", "--address", address) as process:
        assert process.stdout is not None
        output = read_until(process.stdout, 3, r"(?m)^machine ")
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert "\x1b" not in output
    assert "\n\nmachine" in output


def test_watched_on_a_terminal_it_draws_over_itself(address: str) -> None:
    reading_end, terminal = pty.openpty()
    with status_command("--watch", "--every", "0.1", "--address", address, stdout=terminal):
        os.close(terminal)
        output = b""
        end_s = time.monotonic() + DEADLINE_S
        while output.count(b"1165a9b6") < 3:
            assert time.monotonic() < end_s, output
            output += os.read(reading_end, 65536)
    os.close(reading_end)
    assert b"\x1b[" in output


def test_watched_an_agent_that_is_not_there_is_waited_for() -> None:
    with status_command("--watch", "--every", "0.1", "--address", "127.0.0.1:1") as process:
        assert process.stdout is not None
        assert "is it running?" in read_until(process.stdout, 2, "no agent answers")


def test_once_an_agent_that_is_not_there_is_an_error() -> None:
    with status_command("--address", "127.0.0.1:1") as process:
        out, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (1, "")
    assert "is it running?" in errors
