"""modules/source: the checkout's own tarball is built by `terraform apply`, and its checksum kept in the state."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.program import Terraform, checkout_of_tree, commit, copy_of_tree, git
from tests.terraform.test_inputs import GOOD

pytestmark = pytest.mark.terraform

MODULE = "terraform/modules/source"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return checkout_of_tree(tmp_path / "checkout")


def built(terraform: Terraform, root: Path) -> dict[str, Any]:
    terraform.init(root / MODULE)
    terraform.apply(root / MODULE, {})
    return dict(terraform.outputs(root / MODULE)["tarball"])


def test_the_last_commit_is_built_once_and_again_after_the_next(terraform: Terraform, root: Path) -> None:
    made = built(terraform, root)
    file = Path(made["file"])
    assert made["commit"] == git(root, "rev-parse", "HEAD")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == made["sha256"]
    with tarfile.open(file) as tar:
        assert any(name.endswith("/bootstrap/install.sh") for name in tar.getnames())

    file.unlink()
    (root / "README.md").write_text("not committed")
    again = terraform.apply(root / MODULE, {})
    assert "No changes" in again.output, "neither the file nor an uncommitted change matters"

    commit(root, "two")
    terraform.apply(root / MODULE, {})
    newer = terraform.outputs(root / MODULE)["tarball"]
    assert newer["sha256"] not in {made["sha256"], ""}
    assert hashlib.sha256(Path(newer["file"]).read_bytes()).hexdigest() == newer["sha256"]


def test_another_checkout_applies_the_same_state_without_the_file(
    terraform: Terraform, root: Path, tmp_path: Path
) -> None:
    """As in CI, where each run has a fresh clone and the state is elsewhere."""
    built(terraform, root)
    git(tmp_path, "clone", "-q", str(root), "fresh")
    fresh = tmp_path / "fresh" / MODULE
    shutil.copy(root / MODULE / "terraform.tfstate", fresh)
    terraform.init(fresh)
    assert "0 added, 0 changed, 0 destroyed" in terraform.apply(fresh, {}).output


def _detached(root: Path, _: Path) -> Path:
    git(root, "checkout", "-q", "--detach")
    return root


def _packed(root: Path, _: Path) -> Path:
    git(root, "checkout", "-q", "-b", "feature/a+b.c")
    git(root, "pack-refs", "--all")
    return root


def _worktree(root: Path, where: Path) -> Path:
    git(root, "worktree", "add", "-q", "-b", "other", str(where / "worktree"))
    git(root, "pack-refs", "--all")
    return where / "worktree"


def _submodule(root: Path, where: Path) -> Path:
    git(where, "init", "-q", "outer")
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(root), "worker")
    git(where / "outer", *add)
    return where / "outer" / "worker"


@pytest.mark.parametrize("kind", [_detached, _packed, _worktree, _submodule])
def test_the_commit_is_found_in_every_kind_of_checkout(
    kind: Callable[[Path, Path], Path], terraform: Terraform, root: Path, tmp_path: Path
) -> None:
    checkout = kind(root, tmp_path)
    assert built(terraform, checkout)["commit"] == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("given", ["source_tarball", "agent_image"])
def test_nothing_is_built_if_something_else_is_given(given: str, terraform: Terraform, tree: Path) -> None:
    terraform.init(tree / MODULE)
    terraform.apply(tree / MODULE, {given: "something"})
    assert terraform.outputs(tree / MODULE) == {"is_needed": False}


def test_a_release_has_its_own(terraform: Terraform, tree: Path) -> None:
    (tree / "cloud-init/release.env").write_text("BETA9_SOURCE=https://example.com/x#sha256=00\n")
    terraform.init(tree / MODULE)
    terraform.apply(tree / MODULE, {})
    assert terraform.outputs(tree / MODULE) == {"is_needed": False}


def test_without_a_checkout_the_plan_says_what_to_give(terraform: Terraform, tmp_path: Path) -> None:
    """As in a module that was downloaded as an archive."""
    folder = copy_of_tree(tmp_path / "archive") / MODULE
    terraform.init(folder)
    planned = terraform.plan(folder, {}, check=False)
    assert planned.code == 1
    assert "No source for the bootstrap" in planned.text
    assert "set source_tarball (`make source`" in planned.text


def test_the_state_holds_no_path_of_this_machine(terraform: Terraform, root: Path) -> None:
    """So that another person's plan has no changes."""
    built(terraform, root)
    state = json.loads((root / MODULE / "terraform.tfstate").read_text())
    assert str(root) not in json.dumps(state["resources"])


@pytest.mark.parametrize("cloud", ["lambda", "crusoe"])
def test_a_machine_without_a_store_is_told_to_wait_for_the_tarball(
    cloud: str, terraform: Terraform, root: Path
) -> None:
    """The module without the files that need its provider; what it sends, modules/push-secrets is tested for."""
    folder = root / "terraform/modules" / cloud
    for each in folder.glob("*.tf"):
        if each.name not in {"variables.tf", "user-data.tf"}:
            each.unlink()
    (folder / "test.tf").write_text(
        'output "env" { value = module.user_data.worker_env }\noutput "made" { value = module.source.tarball }\n'
    )
    terraform.init(folder)
    terraform.apply(folder, {name: value for name, value in GOOD[cloud].items() if name != "source_tarball"})
    made = terraform.outputs(folder)
    location = f"/opt/beta9-worker/source/{made['made']['name']}#sha256={made['made']['sha256']}"
    assert made["made"]["location"] == location
    assert f"BETA9_SOURCE={location}\n" in made["env"]
