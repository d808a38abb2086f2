"""One file, one grammar: every reader of worker.env makes the same of every way to write it."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from dotenv.parser import parse_stream

from agent import cli
from agent.core.provisioning.user_data import cloud_config
from agent.settings import sources
from tests import ROOT
from tests.shell.common.worker_env_spellings import READ, REFUSED
from tests.unit.provisioning.user_data_cases import GOOD, TEMPLATE

BOOT = ROOT / "cloud-init/boot.sh"
LIB = ROOT / "bootstrap/lib"
SHARED = {
    "settings.sh": ("read_settings", "use_proxy", "setting"),
    "fetch.sh": ("shown", "replacement", "request", "signed", "again"),
}
SHOW = """
for file in "$@"; do
  declare -A read=()
  read_settings "$file" read || true
  printf '%s\\0' "$SETTINGS_PROBLEM" "${#read[@]}"
  for name in "${!read[@]}"; do printf '%s\\0' "$name" "${read[$name]}"; done
done
"""
Reading = tuple[str, dict[str, str]]
"""What is wrong, or "", and the settings."""
SPELLINGS = {**READ, **REFUSED}
NOT_IN_YAML = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff]")
"""YAML itself refuses control characters and changes line ends."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("spellings")
    found = {}
    for number, (name, (text, _)) in enumerate(SPELLINGS.items()):
        found[name] = directory / f"{number}.env"
        found[name].write_bytes(text.encode() if isinstance(text, str) else text)
    return found


def shell_reader(text: str, directory: Path) -> Callable[[dict[str, Path]], dict[str, Reading]]:
    """Return a reader of files that runs read_settings of a bash script in one process."""

    def read(files: dict[str, Path]) -> dict[str, Reading]:
        script = directory / "show.sh"
        script.write_text(f"{text}\n{SHOW}")
        done = subprocess.run(
            ["bash", str(script), *map(str, files.values())], capture_output=True, check=True, timeout=300
        )
        words = iter(done.stdout.decode().split("\0"))
        return {
            name: (next(words), {next(words): next(words) for _ in range(int(next(words)))}) for name in files
        }

    return read


def agent_reader(files: dict[str, Path]) -> dict[str, Reading]:
    found = {}
    for name, file in files.items():
        layers, errors = sources.from_files(file, Path("/nowhere"), Path("/nowhere"))
        found[name] = (errors[0] if errors else "", dict(layers[0].values) if layers else {})
    return found


@pytest.fixture(scope="module", params=["agent", "installer", "boot"])
def reading(
    request: pytest.FixtureRequest, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Reading]:
    """What one of the readers makes of all spellings."""
    directory = tmp_path_factory.mktemp("reader")
    if request.param == "agent":
        return agent_reader(files)
    if request.param == "installer":
        return shell_reader((LIB / "settings.sh").read_text(), directory)(files)
    text = BOOT.read_text()
    assert text.endswith('\nmain "$@"\n')
    return shell_reader(text.removesuffix('main "$@"\n'), directory)(files)


def test_every_reader_reads_the_same(reading: dict[str, Reading]) -> None:
    """Field cases 2.1, 2.4, 2.7, 2.8: what one reader takes, all take, with the same value."""
    expected = {name: ("", settings) for name, (_, settings) in READ.items()}
    assert {name: reading[name] for name in READ} == expected


def test_every_reader_refuses_the_same_and_names_the_line(
    reading: dict[str, Reading], files: dict[str, Path]
) -> None:
    """Field cases 2.3, 2.8: nothing is passed over, and the line itself is not shown."""
    lines = {}
    for name in REFUSED:
        problem = reading[name][0]
        assert str(files[name]) in problem, name
        assert "generic" not in problem
        line = re.search(r"line (\d+)", problem)
        lines[name] = int(line[1]) if line and REFUSED[name][1] else 0 if problem else None
    assert lines == {name: line for name, (_, line) in REFUSED.items()}


