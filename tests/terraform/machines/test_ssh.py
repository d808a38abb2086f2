"""modules/ssh, applied to a real sshd: bootstrap, change, failure, reboot, leaving.

Terraform, ssh, sshd, the boot script and the bootstrap's installer (from a source tarball with a checksum) are real.
The real steps would turn the host of these tests into a worker; one harmless step replaces them all.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.terraform.machine import Machine, machine
from tests.terraform.program import Terraform, checkout_of_tree, commit

pytestmark = pytest.mark.terraform

MODULE = "terraform/modules/ssh"
BOOTSTRAP = ROOT / "bootstrap"
FINGERPRINT = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
STEP = """\
#!/usr/bin/env bash
# Replaces all steps of the bootstrap.
# needs:
# deadline: 60
# fix: repair it
set -Eeuo pipefail
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

main() {
  local state=$BETA9_ROOT/var/lib/beta9-worker
  [[ ! -e $state/stop.json ]] || fail "asked to leave"
  cat "$BETA9_ENV_FILE" >>"$state/runs"
  echo --- >>"$state/runs"
  say "a step at work"
  [[ ! -e $state/break ]] || fail "a driver that does not load"
}

main "$@"
"""
REBOOTS = """\
#!/bin/bash
# An installer that needs a reboot: it ends successfully, and a second run continues after a while.
set -eu
state=$BETA9_ROOT/var/lib/beta9-worker
printf '{"result": "rebooting", "stages": []}' >"$state/bootstrap.json"
(
    sleep 2
    printf '{"result": "running", "stages": []}' >"$state/bootstrap.json"
    sleep 2
    printf '{"result": "ok", "stages": [{"name": "driver", "seconds": 4}]}' >"$state/bootstrap.json"
) >/dev/null 2>&1 </dev/null &
"""
UNINSTALL = '#!/bin/bash\necho "uninstalled" >>"$BETA9_ROOT/var/lib/beta9-worker/left"\n'
SYSTEMCTL = """\
#!/bin/sh
# Stands in for systemctl: the worker's service stays active for as many calls as the file says.
file=$BETA9_ROOT/var/lib/beta9-worker/active-calls
calls=$(cat "$file" 2>/dev/null || echo 0)
[ "$calls" -gt 0 ] || { echo inactive; exit 3; }
echo $((calls - 1)) >"$file"
echo active
"""
WORKER = '#!/bin/sh\necho "$@" >>"$BETA9_ROOT/var/lib/beta9-worker/left"\n'


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        (made.root / "usr/local/bin").mkdir(parents=True)
        for name, text in {"beta9-worker": WORKER, "systemctl": SYSTEMCTL}.items():
            (made.root / "usr/local/bin" / name).write_text(text)
            (made.root / "usr/local/bin" / name).chmod(0o755)
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
        # The boot script takes this path as it is, without prefixing BETA9_ROOT.
        "settings": {"BETA9_FILES_DIR": f"{host.root}/opt/beta9-worker/source"},
    }


def tarball(path: Path, **replaced: str) -> Path:
    """Pack the bootstrap with its single step; `replaced` has files that replace its own."""
    files = {"steps/10-all.sh": STEP, "uninstall.sh": UNINSTALL, "install.sh": read("install.sh")}
    files |= {str(each.relative_to(BOOTSTRAP)): each.read_text() for each in (BOOTSTRAP / "lib").glob("*.sh")}
    files |= {"versions.env": read("versions.env"), **replaced}
    with tarfile.open(path, "w:gz") as packed:
        for name, text in files.items():
            member = tarfile.TarInfo(f"beta9-worker-0.1.0/bootstrap/{name}")
            member.size, member.mode = len(text.encode()), 0o755
            packed.addfile(member, io.BytesIO(text.encode()))
    return path


def read(name: str) -> str:
    return (BOOTSTRAP / name).read_text()


def lines(host: Machine, name: str) -> list[str]:
    path = host.root / "var/lib/beta9-worker" / name
    return path.read_text().splitlines() if path.exists() else []


def test_applied_changed_and_destroyed(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path, journal: list[str]
) -> None:
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, given)
    assert "a step at work" in done.output
    assert "the bootstrap has finished: 1 stages" in done.output
    first = lines(host, "runs")
    checksum = hashlib.sha256(Path(given["source_file"]).read_bytes()).hexdigest()
    assert f"BETA9_SOURCE=/opt/beta9-worker/source/beta9-worker-0.1.0.tar.gz#sha256={checksum}" in first
    assert "BETA9_POOL_NAME=gpu" in first
    assert (host.root / "etc/beta9-worker/worker.env").stat().st_mode & 0o777 == 0o600

    assert "No changes" in terraform.apply(folder, given).output
    assert lines(host, "runs") == first

    changed = {**given, "settings": {**given["settings"], "BETA9_KEEPALIVE_INTERVAL": "30"}}
    terraform.apply(folder, changed)
    again = lines(host, "runs")[len(first) :]
    assert "BETA9_KEEPALIVE_INTERVAL=30" in again
    assert lines(host, "left") == [], "a changed setting does not make the worker leave"

    terraform.destroy(folder, changed)
    assert lines(host, "left") == ["leave"]
    assert json.loads((folder / "terraform.tfstate").read_text())["resources"] == []
    journal.append("modules/ssh: applied to a real sshd, changed, destroyed")


def test_destroy_uninstalls_if_requested(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    folder = tree / MODULE
    terraform.init(folder)
    variables = {**given, "uninstall": True, "leave_when_idle": True}
    terraform.apply(folder, variables)
    (host.root / "var/lib/beta9-worker/active-calls").write_text("2")
    terraform.destroy(folder, variables)
    assert lines(host, "left") == ["leave --when-idle", "uninstalled"]
    assert lines(host, "active-calls") == ["0"], "the service's end was awaited"


def test_a_worker_with_running_work_is_not_uninstalled(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    folder = tree / MODULE
    terraform.init(folder)
    variables = {**given, "uninstall": True, "leave_when_idle": True, "leave_timeout_s": 1}
    terraform.apply(folder, variables)
    (host.root / "var/lib/beta9-worker/active-calls").write_text("9999")
    done = terraform.destroy(folder, variables, check=False)
    assert done.code == 1
    assert "it still has work" in done.text
    assert lines(host, "left") == ["leave --when-idle"]


def test_a_machine_that_was_asked_to_leave_comes_back_when_applied(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    (host.root / "var/lib/beta9-worker/stop.json").write_text("{}")
    folder = tree / MODULE
    terraform.init(folder)
    terraform.apply(folder, given)


def test_a_failed_bootstrap_fails_the_apply_and_is_retried(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    broken = host.root / "var/lib/beta9-worker/break"
    broken.touch()
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, given, check=False)
    assert done.code == 1
    assert "a driver that does not load" in done.text
    assert "the bootstrap failed in stage all: repair it" in done.text
    broken.unlink()
    terraform.apply(folder, given)
    terraform.destroy(folder, given)
    assert lines(host, "left") == ["leave"]


def test_a_reboot_is_awaited(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path, tmp_path: Path
) -> None:
    reboots = tarball(tmp_path / "reboots-0.1.0.tar.gz", **{"install.sh": REBOOTS})
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, {**given, "source_file": str(reboots)})
    assert "the bootstrap has finished: 1 stages, 4 s of work" in done.output


def test_a_secret_in_plain_text_fails_the_plan(
    given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.plan(folder, {**given, "settings": {"BETA9_K3S_TOKEN": "plain"}}, check=False)
    assert done.code == 1
    assert "BETA9_K3S_TOKEN contains a secret in plain text" in done.text


def test_a_machine_with_another_host_key_gets_nothing(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    host.sshd.rotate_host_key()
    folder = tree / MODULE
    terraform.init(folder)
    done = terraform.apply(folder, given, check=False)
    assert done.code == 1
    assert "differs from the one in" in done.text
    assert lines(host, "runs") == []


def test_a_machine_that_cannot_be_reached_stays_in_the_state(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tree: Path
) -> None:
    """Otherwise `terraform destroy` would report a worker as destroyed that keeps running."""
    folder = tree / MODULE
    terraform.init(folder)
    terraform.apply(folder, given)
    host.sshd.authorize()
    done = terraform.with_environment(CONNECT_TIMEOUT_S="1").destroy(folder, given, check=False)
    assert done.code == 1
    assert "Permission denied" in done.text
    assert "terraform_data.membership" in terraform.run(folder, "state", "list").output


def test_one_apply_from_a_clone_sends_the_last_commit(
    host: Machine, given: Mapping[str, Any], terraform: Terraform, tmp_path: Path
) -> None:
    """Nothing is hosted and nothing built beforehand; the next commit is set up on the same machine."""
    root = checkout_of_tree(tmp_path / "clone")
    shutil.rmtree(root / "bootstrap/steps")
    (root / "bootstrap/steps").mkdir()
    (root / "bootstrap/steps/10-all.sh").write_text(STEP)
    first = commit(root, "one harmless step")
    folder = root / MODULE
    terraform.init(folder)
    variables = {name: value for name, value in given.items() if name != "source_file"}
    terraform.apply(folder, variables)
    (sent,) = (host.root / "opt/beta9-worker/source").iterdir()
    checksum = hashlib.sha256(sent.read_bytes()).hexdigest()
    assert f"BETA9_SOURCE=/opt/beta9-worker/source/{sent.name}#sha256={checksum}" in lines(host, "runs")
    assert sent.name == f"beta9-worker-{first[:12]}.tar.gz"
    assert "No changes" in terraform.apply(folder, variables).output

    second = commit(root, "another")
    terraform.apply(folder, variables)
    assert any(f"beta9-worker-{second[:12]}.tar.gz" in line for line in lines(host, "runs"))
    assert lines(host, "left") == []
