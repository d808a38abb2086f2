"""How a log line looks: JSON in a pipe, short lines on a terminal, always a single line."""

from __future__ import annotations

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.observability.log_format import JsonFormatter, TerminalFormatter
from tests.unit.observability.log_cases import lines_of, redactor_of_secret


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_short_coloured_lines_and_a_pipe_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    (line,) = lines_of(lambda log: log.info("tunnel_up", generation=3), "auto", stream=Terminal())
    assert "\x1b[1mtunnel_up\x1b[0m" in line
    assert line.endswith("3")
    (line,) = lines_of(lambda log: log.info("tunnel_up"), "auto")
    assert json.loads(line)["event"] == "tunnel_up"


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (line,) = lines_of(lambda log: log.warning("slow", text="two words", n=1), "auto", stream=Terminal())
    assert line[8:] == ' warning slow text="two words" n=1'


def test_nobody_else_s_control_characters_reach_a_terminal() -> None:
    banner = "\x1b]0;owned\x07\r\nnew line\x9b2J"
    (line,) = lines_of(lambda log: log.info("said", line=banner), "human")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)


@given(text=st.text())
def test_any_text_is_one_line_in_both_forms(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, text, (), None)
    record.fields = {"field": text}
    line = JsonFormatter(redactor_of_secret()).line(record)
    assert "\n" not in line
    assert json.loads(line)["field"] == text
    assert len(TerminalFormatter(redactor_of_secret(), colours=False).line(record).splitlines()) == 1
    line.encode(errors="backslashreplace")
