"""modules/ssh, really applied to a real sshd: bootstrap, change, failure, leaving. Only the bootstrap is a stand-in.

What it stands for is bootstrap/install.sh, which would turn the host of these tests into a worker. It comes to the
machine as the real one does, in a source tarball with its checksum, and writes the same record.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.machine import Machine, machine
from tests.terraform.program import Terraform

pytestmark = pytest.mark.terraform

MODULE = "terraform/modules/ssh"
FINGERPRINT = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
INSTALL = """\
#!/bin/bash
set -eu
state=$BETA9_ROOT/var/lib/beta9-worker
echo "bootstrap with $*"
cat "$2" >>"$state/runs"
echo --- >>"$state/runs"
[[ ! -e $state/stop.json ]] || exit 9
if [[ -e $state/break ]]; then
    printf '{"result": "failed", "failed_stage": "driver", "fix": "mend it", "stages": []}' >"$state/bootstrap.json"
    exit 1
fi
printf '{"result": "running", "stages": []}' >"$state/bootstrap.json"
sleep 0.3
printf '{"result": "ok", "stages": [{"name": "host", "seconds": 0.3}]}' >"$state/bootstrap.json"
"""
UNINSTALL = '#!/bin/bash\necho "uninstalled" >>"$BETA9_ROOT/var/lib/beta9-worker/left"\n'
WORKER = '#!/bin/sh\necho "$@" >>"$BETA9_ROOT/var/lib/beta9-worker/left"\n'


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        command = made.root / "usr/local/bin/beta9-worker"
        command.parent.mkdir(parents=True)
        command.write_text(WORKER)
        command.chmod(0o755)
        yield made


@pytest.fixture
def given(host: Machine, tmp_path: Path) -> dict[str, Any]:
    return {
        "host": host.sshd.host,
        "login_port": host.sshd.port,
        "login_user": host.sshd.user,
        "login_key_file": str(host.sshd.key_path),
        "host_key": host.host_key,
        "pool_name": "gpu",
        "ssh_host": "gateway.example.com",
        "ssh_host_key_fingerprint": FINGERPRINT,
        "source_file": str(tarball(tmp_path / "beta9-worker-0.1.0.tar.gz")),
        "timeout_s": 120,
        # The boot script takes an absolute path for what it says, whatever BETA9_ROOT is.
        "settings": {"BETA9_FILES_DIR": f"{host.root}/opt/beta9-worker/source"},
    }


def tarball(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name, text in {"install.sh": INSTALL, "uninstall.sh": UNINSTALL}.items():
            member = tarfile.TarInfo(f"beta9-worker-0.1.0/bootstrap/{name}")
            member.size, member.mode = len(text), 0o755
            packed.addfile(member, io.BytesIO(text.encode()))
    return path


def lines(host: Machine, name: str) -> list[str]:
    path = host.root / "var/lib/beta9-worker" / name
    return path.read_text().splitlines() if path.exists() else []


def test_applied_changed_and_destroyed(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path, journal: list[str]
) -> None:
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, given)
    assert "bootstrap with --env-file" in done.output
    assert "the bootstrap is done: 1 stages" in done.output
    first = lines(host, "runs")
    sum_of_source = hashlib.sha256(Path(given["source_file"]).read_bytes()).hexdigest()
    assert f"BETA9_SOURCE=/opt/beta9-worker/source/beta9-worker-0.1.0.tar.gz#sha256={sum_of_source}" in first
    assert "BETA9_POOL_NAME=gpu" in first
    assert (host.root / "etc/beta9-worker/worker.env").stat().st_mode & 0o777 == 0o600

    assert "No changes" in terraform.apply(folder, given).output
    assert lines(host, "runs") == first

    changed = {**given, "settings": {**given["settings"], "BETA9_KEEPALIVE_INTERVAL": "30"}}
    terraform.apply(folder, changed)
    again = lines(host, "runs")[len(first) :]
    assert "BETA9_KEEPALIVE_INTERVAL=30" in again
    assert lines(host, "left") == [], "a changed setting is no reason to leave"

    terraform.destroy(folder, changed)
    assert lines(host, "left") == ["leave"]
    assert json.loads((folder / "terraform.tfstate").read_text())["resources"] == []
    journal.append("modules/ssh: applied to a real sshd, changed, destroyed")


def test_destroy_takes_back_what_was_done_if_told(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    folder = tree / MODULE
    terraform.init(folder)
    told = {**given, "uninstall": True, "leave_when_idle": True}
    terraform.apply(folder, told)
    terraform.destroy(folder, told)
    assert lines(host, "left") == ["leave --when-idle", "uninstalled"]


def test_a_machine_that_was_told_to_leave_comes_back_when_applied(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    (host.root / "var/lib/beta9-worker/stop.json").write_text("{}")
    folder = tree / MODULE
    terraform.init(folder)
    terraform.apply(folder, given)


def test_a_bootstrap_that_fails_fails_the_apply_and_is_tried_again(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    broken = host.root / "var/lib/beta9-worker/break"
    broken.touch()
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, given, check=False)
    assert done.code == 1
    assert "the bootstrap failed in driver: mend it" in done.text
    broken.unlink()
    terraform.apply(folder, given)
    terraform.destroy(folder, given)
    assert lines(host, "left") == ["leave"]


def test_a_machine_with_another_host_key_gets_nothing(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    host.sshd.rotate_host_key()
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, given, check=False)
    assert done.code == 1
    assert "another host key" in done.text
    assert lines(host, "runs") == []


def test_a_machine_that_cannot_be_reached_stays_in_the_state(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    """Else `terraform destroy` would say "destroyed" of a worker that goes on working."""
    folder = tree / MODULE
    terraform.init(folder)
    terraform.apply(folder, given)
    host.sshd.authorize()
    done = terraform.with_environment(CONNECT_TIMEOUT_S="1").destroy(folder, given, check=False)
    assert done.code == 1
    assert "Permission denied" in done.text
    assert "terraform_data.membership" in terraform.run(folder, "state", "list").output
