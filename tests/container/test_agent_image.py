"""The bootstrap's step for the agent's image, on a real, empty Docker Engine: built, or pulled.

(tests/machine/ covers loading it from an archive.) The build uses a release's tree, with the base image and packages
from a site's mirrors. The tests of each section depend on one another and run in order.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator

import pytest

from tests.container.newcomer import SKIPPED, Newcomer, newcomer
from tests.container.registry import Registry, serving
from tests.machine import offline
from tests.machine.mirrors import Mirrors

pytestmark = pytest.mark.container

STEP = "agent-image"
ACCOUNT = "site:a password that must not leak"


@pytest.fixture(scope="module")
def mirrors() -> Iterator[Mirrors]:
    with Mirrors() as running:
        yield running


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    if shutil.which("dockerd") is None:
        pytest.skip("dockerd is not installed: make .venv/container")
    with newcomer(tmp_path_factory.mktemp("new")) as made:
        yield made


# --- Built from the source tree ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(mirrors: Mirrors) -> dict[str, str]:
    """Settings of a site with mirrors and without an agent image."""
    reason = offline.missing()
    if reason is not None:
        pytest.skip(reason)
    return offline.mirror(mirrors, mirrors.host)


def test_the_image_is_built_and_nothing_else_is_left(
    machine: Newcomer, settings: dict[str, str], mirrors: Mirrors
) -> None:
    done = machine.step(STEP, settings)
    assert done.code == 0, done.output
    image = built_image(machine)
    assert done.changes == (f"built {image}",)
    assert installed(machine) == machine.docker("image", "inspect", "--format", "{{.Id}}", image)
    # From the site: its base image, and its packages.
    assert machine.images() == {image, offline.BASE_NAME}
    paths = {path for _, path in mirrors.requests}
    assert {f"/wheels/{each.name}" for each in offline.WHEELS.iterdir()} <= paths
    # Nothing else is left by the build or by its client.
    assert machine.cache() == "0B"
    assert machine.docker("ps", "--all", "--quiet") == ""
    assert list(machine.home.iterdir()) == []
    assert list(machine.state.glob("pending-*")) == []
    assert list((machine.state / "downloads").iterdir()) == []


def test_an_agent_from_that_image_becomes_ready(machine: Newcomer) -> None:
    output = machine.docker("run", "--rm", "--network", "none", built_image(machine), "demo", "--once")
    assert " is ready" in output


def test_a_second_run_of_the_same_tree_builds_nothing(
    machine: Newcomer, settings: dict[str, str], mirrors: Mirrors
) -> None:
    before, requests, images = installed(machine), len(mirrors.requests), machine.images()
    done = machine.step(STEP, settings)
    assert (done.code, done.changes) == (SKIPPED, ()), done.output
    assert (installed(machine), machine.images()) == (before, images)
    assert len(mirrors.requests) == requests


def test_the_uninstaller_removes_the_image_and_its_base(machine: Newcomer) -> None:
    done = machine.uninstall()
    assert done.code == 0, done.output
    assert machine.images() == set()
    assert machine.cache() == "0B"
    assert not machine.state.exists()


# --- Pulled from a registry -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry with an image that has a single file and cannot run, which is enough for a pull."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("agent"))
    with serving(layer.getvalue(), ACCOUNT) as running:
        yield running


def test_an_image_is_pulled_by_digest_with_the_registry_login(machine: Newcomer, registry: Registry) -> None:
    login = machine.root / "etc/beta9-worker/registry.json"
    login.parent.mkdir(parents=True, exist_ok=True)
    login.write_text(registry.login(), encoding="utf-8")
    settings = {
        "BETA9_AGENT_IMAGE": registry.reference,
        "BETA9_REGISTRY_AUTH_FILE": "/etc/beta9-worker/registry.json",
    }
    done = machine.step(STEP, settings)
    assert done.code == 0, done.output
    assert done.changes == (f"pulled {registry.reference}",)
    pulled = json.loads(machine.docker("image", "inspect", registry.reference))[0]
    assert installed(machine) == pulled["Id"]
    assert list(machine.home.iterdir()) == [], "the registry login is removed after the run"
    requests = len(registry.requests)
    again = machine.step(STEP, settings)
    assert (again.code, again.changes) == (SKIPPED, ()), again.output
    assert len(registry.requests) == requests
    assert ACCOUNT.partition(":")[2] not in done.output + again.output
    assert machine.uninstall().code == 0
    assert machine.images() == set()


def installed(machine: Newcomer) -> str:
    """Return the image id that the agent's unit runs."""
    return (machine.state / "agent-image").read_text(encoding="ascii").strip()


def built_image(machine: Newcomer) -> str:
    """Return the name of the image that was built."""
    (image,) = (name for name in machine.images() if name.startswith("beta9-worker:source-"))
    return image
