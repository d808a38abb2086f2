"""A Docker Engine with the image, and the services of compose.yaml for the whole run, started by pytest-docker."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.container.docker_cli import DOCKER, IMAGE, attempt, docker
from tests.container.site import Site, visiting


@pytest.fixture(scope="session")
def image() -> str:
    """The image built by `make image`. Skips the test without a Docker Engine or without the image."""
    if shutil.which(DOCKER) is None or attempt("version").code != 0:
        pytest.skip("no Docker Engine is running; `make test-container` starts one")
    if not docker("images", "--quiet", IMAGE):
        pytest.skip(f"the image {IMAGE} does not exist; `make image` builds it")
    return IMAGE


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """The compose plugin if Docker has it, else the separate program (as on Debian 12)."""
    if attempt("compose", "version").code == 0:
        return f"{DOCKER} compose"
    if shutil.which("docker-compose") is None:
        pytest.skip(
            "neither `docker compose` nor docker-compose is installed; apt-get install docker-compose"
        )
    return "docker-compose"


@pytest.fixture(scope="session")
def docker_compose_file(image: str) -> str:
    os.environ["IMAGE"] = image
    return str(ROOT / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return f"beta9-test-{os.getpid()}"


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return ["up --detach"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["down --volumes --timeout 20"]


@pytest.fixture
def site(docker_services: Any, docker_compose_project_name: str, tmp_path: Path) -> Iterator[Site]:
    """The gateway host, for the machines of one test."""
    with visiting(docker_compose_project_name, tmp_path) as visited:
        yield visited


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository, with compose.yaml and the guides."""
    return ROOT
