"""A new machine for one step of the bootstrap: its own empty Docker Engine, and a directory as its root.

The engine is real and shares nothing with that of the host. `systemctl` is a stand-in, since there is no agent service
here to start or stop.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from tests.machine.site import source_tarball

ENGINE = ROOT / "scripts" / "engine.sh"
SYSTEMCTL = ROOT / "tests" / "shell" / "install" / "stubs" / "systemctl"
STEP_S = 900
SKIPPED = 10
"""From bootstrap/lib/exit_codes.sh: the step has nothing to do."""


@dataclass(frozen=True)
class Ended:
    """The result of a step or of the uninstaller, with the changes that it reports."""

    code: int
    changes: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Newcomer:
    """The machine. `engine` is the address of its Docker Engine; `directory` holds its root and its other files."""

    directory: Path
    engine: str

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def home(self) -> Path:
        """Home directory of the user who runs the bootstrap."""
        return self.directory / "home"

    @property
    def state(self) -> Path:
        """The bootstrap's state directory."""
        return self.root / "var/lib/beta9-worker/bootstrap"

    @property
    def bootstrap(self) -> Path:
        """The release's bootstrap, where cloud-init/boot.sh unpacks it."""
        return self.root / "opt/beta9-worker/current/bootstrap"

    def step(self, name: str, settings: Mapping[str, str]) -> Ended:
        """Run steps/NN-NAME.sh like the installer, with these settings in worker.env."""
        env_file = self.root / "etc/beta9-worker/worker.env"
        env_file.parent.mkdir(parents=True, exist_ok=True)
        env_file.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()))
        run = self.directory / "run"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        (script,) = self.bootstrap.glob(f"steps/[0-9][0-9]-{name}.sh")
        done = self._bash(
            script,
            BETA9_BOOTSTRAP=str(self.bootstrap.resolve()),
            BETA9_ENV_FILE=str(env_file),
            BETA9_RUN=str(run),
            BETA9_STAGE=name,
        )
        file = run / f"{name}.changes"
        changes = file.read_text().splitlines() if file.exists() else []
        return Ended(done.returncode, tuple(changes), done.stdout + done.stderr)

    def uninstall(self) -> Ended:
        """Run the release's uninstaller."""
        done = self._bash(self.bootstrap / "uninstall.sh")
        return Ended(done.returncode, (), done.stdout + done.stderr)

    def docker(self, *words: str) -> str:
        """Run `docker WORDS…` with this machine's engine and return its output."""
        done = subprocess.run(
            ["docker", *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def images(self) -> set[str]:
        """Return the names of all images, `<none>:<none>` for those without a name."""
        return set(self.docker("images", "--all", "--format", "{{.Repository}}:{{.Tag}}").split())

    def cache(self) -> str:
        """Return the size of the build cache, as printed by Docker."""
        sizes = self.docker("system", "df", "--format", "{{.Type}}\t{{.Size}}").splitlines()
        return dict(line.split("\t") for line in sizes)["Build Cache"]

    def _bash(self, script: Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(script)],
            env={**self._environment(), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S,
        )

    def _environment(self) -> dict[str, str]:
        """Return a machine's environment, without this host's settings for pip or Docker."""
        return {
            # The distribution's docker takes precedence, since that is what a machine has.
            "PATH": f"{self.directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": self.engine,
            "BETA9_ROOT": str(self.root),
            "BETA9_CONSOLE": str(self.directory / "console"),
            "BETA9_POLL": "0.1",
            "STUB_STATE": str(self.directory / "stand-ins"),
        }


@contextmanager
def newcomer(directory: Path) -> Iterator[Newcomer]:
    """Yield a machine with the last commit's release, as unpacked by boot.sh, and a newly installed Docker."""
    for name in ("engine", "bin", "home", "stand-ins", "root/opt/beta9-worker/releases"):
        (directory / name).mkdir(parents=True)
    (directory / "bin/systemctl").symlink_to(SYSTEMCTL)
    opt = directory / "root/opt/beta9-worker"
    with tarfile.open(source_tarball()) as release:
        name = release.getnames()[0]
        release.extractall(opt / "releases", filter="data")
    (opt / "current").symlink_to(Path("releases", name))
    engine = f"unix://{directory}/engine/docker.sock"
    environment = {**os.environ, "DOCKER_HOST": engine}
    subprocess.run(
        [str(ENGINE), "start"], env=environment, check=True, timeout=600, stdout=subprocess.DEVNULL
    )
    try:
        yield Newcomer(directory, engine)
    finally:
        subprocess.run([str(ENGINE), "stop"], env=environment, check=False, timeout=120)
        shutil.rmtree(directory / "engine", ignore_errors=True)
