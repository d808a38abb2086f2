"""cloud-init/boot.sh with a source tarball: download, verify, unpack, run, and change nothing the second time."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import INSTALL, Machine, located, tarball


def test_it_downloads_verifies_unpacks_and_runs_the_installer(machine: Machine, tmp_path: Path) -> None:
    source = tarball(tmp_path / "b.tar.gz")
    machine.settings({"BETA9_SOURCE": source})
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    name = source.rpartition("=")[2][:12]
    assert (machine.opt / "current").readlink() == Path("releases", name)
    assert sorted(path.name for path in machine.opt.iterdir()) == ["current", "releases"]
    assert [path.name for path in (machine.opt / "releases").iterdir()] == [name]
    assert (machine.opt / "current/README").stat().st_uid == os.geteuid()
    last = done.stdout.splitlines()[-1]
    env_file = machine.root / "etc/beta9-worker/worker.env"
    assert last == f"installer of {machine.opt}/current/bootstrap/install.sh: --env-file {env_file}"
    assert (env_file.parent.stat().st_mode & 0o777) == 0o700


def test_a_second_boot_fetches_nothing_and_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.settings({"BETA9_SOURCE": tarball(tmp_path / "b.tar.gz")})
    machine.boot()
    before = {path: at for path, at in machine.tree().items() if "/releases/" in path}
    (tmp_path / "b.tar.gz").unlink()
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert "fetching" not in done.stdout
    assert "installer of" in done.stdout
    assert {path: at for path, at in machine.tree().items() if "/releases/" in path} == before
    assert sorted(path.name for path in machine.opt.iterdir()) == ["current", "releases"]


def test_another_checksum_installs_another_release_next_to_the_old_one(
    machine: Machine, tmp_path: Path
) -> None:
    machine.settings({"BETA9_SOURCE": tarball(tmp_path / "one.tar.gz")})
    machine.boot()
    source = tarball(tmp_path / "two.tar.gz", INSTALL + "# two\n")
    machine.settings({"BETA9_SOURCE": source})
    assert machine.boot().returncode == 0
    assert (machine.opt / "current").readlink() == Path("releases", source.rpartition("=")[2][:12])
    assert len(list((machine.opt / "releases").iterdir())) == 2


def test_the_environment_beats_worker_env(machine: Machine, tmp_path: Path) -> None:
    machine.settings({"BETA9_SOURCE": "/nowhere"})
    assert machine.boot(BETA9_SOURCE=tarball(tmp_path / "b.tar.gz")).returncode == 0


def test_secrets_in_worker_env_do_not_become_environment(machine: Machine, tmp_path: Path) -> None:
    values = {"BETA9_SOURCE": tarball(tmp_path / "b.tar.gz"), "BETA9_TOKEN": "sEcReT"}
    machine.settings(values)
    done = machine.boot()
    assert "sEcReT" not in done.stdout + done.stderr + (machine.root / "environment").read_text()


def test_nothing_in_worker_env_is_executed_and_the_lines_of_a_key_are_not_settings(
    machine: Machine, tmp_path: Path
) -> None:
    values = {
        "BETA9_POOL_NAME": f"$(touch {tmp_path}/executed) `touch {tmp_path}/executed`; touch {tmp_path}/executed",
        "BETA9_SSH_KEY": "-----BEGIN\nBETA9_SOURCE=/elsewhere\n\n-----END\n",
        "BETA9_SOURCE": tarball(tmp_path / "b b.tar.gz"),
        "BETA9_SSH_KNOWN_HOSTS": "\nBETA9_SOURCE=/elsewhere",
    }
    machine.settings(values)
    assert machine.boot().returncode == 0
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("end", ["\r\n", "", " # the tarball\n", "\t\n"])
def test_line_ends_of_all_editors_are_understood(machine: Machine, tmp_path: Path, end: str) -> None:
    machine.settings({})
    path = machine.root / "etc/beta9-worker/worker.env"
    path.write_bytes(f"BETA9_SOURCE={tarball(tmp_path / 'b.tar.gz')}{end}".encode())
    done = machine.boot()
    assert done.returncode == 0, done.stderr


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The base URL of a web server for tmp_path; /moved/… redirects there, and the first request fails."""
    requested: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            requested.append(self.path)
            if len(requested) == 1:
                self.send_error(503)
            elif self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_downloads_after_an_error_and_a_redirect_and_shows_no_credentials(
    machine: Machine, tmp_path: Path, served: str
) -> None:
    tarball(tmp_path / "b.tar.gz")
    machine.settings(
        {"BETA9_SOURCE": located(f"{served}/moved/b.tar.gz?signature=sEcReT", tmp_path / "b.tar.gz")}
    )
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert f"fetching {served}/moved/b.tar.gz\n" in done.stdout
    assert "sEcReT" not in done.stdout + done.stderr


def test_a_file_from_the_files_directory_is_taken_instead_and_checked_too(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    file = tmp_path / "files/b.tar.gz"
    tarball(file)
    source = located("https://nowhere.invalid/x/b.tar.gz?y=1", file)
    machine.settings({"BETA9_SOURCE": source, "BETA9_FILES_DIR": str(file.parent)})
    assert machine.boot().returncode == 0
    url, _, checksum = source.rpartition("=")
    machine.settings({"BETA9_SOURCE": f"{url}={checksum[::-1]}", "BETA9_FILES_DIR": str(file.parent)})
    done = machine.boot()
    assert done.returncode == 1
    assert "wrong checksum" in done.stderr


TOOLS = [
    "bash",
    "cat",
    "chmod",
    "cmp",
    "cp",
    "date",
    "env",
    "gzip",
    "iconv",
    "ln",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sha256sum",
    "sleep",
    "tar",
    "timeout",
    "tr",
]


@pytest.mark.parametrize("works", [True, False])
def test_a_missing_curl_is_installed(machine: Machine, tmp_path: Path, served: str, works: bool) -> None:
    tarball(tmp_path / "b.tar.gz")
    machine.settings({"BETA9_SOURCE": located(f"{served}/b.tar.gz", tmp_path / "b.tar.gz")})
    without_curl = tmp_path / "without-curl"
    without_curl.mkdir()
    for tool in TOOLS:
        (without_curl / tool).symlink_to(str(shutil.which(tool)))
    install = f"[[ $* != *install* ]] || ln -s {shutil.which('curl')} {without_curl}/curl"
    machine.stand_in("apt-get", install if works else "exit 100")
    done = machine.boot(PATH=f"{machine.bin}:{without_curl}")
    assert ("installer of" in done.stdout) == works
    if works:
        assert machine.called("apt-get") == ["apt-get -q update", "apt-get -qy install curl"]
    else:
        assert "curl could not be installed" in done.stderr
