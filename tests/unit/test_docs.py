"""docs/troubleshooting.md has every error text of the agent; guides name only existing settings, commands and files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import _COMMANDS
from agent.core.lifecycle import drain
from agent.core.machine_api.wire import OutcomeKind
from agent.core.tunnel import ssh_stderr, transitions
from agent.core.tunnel.faults import FaultKind
from agent.settings.fields import known_variables
from tests import ROOT

DOCS = ROOT / "docs"
GUIDE = DOCS / "troubleshooting.md"

NOT_READ = (
    "settings/fields",  # the help of the settings, which docs/settings.md shows
    "settings/flags.py",
    "settings/page.py",
    "core/waiting.py",  # what it waits for, which each text explains by itself
    "core/hairpin/layout.py",  # commands and packet filter rules
    "core/tunnel/addresses.py",  # a programming error
    "core/lifecycle/displayed_state.py",  # labels of the diagram
    "core/tunnel/host_key_pins.py",  # a script that ssh runs, and ssh's own words
    "core/relay/rules.py",  # the packet filter's languages
    "gateway_host/tally.py",  # the help of metrics, which docs/metrics.md shows
    "core/transition_table.py",  # a line of a diagram
    "core/text/redaction.py",  # regular expressions
    "core/tunnel/ssh_stderr.py",  # a table with a test of its own, below
)
"""Files and folders without texts that people search for."""

SOURCES = [
    str(path.relative_to(ROOT / "agent"))
    for place in (
        "core",
        "adapters",
        "settings",
        "provisioning",
        "runtime",
        "gateway_host",
        "observability/status_server.py",
    )
    for path in sorted((ROOT / "agent" / place).rglob("*.py")) or [ROOT / "agent" / place]
    if not str(path.relative_to(ROOT / "agent")).startswith(NOT_READ)
]
"""The modules whose texts a person may see."""

MIN_WORDS = 4
"""Shorter constants are labels, names and parts of other texts."""

NOT_FOR_PEOPLE = (
    "HTTP/1.1",  # a request on the wire
    "Accept: application/json",
    "PRIVATE KEY)",  # a regular expression
    'Load key "[^"]*"',  # an ssh message, for comparison
    'exec "$@"',  # a shell line
    "machine_id and pool_name are required",  # an answer of the gateway, for comparison
    "Failed to update keepalive",
    "cannot listen to port:",  # an ssh message, for comparison
    "the second attempt returns",  # an assertion message
    "was answered with",  # of the metadata service, which then counts as absent
    "hung up before it was connected",  # an error that is caught
    "registered and kept alive once",  # a success
    "both were looked at",  # what ends a wait
    "default: BETA9_SSH_HOST is",  # where a value comes from
    "allow_public_ssh_keys ansible",  # cloud-init's own keys
    "operation not permitted|",  # a regular expression
    "delete table ip",  # a packet filter rule
    "umask 077",  # a script that runs on another machine
    'if [ "$(id -u)"',
)
"""Constants that contain one of these are not messages to a person."""

DIAGRAM_LABELS = {row.when for row in drain.TABLE} | {row.when for row in transitions.TABLE}


def normalized(text: str) -> str:
    """Return the text with single blanks and without Markdown's backquotes and escapes."""
    return re.sub(r"\s+", " ", text.replace("\\|", "|").replace("`", ""))


def constants(source: str) -> Iterator[str]:
    """Yield every string in a module except docstrings; in f-strings, … stands for inserted values."""
    tree = ast.parse((ROOT / "agent" / source).read_text(encoding="utf-8"))
    ignored: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            ignored.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            ignored |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
            yield node.value


def search_phrase(text: str) -> str:
    """Return what a person would search for: the longest piece without inserted values, without the advice."""
    longest = max((piece.strip() for piece in text.split("…")), key=len)
    return normalized(longest.split("; ")[0]).strip(" ,;:()")


def texts() -> dict[str, str]:
    """Return the search phrase of each text, with the module that has it."""
    found = {}
    for source in SOURCES:
        for text in constants(source):
            is_message = text not in DIAGRAM_LABELS and not any(each in text for each in NOT_FOR_PEOPLE)
            if is_message and len(text.split()) >= MIN_WORDS:
                found[search_phrase(text)] = source
    return found


def test_every_error_text_of_the_agent_is_in_the_guide() -> None:
    """On failure, `missing` lists the texts without a row, by module."""
    guide = normalized(GUIDE.read_text(encoding="utf-8"))
    missing = [f"{source}: {text}" for text, source in texts().items() if text not in guide]
    assert missing == []


def test_everything_that_ssh_may_say_is_in_the_guide() -> None:
    guide = normalized(GUIDE.read_text(encoding="utf-8"))
    fixes = [row[2] for row in (*ssh_stderr._ENDINGS, *ssh_stderr._COMPLAINTS)]
    assert [fix for fix in fixes if normalized(fix.split("; ")[0].split(": nothing")[0]) not in guide] == []


def test_every_reason_in_logs_and_metrics_is_in_the_guide() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    reasons = {kind.value for kind in (*FaultKind, *OutcomeKind)} - {"ok"}
    assert {reason for reason in reasons if f"`{reason}`" not in guide} == set()


def test_every_check_of_the_doctor_is_in_the_guide() -> None:
    from agent.commands.doctor import _groups
    from agent.settings import Connection

    guide = GUIDE.read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(): row for row in guide.splitlines() if row.startswith("| ")}
    for group, checks in _groups(Connection.SSH).items():
        assert [check.name for check in checks if f"`{check.name}`" not in rows[group]] == []


def test_the_collection_is_not_empty() -> None:
    found = texts()
    assert len(found) > 150
    assert found["k3s refuses the token that the gateway would use"] == "core/kubernetes/health.py"


# --- All guides ----------------------------------------------------------------------------

GUIDES = sorted(path for path in DOCS.rglob("*.md") if "adr" not in path.parts)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_names_only_settings_that_there_are(guide: Path) -> None:
    named = set(re.findall(r"\bBETA9_[A-Z0-9_]*[A-Z0-9]\b", guide.read_text(encoding="utf-8")))
    of_gateway = {"BETA9_GATEWAY_HOST", "BETA9_GATEWAY_PORT"}
    assert named - set(known_variables()) - of_gateway == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_names_only_commands_that_there_are(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:sudo )?beta9-worker ([a-z][a-z-]+)", text))
    named |= set(re.findall(r"(?m)^(?:sudo )?beta9-worker ([a-z][a-z-]+)", text))
    assert named - set(_COMMANDS) == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_s_links_lead_somewhere(guide: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", guide.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (guide.parent / target).exists()] == []
