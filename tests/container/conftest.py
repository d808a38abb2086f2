"""A Docker Engine with the image in it, and compose.yaml's services for the whole run, by pytest-docker."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.container.docker_cli import DOCKER, IMAGE, attempt, docker
from tests.container.site import Site, visiting

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image() -> str:
    """The image as `make image` built it. Skips where no engine answers or it has none."""
    if shutil.which(DOCKER) is None or attempt("version").code != 0:
        pytest.skip("no Docker Engine answers; `make test-container` starts one")
    if not docker("images", "--quiet", IMAGE):
        pytest.skip(f"there is no image {IMAGE}; `make image` builds it")
    return IMAGE


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Docker's plugin where it is there, else the program of its own (Debian 12 has that)."""
    if attempt("compose", "version").code == 0:
        return f"{DOCKER} compose"
    if shutil.which("docker-compose") is None:
        pytest.skip("neither `docker compose` nor docker-compose is there; apt-get install docker-compose")
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
    """The gateway's host, for one test's machines."""
    with visiting(docker_compose_project_name, tmp_path) as here:
        yield here


@pytest.fixture(scope="session")
def repository() -> Path:
    """Where compose.yaml and the guides are."""
    return ROOT
