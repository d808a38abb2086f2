"""Where no image is named, it is built from the tree that the bootstrap is in, and the build leaves nothing else."""

from __future__ import annotations

import pytest

from tests.shell.install.fakehost import Host

PRUNED = "builder prune --all --force"


@pytest.fixture
def building(host: Host) -> Host:
    """A machine whose settings name no image."""
    del host.settings["BETA9_AGENT_IMAGE"]
    host.write_settings()
    return host


def built(host: Host) -> list[str]:
    done = host.install()
    assert done.returncode == 0, done.stderr + host.said()
    return host.asked("docker")


@pytest.mark.parametrize(("version", "buildkit"), [("20.10.24", "1"), ("28.2.2", "")])
def test_buildkit_is_used_where_docker_has_it(building: Host, version: str, buildkit: str) -> None:
    (building.state / "docker-version").write_text(f"{version}\n", encoding="utf-8")
    built(building)
    assert (building.state / "docker.buildkit").read_text(encoding="utf-8").strip() == buildkit


def test_what_the_build_leaves_goes(building: Host) -> None:
    asked = built(building)
    build = next(number for number, call in enumerate(asked) if call.startswith("build "))
    assert {"image prune --force --filter label=beta9-worker.stage=build", PRUNED} <= set(asked[build:])
    assert [call for call in built(building)[len(asked) :] if call.startswith(("build ", "builder"))] == []


def test_the_cache_of_others_stays(building: Host) -> None:
    (building.state / "docker.images").write_text("somebody/image:latest\n", encoding="utf-8")
    assert PRUNED not in built(building)
    assert building.uninstall().returncode == 0
    assert PRUNED not in building.asked("docker")


def test_a_build_that_was_cut_off_leaves_its_cache_to_the_next(building: Host) -> None:
    (building.state / "no-build").touch()
    assert building.install().returncode == 1
    assert PRUNED not in building.asked("docker")
    (building.state / "docker.images").write_text("site/base:loaded-meanwhile\n", encoding="utf-8")
    (building.state / "no-build").unlink()
    assert PRUNED in built(building)
