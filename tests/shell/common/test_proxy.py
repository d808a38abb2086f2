"""A site whose only way out is an HTTP proxy, set in worker.env by the ordinary names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.settings.proxies import DIRECT
from tests import ROOT
from tests.shell.boot.boot_machine import Machine, located, tarball
from tests.shell.common.flaky_server import Proxy, Server, serving
from tests.shell.install.fakehost import Host

PASSWORD = "p%40ss-sEcReT"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    tarball(tmp_path / "b.tar.gz")
    return tmp_path / "b.tar.gz"


@pytest.fixture
def proxy(release: Path) -> Iterator[Proxy]:
    """A proxy with a login, behind which `http://files.invalid` serves the release."""
    with serving(Server(release.read_bytes(), [])) as server, serving(Proxy(server.url)) as proxy:
        proxy.login = f"user:{PASSWORD.replace('%40', '@')}"
        yield proxy


def address(proxy: Proxy) -> str:
    return proxy.url.replace("//", f"//user:{PASSWORD}@")


def watched_curl(directory: Path) -> Path:
    """Put a curl into `directory` that writes its arguments to a file; return the file."""
    log = directory / "curl.arguments"
    (directory / "curl").write_text(f'#!/bin/bash\necho "$*" >>{log}\nexec {shutil.which("curl")} "$@"\n')
    (directory / "curl").chmod(0o755)
    return log


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("http_proxy", "{}"),
        ("HTTP_PROXY", "{}"),
        ("http_proxy", "{}/"),
        ("http_proxy", "without scheme"),
    ],
)
def test_boot_sh_and_the_installer_download_through_the_proxy(
    tmp_path: Path, release: Path, proxy: Proxy, name: str, form: str
) -> None:
    """Field case 14.1. The password is neither shown nor an argument of a program."""
    value = form.format(address(proxy)) if "{" in form else address(proxy).removeprefix("http://")
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    arguments = watched_curl(machine.bin)
    machine.settings({name: value, "BETA9_SOURCE": located("http://files.invalid/b.tar.gz", release)})
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert proxy.requests == ["GET http://files.invalid/b.tar.gz"]

    host = Host(tmp_path / "host")
    host.write_settings(**{name: value})
    watched_curl(host.bin)
    fetched = host.step(f'fetch "{located("http://files.invalid/b.tar.gz", release)}" {host.root}/dest')
    assert fetched.returncode == 0, fetched.stderr
    assert len(proxy.requests) == 2
    shown = done.stdout + done.stderr + fetched.stdout + fetched.stderr + host.console_text()
    assert "sEcReT" not in shown + arguments.read_text() + (host.bin / "curl.arguments").read_text()


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_https_goes_through_its_proxy_and_a_failure_shows_no_password(
    tmp_path: Path, release: Path, proxy: Proxy, name: str
) -> None:
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    machine.settings(
        {name: address(proxy), "BETA9_SOURCE": located("https://files.invalid/b.tar.gz", release)}
    )
    done = machine.boot()
    assert done.returncode == 1
    assert proxy.requests == ["CONNECT files.invalid:443"] * 6
    assert "sEcReT" not in done.stdout + done.stderr + str(machine.failure())


@pytest.mark.parametrize("no_proxy", ["", "example.com, .corp"])
def test_loopback_and_what_no_proxy_names_is_reached_directly(
    tmp_path: Path, release: Path, proxy: Proxy, no_proxy: str
) -> None:
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    with serving(Server(release.read_bytes(), [])) as server:
        source = located(f"{server.url}/b.tar.gz", release)
        machine.settings({"http_proxy": address(proxy), "no_proxy": no_proxy, "BETA9_SOURCE": source})
        done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert proxy.requests == []
    environment = dict(
        line.split("=", 1) for line in (machine.root / "environment").read_text().splitlines() if "=" in line
    )
    expected = f"example.com,.corp,{DIRECT}" if no_proxy else DIRECT
    assert (environment["no_proxy"], environment["NO_PROXY"]) == (expected, expected)
    assert environment["HTTP_PROXY"] == environment["http_proxy"] == address(proxy)


def test_the_environment_has_precedence(tmp_path: Path, release: Path, proxy: Proxy) -> None:
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    machine.settings(
        {
            "http_proxy": "http://127.0.0.1:1",
            "BETA9_SOURCE": located("http://files.invalid/b.tar.gz", release),
        }
    )
    assert machine.boot(HTTP_PROXY=address(proxy)).returncode == 0
    assert len(proxy.requests) == 1


def test_docker_pulls_through_the_proxy_before_there_is_an_installer(tmp_path: Path) -> None:
    """Field case 14.1: Docker's daemon pulls, so it has to be told, with the password in a file of root's."""
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    machine.stand_in("docker", "[[ $1 != pull && $1 != create ]]")
    machine.stand_in("systemctl")
    image = f"registry.example.com/agent@sha256:{'0' * 64}"
    machine.settings({"https_proxy": f"http://user:{PASSWORD}@proxy:3128", "BETA9_AGENT_IMAGE": image})
    done = machine.boot()
    assert "Docker cannot get" in done.stderr
    drop_in = machine.root / "run/systemd/system/docker.service.d"
    assert f"EnvironmentFile={drop_in}/proxy.env\n" in (drop_in / "beta9-proxy.conf").read_text()
    assert f"HTTPS_PROXY=http://user:{PASSWORD}@proxy:3128\n" in (drop_in / "proxy.env").read_text()
    assert (drop_in / "proxy.env").stat().st_mode & 0o777 == 0o600
    assert machine.called("systemctl")[:2] == ["systemctl daemon-reload", "systemctl restart docker"]
    assert "sEcReT" not in done.stdout + done.stderr


# --- The installation ------------------------------------------------------------------------------------

PROXY = f"http://user:{PASSWORD}@proxy.example.com:3128"
UNITS = ("docker", "k3s")


def drop_in(host: Host, unit: str) -> Path:
    return host.root / f"etc/systemd/system/{unit}.service.d"


def test_docker_and_k3s_get_the_proxy_and_lose_it_with_the_setting(tmp_path: Path) -> None:
    """Field case 14.1: both download by themselves. Nothing else has the password; a second run changes nothing."""
    host = Host(tmp_path)
    host.write_settings(https_proxy=PROXY)
    assert host.install().returncode == 0, host.console_text()
    for unit in UNITS:
        assert (
            f"EnvironmentFile=/etc/systemd/system/{unit}.service.d/beta9-proxy.env\n"
            in (drop_in(host, unit) / "beta9-proxy.conf").read_text()
        )
        env = drop_in(host, unit) / "beta9-proxy.env"
        assert env.read_text() == f'HTTPS_PROXY="{PROXY}"\nNO_PROXY="{DIRECT}"\n'
        assert env.stat().st_mode & 0o777 == 0o600
    calls = host.calls("systemctl")
    assert calls.index("daemon-reload") < calls.index("start docker") < calls.index("restart k3s")
    assert max(n for n, call in enumerate(calls) if "reload" in call) < calls.index("restart k3s")
    holders = [
        path
        for path in host.root.rglob("*")
        if path.is_file() and "sEcReT" in path.read_text(errors="replace")
    ]
    assert {path.name for path in holders} == {"worker.env", "beta9-proxy.env"}
    assert "sEcReT" not in host.console_text() + "".join(p.read_text() for p in host.state.glob("*.calls"))

    restarts = host.calls("systemctl")
    assert host.install().returncode == 0
    assert "done, 0 changes" in host.console_text().splitlines()[-1]
    assert host.calls("systemctl") == restarts

    host.write_settings(https_proxy="")
    assert host.install().returncode == 0
    for unit in UNITS:
        assert list(drop_in(host, unit).iterdir()) == []
    assert [host.calls("systemctl").count(f"restart {unit}") for unit in UNITS] == [1, 2]


def test_uninstall_removes_the_proxy(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write_settings(https_proxy=PROXY)
    assert host.install().returncode == 0, host.console_text()
    assert host.uninstall().returncode == 0
    assert [unit for unit in UNITS if drop_in(host, unit).exists()] == []


def test_the_image_is_built_through_the_proxy_without_a_password_in_an_argument(tmp_path: Path) -> None:
    """Field case 14.1: pip, in the build. Docker takes the value of such an argument from its environment."""
    host = Host(tmp_path)
    index = "https://user:sEcReT@packages.example.com/simple"
    host.write_settings(https_proxy=PROXY, BETA9_AGENT_IMAGE="", BETA9_PIP_INDEX_URL=index)
    assert host.install().returncode == 0, host.console_text()
    (build,) = [call for call in host.calls("docker") if call.startswith("build ")]
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "PIP_INDEX_URL"):
        assert f"--build-arg {name} " in build
    assert "sEcReT" not in build


def test_a_docker_with_a_proxy_of_its_own_is_left_alone(tmp_path: Path) -> None:
    host = Host(tmp_path)
    docker = host.bin / "docker"
    real = docker.resolve()
    docker.unlink()
    docker.write_text(f'#!/bin/bash\n[[ $1 != info ]] || echo http://other:3128\nexec bash {real} "$@"\n')
    docker.chmod(0o755)
    host.write_settings(https_proxy=PROXY)
    assert host.install().returncode == 0, host.console_text()
    assert not drop_in(host, "docker").exists()
    assert drop_in(host, "k3s").exists()


def test_one_list_of_what_is_reached_directly() -> None:
    """The agent and the bootstrap agree on it."""
    assert f"direct={DIRECT}\n" in (ROOT / "bootstrap/lib/settings.sh").read_text()
