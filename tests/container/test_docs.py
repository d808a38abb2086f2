"""The command lines of docs/docker.md: run as they are, or only parsed where they need a GPU or a whole host."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.container.docker_cli import Container, attempt, docker
from tests.container.site import Site

pytestmark = pytest.mark.container


def block(repository: Path, heading: str, command: str) -> list[str]:
    """Return the words of the only command in a section that begins with `command`."""
    text = (repository / "docs/docker.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    lines = [line for each in blocks for line in each.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(command)]
    assert len(found) == 1, f"{heading}: {lines}"
    return found[0]


@pytest.mark.parametrize("heading", ["With the least privilege", "On a laptop without a GPU"])
def test_a_documented_command_makes_a_machine_ready(site: Site, repository: Path, heading: str) -> None:
    """Only names and paths are replaced: directory, volume, network and container name."""
    words = block(repository, heading, "docker run -d")
    machine = site.new_machine()
    name = machine.state
    replaced = {
        "/etc/beta9-worker:/etc/beta9-worker:ro": f"{machine.etc}:/etc/beta9-worker:ro",
        "$PWD/beta9-worker:/etc/beta9-worker:ro": f"{machine.etc}:/etc/beta9-worker:ro",
        "beta9-worker:/var/lib/beta9-worker": f"{machine.state}:/var/lib/beta9-worker",
    }
    assert words[words.index("--name") + 1] == "beta9-worker"
    words[words.index("--name") + 1] = name
    assert sum(word in replaced for word in words) == 2
    options = [replaced.get(word, word) for word in words[1:-1]]
    assert words[-1] == "beta9-worker"
    site.stack.callback(attempt, "rm", "--force", name)
    docker(*options, "--network", site.network, "beta9-worker:dev")
    worker = Container(name)
    site.wait_ready(worker, machine)
    assert worker.inspect()["HostConfig"]["Privileged"] is False
    docker("stop", name)  # within the documented --stop-timeout
    assert worker.exit_code() == 0


def test_the_least_privileged_command_drops_privileges(repository: Path) -> None:
    words = block(repository, "With the least privilege", "docker run -d")
    assert "--privileged" not in words
    assert "host" not in words
    assert words[words.index("--cap-drop") + 1] == "ALL"


def test_docker_accepts_the_command_for_a_gpu_machine(image: str, repository: Path) -> None:
    """Only create the container: without a GPU and some capabilities it could not run here."""
    words = block(repository, "On a GPU box", "docker run -d")
    assert {"--gpus", "--privileged", "--stop-timeout"} <= set(words)
    options = [word for word in words[2:-1] if word != "-d"]
    options[options.index("--name") + 1] = "beta9-worker-line"
    try:
        docker("create", *options, image)
        made = Container("beta9-worker-line").inspect()
        assert made["HostConfig"]["NetworkMode"] == "host"
        assert made["Config"]["StopTimeout"] == 110
    finally:
        attempt("rm", "--force", "beta9-worker-line")
