"""What stands in several places is the same in all of them: tables and drawings, events and handlers, and so on."""

from __future__ import annotations

import ast
import re
import subprocess
from dataclasses import fields

from agent.core import effects, events
from agent.core.policy import Policy
from agent.core.step import HANDLERS
from scripts.diagram import drawn
from tests import ROOT

AGENT = ROOT / "agent"


def test_the_diagrams_in_architecture_md_are_the_tables() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert drawn(page) == page, "out of date; run: .venv/bin/python -m scripts.diagram"


def test_every_module_that_a_page_names_is_there() -> None:
    named = {}
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"\bagent/[\w/]+\.py\b", page.read_text(encoding="utf-8")):
            named[name] = page.name
    # The changelog tells of what was.
    assert {
        name: page for name, page in named.items() if page != "CHANGELOG.md" and not (ROOT / name).exists()
    } == {}


def test_every_event_has_one_handler() -> None:
    assert set(HANDLERS) == set(events.Event.__args__)


def test_every_command_is_carried_out() -> None:
    wired = "".join(path.read_text(encoding="utf-8") for path in (AGENT / "runtime").glob("*.py"))
    # Exit is the supervisor's own: it ends the loop.
    names = {each.__name__ for each in effects.Effect.__args__} - {"Exit"}
    assert {name for name in names if f"{name}: Executor(" not in wired} == set()


def test_every_timing_is_used() -> None:
    used: set[str] = set()
    for path in AGENT.rglob("*.py"):
        if path.name != "policy.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {field.name for field in fields(Policy)} - used == set()


def test_every_module_says_what_it_answers() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in AGENT.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_repository_names_no_place_of_the_machine_it_was_written_on() -> None:
    places = re.compile(rb"/(?:work/(?:main|shared)|tmp/bash_jobs)\b")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=30)
    if files.returncode:  # a source tarball
        names = [str(path) for path in [*AGENT.rglob("*"), *(ROOT / "docs").rglob("*")]]
    else:
        names = files.stdout.decode().split("\0")
    paths = [ROOT / name for name in names if name]
    assert [str(path) for path in paths if path.is_file() and places.search(path.read_bytes())] == []
