"""What depends on what, read from the source itself: ARCHITECTURE.md's promises as tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from agent.core.lifecycle import displayed_state
from agent.core.lifecycle.model import FINAL, DisplayedState
from agent.core.policy import Policy
from agent.core.step import HANDLERS

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent"

PURE = frozenset(
    {
        "__future__",
        "base64",
        "binascii",
        "collections",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "functools",
        "hashlib",
        "itertools",
        "json",
        "math",
        "re",
        "shlex",
        "string",
        "struct",
        "textwrap",
        "typing",
        "urllib.parse",
    }
)
"""The standard library's parts that ask nothing of the world. `datetime` may parse a notice; see `CLOCKS`."""
CLOCKS = frozenset({"now", "utcnow", "today", "monotonic", "perf_counter"})

HEAVY = frozenset(
    {
        "boto3",
        "botocore",
        "docker",
        "kubernetes",
        "lightkube",
        "prometheus_client",
        "psutil",
        "pynvml",
        "requests",
        "rich",
        "urllib3",
        "yaml",
    }
)
"""Each costs tens to hundreds of milliseconds to import."""

LATE = "agent.observability.metrics"
"""A module made of a heavy library's classes: it is itself imported only where it is used."""

LAYERS = {
    "core": ("agent.core", "agent.errors"),
    "settings": ("agent.settings", "agent.core", "agent.errors"),
    "adapters": ("agent.adapters", "agent.settings", "agent.core", "agent.errors", "agent"),
    "observability": ("agent.observability", "agent.core", "agent.errors"),
}


@dataclass(frozen=True)
class Import:
    """One import: of what, where, and whether it runs when its module is loaded."""

    module: str
    file: Path
    line: int
    at_load: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"

    def below(self, package: str) -> bool:
        return self.module == package or self.module.startswith(f"{package}.")


def imports(directory: Path) -> Iterator[Import]:
    """Every import below a directory, those for type checkers aside."""
    for path in sorted(directory.rglob("*.py")):
        yield from _imports(ast.parse(path.read_text(encoding="utf-8")), path, at_load=True)


def _imports(node: ast.AST, path: Path, *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, path, child.lineno, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{path}: imports are absolute"
            # `from agent.core import offer` names a module; anything else names something in one.
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            found = [name if _is_module(name) else str(child.module) for name in names]
            yield from (Import(name, path, child.lineno, at_load) for name in dict.fromkeys(found))
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _imports(child, path, at_load=at_load and not inside)


def _is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or place.is_dir()


def is_stdlib(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in sys.stdlib_module_names


def test_the_core_imports_only_what_is_pure() -> None:
    foreign = [
        str(each)
        for each in imports(AGENT / "core")
        if not each.below("agent.core")
        and not each.below("agent.errors")
        and not any(each.below(name) for name in PURE)
    ]
    assert foreign == []


def test_the_core_reads_no_clock_opens_no_file_and_prints_nothing() -> None:
    asked = []
    for path in sorted((AGENT / "core").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            if name in CLOCKS | {"open", "print", "input", "exec", "eval", "__import__"}:
                asked.append(f"{path.name}:{node.lineno} calls {name}")
    assert asked == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_the_layers_below_it(layer: str) -> None:
    wrong = [
        str(each)
        for each in imports(AGENT / layer)
        if each.below("agent")
        and each.module != "agent"
        and not any(each.below(name) for name in LAYERS[layer] if name != "agent")
    ]
    assert wrong == []


def test_nothing_but_the_demo_and_its_command_imports_the_demo() -> None:
    users = {each.file.relative_to(AGENT).parts[0] for each in imports(AGENT) if each.below("agent.demo")} - {
        "demo"
    }
    assert users <= {"commands"}


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    loaded = [
        str(each)
        for each in imports(AGENT)
        if each.at_load and (each.module.split(".")[0] in HEAVY or each.below(LATE))
    ]
    assert [text for text in loaded if not text.startswith("agent/observability/metrics.py")] == []


@pytest.mark.parametrize(
    "statement",
    ["import agent.cli; agent.cli._parser()", "import agent.runtime.main"],
    ids=["the command line", "the agent"],
)
def test_starting_loads_no_heavy_library(statement: str) -> None:
    code = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "agent" in loaded
    assert not loaded & HEAVY
    if "cli" in statement:
        assert not loaded & {"ssl", "http", "asyncio"}


def test_every_import_of_the_product_is_declared() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    distribution = {
        "botocore": "boto3",
        "dotenv": "python-dotenv",
        "prometheus_client": "prometheus-client",
        "pynvml": "nvidia-ml-py",
        "urllib3": "requests",
        "yaml": "pyyaml",
    }
    missing = {
        str(each)
        for each in imports(AGENT)
        if not each.below("agent")
        and not is_stdlib(each.module)
        and f'"{distribution.get(each.module.split(".")[0], each.module.split(".")[0])}>' not in declared
    }
    assert missing == set()


# --- One truth, told in several places -------------------------------------------------------------------


def test_the_diagram_in_architecture_md_is_the_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = re.search(r"```mermaid\n(.*?)\n```", text, re.DOTALL)
    assert drawn, "ARCHITECTURE.md holds no mermaid block"
    assert drawn[1] == displayed_state.diagram(), "out of date; run: .venv/bin/python -m scripts.diagram"


def test_every_state_is_reached_and_every_state_but_the_final_ones_is_left() -> None:
    assert {row.target for row in displayed_state.TABLE} == set(DisplayedState) - {DisplayedState.STARTING}
    assert {row.source for row in displayed_state.TABLE} == set(DisplayedState) - FINAL


def test_every_condition_of_the_table_is_used_and_known() -> None:
    assert {row.when for row in displayed_state.TABLE} == set(displayed_state.CONDITIONS)


def test_every_event_has_one_handler() -> None:
    from agent.core import events

    assert set(HANDLERS) == set(events.Event.__args__)


def test_every_command_is_carried_out() -> None:
    from agent.core import effects

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
