"""Keys, host keys and tokens as consoles and editors leave them: all commands read them alike, as ssh can use them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from tests import ROOT
from tests.integration.agent_process import AgentProcess
from tests.integration.commands.push_secrets.pushing import ORDINARY, command, push
from tests.integration.lab import Lab, laboratory
from tests.sshd import Sshd

BOM, NO_BREAK = "\ufeff", "\u00a0"

KEYS: dict[str, Callable[[str], str]] = {
    "one line": lambda key: key.replace("\n", " "),
    "no separator": lambda key: key.replace("\n", ""),
    "indented": lambda key: key.replace("\n", "\n    "),
    "blank behind BEGIN": lambda key: key.replace("KEY-----\n", "KEY----- \n", 1),
    "no-break spaces": lambda key: key.replace("\n", f"\n{NO_BREAK}"),
    "body on one line": lambda key: "\n".join([key.split("\n")[0], *_body_and_end(key)]),
    "byte order mark": lambda key: BOM + key,
    "line breaks written out": lambda key: key.replace("\n", "\\n"),
    "windows": lambda key: key.replace("\n", "\r\n"),
    "no final line break": str.rstrip,
}


def _body_and_end(key: str) -> list[str]:
    lines = key.split("\n")
    return ["".join(lines[1:-2]), lines[-2]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    """A machine to which secrets are pushed."""
    with Sshd(tmp_path / "sshd", options=ORDINARY) as running:
        running.authorize(running.public_key())
        yield running


def dry_run(agent: AgentProcess, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `run --dry-run` with the agent's settings."""
    environment = {name: value for name, value in (agent.environment | settings).items() if value}
    argv = [sys.executable, "-m", "agent", "run", "--env-file", os.devnull, "--dry-run"]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT, env=environment
    )


def is_usable(key: Path) -> bool:
    argv = ["ssh-keygen", "-y", "-P", "", "-f", str(key)]
    return subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("form", KEYS)
def test_a_key_is_used_in_whatever_form_it_was_pasted(lab: Lab, tmp_path: Path, form: str) -> None:
    """Field cases 1.1, 1.3 and 1.4."""
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(KEYS[form](lab.sshd.key_path.read_text()))
    agent = lab.agent(BETA9_SSH_KEY_FILE=str(file))
    assert dry_run(agent).returncode == 0
    agent.start().wait_back()
    assert agent.stop() == 0


def test_a_pkcs1_key_on_one_line_is_used(lab: Lab, tmp_path: Path) -> None:
    """Field case 1.1, with an older kind of key."""
    key = tmp_path / "rsa"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(key)], check=True
    )
    one_line = tmp_path / "one_line"
    one_line.touch(0o600)
    one_line.write_text(key.read_text().replace("\n", " "))
    agent = lab.agent(BETA9_SSH_KEY_FILE=str(one_line))
    grant = Grant(machine_ids=(agent.machine_id,), targets=(lab.target,))
    lab.sshd.authorize(key_line(lab.sshd.public_key(key), grant))
    agent.start().wait_back()
    assert agent.stop() == 0


def test_a_byte_order_mark_does_no_harm_in_any_file(lab: Lab, tmp_path: Path) -> None:
    """Field case 1.3: also as Windows writes a file, in UTF-16."""
    agent = lab.agent()
    names = (
        "BETA9_TOKEN_FILE",
        "BETA9_SSH_KEY_FILE",
        "BETA9_SSH_KNOWN_HOSTS_FILE",
        "BETA9_K3S_TOKEN_FILE",
    )
    for encoding in ("utf-8-sig", "utf-16"):
        for name in names:
            file = tmp_path / f"{name}.{encoding}"
            file.touch(0o600)
            file.write_text(Path(agent.environment[name]).read_text(), encoding=encoding)
            agent.environment[name] = str(file)
        agent.start().wait_back()
        assert agent.stop() == 0


@pytest.mark.parametrize("form", ["one line", "indented", "byte order mark", "line breaks written out"])
def test_what_is_pushed_is_what_ssh_can_use(machine: Sshd, tmp_path: Path, form: str) -> None:
    """Field case 1.2."""
    key, token = machine.make_key("tunnel_key"), tmp_path / "token"
    pasted = tmp_path / "pasted"
    pasted.write_text(KEYS[form](key.read_text()))
    token.write_text(f"{BOM}a-token{NO_BREAK}\r\n")
    words = ["--token-file", str(token), "--ssh-key-file", str(pasted)]
    assert push(command(machine, tmp_path / "s", *words)).returncode == 0
    assert (tmp_path / "s" / "ssh_key").read_text() == key.read_text()
    assert (tmp_path / "s" / "token").read_text() == "a-token"
    assert is_usable(tmp_path / "s" / "ssh_key")


def unreadable(key: str) -> str:
    """Return a key whose frame is right, and which ssh still cannot read: its two check numbers differ."""
    first, *body, last = key.splitlines()
    blob = base64.b64decode("".join(body))
    place = blob.index(b"ssh-ed25519", blob.index(b"ssh-ed25519") + 1) - 8
    damaged = blob[:place] + bytes(4 * [0xFF]) + blob[place + 4 :]
    return "\n".join([first, base64.b64encode(damaged).decode(), last, ""])


def test_a_key_that_ssh_cannot_read_is_refused_by_every_command_alike(
    lab: Lab, machine: Sshd, tmp_path: Path
) -> None:
    """Field case 1.2."""
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(unreadable(lab.sshd.key_path.read_text()))
    assert not is_usable(file)
    says = f"BETA9_SSH_KEY: {file} is not a key that this machine's ssh can use ("
    agent = lab.agent(BETA9_SSH_KEY_FILE=str(file))
    dry = dry_run(agent)
    assert (dry.returncode, says in dry.stderr) == (78, True)
    assert agent.start().wait_exit() == 78
    assert any(says in line for line in agent.lines)
    pushed = push(command(machine, tmp_path / "s", "--ssh-key-file", str(file)))
    assert (pushed.returncode, says in pushed.stderr) == (78, True)
    argv = [sys.executable, "-m", "agent", "doctor", "--json", "--env-file", os.devnull]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT, env=agent.environment
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["ssh key"]["verdict"] == "fail"
    assert checks["ssh key"]["seen"].startswith(says)
