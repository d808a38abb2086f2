"""Without a configured image it is built from the bootstrap's source tree, and the build leaves nothing else."""

from __future__ import annotations

import pytest

from tests.shell.install.fakehost import Host

PRUNED = "builder prune --all --force"


@pytest.fixture
def building(host: Host) -> Host:
    """A machine without an image in its settings."""
    del host.settings["BETA9_AGENT_IMAGE"]
    host.write_settings()
    return host


def built(host: Host) -> list[str]:
    done = host.install()
    assert done.returncode == 0, done.stderr + host.console_text()
    return host.calls("docker")


@pytest.mark.parametrize(("version", "buildkit"), [("20.10.24", "1"), ("28.2.2", "")])
def test_buildkit_is_used_if_docker_has_it(building: Host, version: str, buildkit: str) -> None:
    (building.state / "docker-version").write_text(f"{version}\n", encoding="utf-8")
    built(building)
    assert (building.state / "docker.buildkit").read_text(encoding="utf-8").strip() == buildkit


def test_leftovers_of_the_build_are_removed(building: Host) -> None:
    calls = built(building)
    build = next(number for number, call in enumerate(calls) if call.startswith("build "))
    assert {"image prune --force --filter label=beta9-worker.stage=build", PRUNED} <= set(calls[build:])
    assert [call for call in built(building)[len(calls) :] if call.startswith(("build ", "builder"))] == []


def test_the_cache_of_other_builds_is_kept(building: Host) -> None:
    (building.state / "docker.images").write_text("somebody/image:latest\n", encoding="utf-8")
    assert PRUNED not in built(building)
    assert building.uninstall().returncode == 0
    assert PRUNED not in building.calls("docker")


def test_the_cache_of_an_interrupted_build_is_removed_by_the_next(building: Host) -> None:
    (building.state / "no-build").touch()
    assert building.install().returncode == 1
    assert PRUNED not in building.calls("docker")
    (building.state / "docker.images").write_text("site/base:loaded-meanwhile\n", encoding="utf-8")
    (building.state / "no-build").unlink()
    assert PRUNED in built(building)
