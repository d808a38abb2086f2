"""Shell completion and the manual page: made from the tables, current, and understood by their readers."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.cli import _COMMANDS, build_parser, main
from agent.completion import words
from agent.settings.fields import FIELDS, known_variables
from scripts import shell_files
from tests import ROOT

BASH, ZSH, PAGE = (
    shell_files.SHARE / name for name in ("beta9-worker.bash", "_beta9-worker", "beta9-worker.1")
)


def test_the_files_are_those_that_the_tables_make() -> None:
    assert shell_files.main(["--check"]) == 0, "out of date; run: .venv/bin/python -m scripts.shell_files"


@pytest.mark.parametrize(("shell", "path"), [("bash", BASH), ("zsh", ZSH)])
def test_the_command_prints_what_is_installed(
    shell: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")
    assert main(["completion", "fish"]) == 78
    assert "choose from" in capsys.readouterr().err


def bash_completes(line: str, directory: Path = ROOT) -> list[str]:
    """Return what bash proposes for the last word of a line, of which `=` is a word of its own."""
    given = re.findall(r"=|[^\s=]+", line) + ([""] if line.endswith(" ") else [])
    script = (
        f"source {shlex.quote(str(BASH))}; compopt() {{ :; }}; COMP_WORDS=({shlex.join(given)});"
        f' COMP_CWORD={len(given) - 1}; _beta9_worker; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-euc", script], cwd=directory, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [each for each in done.stdout.split("\n") if each]


def test_bash_knows_every_command_and_every_option() -> None:
    assert set(_COMMANDS) < set(bash_completes("beta9-worker "))
    for command in words.commands(build_parser()):
        proposed = bash_completes(f"beta9-worker {command.name} -")
        assert set(proposed) == {name for option in command.options for name in option.names}
    flags = {field.flag for field in FIELDS if field.flag}
    assert flags <= set(bash_completes("beta9-worker --")), "without a command, run is meant"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("beta9-worker sta", ["status"]),
        ("beta9-worker user-data --cloud ", ["aws", "crusoe", "lambda", "generic"]),
        ("beta9-worker user-data --cloud=cr", ["crusoe"]),
        ("beta9-worker simulate-interruption --kind=", ["terminate", "rebalance"]),
        ("beta9-worker completion ", ["bash", "zsh"]),
        ("beta9-worker user-data --set BETA9_POOL", ["BETA9_POOL_NAME="]),
        ("beta9-worker run --token ", []),
        ("beta9-worker --pool-name status --onc", ["--once"]),
        ("beta9-worker --env-file set", ["settings one"]),
        ("beta9-worker leave --state-dir st", ["state"]),
        ("beta9-worker authorize --pool-key ke", ["key.pub"]),
    ],
)
def test_bash_completes(tmp_path: Path, line: str, expected: list[str]) -> None:
    (tmp_path / "settings one").touch()
    (tmp_path / "key.pub").touch()
    (tmp_path / "state").mkdir()
    assert bash_completes(line, tmp_path) == expected


def test_every_setting_can_be_completed_behind_set() -> None:
    proposed = bash_completes("beta9-worker user-data --set ")
    assert proposed == [f"{name}=" for name in known_variables()]


def typed(argv: list[str], setup: str, keys: str, until: str, directory: Path) -> str:
    """Type into a real interactive shell on a terminal; return what it shows once `until` can be read there."""
    terminal, end = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "> ", "HOME": str(directory)}
    shell = subprocess.Popen(
        argv, cwd=directory, env=environment, stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    seen, to_type = "", [keys, f"{setup}\n"]
    deadline_s = time.monotonic() + 60
    try:
        while until not in seen.partition("READY")[2] and time.monotonic() < deadline_s:
            if len(to_type) == 2 or (to_type and "READY" in seen):
                os.write(terminal, to_type.pop().encode())
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
        return seen.partition("READY")[2]
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


BASH_SHELL = (
    ["bash", "--norc", "--noprofile", "-i"],
    f"source {shlex.quote(str(BASH))}; printf REA; echo DY",
)
ZSH_SHELL = (
    ["zsh", "-f", "-i"],
    f"fpath=({shlex.quote(str(ZSH.parent))} $fpath); autoload -U compinit; compinit -D; printf REA; echo DY",
)


@pytest.mark.parametrize("shell", [BASH_SHELL, ZSH_SHELL], ids=["bash", "zsh"])
@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("beta9-worker sim\t", "beta9-worker simulate-interruption "),
        ("beta9-worker user-data --cloud cru\t", "--cloud crusoe"),
        ("beta9-worker user-data --cloud=cru\t", "--cloud=crusoe"),
        ("beta9-worker push-secrets --known\t", "--known-hosts"),
        ("beta9-worker --pool\t", "--pool-name"),
        ("beta9-worker user-data --set BETA9_POOL\t", "BETA9_POOL_NAME="),
        ("beta9-worker authorize --pool-key work\t", "worker.pub"),
    ],
)
def test_a_real_shell_completes(tmp_path: Path, shell: tuple[list[str], str], keys: str, shown: str) -> None:
    argv, setup = shell
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is not installed")
    (tmp_path / "worker.pub").touch()
    assert shown in typed(argv, setup, keys, shown, tmp_path)


def test_a_zsh_that_evaluates_the_script_completes_as_well(tmp_path: Path) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    program = f"{shlex.quote(sys.executable)} -m agent completion zsh"
    setup = f'autoload -U compinit; compinit -D; eval "$(cd {shlex.quote(str(ROOT))}; {program})"; printf REA; echo DY'
    assert "doctor" in typed(
        ["zsh", "-f", "-i"], setup, "beta9-worker doc\t", "beta9-worker doctor", tmp_path
    )


def test_the_manual_page_has_every_command_and_setting() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\\-", "-")
    assert [name for name in _COMMANDS if f".SS {name}\n" not in page] == []
    assert [name for name in (field.variable for field in FIELDS) if f".B {name}" not in page] == []
    assert [name for name in known_variables() if name not in page and not name.endswith("_FILE")] == []
    assert re.findall(r"\.B (\d+)\n", page) == ["0", "1", "70", "75", "77", "78"]


@pytest.mark.parametrize(
    "command",
    [
        ["mandoc", "-Tlint", "-Wwarning", str(PAGE)],
        ["groff", "-man", "-ww", "-z", "-Tutf8", str(PAGE)],
        ["man", "--warnings", "-l", str(PAGE)],
    ],
    ids=["mandoc", "groff", "man"],
)
def test_the_programs_that_format_the_manual_page_find_nothing(command: list[str]) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    # A date would have to change with every commit.
    complaints = [
        line for line in done.stderr.splitlines() + done.stdout.splitlines() if "missing date" not in line
    ]
    if command[0] == "man":
        assert done.stderr == ""
        assert re.search(r"\n {3}push-secrets\n", done.stdout)
    else:
        assert complaints == []
