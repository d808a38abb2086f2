"""What depends on what, read from the source itself: ARCHITECTURE.md's promises as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import ROOT

AGENT = ROOT / "agent"

_PURE = """
__future__ base64 binascii collections dataclasses datetime difflib enum functools hashlib
ipaddress itertools json math re shlex string struct textwrap typing urllib.parse
"""
PURE = frozenset(_PURE.split())
"""The standard library's parts that ask nothing of the world. `datetime` may parse a notice; see `CLOCKS`."""
CLOCKS = frozenset({"now", "utcnow", "today", "monotonic", "perf_counter"})

_HEAVY = """
boto3 botocore docker kubernetes lightkube prometheus_client psutil pynvml requests rich urllib3 yaml
"""
HEAVY = frozenset(_HEAVY.split())
"""Each costs tens to hundreds of milliseconds to import."""

LATE = "agent.observability.metrics"
"""A module made of a heavy library's classes: it is itself imported only where it is used."""

LAYERS = {
    "core": ("agent.core", "agent.errors"),
    "settings": ("agent.settings", "agent.core", "agent.errors"),
    "adapters": ("agent.adapters", "agent.settings", "agent.core", "agent.errors", "agent"),
    "observability": ("agent.observability", "agent.core", "agent.errors"),
    "provisioning": (
        "agent.provisioning",
        "agent.adapters",
        "agent.settings",
        "agent.core",
        "agent.errors",
        "agent",
    ),
    "gateway_host": (
        "agent.gateway_host",
        "agent.observability",
        "agent.adapters",
        "agent.core",
        "agent.errors",
    ),
    "runtime": (
        "agent.runtime",
        "agent.observability",
        "agent.adapters",
        "agent.settings",
        "agent.core",
        "agent.errors",
        "agent",
    ),
}
"""Which packages each may import; doctor, commands and the demo may import all of these."""


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
    ["import agent.cli; agent.cli.build_parser()", "import agent.runtime.main"],
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


# --- Sizes and names -------------------------------------------------------------------------------------

MOST_FILES = 15
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 45
GENERIC_NAMES = frozenset(
    {"__init__", "__main__", "conftest", "model", "probe", "status", "test_model", "test_status"}
)
"""File names that may occur more than once within a layer."""


def modules(*places: str) -> list[Path]:
    """Every Python file below these folders."""
    return sorted(path for place in places for path in (ROOT / place).rglob("*.py"))


def test_no_folder_holds_more_files_than_a_reader_can_survey() -> None:
    folders = Counter(path.parent for path in modules("agent", "tests"))
    assert {str(folder): count for folder, count in folders.items() if count > MOST_FILES} == {}


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules("agent", "tests")}
    assert {str(path): length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = []
    for path in modules("agent", "tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize(
    "layer",
    sorted(
        str(path.relative_to(ROOT))
        for top in ("agent", "tests")
        for path in (ROOT / top).iterdir()
        if (path / "__init__.py").exists()
    ),
)
def test_a_file_name_occurs_once_within_a_layer(layer: str) -> None:
    names = Counter(path.stem for path in modules(layer))
    assert {name for name, count in names.items() if count > 1} - GENERIC_NAMES == set()


TRIED_BY = {
    "backoff": "test_policy",
    "config": "test_policy",
    "context": "test_any_events",
    "degraded": "test_status",
    "effects": "test_any_events",
    "events": "test_any_events",
    "state": "test_any_events",
    "status_schema": "test_status",
    "step": "test_any_events",
    "transition_table": "test_tables",
    "hairpin/model": "hairpin/test_upkeep",
    "host/facts": "host/test_gpu_health",
    "kubernetes/model": "kubernetes/test_health",
    "kubernetes/status": "test_status",
    "lifecycle/displayed_state": "test_tables",
    "lifecycle/model": "lifecycle/test_drain",
    "machine_api/model": "machine_api/test_offer",
    "provisioning/cloud_config": "../provisioning/test_user_data_check",
    "provisioning/env_file": "../provisioning/test_user_data",
    "provisioning/push_protocol": "../../integration/commands/push_secrets/test_push_delivery",
    "provisioning/user_data": "../provisioning/test_user_data",
    "relay/refusals": "../gateway_host/test_tally",
    "tailnet/model": "tailnet/test_login",
    "tunnel/faults": "tunnel/test_ssh_stderr",
    "tunnel/model": "tunnel/test_outages",
    "tunnel/schedule": "tunnel/test_outages",
}
"""Modules of the core without a test file of their name: the one that tries them, below tests/unit/core/."""


def test_every_module_of_the_core_has_its_test() -> None:
    missing = []
    for path in modules("agent/core"):
        name = path.relative_to(AGENT / "core").with_suffix("").as_posix()
        own = f"{name.rpartition('/')[0]}/test_{path.stem}".removeprefix("/")
        tests = ROOT / "tests" / "unit" / "core" / f"{TRIED_BY.get(name, own)}.py"
        if path.stem != "__init__" and not tests.exists():
            missing.append(name)
    assert missing == []
    assert {name for name in TRIED_BY if not (AGENT / "core" / f"{name}.py").exists()} == set()