def test_lines_below_a_broken_one_are_read_for_the_failure_policy(tmp_path: Path) -> None:
    """Field case 2.6: whatever is wrong above it, the policy counts, and the last one of several does."""
    policy = "BETA9_ON_FAILURE"
    texts = {
        "broken\nexport BETA9_ON_FAILURE=poweroff\n": "poweroff",
        "BETA9_ON_FAILURE = 'poweroff' # x\n=\n": "poweroff",
        "BETA9_TOKEN='never closed\nBETA9_ON_FAILURE=poweroff\n": "poweroff",
        "BETA9_TOKEN='a' b\nBETA9_ON_FAILURE=\"poweroff\"\n": "poweroff",
        "x\nBETA9_ON_FAILURE=poweroff\nBETA9_ON_FAILURE=keep\n": "keep",
        "x\nBETA9_ON_FAILURE=poweroffx\n": "poweroffx",
        "x\nBETA9_TOKEN='\nBETA9_ON_FAILURE=poweroff\n'\n": None,
    }
    files = {text: tmp_path / str(number) for number, text in enumerate(texts)}
    for text, file in files.items():
        file.write_text(text)
    for script in ((LIB / "settings.sh").read_text(), BOOT.read_text().removesuffix('main "$@"\n')):
        read = shell_reader(script, tmp_path)(files)
        assert {text: settings.get(policy) for text, (_, settings) in read.items()} == texts
        assert all(problem for problem, _ in read.values())


def test_what_is_read_is_what_python_dotenv_reads() -> None:
    """An independent reader of the same syntax, which earlier releases used."""
    found = {
        name: {b.key: b.value for b in parse_stream(io.StringIO(text.replace("\r\n", "\n"))) if b.key}
        for name, (text, _) in READ.items()
    }
    # There, `export` in front of a blank is never a name.
    del found["a variable called export, with blanks"]
    assert {name: (READ[name][0], settings) for name, settings in found.items()} == {
        name: READ[name] for name in found
    }


IN_YAML = [
    name for name, (text, _) in SPELLINGS.items() if isinstance(text, str) and not NOT_IN_YAML.search(text)
]


@pytest.mark.parametrize("name", IN_YAML)
def test_the_check_of_user_data_refuses_what_a_later_reader_refuses(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Field case 2.3: `user-data --check` says what is wrong before the machine exists, by the file's own line."""
    text, expected = SPELLINGS[name]
    assert isinstance(text, str)
    lines = cloud_config(TEMPLATE, GOOD).split("\n")
    end = next(number for number, line in enumerate(lines) if line.strip() == "# end of settings")
    lines[end:end] = [f"      {line}" for line in text.split("\n")]
    file = tmp_path / "user-data.yaml"
    file.write_text("\n".join(lines))
    code = cli.main(["user-data", "--check", str(file)])
    err = capsys.readouterr().err
    if isinstance(expected, int):
        assert code == 78
        assert f"{file}: line {end + expected} " in err
    else:
        assert not re.search(r": line \d+ ", err)


PIECES = [
    *"AB==  \n\n\n'\"\\#n$-.\t\r\x07\u00a0\ufeffé",
    "export ",
    "\r\n",
    "A='",
    'B="',
    "'\n",
    '"\n',
    "\\'",
    '\\"',
    "\\\\",
]


def test_the_readers_agree_on_what_nobody_thought_of(tmp_path: Path) -> None:
    """The settings, also those below a line that is refused, and the number of that line."""
    random = Random(16)
    files = {str(number): tmp_path / f"{number}.env" for number in range(400)}
    for file in files.values():
        file.write_bytes("".join(random.choices(PIECES, k=random.randint(1, 25))).encode())
    readings = [agent_reader(files), shell_reader((LIB / "settings.sh").read_text(), tmp_path)(files)]
    found = [
        {
            name: (re.findall(r"line (\d+)", problem), settings)
            for name, (problem, settings) in reading.items()
        }
        for reading in readings
    ]
    # The agent names every line, the shell the first.
    assert {name: (lines[:1], settings) for name, (lines, settings) in found[0].items()} == found[1]
    assert 10 < sum(1 for lines, _ in found[1].values() if not lines) < 390


def functions(text: str) -> dict[str, str]:
    found = re.finditer(r"^(\w+)\(\) \{(?: [^\n]*\}|\n.*?^\})$", text, re.MULTILINE | re.DOTALL)
    return {match[1]: match[0] for match in found}


def test_boot_sh_has_the_functions_of_the_bootstrap() -> None:
    """boot.sh runs before the bootstrap is on the machine, so it has a copy of what both need."""
    boot = functions(BOOT.read_text())
    for file, names in SHARED.items():
        library = functions((LIB / file).read_text())
        assert {name: boot[name] for name in names} == {name: library[name] for name in names}
