"""cloud-init/boot.sh without a source tarball: the bootstrap comes out of the agent's image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import INSTALL, Machine, located

DIGEST = "0123456789ab" + "c" * 52
DOCKER = """
case $1 in
pull) echo "$DOCKER_CONFIG: $(cat "$DOCKER_CONFIG/config.json" 2>/dev/null)" >>"$ROOT/pulled" ;;
load) echo "Loaded image: beta9-worker:of-archive" ;;
create) echo box ;;
cp) mkdir -p "$3/bootstrap"; cp "$ROOT/install.sh" "$3/bootstrap/" ;;
esac
"""
"""Answers like the real Docker, which the container tests use."""


@pytest.fixture
def with_docker(machine: Machine, tmp_path: Path) -> Machine:
    (tmp_path / "install.sh").write_text(INSTALL)
    machine.stand_in("docker", f"ROOT={tmp_path}\n{DOCKER}")
    return machine


def test_without_a_source_the_bootstrap_comes_out_of_the_image(with_docker: Machine) -> None:
    with_docker.settings({"BETA9_AGENT_IMAGE": f"registry.example.com/agent@sha256:{DIGEST}"})
    done = with_docker.boot()
    assert done.returncode == 0, done.stderr
    assert (with_docker.opt / "current").readlink() == Path("releases/0123456789ab")
    assert with_docker.called("docker")[0] == f"docker pull -q registry.example.com/agent@sha256:{DIGEST}"
    assert "docker rm box" in with_docker.called("docker")
    calls = len(with_docker.called("docker"))
    assert with_docker.boot().returncode == 0
    assert len(with_docker.called("docker")) == calls, "the second boot does not call Docker"


def test_the_registry_credentials_are_used_and_not_kept(with_docker: Machine, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"auths":{}}')
    image = f"registry.example.com/agent@sha256:{DIGEST}"
    with_docker.settings(
        {"BETA9_AGENT_IMAGE": image, "BETA9_REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    )
    assert with_docker.boot().returncode == 0
    assert '{"auths":{}}' in (tmp_path / "pulled").read_text()
    assert not list(with_docker.root.rglob("config.json"))


def test_an_archive_is_checked_before_docker_sees_it(with_docker: Machine, tmp_path: Path) -> None:
    (tmp_path / "agent.tar").write_text("an archive")
    image = located(str(tmp_path / "agent.tar"), tmp_path / "agent.tar")
    with_docker.settings({"BETA9_AGENT_IMAGE": f"{image[:-4]}0000"})
    assert "wrong checksum" in with_docker.boot().stderr
    assert with_docker.called("docker") == []
    with_docker.settings({"BETA9_AGENT_IMAGE": image})
    assert with_docker.boot().returncode == 0
    assert "docker create beta9-worker:of-archive" in with_docker.called("docker")


def test_a_pull_that_fails_twice_is_tried_again(with_docker: Machine, tmp_path: Path) -> None:
    """Field case 4.1, of the other thing that boot.sh gets over a network."""
    failing = '[[ $1 != pull ]] || { echo pull >>"$ROOT/pulls"; (($(wc -l <"$ROOT/pulls") > 2)); } || exit 1'
    with_docker.stand_in("docker", f"ROOT={tmp_path}\n{failing}\n{DOCKER}")
    with_docker.settings({"BETA9_AGENT_IMAGE": f"registry.example.com/agent@sha256:{DIGEST}"})
    done = with_docker.boot()
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "pulls").read_text().splitlines()) == 3


def test_a_tag_is_refused(with_docker: Machine) -> None:
    with_docker.settings({"BETA9_AGENT_IMAGE": "registry.example.com/agent:latest"})
    assert "BETA9_AGENT_IMAGE has no checksum" in with_docker.boot().stderr


def test_an_image_that_docker_cannot_get_is_reported(with_docker: Machine) -> None:
    with_docker.stand_in("docker", "echo denied >&2; exit 1")
    with_docker.settings({"BETA9_AGENT_IMAGE": f"agent@sha256:{DIGEST}"})
    done = with_docker.boot()
    assert done.returncode == 1
    assert f"Docker cannot get agent@sha256:{DIGEST}" in done.stderr
