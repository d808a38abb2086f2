"""cloud-init/boot.sh in a temporary root: what it fetches, what it refuses, and what it leaves alone."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.core.host.boot_record import read_boot
from agent.core.provisioning.env_file import env_lines

ROOT = Path(__file__).parents[2]
BOOT = ROOT / "cloud-init" / "boot.sh"
HEAD = ROOT / "cloud-init" / "script-head.sh"
INSTALL = (
    '#!/bin/bash\nprintf "installer of %s: %s\\n" "${BASH_SOURCE[0]}" "$*"\nenv >"$BETA9_ROOT/environment"\n'
)


@dataclass
class Machine:
    """A root directory, and a PATH on which some programs only say that they were called."""

    root: Path
    bin: Path
    script: Path = BOOT

    def __post_init__(self) -> None:
        self.bin.mkdir()
        self.stand_in("poweroff")
        self.stand_in("systemctl", 'exit "${WORKER_ACTIVE:-3}"')

    def stand_in(self, name: str, does: str = "exit 0") -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.root.parent}/called"\n{does}\n')
        program.chmod(0o755)

    def called(self, name: str) -> list[str]:
        log = self.root.parent / "called"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] == name]

    def settings(self, values: Mapping[str, str]) -> None:
        path = self.root / "etc/beta9-worker/worker.env"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["# settings", *env_lines(values), "# end of settings", ""]))

    def boot(self, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "BETA9_ROOT": str(self.root), **environ}
        return subprocess.run(
            ["bash", str(self.script)], capture_output=True, text=True, check=False, timeout=120, env=env
        )

    def tree(self) -> dict[str, float]:
        """Every path with its time of change, the record of the last run aside."""
        return {
            str(path): path.lstat().st_mtime for path in self.root.rglob("*") if path.name != "environment"
        }

    @property
    def opt(self) -> Path:
        return self.root / "opt/beta9-worker"

    def failure(self) -> dict[str, str]:
        record: dict[str, str] = json.loads((self.root / "var/lib/beta9-worker/bootstrap.json").read_text())
        assert read_boot(record) is not None
        return record


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "root").mkdir()
    return Machine(tmp_path / "root", tmp_path / "bin")


def tarball(path: Path, install: str | None = INSTALL) -> str:
    """A source tarball at that path; return its location with checksum."""
    with tarfile.open(path, "w:gz") as tar:
        names = {"README": "read me\n", **({"bootstrap/install.sh": install} if install else {})}
        for name, text in names.items():
            member = tarfile.TarInfo(f"beta9-worker-0.1.0/{name}")
            member.size, member.uid, member.mode = len(text.encode()), 4711, 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return located(f"file://{path}", path)


def located(location: str, path: Path) -> str:
    return f"{location}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- The good way ------------------------------------------------------------------------------------------


def test_it_fetches_checks_unpacks_and_becomes_the_installer(machine: Machine, tmp_path: Path) -> None:
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


def test_another_checksum_brings_another_release_beside_the_old_one(machine: Machine, tmp_path: Path) -> None:
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


def test_nothing_in_worker_env_is_executed_and_a_key_s_lines_are_no_settings(
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
def test_lines_as_editors_leave_them_are_understood(machine: Machine, tmp_path: Path, end: str) -> None:
    machine.settings({})
    path = machine.root / "etc/beta9-worker/worker.env"
    path.write_bytes(f"BETA9_SOURCE={tarball(tmp_path / 'b.tar.gz')}{end}".encode())
    done = machine.boot()
    assert done.returncode == 0, done.stderr


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The base URL of a web server for tmp_path; /moved/… leads there by a redirect, the first request fails."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) == 1:
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


def test_it_downloads_after_trouble_and_redirects_and_shows_no_credentials(
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
    place, _, checksum = source.rpartition("=")
    machine.settings({"BETA9_SOURCE": f"{place}={checksum[::-1]}", "BETA9_FILES_DIR": str(file.parent)})
    done = machine.boot()
    assert done.returncode == 1
    assert "has another checksum" in done.stderr


TOOLS = [
    "bash",
    "cat",
    "chmod",
    "cp",
    "date",
    "env",
    "gzip",
    "ln",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sha256sum",
    "tar",
    "timeout",
    "tr",
]


@pytest.mark.parametrize("works", [True, False])
def test_a_machine_without_curl_is_given_it(
    machine: Machine, tmp_path: Path, served: str, works: bool
) -> None:
    tarball(tmp_path / "b.tar.gz")
    machine.settings({"BETA9_SOURCE": located(f"{served}/b.tar.gz", tmp_path / "b.tar.gz")})
    few = tmp_path / "few"
    few.mkdir()
    for tool in TOOLS:
        (few / tool).symlink_to(str(shutil.which(tool)))
    install = f"[[ $* != *install* ]] || ln -s {shutil.which('curl')} {few}/curl"
    machine.stand_in("apt-get", install if works else "exit 100")
    done = machine.boot(PATH=f"{machine.bin}:{few}")
    assert ("installer of" in done.stdout) == works
    if works:
        assert machine.called("apt-get") == ["apt-get -q update", "apt-get -qy install curl"]
    else:
        assert "curl could not be installed" in done.stderr


# --- Refusals ----------------------------------------------------------------------------------------------


def broken(machine: Machine, source: str, **more: str) -> str:
    """Boot with that source; it must fail, say so, and run nothing. Returns what it said."""
    machine.settings({"BETA9_SOURCE": source, **more})
    done = machine.boot()
    assert done.returncode != 0
    assert "installer of" not in done.stdout
    assert not (machine.opt / "current").exists()
    assert not list(machine.opt.glob(".boot*")), "nothing half-done stays"
    assert "beta9-boot: FAILED: " in done.stderr
    assert "to mend it: " in done.stderr
    record = machine.failure()
    assert (record["result"], record["failed_stage"]) == ("failed", "boot")
    return done.stderr


def test_another_checksum_than_the_file_s_is_refused(machine: Machine, tmp_path: Path) -> None:
    source = tarball(tmp_path / "b.tar.gz")
    said = broken(machine, f"{source[:-4]}0000")
    assert "has another checksum than the settings say" in said
    assert not list((machine.opt / "releases").iterdir())


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("https://example.com/b.tar.gz", "has no checksum"),
        ("https://example.com/b.tar.gz#sha256=abc", "has no checksum"),
        (f"https://example.com/b.tar.gz#md5={'0' * 64}", "has no checksum"),
        (f"ftp://example.com/b.tar.gz#sha256={'0' * 64}", "is no place to fetch from"),
        (f"b.tar.gz#sha256={'0' * 64}", "is no place to fetch from"),
        (f"--output=x#sha256={'0' * 64}", "is no place to fetch from"),
        (f"/not/here.tar.gz#sha256={'0' * 64}", "cannot be read"),
        (f"file:///not/here.tar.gz#sha256={'0' * 64}", "cannot be read"),
        ("", "nothing says where the bootstrap is"),
    ],
)
def test_what_cannot_be_fetched_is_named(machine: Machine, source: str, told: str) -> None:
    assert told in broken(machine, source)


def test_what_is_no_tarball_or_has_no_bootstrap_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "no").write_text("no tarball")
    broken(machine, located(str(tmp_path / "no"), tmp_path / "no"))
    assert "has no bootstrap/install.sh" in broken(machine, tarball(tmp_path / "empty.tar.gz", None))


def test_an_upper_case_checksum_is_the_same_checksum(machine: Machine, tmp_path: Path) -> None:
    place, _, checksum = tarball(tmp_path / "b.tar.gz").rpartition("=")
    machine.settings({"BETA9_SOURCE": f"{place}={checksum.upper()}"})
    assert machine.boot().returncode == 0


def test_without_worker_env_it_says_what_is_missing(machine: Machine) -> None:
    done = machine.boot()
    assert done.returncode == 1
    assert "name BETA9_SOURCE or BETA9_AGENT_IMAGE in" in done.stderr


# --- The failure policy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "times"), [("poweroff", 1), ("keep", 0), ("", 0)])
def test_a_failed_boot_powers_off_only_where_that_was_asked_for(
    machine: Machine, policy: str, times: int
) -> None:
    broken(machine, "/nowhere", BETA9_ON_FAILURE=policy)
    assert len(machine.called("poweroff")) == times


def test_a_machine_whose_worker_runs_is_never_powered_off(machine: Machine) -> None:
    machine.settings({"BETA9_SOURCE": "/nowhere", "BETA9_ON_FAILURE": "poweroff"})
    assert machine.boot(WORKER_ACTIVE="0").returncode == 1
    assert machine.called("systemctl") == ["systemctl -q is-active beta9-worker"]
    assert machine.called("poweroff") == []


def test_unforeseen_trouble_powers_off_too(machine: Machine, tmp_path: Path) -> None:
    machine.stand_in("tar", "exit 2")
    said = broken(machine, tarball(tmp_path / "b.tar.gz"), BETA9_ON_FAILURE="poweroff")
    assert "an unforeseen error" in said
    assert len(machine.called("poweroff")) == 1


def test_a_failed_installer_is_its_own_affair(machine: Machine, tmp_path: Path) -> None:
    """It has a failure policy of its own, and a record with more in it."""
    source = tarball(tmp_path / "b.tar.gz", "exit 9\n")
    machine.settings({"BETA9_SOURCE": source, "BETA9_ON_FAILURE": "poweroff"})
    done = machine.boot()
    assert done.returncode == 9
    assert machine.called("poweroff") == []
    assert not (machine.root / "var/lib/beta9-worker/bootstrap.json").exists()


# --- Out of the agent's image ------------------------------------------------------------------------------

DIGEST = "0123456789ab" + "c" * 52
DOCKER = """
case $1 in
pull) echo "$DOCKER_CONFIG: $(cat "$DOCKER_CONFIG/config.json" 2>/dev/null)" >>"$ROOT/pulled" ;;
load) echo "Loaded image: beta9-worker:of-archive" ;;
create) echo box ;;
cp) mkdir -p "$3/bootstrap"; cp "$ROOT/install.sh" "$3/bootstrap/" ;;
esac
"""
"""Answers as the real one does; the container tests have the real one."""


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
    assert len(with_docker.called("docker")) == calls, "at the second boot Docker is not asked"


def test_the_registry_s_credentials_are_used_and_not_kept(with_docker: Machine, tmp_path: Path) -> None:
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
    assert "another checksum" in with_docker.boot().stderr
    assert with_docker.called("docker") == []
    with_docker.settings({"BETA9_AGENT_IMAGE": image})
    assert with_docker.boot().returncode == 0
    assert "docker create beta9-worker:of-archive" in with_docker.called("docker")


def test_a_tag_is_refused(with_docker: Machine) -> None:
    with_docker.settings({"BETA9_AGENT_IMAGE": "registry.example.com/agent:latest"})
    assert "BETA9_AGENT_IMAGE has no checksum" in with_docker.boot().stderr


def test_an_image_that_docker_cannot_have_is_said(with_docker: Machine) -> None:
    with_docker.stand_in("docker", "echo denied >&2; exit 1")
    with_docker.settings({"BETA9_AGENT_IMAGE": f"agent@sha256:{DIGEST}"})
    done = with_docker.boot()
    assert done.returncode == 1
    assert f"Docker cannot take agent@sha256:{DIGEST}" in done.stderr


# --- As a start-up script ----------------------------------------------------------------------------------


@pytest.fixture
def scripted(machine: Machine, tmp_path: Path) -> Machine:
    from agent.core.provisioning.user_data import start_script

    settings = {"BETA9_SOURCE": tarball(tmp_path / "b.tar.gz"), "BETA9_SSH_KNOWN_HOSTS": "h $(id) `id`\n\nb"}
    machine.script = tmp_path / "script"
    machine.script.write_text(start_script(HEAD.read_text(), BOOT.read_text(), settings))
    return machine


def test_the_script_writes_the_settings_and_boots(scripted: Machine) -> None:
    done = scripted.boot()
    assert done.returncode == 0, done.stderr
    written = scripted.root / "etc/beta9-worker/worker.env"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text().splitlines()[2:5] == ["BETA9_SSH_KNOWN_HOSTS='h $(id) `id`", "", "b'"]
    assert "installer of" in done.stdout


def test_at_later_boots_the_script_keeps_what_somebody_has_changed(scripted: Machine) -> None:
    scripted.boot()
    written = scripted.root / "etc/beta9-worker/worker.env"
    written.write_text(f"{written.read_text()}BETA9_LOG_LEVEL=debug\n")
    done = scripted.boot()
    assert done.returncode == 0
    assert "worker.env is kept as it is" in done.stdout
    assert "BETA9_LOG_LEVEL=debug" in written.read_text()
    assert [path.name for path in written.parent.iterdir()] == ["worker.env"]
