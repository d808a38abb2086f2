"""The content of the image, and its commands that need nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent import __version__
from tests.container.docker_cli import attempt, docker

pytestmark = pytest.mark.container

OVER_BASE_LIMIT_MB = 120


def configuration(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


def shell(image: str, command: str) -> str:
    """Return the output of a shell command in the image."""
    return docker("run", "--rm", "--entrypoint", "bash", "--network", "none", image, "-c", command)


def test_it_has_labels_and_stops_on_sigterm(image: str) -> None:
    config = configuration(image)["Config"]
    assert config["Entrypoint"] == ["tini", "--", "/usr/local/bin/beta9-worker"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "beta9-worker", "health"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["org.opencontainers.image.revision"])


def test_it_adds_little_to_its_base(image: str) -> None:
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}", image).split()
    sizes = [int(size) for size in history]
    base = sizes[-1]
    over_base_mb = (sum(sizes) - base) / 1e6
    assert base > 50e6  # otherwise the last line is not the base, and the sum below is meaningless
    assert over_base_mb <= OVER_BASE_LIMIT_MB


def test_it_has_the_agent_as_a_package_and_no_build_tools(image: str) -> None:
    listed = shell(
        image,
        "python -c 'from importlib.metadata import distributions as d; print(*sorted(x.name for x in d()))'",
    )
    assert "beta9-worker" in listed.split()
    assert {"pip", "setuptools", "wheel"} & set(listed.split()) == set()
    for tool in ("pip", "gcc", "make", "curl"):
        assert shell(image, f"command -v {tool} || echo none") == "none\n"
    assert shell(image, "ls /root/.cache /src /tools 2>/dev/null | wc -l").strip() == "0"


def test_it_has_no_host_keys_and_no_certificates_of_the_build_host(image: str) -> None:
    assert shell(image, "find / -xdev -name 'ssh_host_*' -o -xdev -name certificates.crt") == ""
    assert "PIP_" not in shell(image, "env")
    assert re.search(r"PIP_(INDEX|CERT|EXTRA|TRUSTED)", docker("history", "--no-trunc", image)) is None


def test_it_contains_the_bootstrap_for_the_host(image: str, repository: Path) -> None:
    scripts = shell(image, "cd /opt/beta9-worker && find . -name '*.sh' -perm -u+x | sort").split()
    assert "./bootstrap/install.sh" in scripts
    assert "./bootstrap/gateway/setup.sh" in scripts
    text = shell(image, "cat /opt/beta9-worker/bootstrap/install.sh")
    assert text == (repository / "bootstrap/install.sh").read_text(encoding="utf-8")


def test_its_modules_are_compiled(image: str) -> None:
    """Otherwise a read-only container would compile them at every start and every health check."""
    code = "import agent.cli, sys; print([m for m in sys.modules.values() if getattr(m, '__spec__', 0) and "
    code += (
        "m.__spec__.has_location and m.__spec__.origin.endswith('.py') and not __import__('os').path.exists("
    )
    code += "m.__spec__.cached)])"
    assert shell(image, f'python -c "{code}"') == "[]\n"


# --- The demo ---------------------------------------------------------------------------------------------


def test_the_demo_becomes_ready_on_its_own(image: str) -> None:
    done = attempt("run", "--rm", image, "demo", "--once")
    assert done.code == 0, done.output
    assert re.search(r"machine  [0-9a-f]{8} is ready", done.stdout)
    assert "arrived through the reverse tunnel" in done.stdout
    assert "This machine has no NVIDIA GPU" in done.stdout


@pytest.mark.parametrize("uid", ["1000", "12345:4321"])
def test_the_demo_works_as_any_uid_read_only_and_without_a_network(image: str, uid: str) -> None:
    bare = ["--user", uid, "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL"]
    done = attempt("run", "--rm", *bare, image, "demo", "--once")
    assert done.code == 0, done.output
    assert re.search(r"machine  [0-9a-f]{8} is ready", done.stdout)


def test_a_uid_without_a_name_is_an_error(image: str) -> None:
    done = attempt("run", "--rm", "--user", "77", image, "demo", "--once")
    assert done.code == 78
    assert "uid 77 has no name in this image, but ssh needs one" in done.stderr


def test_missing_settings_are_named_and_are_a_final_error(image: str) -> None:
    done = attempt("run", "--rm", image)
    assert done.code == 78
    assert "BETA9_TOKEN" in done.output
    assert "BETA9_POOL_NAME" in done.output


def test_commands_that_need_no_gateway_work(image: str) -> None:
    assert docker("run", "--rm", image, "--version") == f"beta9-worker {__version__}\n"
    settings = ["-e", "BETA9_POOL_NAME=gpu", "-e", "BETA9_TOKEN=t", "-e", "BETA9_GATEWAY_HOST=gateway"]
    assert '"gpu"' in docker("run", "--rm", *settings, image, "run", "--dry-run")


def test_user_data_is_rendered_from_the_image(image: str) -> None:
    settings = {
        "BETA9_POOL_NAME": "gpu",
        "BETA9_SSH_HOST": "gateway.example",
        "BETA9_SSH_HOST_KEY_FINGERPRINT": "SHA256:" + "A" * 43,
        "BETA9_SOURCE": "https://example.org/beta9-worker.tar.gz#sha256=" + "0" * 64,
    }
    options = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    text = docker("run", "--rm", *options, image, "user-data")
    assert text.startswith("#cloud-config\n")
    assert "BETA9_SSH_HOST=gateway.example\n" in text
