"""A real Docker Engine with userns-remap takes what the bootstrap gives it: the unit, the command, and the build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import ROOT
from tests.integration.lab import wait_for

pytestmark = pytest.mark.container

BOOTSTRAP = ROOT / "bootstrap"
REFUSED = "user namespaces"
"""In each of Docker's refusals: of privileged mode, and of the host's network."""
DOCKERD = """
ip link set lo up
for file in subuid subgid; do
    printf 'nobody:200000:65536\\nnogroup:200000:65536\\n' >"$0/$file"
    mount --bind "$0/$file" "/etc/$file"
done
exec dockerd --userns-remap nobody:nogroup --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" \
    --host "unix://$0/docker.sock"
"""


@dataclass(frozen=True)
class Engine:
    directory: Path

    def docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *words],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": f"unix://{self.directory}/docker.sock",
        }


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine in a network of its own, with one image: a shell."""
    if shutil.which("dockerd") is None:
        pytest.skip("dockerd is not installed: make .venv/container")
    with tempfile.TemporaryDirectory(prefix="b9-remap") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the remapped root must reach its files
        engine = Engine(directory)
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", DOCKERD, name]
        with (directory / "log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
            try:
                wait_for("dockerd", lambda: engine.docker("version").returncode == 0, 120)
                assert "name=userns" in engine.docker("info", "--format", "{{.SecurityOptions}}").stdout
                loaded = engine.docker("import", str(shell_image(directory)), "site/shell:1")
                assert loaded.returncode == 0, loaded.stderr
                yield engine
            finally:
                daemon.terminate()
                daemon.wait(120)


def shell_image(directory: Path) -> Path:
    """Return an archive with this host's shell and its libraries."""
    archive = directory / "shell.tar"
    listing = subprocess.run(["ldd", "/bin/sh"], check=True, capture_output=True, text=True).stdout
    with tarfile.open(archive, "w", dereference=True) as tar:
        for path in ("/bin/sh", *re.findall(r"(/\S+) \(0x", listing)):
            tar.add(path)
    return archive


def options(text: str) -> list[str]:
    """Return the options of `docker run` in the text, without mounts and what only a terminal or a name needs."""
    found = re.search(r"docker run (.*?)\$AGENT_OPTIONS|docker run (.*?)\$options", text, re.DOTALL)
    assert found
    words = (found[1] or found[2]).replace("\\\n", " ").split()
    assert "--privileged" in words
    kept = [word for word in words if word not in {"--rm", "--interactive", "$terminal"}]
    for pair in ("--volume", "--name", "--log-driver"):
        while pair in kept:
            at = kept.index(pair)
            del kept[at : at + 2]
    return kept


@pytest.mark.parametrize("file", ["beta9-worker.service", "beta9-worker.sh"])
def test_a_docker_that_remaps_users_runs_the_agent(engine: Engine, file: str) -> None:
    """Field case 6.7. A machine without all capabilities fails later, for another reason."""
    words = options((BOOTSTRAP / "systemd" / file).read_text(encoding="utf-8"))
    run = engine.docker("run", "--rm", *words, "site/shell:1", "/bin/sh", "-c", "echo from the agent")
    assert REFUSED not in run.stderr
    assert run.returncode == 0 or "unable to apply caps" in run.stderr, run.stderr
    at = words.index("--userns")
    refused = engine.docker("run", "--rm", *words[:at], *words[at + 2 :], "site/shell:1", "/bin/sh")
    assert REFUSED in refused.stderr


def test_a_docker_that_remaps_users_builds_the_agent_s_image(engine: Engine, tmp_path: Path) -> None:
    """Field case 6.7: `docker build --network host` is refused, and there is no --userns for it."""
    tree = tmp_path / "tree"
    shutil.copytree(BOOTSTRAP, tree / "bootstrap")
    (tree / "Dockerfile").write_text("FROM site/shell:1\nRUN echo built >/built\n")
    (tree / "root/var/lib").mkdir(parents=True)
    done = subprocess.run(
        ["bash", str(tree / "bootstrap/steps/46-agent-image.sh")],
        env={
            **engine.environment(),
            "BETA9_ROOT": str(tree / "root"),
            "BETA9_BOOTSTRAP": str(tree / "bootstrap"),
            "BETA9_CONSOLE": str(tmp_path / "console"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built beta9-worker:source-" in done.stderr
