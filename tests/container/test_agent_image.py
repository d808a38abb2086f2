"""Where the agent's image comes from, by the bootstrap's own step on a real, empty Docker Engine: built, or pulled.

From an archive it comes in tests/machine/. What is built is a release's tree, on a base and with packages from a
site's mirrors; the tests of one way go on where the one before left off.
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
ACCOUNT = "site:a password that nobody may see"


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


# --- Built from the tree ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(mirrors: Mirrors) -> dict[str, str]:
    """A site's that has mirrors, and no image of the agent."""
    why = offline.missing()
    if why is not None:
        pytest.skip(why)
    return offline.mirror(mirrors, mirrors.host)


def test_without_an_image_it_is_built_and_nothing_else_is_left(
    machine: Newcomer, settings: dict[str, str], mirrors: Mirrors
) -> None:
    done = machine.step(STEP, settings)
    assert done.code == 0, done.output
    image = only_agent(machine)
    assert done.changes == (f"built {image}",)
    assert installed(machine) == machine.docker("image", "inspect", "--format", "{{.Id}}", image)
    # Of the site's: its base, and its packages.
    assert machine.images() == {image, offline.BASE_NAME}
    paths = {path for _, path in mirrors.asked}
    assert {f"/wheels/{each.name}" for each in offline.WHEELS.iterdir()} <= paths
    # What a build leaves beside its image, and what its client notes.
    assert machine.cache() == "0B"
    assert machine.docker("ps", "--all", "--quiet") == ""
    assert list(machine.home.iterdir()) == []
    assert list(machine.state.glob("pending-*")) == []
    assert list((machine.state / "downloads").iterdir()) == []


def test_an_agent_of_that_image_becomes_ready(machine: Newcomer) -> None:
    told = machine.docker("run", "--rm", "--network", "none", only_agent(machine), "demo", "--once")
    assert " is ready" in told


def test_a_second_run_of_the_same_tree_builds_nothing(
    machine: Newcomer, settings: dict[str, str], mirrors: Mirrors
) -> None:
    before, asked, images = installed(machine), len(mirrors.asked), machine.images()
    done = machine.step(STEP, settings)
    assert (done.code, done.changes) == (SKIPPED, ()), done.output
    assert (installed(machine), machine.images()) == (before, images)
    assert len(mirrors.asked) == asked


def test_the_uninstaller_takes_image_and_base_away(machine: Newcomer) -> None:
    done = machine.uninstall()
    assert done.code == 0, done.output
    assert machine.images() == set()
    assert machine.cache() == "0B"
    assert not machine.state.exists()


# --- Pulled from a registry -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """One whose image holds a single file; that nothing of it runs is enough for a pull."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("agent"))
    with serving(layer.getvalue(), ACCOUNT) as running:
        yield running


def test_an_image_by_digest_is_pulled_with_the_sites_login(machine: Newcomer, registry: Registry) -> None:
    login = machine.root / "etc/beta9-worker/registry.json"
    login.parent.mkdir(parents=True, exist_ok=True)
    login.write_text(registry.login(), encoding="utf-8")
    named = {
        "BETA9_AGENT_IMAGE": registry.reference,
        "BETA9_REGISTRY_AUTH_FILE": "/etc/beta9-worker/registry.json",
    }
    done = machine.step(STEP, named)
    assert done.code == 0, done.output
    assert done.changes == (f"pulled {registry.reference}",)
    pulled = json.loads(machine.docker("image", "inspect", registry.reference))[0]
    assert installed(machine) == pulled["Id"]
    assert list(machine.home.iterdir()) == []  # the login went with the run
    asked = len(registry.asked)
    again = machine.step(STEP, named)
    assert (again.code, again.changes) == (SKIPPED, ()), again.output
    assert len(registry.asked) == asked
    assert ACCOUNT.partition(":")[2] not in done.output + again.output
    assert machine.uninstall().code == 0
    assert machine.images() == set()


def installed(machine: Newcomer) -> str:
    """The id that the agent's unit will run."""
    return (machine.state / "agent-image").read_text(encoding="ascii").strip()


def only_agent(machine: Newcomer) -> str:
    """The one image that was built."""
    (found,) = (name for name in machine.images() if name.startswith("beta9-worker:source-"))
    return found
