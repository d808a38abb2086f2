"""docs/troubleshooting.md holds every error text of the agent, and the guides name only what there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import _COMMANDS
from agent.core.machine_api.wire import OutcomeKind
from agent.core.tunnel import ssh_stderr
from agent.core.tunnel.faults import FaultKind
from agent.settings.fields import known_variables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = DOCS / "troubleshooting.md"

NOT_READ = {
    "settings/fields.py",  # the help of the settings, which docs/settings.md shows
    "settings/flags.py",
    "settings/page.py",
    "core/tunnel/addresses.py",  # a programmer's mistake
    "core/lifecycle/displayed_state.py",  # the diagram
    "core/text/redaction.py",  # patterns
    "core/tunnel/ssh_stderr.py",  # a table, read by a test of its own
}
SOURCES = [
    str(path.relative_to(ROOT / "agent"))
    for place in (
        "core",
        "adapters",
        "settings",
        "provisioning",
        "runtime/agent.py",
        "runtime/main.py",
        "observability/status_server.py",
    )
    for path in sorted((ROOT / "agent" / place).rglob("*.py")) or [ROOT / "agent" / place]
    if str(path.relative_to(ROOT / "agent")) not in NOT_READ
]
"""Where the texts that people are shown are written."""

LEAST_WORDS = 4
"""Shorter constants are labels, names and parts of other texts."""

NO_TEXTS = (
    "HTTP/1.1",  # requests on the wire
    "Accept: application/json",
    "PRIVATE KEY)",  # a pattern
    'exec "$@"',  # a shell line
    "machine_id and pool_name are required",  # the gateway's words, as expected
    "Failed to update keepalive",
    "cannot listen to port:",  # ssh's words, as looked for
    "the second attempt returns",  # an assertion
    "was answered with",  # of the metadata service, which then counts as not there
    "hung up before it was connected",  # said to our own code
    "registered and kept alive once",  # no trouble
    "allow_public_ssh_keys ansible",  # cloud-init's words
    "umask 077",  # a script for another machine
    'if [ "$(id -u)"',
)


def told(text: str) -> str:
    """Blanks made one, and what is only markup in the guide taken out."""
    return re.sub(r"\s+", " ", text.replace("\\|", "|").replace("`", ""))


def constants(source: str) -> Iterator[str]:
    """Every text in a module that is no docstring; an f-string with … for what is put in."""
    tree = ast.parse((ROOT / "agent" / source).read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def telling_part(text: str) -> str:
    """What somebody would search for: the longest piece without inserted values, up to its advice."""
    longest = max((piece.strip() for piece in text.split("…")), key=len)
    return told(longest.split("; ")[0]).strip(" ,;:()")


def texts() -> dict[str, str]:
    found = {}
    for source in SOURCES:
        for text in constants(source):
            if len(text.split()) >= LEAST_WORDS and not any(each in text for each in NO_TEXTS):
                found[telling_part(text)] = source
    return found


def test_every_error_text_of_the_agent_is_in_the_guide() -> None:
    """On failure: the texts, by the file that has them, for which a row is missing."""
    guide = told(GUIDE.read_text(encoding="utf-8"))
    missing = [f"{source}: {text}" for text, source in texts().items() if text not in guide]
    assert missing == []


def test_everything_that_ssh_may_say_is_in_the_guide() -> None:
    guide = told(GUIDE.read_text(encoding="utf-8"))
    fixes = [row[2] for row in (*ssh_stderr._ENDINGS, *ssh_stderr._COMPLAINTS)]
    assert [fix for fix in fixes if told(fix.split("; ")[0].split(": nothing")[0]) not in guide] == []


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


# --- What holds for all guides ----------------------------------------------------------------------------

GUIDES = sorted(path for path in DOCS.rglob("*.md") if "adr" not in path.parts)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_names_only_settings_that_there_are(guide: Path) -> None:
    named = set(re.findall(r"\bBETA9_[A-Z0-9_]*[A-Z0-9]\b", guide.read_text(encoding="utf-8")))
    theirs = {"BETA9_GATEWAY_HOST", "BETA9_GATEWAY_PORT"}
    assert named - set(known_variables()) - theirs == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_names_only_commands_that_there_are(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:sudo )?beta9-worker ([a-z][a-z-]+)", text))
    named |= set(re.findall(r"(?m)^(?:sudo )?beta9-worker ([a-z][a-z-]+)", text))
    assert named - set(_COMMANDS) == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_s_links_lead_somewhere(guide: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", guide.read_text(encoding="utf-8"))
    here = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in here if not (guide.parent / target).exists()] == []
